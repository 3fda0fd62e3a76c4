#define _GNU_SOURCE
#include "include/clinux_node.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif

static int fail(int descriptor) {
    int error = errno;
    close(descriptor);
    return -error;
}

static int enable(int socket, int level, int option) {
    int one = 1;
    return setsockopt(socket, level, option, &one, sizeof one);
}

static int make_transparent(int socket, bool ipv6) {
    return ipv6 ? enable(socket, IPPROTO_IPV6, IPV6_TRANSPARENT) : enable(socket, IPPROTO_IP, IP_TRANSPARENT);
}

int clinux_enter_network_namespace(int namespace_descriptor) { return setns(namespace_descriptor, CLONE_NEWNET) == 0 ? 0 : -errno; }

int clinux_namespace_cookie(int socket, uint64_t *cookie) {
    socklen_t length = sizeof *cookie;
    return getsockopt(socket, SOL_SOCKET, SO_NETNS_COOKIE, cookie, &length) == 0 ? 0 : -errno;
}

int clinux_loopback_listener(bool ipv6, uint16_t port, bool transparent, int backlog) {
    int fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -errno;
    // SO_REUSEADDR: connections of the previous node may still be in TIME_WAIT. Not SO_REUSEPORT: nobody in the pod may share the port.
    if (enable(fd, SOL_SOCKET, SO_REUSEADDR) || enable(fd, IPPROTO_TCP, TCP_NODELAY)) return fail(fd);
    if (ipv6 && enable(fd, IPPROTO_IPV6, IPV6_V6ONLY)) return fail(fd);
    if (transparent && make_transparent(fd, ipv6)) return fail(fd);
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_loopback};
    if (bind(fd, ipv6 ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4, ipv6 ? sizeof v6 : sizeof v4) || listen(fd, backlog)) return fail(fd);
    return fd;
}

int clinux_stock_socket(bool ipv6, uint32_t mark) {
    int fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -errno;
    if (enable(fd, IPPROTO_TCP, TCP_NODELAY)) return fail(fd);
    if (mark == 0) return fd;
    if (make_transparent(fd, ipv6) || setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark)) return fail(fd);
    // The proxy may choose a client's port itself (outside the range clients choose from); then several sockets share one, to different apps.
    if (enable(fd, SOL_SOCKET, SO_REUSEADDR)) return fail(fd);
    // The port is then chosen at connect, by the whole tuple: 28,000 per destination instead of 28,000 in all.
    if (enable(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT)) return fail(fd);
    return fd;
}

int clinux_refuse_queued(int listener, int limit) {
    int refused = 0;
    while (refused < limit) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) break;
        struct linger reset = {.l_onoff = 1, .l_linger = 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(fd);
        refused++;
    }
    return refused;
}

int clinux_pipe(int *read_end, int *write_end, int bytes) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return -errno;
    // Above fs.pipe-max-size, or over the user's page budget, the kernel refuses: the default of 64 KiB then stays.
    fcntl(ends[0], F_SETPIPE_SZ, bytes);
    int size = fcntl(ends[0], F_GETPIPE_SZ);
    *read_end = ends[0];
    *write_end = ends[1];
    return size;
}

int clinux_read_only(int memory) {
    // Memory files are born rwxrwxrwx: whoever holds a read-only descriptor could open it again for writing through /proc.
    if (fchmod(memory, S_IRUSR | S_IWUSR) != 0) return -errno;
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", memory);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int clinux_route_socket(void) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0) return -errno;
    // An answer that never comes must not stop node; the kernel answers route requests at once.
    struct timeval limit = {.tv_sec = 2};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit)) return fail(fd);
    return fd;
}

void clinux_name_thread(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }

int clinux_epoll_modify(int epoll, int descriptor, uint32_t events, uint64_t token) {
    struct epoll_event event = {.events = events, .data.u64 = token};
    return epoll_ctl(epoll, EPOLL_CTL_MOD, descriptor, &event) == 0 ? 0 : -errno;
}
