// The cheapest HTTP/2 server without TLS (RFC 9113, 3.3), shaped like gRPC: one thread, epoll, no HPACK decoding.
//
//   h2back PORT [BYTES]     every request gets 200, BYTES of body (default 100) and the trailer grpc-status: 0
//
// Requests are only counted to their END_STREAM; what they ask for is not read, so the reply's size is the program's. Replies keep to the
// windows of stream and connection, in turns of one frame; uploads get a stream window of 1 MiB, enough for any that the bench sends.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { frameHead = 9, frameMax = 16384, outMax = 256 << 10, uploadWindow = 1 << 20, giveBackAt = 1 << 28 };
enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };

struct stream {
    uint32_t id;
    int64_t window, left;
    struct stream *next;
};
struct conn {
    int fd, greeted, writing, continuedEnds;
    uint8_t *in, *out;
    size_t inBytes, inRoom, outBytes, outSent, outRoom;
    int64_t window, streamWindow, received;
    struct stream *first, *last; // those that still owe bytes, in turn
};
static struct stream *spare;
static int poller;
static int64_t bodyBytes = 100;
static uint8_t head[64], trailers[64], body[frameMax];
static int headBytes, trailersBytes;

static void put(struct conn *c, const void *p, size_t n) {
    if (c->outBytes + n > c->outRoom) c->out = realloc(c->out, c->outRoom = (c->outBytes + n) * 2);
    memcpy(c->out + c->outBytes, p, n);
    c->outBytes += n;
}

static void frame(struct conn *c, uint32_t length, uint8_t type, uint8_t flags, uint32_t id, const void *payload) {
    uint8_t h[frameHead] = {length >> 16, length >> 8, length, type, flags, id >> 24, id >> 16, id >> 8, id};
    put(c, h, frameHead);
    put(c, payload, length);
}

static int literal(uint8_t *out, const char *name, const char *value) {
    int a = strlen(name), b = strlen(value);
    out[0] = 0;
    out[1] = a;
    memcpy(out + 2, name, a);
    out[2 + a] = b;
    memcpy(out + 3 + a, value, b);
    return 3 + a + b;
}

static void answer(struct conn *c, uint32_t id) {
    frame(c, headBytes, HEADERS, END_HEADERS, id, head);
    if (!c->first && bodyBytes <= frameMax && bodyBytes <= c->window && bodyBytes <= c->streamWindow) {
        c->window -= bodyBytes;
        frame(c, bodyBytes, DATA, 0, id, body);
        frame(c, trailersBytes, HEADERS, END_HEADERS | END_STREAM, id, trailers);
        return;
    }
    struct stream *s = spare ? spare : malloc(sizeof *s);
    if (spare) spare = spare->next;
    *s = (struct stream){.id = id, .window = c->streamWindow, .left = bodyBytes};
    if (c->last) c->last->next = s;
    else c->first = s;
    c->last = s;
}

static void pump(struct conn *c) {
    struct stream **at = &c->first, *previous = NULL;
    for (int moved = 0; c->outBytes - c->outSent < outMax && c->window > 0;) {
        struct stream *s = *at;
        if (!s) { // around once more, unless nobody could send
            if (!moved) return;
            at = &c->first, previous = NULL, moved = 0;
            continue;
        }
        int64_t n = s->left < frameMax ? s->left : frameMax;
        if (n > s->window) n = s->window;
        if (n > c->window) n = c->window;
        if (n > 0) {
            frame(c, n, DATA, 0, s->id, body);
            s->left -= n;
            s->window -= n;
            c->window -= n;
            moved = 1;
        }
        if (s->left == 0) {
            frame(c, trailersBytes, HEADERS, END_HEADERS | END_STREAM, s->id, trailers);
            *at = s->next;
            if (c->last == s) c->last = previous;
            s->next = spare;
            spare = s;
            moved = 1;
        } else {
            previous = s;
            at = &s->next;
        }
    }
}

static void forget(struct conn *c, uint32_t id) {
    struct stream *previous = NULL;
    for (struct stream **at = &c->first; *at; previous = *at, at = &(*at)->next) {
        struct stream *s = *at;
        if (s->id != id) continue;
        *at = s->next;
        if (c->last == s) c->last = previous;
        s->next = spare;
        spare = s;
        return;
    }
}

static void drop(struct conn *c) {
    while (c->first) forget(c, c->first->id);
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

static void watch(struct conn *c, int writing) {
    if (c->writing == writing) return;
    c->writing = writing;
    struct epoll_event e = {.events = writing ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
}

static int flush(struct conn *c) {
    for (;;) {
        pump(c);
        if (c->outSent == c->outBytes) break;
        ssize_t n = send(c->fd, c->out + c->outSent, c->outBytes - c->outSent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno != EAGAIN) return -1;
            watch(c, 1);
            return 0;
        }
        c->outSent += n;
        if (c->outSent == c->outBytes) c->outSent = c->outBytes = 0;
    }
    watch(c, 0);
    return 0;
}

static uint32_t number(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
}

static void settings(struct conn *c, const uint8_t *p, uint32_t length) {
    for (; length >= 6; p += 6, length -= 6) {
        if ((p[0] << 8 | p[1]) != 4) continue; // SETTINGS_INITIAL_WINDOW_SIZE
        int64_t change = (int64_t)number(p + 2) - c->streamWindow;
        c->streamWindow += change;
        for (struct stream *s = c->first; s; s = s->next) s->window += change;
    }
}

static void windowUpdate(struct conn *c, uint32_t id, const uint8_t *p) {
    uint32_t more = number(p) & 0x7fffffff;
    if (id == 0) c->window += more;
    for (struct stream *s = id ? c->first : NULL; s; s = s->next)
        if (s->id == id) s->window += more;
}

static void greet(struct conn *c) {
    uint8_t s[12] = {0, 3, 0, 0, 0x03, 0xe8, 0, 4, uploadWindow >> 24, uploadWindow >> 16 & 255, uploadWindow >> 8 & 255, uploadWindow & 255};
    uint8_t window[4] = {0x7f, 0xff, 0, 0};
    frame(c, sizeof s, SETTINGS, 0, 0, s);
    frame(c, sizeof window, WINDOW_UPDATE, 0, 0, window);
    c->greeted = 1;
}

static void understand(struct conn *c, const uint8_t *f, uint32_t length) {
    uint8_t type = f[3], flags = f[4];
    uint32_t id = number(f + 5) & 0x7fffffff;
    const uint8_t *payload = f + frameHead;
    switch (type) {
    case DATA:
        c->received += length;
        if (flags & END_STREAM) answer(c, id);
        break;
    case HEADERS:
        if (!(flags & END_HEADERS)) c->continuedEnds = flags & END_STREAM;
        else if (flags & END_STREAM) answer(c, id);
        break;
    case CONTINUATION:
        if ((flags & END_HEADERS) && c->continuedEnds) answer(c, id);
        break;
    case RST_STREAM: forget(c, id); break;
    case SETTINGS:
        if (flags & ACK) break;
        settings(c, payload, length);
        frame(c, 0, SETTINGS, ACK, 0, payload);
        break;
    case PING:
        if (!(flags & ACK) && length == 8) frame(c, 8, PING, ACK, 0, payload);
        break;
    case WINDOW_UPDATE:
        if (length == 4) windowUpdate(c, id, payload);
        break;
    }
}

static int receive(struct conn *c) {
    if (c->inRoom - c->inBytes < 65536) c->in = realloc(c->in, c->inRoom = c->inBytes + 131072);
    ssize_t n = recv(c->fd, c->in + c->inBytes, c->inRoom - c->inBytes, 0);
    if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
    c->inBytes += n;
    size_t at = 0;
    if (!c->greeted) {
        if (c->inBytes < 24) return 0;
        if (memcmp(c->in, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24)) return -1;
        at = 24;
        greet(c);
    }
    while (c->inBytes - at >= frameHead) {
        uint8_t *f = c->in + at;
        uint32_t length = f[0] << 16 | f[1] << 8 | f[2];
        if (length > frameMax) return -1;
        if (c->inBytes - at < frameHead + length) break;
        understand(c, f, length);
        at += frameHead + length;
    }
    if (c->received > giveBackAt) {
        uint8_t more[4] = {c->received >> 24, c->received >> 16, c->received >> 8, c->received};
        frame(c, sizeof more, WINDOW_UPDATE, 0, 0, more);
        c->received = 0;
    }
    memmove(c->in, c->in + at, c->inBytes - at);
    c->inBytes -= at;
    return flush(c);
}

int main(int argc, char **argv) {
    if (argc < 2) return 64;
    if (argc > 2) bodyBytes = atoll(argv[2]);
    signal(SIGPIPE, SIG_IGN);
    memset(body, 'e', sizeof body);
    head[0] = 0x88; // :status 200 of the static table
    headBytes = 1 + literal(head + 1, "content-type", "application/grpc");
    trailersBytes = literal(trailers, "grpc-status", "0");
    poller = epoll_create1(0);
    int one = 1, accepting = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(accepting, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(accepting, (void *)&at, sizeof at) || listen(accepting, 4096)) {
        perror("h2back");
        return 1;
    }
    struct epoll_event e = {.events = EPOLLIN}, events[256];
    epoll_ctl(poller, EPOLL_CTL_ADD, accepting, &e);
    for (;;) {
        int n = epoll_wait(poller, events, 256, -1), made;
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (!c) {
                while ((made = accept4(accepting, 0, 0, SOCK_NONBLOCK)) >= 0) {
                    setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    c = calloc(1, sizeof *c);
                    c->fd = made;
                    c->window = c->streamWindow = 65535;
                    struct epoll_event x = {.events = EPOLLIN, .data.ptr = c};
                    epoll_ctl(poller, EPOLL_CTL_ADD, made, &x);
                }
                continue;
            }
            int ended = events[i].events & EPOLLOUT ? flush(c) < 0 : 0;
            if (!ended && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) ended = receive(c) < 0;
            if (ended) drop(c);
        }
    }
}
