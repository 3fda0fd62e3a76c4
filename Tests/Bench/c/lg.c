// Load generator: HTTP/1.1, one thread, epoll. One line of JSON on stdout; every latency sample is kept, so percentiles are exact.
//
//   lg -t HOST:PORT | -t [V6]:PORT   [-c connections] [-d seconds] [-n requests] [-p path] [-H host] [-b bytes to POST]
//      -r RATE   open loop: requests leave by the clock; latency counts from when each was due
//      -x        a new connection per request; latency includes the connect
//      -i        open all connections, one request each, then hold them until a line arrives on stdin (READY, ALIVE n)
//      -k N      how many requests may be under way at once while -i opens its connections
//      -s BYTES  read at most BYTES per 10 ms and connection: a slow reader
//      -g BYTES  a header of that many bytes in every request
//      -Q        do not wait for the requests in flight at the end
//      -e        a reply with an error status is counted and the connection goes on; without Content-Length it ends there
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

typedef unsigned long long u64;
enum state { DEAD, IDLE, WRITING, READING };
struct conn {
    int fd, armed, inHead, headBytes, status, closes;
    enum state state;
    u64 due, sent, opened;
    size_t written;
    long long remaining;
    char *head;
};

static int connections = 64, postBytes = -1, closeEach, holdIdle, atOnce = 64, noDrain, slowBytes, bigHeader, lenient;
static double seconds = 3, rate;
static long long requestsMax = -1;
static char *path = "/s/1024", *host = "bench.test", *request, *body;
static int requestBytes;
static struct sockaddr_storage target;
static socklen_t targetBytes;
static int poller, active;
static struct conn *all;
static char scratch[1 << 20];
static unsigned *latency, *service;
static size_t samples, sampleRoom;
static u64 done, ok, non200, errInflight, errConnect, closedIdle, bytes, firstError, lastError, countFrom;
static u64 *queue, queueHead, queueTail;
static const u64 queueRoom = 1 << 20;

static u64 now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void noteError(void) {
    lastError = now();
    if (!firstError) firstError = lastError;
}

static void sample(u64 fromDue, u64 fromSend) {
    if (samples == sampleRoom) {
        sampleRoom = sampleRoom ? sampleRoom * 2 : 1 << 20;
        latency = realloc(latency, sampleRoom * sizeof *latency);
        service = realloc(service, sampleRoom * sizeof *service);
    }
    latency[samples] = fromDue > 4000000000u ? 4000000000u : fromDue;
    service[samples++] = fromSend > 4000000000u ? 4000000000u : fromSend;
}

static void arm(struct conn *c, int events) {
    if (c->armed == events) return;
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(poller, c->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &e);
    c->armed = events;
}

static void drop(struct conn *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->state = DEAD;
}

static int dial(struct conn *c) {
    int one = 1;
    c->fd = socket(target.ss_family, SOCK_STREAM, 0);
    c->armed = c->headBytes = c->inHead = 0;
    c->remaining = 0;
    c->opened = now();
    if (c->fd < 0 || connect(c->fd, (void *)&target, targetBytes)) {
        errConnect++;
        noteError();
        drop(c);
        return -1;
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->state = IDLE;
    return 0;
}

static void begin(struct conn *c, u64 due);

static void open_(struct conn *c) {
    if (dial(c) < 0) return;
    arm(c, EPOLLIN);
    if (rate == 0) begin(c, 0);
}

static void fail(struct conn *c) {
    if (c->state == IDLE) closedIdle++;
    else {
        errInflight++;
        done++;
        noteError();
    }
    drop(c);
    if (!holdIdle && active) open_(c);
}

// Most bytes per system call: on a kernel without preemption nobody else gets the core, whatever his priority, until the call returns.
enum { pieceMax = 128 << 10 };

static void push(struct conn *c) {
    size_t total = requestBytes + (postBytes > 0 ? postBytes : 0);
    while (c->written < total) {
        struct iovec part[2];
        int parts = 0;
        if (c->written < (size_t)requestBytes) {
            part[parts++] = (struct iovec){request + c->written, requestBytes - c->written};
            if (postBytes > 0) part[parts++] = (struct iovec){body, postBytes < pieceMax ? postBytes : pieceMax};
        } else part[parts++] = (struct iovec){body + c->written - requestBytes, total - c->written < pieceMax ? total - c->written : pieceMax};
        struct msghdr m = {.msg_iov = part, .msg_iovlen = parts};
        ssize_t n = sendmsg(c->fd, &m, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) arm(c, EPOLLIN | EPOLLOUT);
            else fail(c);
            return;
        }
        c->written += n;
    }
    c->state = READING;
    arm(c, EPOLLIN);
}

static void begin(struct conn *c, u64 due) {
    c->written = 0;
    c->headBytes = 0;
    c->inHead = 1;
    c->sent = now();
    c->due = due ? due : closeEach ? c->opened : c->sent;
    c->state = WRITING;
    push(c);
}

static void finish(struct conn *c) {
    u64 t = now();
    done++;
    if (c->status == 200) ok++;
    else {
        non200++;
        noteError();
    }
    if (t >= countFrom) sample(t - c->due, t - c->sent);
    c->state = IDLE;
    if (closeEach || c->closes) {
        drop(c);
        if (!holdIdle && active && (requestsMax < 0 || (long long)done < requestsMax)) open_(c);
        return;
    }
    if (!active || holdIdle || (requestsMax >= 0 && (long long)done >= requestsMax)) return;
    if (rate == 0) begin(c, 0);
    else if (queueHead != queueTail) begin(c, queue[queueHead++ % queueRoom]);
}

/// Bytes of the reply's head, or -1 when it is not complete.
static int parseHead(struct conn *c, char *b, int n) {
    char *end = memmem(b, n, "\r\n\r\n", 4);
    if (!end) return -1;
    c->status = n > 12 ? atoi(b + 9) : 0;
    c->remaining = -1;
    c->closes = 0;
    for (char *line = b; line < end + 2;) {
        if ((line[0] | 32) == 'c') {
            if (!strncasecmp(line, "content-length:", 15)) c->remaining = atoll(line + 15);
            else if (!strncasecmp(line, "connection: close", 17)) c->closes = 1;
        }
        char *next = memchr(line, '\n', end + 2 - line);
        if (!next) break;
        line = next + 1;
    }
    if (c->remaining < 0 && (lenient || c->status != 200)) {
        c->remaining = 0;
        c->closes = 1;
    }
    if (c->remaining < 0) {
        fprintf(stderr, "lg: no content-length (status %d): %.*s\n", c->status, (int)(end - b), b);
        exit(3);
    }
    return end + 4 - b;
}

static void pull(struct conn *c) {
    ssize_t n;
    if (c->state == IDLE) {
        n = recv(c->fd, scratch, 65536, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN)) fail(c);
        return;
    }
    if (c->inHead) {
        int have = c->headBytes;
        if (have) memcpy(scratch, c->head, have);
        n = recv(c->fd, scratch + have, slowBytes ? slowBytes : 65536, 0);
        if (n <= 0) {
            if (n == 0 || errno != EAGAIN) fail(c);
            return;
        }
        bytes += n;
        n += have;
        int head = parseHead(c, scratch, n);
        if (head < 0) {
            c->head = realloc(c->head, n);
            memcpy(c->head, scratch, n);
            c->headBytes = n;
            return;
        }
        c->inHead = c->headBytes = 0;
        c->remaining -= n - head;
        if (c->state == WRITING && c->remaining <= 0) { // answered before the body was sent
            if (c->status != 200) non200++;
            else errInflight++;
            noteError();
            done++;
            drop(c);
            if (active) open_(c);
            return;
        }
    } else {
        size_t want = slowBytes ? (size_t)slowBytes : pieceMax;
        n = recv(c->fd, NULL, c->remaining > (long long)want ? want : (size_t)c->remaining, MSG_TRUNC);
        if (n <= 0) {
            if (n == 0 || errno != EAGAIN) fail(c);
            return;
        }
        bytes += n;
        c->remaining -= n;
    }
    if (c->remaining <= 0) finish(c);
}

static void on(struct conn *c, unsigned events) {
    if (c->state == DEAD) return;
    if (events & EPOLLOUT) {
        if (c->state == WRITING) push(c);
        else arm(c, EPOLLIN);
    }
    if (c->state != DEAD && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) pull(c);
}

static int ascending(const void *a, const void *b) {
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
    return x < y ? -1 : x > y;
}

static double percentile(const unsigned *sorted, double p) {
    if (!samples) return 0;
    size_t i = p * samples;
    return sorted[i >= samples ? samples - 1 : i] / 1000.0;
}

static void report(double took, u64 doneInTime, u64 bytesInTime) {
    qsort(latency, samples, sizeof *latency, ascending);
    qsort(service, samples, sizeof *service, ascending);
    double sum = 0;
    for (size_t i = 0; i < samples; i++) sum += latency[i];
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"secs\":%.6f,\"done\":%llu,\"ok\":%llu,\"non200\":%llu,\"err_inflight\":%llu,\"err_connect\":%llu,\"closed_idle\":%llu,\"bytes\":%llu,"
           "\"rps\":%.1f,\"bytes_end\":%llu,\"mean\":%.2f,\"p50\":%.2f,\"p90\":%.2f,\"p99\":%.2f,\"p999\":%.2f,\"max\":%.2f,\"s50\":%.2f,"
           "\"s99\":%.2f,\"n\":%zu,\"queued\":%llu,\"cpu\":%.4f,\"err_span_ms\":%.1f}\n",
           took, done, ok, non200, errInflight, errConnect, closedIdle, bytes, doneInTime / took, bytesInTime, samples ? sum / samples / 1000 : 0,
           percentile(latency, .5), percentile(latency, .9), percentile(latency, .99), percentile(latency, .999),
           samples ? latency[samples - 1] / 1000.0 : 0, percentile(service, .5), percentile(service, .99), samples, queueTail - queueHead,
           used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6,
           firstError ? (lastError - firstError) / 1e6 : 0.0);
    fflush(stdout);
}

static int hold(void) {
    struct epoll_event events[256];
    u64 start = now(), lastDone = 0, lastMove = start;
    int next = 0;
    countFrom = start;
    while (done + errConnect < (u64)connections) {
        while (next < connections && next - (int)(done + errConnect) < atOnce) {
            struct conn *c = &all[next++];
            if (dial(c) < 0) continue;
            arm(c, EPOLLIN);
            begin(c, 0);
        }
        int n = epoll_wait(poller, events, 256, 1000);
        for (int i = 0; i < n; i++) on(events[i].data.ptr, events[i].events);
        if (done != lastDone) {
            lastDone = done;
            lastMove = now();
        } else if (now() - lastMove > 15000000000ull) {
            fprintf(stderr, "lg: stalled at %llu of %d connections\n", done, connections);
            break;
        }
    }
    report((now() - start) / 1e9, done, bytes);
    printf("READY\n");
    fflush(stdout);
    char line;
    while (read(0, &line, 1) > 0 && line != 'q') {}
    int alive = 0;
    for (int i = 0; i < connections; i++) {
        if (all[i].fd < 0) continue;
        struct pollfd p = {.fd = all[i].fd, .events = POLLIN | POLLRDHUP};
        poll(&p, 1, 0);
        if (!(p.revents & (POLLRDHUP | POLLHUP | POLLERR))) alive++;
    }
    printf("ALIVE %d\n", alive);
    return 0;
}

static int parseTarget(char *text) {
    char *colon = text ? strrchr(text, ':') : NULL;
    if (!colon) return -1;
    *colon = 0;
    int port = htons(atoi(colon + 1));
    if (text[0] == '[') {
        struct sockaddr_in6 *a = (void *)&target;
        char *bracket = strchr(text, ']');
        if (bracket) *bracket = 0;
        a->sin6_family = AF_INET6;
        a->sin6_port = port;
        targetBytes = sizeof *a;
        return inet_pton(AF_INET6, text + 1, &a->sin6_addr) == 1 ? 0 : -1;
    }
    struct sockaddr_in *a = (void *)&target;
    a->sin_family = AF_INET;
    a->sin_port = port;
    targetBytes = sizeof *a;
    return inet_pton(AF_INET, text, &a->sin_addr) == 1 ? 0 : -1;
}

static void composeRequest(void) {
    request = malloc(4096 + bigHeader);
    requestBytes = sprintf(request, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: lg\r\nAccept: */*\r\n", postBytes >= 0 ? "POST" : "GET", path, host);
    if (bigHeader) {
        requestBytes += sprintf(request + requestBytes, "X-Large: ");
        memset(request + requestBytes, 'h', bigHeader);
        requestBytes += bigHeader;
        requestBytes += sprintf(request + requestBytes, "\r\n");
    }
    if (postBytes >= 0) requestBytes += sprintf(request + requestBytes, "Content-Length: %d\r\n", postBytes);
    requestBytes += sprintf(request + requestBytes, "\r\n");
    if (postBytes > 0) memset(body = malloc(postBytes), 'b', postBytes);
}

int main(int argc, char **argv) {
    char *to = NULL;
    int option;
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    while ((option = getopt(argc, argv, "c:d:r:p:H:b:t:xik:n:s:g:Qe")) > 0) switch (option) {
        case 'c': connections = atoi(optarg); break;
        case 'd': seconds = atof(optarg); break;
        case 'r': rate = atof(optarg); break;
        case 'p': path = optarg; break;
        case 'H': host = optarg; break;
        case 'b': postBytes = atoi(optarg); break;
        case 't': to = optarg; break;
        case 'x': closeEach = 1; break;
        case 'i': holdIdle = 1; break;
        case 'k': atOnce = atoi(optarg); break;
        case 'n': requestsMax = atoll(optarg); break;
        case 's': slowBytes = atoi(optarg); break;
        case 'g': bigHeader = atoi(optarg); break;
        case 'Q': noDrain = 1; break;
        case 'e': lenient = 1; break;
        default: return 64;
        }
    if (parseTarget(to) < 0) {
        fprintf(stderr, "lg: -t needs HOST:PORT or [V6]:PORT\n");
        return 64;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    composeRequest();
    poller = epoll_create1(0);
    all = calloc(connections, sizeof *all);
    for (int i = 0; i < connections; i++) all[i].fd = -1;
    queue = malloc(queueRoom * sizeof *queue);
    active = 1;
    if (holdIdle) return hold();
    for (int i = 0; i < connections && errConnect <= (u64)connections; i++) open_(&all[i]);
    struct epoll_event events[256];
    u64 start = now(), end = start + (u64)(seconds * 1e9), due = start, issued = 0, slowTurn = start;
    int turn = 0;
    countFrom = start;
    for (;;) {
        u64 t = now();
        if (t >= end || (requestsMax >= 0 && (long long)done >= requestsMax)) break;
        u64 wait = end - t;
        if (rate > 0) {
            while (due <= t) {
                struct conn *free = NULL;
                for (int i = 0; i < connections && !free; i++) {
                    struct conn *c = &all[turn];
                    turn = (turn + 1) % connections;
                    if (c->state == DEAD) open_(c);
                    if (c->state == IDLE) free = c;
                }
                if (free) begin(free, due);
                else if (queueTail - queueHead < queueRoom) queue[queueTail++ % queueRoom] = due;
                due = start + (u64)(++issued * 1e9 / rate);
            }
            t = now();
            wait = due > t ? due - t : 0;
            if (t < end && wait > end - t) wait = end - t;
        } else {
            for (int i = 0; i < connections; i++)
                if (all[i].state == DEAD) {
                    open_(&all[i]);
                    if (all[i].state == DEAD) { // refused: leave the other side room to come back
                        usleep(1000);
                        break;
                    }
                }
        }
        if (slowBytes) { // everyone reads once per 10 ms
            u64 t2 = now();
            if (slowTurn > t2) usleep((slowTurn - t2) / 1000);
            slowTurn = now() + 10000000ull;
            wait = 0;
        }
        struct timespec timeout = {wait / 1000000000ull, wait % 1000000000ull};
        int n = epoll_pwait2(poller, events, 256, &timeout, 0);
        for (int i = 0; i < n; i++) on(events[i].data.ptr, events[i].events);
    }
    double took = (now() - start) / 1e9;
    u64 doneInTime = done, bytesInTime = bytes, stuck = 0;
    active = 0;
    // Requests in flight may finish (at most 2 s), so that none is counted as failed by our own close.
    for (u64 until = now() + (noDrain ? 0 : 2000000000ull);;) {
        stuck = 0;
        for (int i = 0; i < connections; i++) stuck += all[i].state == WRITING || all[i].state == READING;
        if (!stuck || now() >= until) break;
        int n = epoll_wait(poller, events, 256, 50);
        for (int i = 0; i < n; i++) on(events[i].data.ptr, events[i].events);
    }
    if (stuck && !noDrain) {
        errInflight += stuck;
        fprintf(stderr, "lg: %llu requests without a reply after 2 s\n", stuck);
    }
    report(took, doneInTime, bytesInTime);
    return 0;
}
