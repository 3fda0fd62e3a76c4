#pragma once
// Sealed shared memory: memfd_create and its seals are _GNU_SOURCE, and fcntl is variadic; neither crosses into Swift.
// Every function answers a negative errno instead of setting errno.
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// A close-on-exec memfd of `count` bytes, zeroed or a copy of `bytes`. `immutable`: nobody can write it any more;
/// otherwise its size alone is sealed. Descriptor or -errno.
int clinux_memory_sealed(const char *name, const void *bytes, size_t count, bool immutable);
/// Whether the descriptor is a memfd that can no longer shrink or grow (nor be written, when `immutable`). 1, 0 or -errno.
int clinux_memory_is_sealed(int fd, bool immutable);
/// Whether the descriptor is secret memory (memfd_secret(2)): mapped by who holds it and read by nobody else, the kernel and root included. 1, 0 or -errno.
int clinux_memory_is_secret(int fd);
/// The size of a descriptor's file, or -errno.
int64_t clinux_memory_size(int fd);
