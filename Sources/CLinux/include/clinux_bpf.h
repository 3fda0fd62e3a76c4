#pragma once
// What a process without privileges may do with a BPF map whose descriptor it was given.

/// Copies the first element of an array map, all of it, into `value`, which must have the map's value size. 0 or -errno.
int clinux_bpf_read(int map, void *value);
