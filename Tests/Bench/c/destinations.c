// Proves that every connection reaches the destination it asked for.
//
//   destinations serve FIRSTPORT COUNT          listens on COUNT ports of `::`; each connection brings one line "ADDRESS PORT\n", which must be
//                                               the address it arrived at. Answers "ok\n" or "wrong …\n"; prints totals when stdin ends.
//   destinations ask CONNECTIONS AT_ONCE CLOSE_EVERY HOLD FIRSTPORT COUNT ADDRESS…
//                                               connects to the destinations in turn; every CLOSE_EVERY-th (0: none) writes its line and closes
//                                               at once. HOLD=1 keeps all connections open until stdin ends, after checking each answer.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { filesMax = 65536 };

static void openFilesMax(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

/// "ADDRESS PORT" of a v6 socket address; v4-mapped addresses in dotted form.
static void name(const struct sockaddr_in6 *a, char *text, size_t room) {
    char address[INET6_ADDRSTRLEN];
    if (IN6_IS_ADDR_V4MAPPED(&a->sin6_addr)) inet_ntop(AF_INET, (const char *)&a->sin6_addr + 12, address, sizeof address);
    else inet_ntop(AF_INET6, &a->sin6_addr, address, sizeof address);
    snprintf(text, room, "%s %d", address, ntohs(a->sin6_port));
}

struct arrival {
    char line[128];
    int bytes, judged;
};
static struct arrival arrivals[filesMax];
static unsigned long long right, wrong, silent;

static void judge(int fd) {
    struct arrival *a = &arrivals[fd];
    struct sockaddr_in6 self;
    socklen_t size = sizeof self;
    char here[128], answer[300];
    getsockname(fd, (void *)&self, &size);
    name(&self, here, sizeof here);
    int same = !strcmp(here, a->line);
    if (same) right++;
    else {
        wrong++;
        if (wrong < 10) fprintf(stderr, "arrived at %s, asked for %s\n", here, a->line);
    }
    int n = same ? sprintf(answer, "ok\n") : snprintf(answer, sizeof answer, "wrong %s\n", here);
    if (send(fd, answer, n, MSG_NOSIGNAL) < 0) return; // the client closed at once: its line was all it wanted to say
}

static int serve(int first, int count) {
    int poller = epoll_create1(0), one = 1, zero = 0, lowest = filesMax, highest = 0;
    struct epoll_event e = {.events = EPOLLIN, .data.fd = 0}, events[256];
    if (epoll_ctl(poller, EPOLL_CTL_ADD, 0, &e)) return 1;
    for (int i = 0; i < count; i++) {
        int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0);
        struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(first + i)};
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
        if (bind(fd, (void *)&a, sizeof a) || listen(fd, 4096)) {
            perror("bind");
            return 1;
        }
        if (fd < lowest) lowest = fd;
        if (fd > highest) highest = fd;
        e = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    }
    printf("SERVING\n");
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd, made;
            if (fd == 0) {
                char order[16];
                ssize_t got = read(0, order, sizeof order);
                printf("{\"right\":%llu,\"wrong\":%llu,\"silent\":%llu}\n", right, wrong, silent);
                fflush(stdout);
                if (got <= 0) return 0;
            } else if (fd >= lowest && fd <= highest) {
                while ((made = accept4(fd, 0, 0, SOCK_NONBLOCK)) >= 0) {
                    arrivals[made].bytes = arrivals[made].judged = 0;
                    struct epoll_event x = {.events = EPOLLIN, .data.fd = made};
                    epoll_ctl(poller, EPOLL_CTL_ADD, made, &x);
                }
            } else {
                struct arrival *a = &arrivals[fd];
                char rest[64];
                ssize_t got = a->judged ? recv(fd, rest, sizeof rest, 0) : recv(fd, a->line + a->bytes, sizeof a->line - 1 - a->bytes, 0);
                if (got <= 0) {
                    if (got < 0 && errno == EAGAIN) continue;
                    silent += !a->judged;
                    close(fd);
                } else if (!a->judged) {
                    a->bytes += got;
                    a->line[a->bytes] = 0;
                    char *end = strchr(a->line, '\n');
                    if (!end) continue;
                    *end = 0;
                    a->judged = 1;
                    judge(fd);
                }
            }
        }
    }
}

struct wish {
    int fd, state, closes; // state 0 free, 1 connecting, 2 waiting for the answer, 3 held
    char line[128], answer[160];
    int answered;
};

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    openFilesMax();
    if (argc == 4 && !strcmp(argv[1], "serve")) return serve(atoi(argv[2]), atoi(argv[3]));
    if (argc < 9 || strcmp(argv[1], "ask")) return 64;
    long total = atol(argv[2]), atOnce = atol(argv[3]), closeEvery = atol(argv[4]), hold = atol(argv[5]), first = atol(argv[6]), count = atol(argv[7]);
    char **addresses = argv + 8;
    long addressCount = argc - 8, started = 0, ended = 0, good = 0, bad = 0, refused = 0, lost = 0, closedAtOnce = 0, held = 0;
    if (hold) atOnce = total;
    struct wish *wishes = calloc(atOnce, sizeof *wishes);
    int poller = epoll_create1(0);
    struct epoll_event events[256];
    struct timespec moved;
    clock_gettime(CLOCK_MONOTONIC, &moved);
    long next = 0, under = 0, underMax = hold ? 256 : atOnce; // holding: at most 256 handshakes at a time
    while (ended + held < total) {
        for (; started < total && under < underMax;) {
            while (wishes[next % atOnce].state) next++;
            struct wish *w = &wishes[next++ % atOnce];
            const char *address = addresses[(started / count) % addressCount];
            int port = first + started % count, six = strchr(address, ':') != NULL;
            struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons(port)};
            struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
            inet_pton(six ? AF_INET6 : AF_INET, address, six ? (void *)&a6.sin6_addr : (void *)&a4.sin_addr);
            *w = (struct wish){.fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), .state = 1};
            w->closes = closeEvery && started % closeEvery == 0;
            const char *plain = strncmp(address, "::ffff:", 7) ? address : address + 7;
            snprintf(w->line, sizeof w->line, "%s %d\n", plain, port);
            started++;
            if (w->fd < 0 || (connect(w->fd, six ? (void *)&a6 : (void *)&a4, six ? sizeof a6 : sizeof a4) && errno != EINPROGRESS)) {
                if (refused++ < 5) fprintf(stderr, "connect %s %d: %s\n", address, port, strerror(errno));
                if (w->fd >= 0) close(w->fd);
                w->state = 0;
                ended++;
                continue;
            }
            under++;
            struct epoll_event e = {.events = EPOLLOUT, .data.ptr = w};
            epoll_ctl(poller, EPOLL_CTL_ADD, w->fd, &e);
        }
        int n = epoll_wait(poller, events, 256, 1000);
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        if (n > 0) moved = t;
        else if (t.tv_sec - moved.tv_sec > 20) {
            fprintf(stderr, "stalled: %ld started, %ld ended, %ld held\n", started, ended, held);
            break;
        }
        for (int i = 0; i < n; i++) {
            struct wish *w = events[i].data.ptr;
            int over = 0;
            if (w->state == 1) {
                int error = 0;
                socklen_t size = sizeof error;
                getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &error, &size);
                if (error || send(w->fd, w->line, strlen(w->line), MSG_NOSIGNAL) < 0) {
                    if (refused++ < 5) fprintf(stderr, "connect %.*s: %s\n", (int)strcspn(w->line, "\n"), w->line, strerror(error));
                    over = 1;
                } else if (w->closes) {
                    closedAtOnce++;
                    over = 1;
                } else {
                    w->state = 2;
                    struct epoll_event e = {.events = EPOLLIN, .data.ptr = w};
                    epoll_ctl(poller, EPOLL_CTL_MOD, w->fd, &e);
                }
            } else if (w->state == 2) {
                ssize_t got = recv(w->fd, w->answer + w->answered, sizeof w->answer - 1 - w->answered, 0);
                if (got <= 0) {
                    if (got < 0 && errno == EAGAIN) continue;
                    lost++;
                    over = 1;
                } else {
                    w->answered += got;
                    if (memchr(w->answer, '\n', w->answered)) {
                        if (!strncmp(w->answer, "ok\n", 3)) good++;
                        else bad++;
                        if (hold) {
                            w->state = 3;
                            held++;
                            under--;
                            epoll_ctl(poller, EPOLL_CTL_DEL, w->fd, NULL);
                        } else over = 1;
                    }
                }
            }
            if (over) {
                close(w->fd);
                w->state = 0;
                ended++;
                under--;
            }
        }
    }
    printf("{\"started\":%ld,\"right\":%ld,\"wrong\":%ld,\"refused\":%ld,\"lost\":%ld,\"closed_at_once\":%ld,\"held\":%ld}\n", started, good, bad, refused, lost,
           closedAtOnce, held);
    fflush(stdout);
    char order[16];
    if (hold) while (read(0, order, sizeof order) > 0) {}
    return 0;
}
