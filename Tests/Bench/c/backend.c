// The cheapest HTTP/1.1 keep-alive server: one thread, epoll, fixed replies.
//
//   backend PORT [ADDRESS [NAME]]     GET|POST /s/N → 200 with N bytes (default 1024); bodies with Content-Length are drained first.
//
// ADDRESS is 127.0.0.1 unless given; `::` takes both families. NAME goes out as X-Pod. Bodies over 64 KiB are sent with sendfile from a memfd.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

enum { connectionsMax = 262144, smallBody = 65536, chunk = 4 << 20,
    pieceMax = 128 << 10 }; // most bytes per system call, see lg.c
struct conn {
    long long toDrain, toSend, size;
    char *partial;
    int partialBytes, writing;
};
static struct conn *all[connectionsMax];
static int poller, bodyFile, cachedBytes;
static char *cached, extra[256];
static long long cachedSize = -1;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int drop(int fd) {
    free(all[fd]->partial);
    free(all[fd]);
    all[fd] = NULL;
    close(fd);
    return -1;
}

static void watch(int fd, int writing) {
    if (all[fd]->writing == writing) return;
    all[fd]->writing = writing;
    struct epoll_event e = {.events = writing ? EPOLLOUT : EPOLLIN, .data.fd = fd};
    epoll_ctl(poller, EPOLL_CTL_MOD, fd, &e);
}

static int sendLarge(int fd) {
    struct conn *c = all[fd];
    while (c->toSend > 0) {
        off_t offset = (c->size - c->toSend) % chunk;
        size_t want = chunk - offset;
        if ((long long)want > c->toSend) want = c->toSend;
        if (want > pieceMax) want = pieceMax;
        ssize_t n = sendfile(fd, bodyFile, &offset, want);
        if (n < 0) {
            if (errno != EAGAIN) return drop(fd);
            watch(fd, 1);
            return 0;
        }
        c->toSend -= n;
    }
    watch(fd, 0);
    return 0;
}

static int respond(int fd, long long size) {
    if (size > smallBody) {
        char head[512];
        int n = sprintf(head, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n%sContent-Length: %lld\r\n\r\n", extra, size);
        if (send(fd, head, n, MSG_NOSIGNAL | MSG_MORE) != n) return drop(fd);
        all[fd]->size = all[fd]->toSend = size;
        return sendLarge(fd);
    }
    if (size != cachedSize) {
        cached = realloc(cached, size + 512);
        cachedBytes = sprintf(cached, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n%sContent-Length: %lld\r\n\r\n", extra, size);
        memset(cached + cachedBytes, 'x', size);
        cachedBytes += size;
        cachedSize = size;
    }
    return send(fd, cached, cachedBytes, MSG_NOSIGNAL) == cachedBytes ? 0 : drop(fd); // small replies always fit the socket buffer
}

static long long contentLength(char *p, char *end) {
    while (p < end) {
        char *line = memchr(p, '\n', end - p);
        if (!line) break;
        if (line - p > 15 && !strncasecmp(p, "content-length:", 15)) return atoll(p + 15);
        p = line + 1;
    }
    return 0;
}

static int receive(int fd) {
    static char buffer[1 << 18];
    struct conn *c = all[fd];
    if (c->toDrain > 0) {
        ssize_t n = recv(fd, NULL, c->toDrain > pieceMax ? pieceMax : c->toDrain, MSG_TRUNC);
        if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : drop(fd);
        c->toDrain -= n;
        return c->toDrain == 0 ? respond(fd, c->size) : 0;
    }
    int have = c->partialBytes;
    if (have) memcpy(buffer, c->partial, have);
    ssize_t n = recv(fd, buffer + have, 131072, 0);
    if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : drop(fd);
    c->partialBytes = 0;
    char *p = buffer, *end = buffer + have + n;
    while (p < end) {
        char *headEnd = memmem(p, end - p, "\r\n\r\n", 4);
        if (!headEnd) {
            int left = end - p;
            if (left > 131072) return drop(fd);
            c->partial = realloc(c->partial, left);
            memcpy(c->partial, p, left);
            c->partialBytes = left;
            return 0;
        }
        long long size = 1024, body = *p == 'P' ? contentLength(p, headEnd + 2) : 0;
        char *target = memchr(p, ' ', headEnd - p);
        if (target && !strncmp(target + 1, "/s/", 3)) size = atoll(target + 4);
        p = headEnd + 4;
        if (body > end - p) {
            c->toDrain = body - (end - p);
            c->size = size;
            return 0;
        }
        p += body;
        if (respond(fd, size) < 0) return -1;
        if (c->writing) return 0; // a large reply is under way: no pipelining beyond it
    }
    return 0;
}

static int listener(int port, const char *address) {
    int one = 1, zero = 0, six = strchr(address, ':') != NULL;
    int fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    if (six) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    inet_pton(six ? AF_INET6 : AF_INET, address, six ? (void *)&a6.sin6_addr : (void *)&a4.sin_addr);
    if (bind(fd, six ? (void *)&a6 : (void *)&a4, six ? sizeof a6 : sizeof a4) || listen(fd, 4096)) die("bind");
    return fd;
}

int main(int argc, char **argv) {
    if (argc < 2) return 64;
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (argc > 3) snprintf(extra, sizeof extra, "X-Pod: %s\r\n", argv[3]);
    poller = epoll_create1(0);
    bodyFile = memfd_create("body", 0);
    if (ftruncate(bodyFile, chunk)) die("ftruncate");
    memset(mmap(0, chunk, PROT_READ | PROT_WRITE, MAP_SHARED, bodyFile, 0), 'y', chunk);
    int one = 1, accepting = listener(atoi(argv[1]), argc > 2 ? argv[2] : "127.0.0.1");
    struct epoll_event e = {.events = EPOLLIN, .data.fd = accepting}, events[256];
    epoll_ctl(poller, EPOLL_CTL_ADD, accepting, &e);
    for (;;) {
        int n = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd, made;
            if (fd == accepting) {
                while ((made = accept4(accepting, 0, 0, SOCK_NONBLOCK)) >= 0) {
                    if (made >= connectionsMax) {
                        close(made);
                        continue;
                    }
                    setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    all[made] = calloc(1, sizeof(struct conn));
                    struct epoll_event x = {.events = EPOLLIN, .data.fd = made};
                    epoll_ctl(poller, EPOLL_CTL_ADD, made, &x);
                }
            } else if (all[fd]) {
                if (all[fd]->toSend > 0) sendLarge(fd);
                else receive(fd);
            }
        }
    }
}
