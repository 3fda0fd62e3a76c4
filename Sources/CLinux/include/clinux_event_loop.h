#pragma once
// What the event loop needs of Linux and the Swift importer cannot express: epoll's packed union, _GNU_SOURCE functions, socket addresses
// as one flat record. Everything is static inline, so a call from Swift costs what it costs in C.
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/// An address and port of either family; IPv4 is held v4-mapped. `high` and `low` are the 16 address bytes in memory order, as the kernel has them;
/// MeshModel's `IPAddress` has numbers, and is made from this at the socket.
struct clinux_address {
    uint64_t high, low;
    uint16_t port; // host order
    uint16_t zero[3];
};

static inline uint64_t clinux_monotonic_nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static inline int clinux_epoll_add(int epoll, int fd, uint32_t events, uint64_t token) {
    struct epoll_event e = {.events = events};
    e.data.u64 = token;
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
}
static inline int clinux_epoll_remove(int epoll, int fd) {
    struct epoll_event e = {0};
    return epoll_ctl(epoll, EPOLL_CTL_DEL, fd, &e);
}
static inline uint64_t clinux_event_token(const struct epoll_event *events, int i) { return events[i].data.u64; }
static inline uint32_t clinux_event_flags(const struct epoll_event *events, int i) { return events[i].events; }

static inline void clinux_address_from(const struct sockaddr_storage *s, struct clinux_address *out) {
    memset(out, 0, sizeof *out);
    if (s->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)s;
        uint8_t bytes[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
        memcpy(bytes + 12, &v4->sin_addr, 4);
        memcpy(&out->high, bytes, 16);
        out->port = ntohs(v4->sin_port);
    } else if (s->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)s;
        memcpy(&out->high, &v6->sin6_addr, 16);
        out->port = ntohs(v6->sin6_port);
    }
}
static inline int clinux_address_is_v4(const struct clinux_address *a) {
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return memcmp(&a->high, mapped, 12) == 0;
}
static inline socklen_t clinux_address_to(const struct clinux_address *a, struct sockaddr_storage *s) {
    memset(s, 0, sizeof *s);
    if (clinux_address_is_v4(a)) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)s;
        v4->sin_family = AF_INET;
        v4->sin_port = htons(a->port);
        memcpy(&v4->sin_addr, (const uint8_t *)&a->high + 12, 4);
        return sizeof *v4;
    }
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)s;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(a->port);
    memcpy(&v6->sin6_addr, &a->high, 16);
    return sizeof *v6;
}

extern long syscall(long, ...);
extern int getentropy(void *, size_t);
extern int accept4(int, struct sockaddr *__restrict, socklen_t *__restrict, int);
/// The accepted descriptor (non-blocking, close-on-exec), or -errno.
static inline int clinux_accept(int listener, struct clinux_address *peer) {
    struct sockaddr_storage s;
    socklen_t n = sizeof s;
    int fd = accept4(listener, (struct sockaddr *)&s, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return -errno;
    clinux_address_from(&s, peer);
    return fd;
}
/// 0, or -errno (-EINPROGRESS: wait for writability).
static inline int clinux_connect(int fd, const struct clinux_address *to) {
    struct sockaddr_storage s;
    socklen_t n = clinux_address_to(to, &s);
    return connect(fd, (struct sockaddr *)&s, n) == 0 ? 0 : -errno;
}
static inline int clinux_bind(int fd, const struct clinux_address *to) {
    struct sockaddr_storage s;
    socklen_t n = clinux_address_to(to, &s);
    return bind(fd, (struct sockaddr *)&s, n) == 0 ? 0 : -errno;
}
static inline int clinux_local_address(int fd, struct clinux_address *out) {
    struct sockaddr_storage s;
    socklen_t n = sizeof s;
    if (getsockname(fd, (struct sockaddr *)&s, &n)) return -errno;
    clinux_address_from(&s, out);
    return 0;
}
/// SO_ORIGINAL_DST (optname 80), answered by Weft's cgroup/getsockopt hook, or by netfilter under an iptables redirection.
static inline int clinux_original_destination(int fd, int isV6, struct clinux_address *out) {
    struct sockaddr_storage s;
    memset(&s, 0, sizeof s);
    socklen_t n = isV6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (getsockopt(fd, isV6 ? IPPROTO_IPV6 : IPPROTO_IP, 80, &s, &n)) return -errno;
    clinux_address_from(&s, out);
    return out->port ? 0 : -EADDRNOTAVAIL;
}
static inline void clinux_no_delay(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}
/// Sends an acknowledgement that the kernel was going to delay.
static inline void clinux_acknowledge(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
}
/// SO_ERROR of a connecting socket: 0 when it is connected.
static inline int clinux_socket_error(int fd) {
    int e = 0;
    socklen_t n = sizeof e;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n)) return errno;
    return e;
}
/// A connected pair of stream sockets in this process, non-blocking and close-on-exec; 0 or -errno.
static inline int clinux_stream_pair(int *near, int *far) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends)) return -errno;
    *near = ends[0];
    *far = ends[1];
    return 0;
}
/// The next close sends a reset instead of a FIN.
static inline void clinux_reset_on_close(int fd) {
    struct linger l = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
}
static inline void clinux_store_relaxed(uint64_t *slot, uint64_t value) { __atomic_store_n(slot, value, __ATOMIC_RELAXED); }
static inline uint64_t clinux_load_relaxed(const uint64_t *slot) { return __atomic_load_n(slot, __ATOMIC_RELAXED); }
/// Sends a FIN: nothing more will come from us.
static inline void clinux_end_output(int fd) { shutdown(fd, SHUT_WR); }
/// A close-on-exec duplicate, or -errno.
static inline int clinux_duplicate(int fd) {
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return copy < 0 ? -errno : copy;
}
static inline void clinux_make_non_blocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL, 0) | O_NONBLOCK); }
/// 64 bits from the kernel's generator.
static inline uint64_t clinux_random_word(void) {
    uint64_t word = 0;
    if (getentropy(&word, sizeof word)) word = clinux_monotonic_nanoseconds();
    return word;
}
/// recv and send without the C library's thread-cancellation points, which cost 0.1 µs each in a process with more than one thread.
/// Every argument is a whole register: an int 0 in a variadic call may leave the upper half of a pointer undefined.
/// The number of bytes, or -1 and errno.
static inline long clinux_receive(int fd, void *memory, unsigned long count) { return syscall(SYS_recvfrom, (long)fd, memory, count, 0L, 0L, 0L); }
static inline long clinux_transmit(int fd, const void *memory, unsigned long count) {
    return syscall(SYS_sendto, (long)fd, memory, count, (long)MSG_NOSIGNAL, 0L, 0L);
}
/// The same for bytes in several pieces.
static inline long clinux_transmit_pieces(int fd, const struct iovec *pieces, unsigned long count) {
    struct msghdr message = {.msg_iov = (struct iovec *)pieces, .msg_iovlen = count};
    return syscall(SYS_sendmsg, (long)fd, &message, (long)MSG_NOSIGNAL);
}
/// The same without taking the bytes away.
static inline long clinux_peek(int fd, void *memory, unsigned long count) { return syscall(SYS_recvfrom, (long)fd, memory, count, (long)MSG_PEEK, 0L, 0L); }
/// The urgent byte of a socket: 1, or -1 and errno (EAGAIN: announced, not here yet).
static inline long clinux_receive_urgent(int fd, uint8_t *byte) { return syscall(SYS_recvfrom, (long)fd, byte, 1L, (long)MSG_OOB, 0L, 0L); }
static inline long clinux_transmit_urgent(int fd, uint8_t byte) {
    return syscall(SYS_sendto, (long)fd, &byte, 1L, (long)(MSG_NOSIGNAL | MSG_OOB), 0L, 0L);
}
/// Whether the next byte of the socket is the urgent one: 1 or 0.
static inline int clinux_is_at_urgent(int fd) {
    int at = 0;
    return ioctl(fd, 0x8905 /* SIOCATMARK */, &at) == 0 && at;
}
/// Bytes that the socket has accepted and not sent, or -errno.
static inline long clinux_unsent(int fd) {
    int unsent = 0;
    return ioctl(fd, 0x894B /* SIOCOUTQNSD */, &unsent) == 0 ? unsent : -errno;
}
/// Asks a silent peer whether it is still there: after 5 minutes, then every 30 s; four unanswered questions end the connection.
static inline void clinux_keep_alive(int fd) {
    int on = 1, idle = 300, interval = 30, count = 4;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}
extern ssize_t splice(int, int64_t *, int, int64_t *, size_t, unsigned);
/// Moves bytes between a socket and a pipe without copying them: bytes moved, 0 at the end, or -errno.
static inline long clinux_splice(int from, int to, unsigned long count) {
    long moved = splice(from, 0, to, 0, count, 1 | 2); // SPLICE_F_MOVE | SPLICE_F_NONBLOCK
    return moved < 0 ? -errno : moved;
}
