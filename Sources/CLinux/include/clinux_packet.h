#pragma once
// Packets with descriptors (SCM_RIGHTS): the cmsg macros do not cross into Swift.
// Every function answers a negative errno instead of setting errno.
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// Connected SOCK_SEQPACKET pair, both close-on-exec; `nonblocking` is for `*mine` only. 0 or -errno.
int clinux_seqpacket_pair(int *mine, int *theirs, bool nonblocking);
/// Sends one packet; bytes sent or -errno. EINTR is retried, SIGPIPE never raised.
ssize_t clinux_send_packet(int fd, const void *bytes, size_t count, const int *descriptors, size_t descriptor_count);
/// Receives one packet; bytes, 0 at the end, or -errno. Descriptors are close-on-exec. `*truncated`: bytes or descriptors were lost.
ssize_t clinux_receive_packet(int fd, void *bytes, size_t capacity, int *descriptors, size_t descriptor_capacity,
                              size_t *descriptor_count, bool *truncated);
/// close(2) without an answer: on Linux the descriptor is gone whatever it says.
void clinux_close(int fd);
