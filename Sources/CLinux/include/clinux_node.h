#pragma once
// What node does inside a pod's network namespace, and the records it shares with its children.
#include <linux/fib_rules.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/timerfd.h>

/// Numbers of the capabilities node keeps (DESIGN, Three processes).
enum {
    CLINUX_CAP_DAC_READ_SEARCH = 2, CLINUX_CAP_KILL = 5, CLINUX_CAP_SETGID = 6, CLINUX_CAP_SETUID = 7, CLINUX_CAP_SETPCAP = 8,
    CLINUX_CAP_NET_ADMIN = 12, CLINUX_CAP_SYS_PTRACE = 19, CLINUX_CAP_SYS_ADMIN = 21, CLINUX_CAP_PERFMON = 38, CLINUX_CAP_BPF = 39
};
enum { CLINUX_EPOLLIN = EPOLLIN, CLINUX_EPOLLHUP = EPOLLHUP, CLINUX_EPOLLOUT = EPOLLOUT };

/// Moves the calling thread into a network namespace. 0 or -errno.
int clinux_enter_network_namespace(int namespace_descriptor);
/// The network namespace's cookie of a socket. 0 or -errno.
int clinux_namespace_cookie(int socket, uint64_t *cookie);
/// A listening socket on the loopback address of the calling thread's namespace (non-blocking, close-on-exec, TCP_NODELAY, which accepted sockets inherit).
/// Descriptor or -errno.
int clinux_loopback_listener(bool ipv6, uint16_t port, bool transparent, int backlog);
/// A stream socket to connect with (non-blocking, TCP_NODELAY); with `mark` != 0 also transparent and marked, its port chosen at connect. Descriptor or -errno.
int clinux_stock_socket(bool ipv6, uint32_t mark);
/// Accepts and resets what is queued on a listener, at most `limit`; how many.
int clinux_refuse_queued(int listener, int limit);
/// Makes a pipe (non-blocking, close-on-exec) of about `bytes`; its size or -errno.
int clinux_pipe(int *read_end, int *write_end, int bytes);
/// The same memory file through a read-only descriptor, and from now on nobody but root can open it again for writing; descriptor or -errno.
int clinux_read_only(int memory);
/// A netlink socket for routes in the calling thread's namespace; descriptor or -errno.
int clinux_route_socket(void);
/// Name of the calling thread in `ps` and `/proc` (15 characters).
void clinux_name_thread(const char *name);
/// Changes what an epoll watches a descriptor for. 0 or -errno.
int clinux_epoll_modify(int epoll, int descriptor, uint32_t events, uint64_t token);
