// A server that only reads: what it is sent is dropped, and nothing is ever said.
//
//   sink PORT [-b BYTES]
//
// -b: a connection is closed when it has brought so many bytes (0: never), as a server does that gives up an attacker's.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { connectionsMax = 4096 };
static long long had[connectionsMax];
static char scratch[1 << 16];

int main(int argc, char **argv) {
    long long most = 0;
    for (int option; (option = getopt(argc, argv, "b:")) > 0; ) {
        if (option != 'b') return 64;
        most = atoll(optarg);
    }
    if (argc - optind != 1) return 64;
    int one = 1, accepting = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), poller = epoll_create1(EPOLL_CLOEXEC);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[optind])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(accepting, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(accepting, (void *)&at, sizeof at) || listen(accepting, 4096)) return perror("sink"), 1;
    struct epoll_event e = {.events = EPOLLIN, .data.fd = accepting}, events[64];
    epoll_ctl(poller, EPOLL_CTL_ADD, accepting, &e);
    for (;;) {
        int n = epoll_wait(poller, events, 64, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == accepting) {
                while ((fd = accept4(accepting, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
                    struct epoll_event made = {.events = EPOLLIN, .data.fd = fd};
                    if (fd >= connectionsMax || epoll_ctl(poller, EPOLL_CTL_ADD, fd, &made)) close(fd);
                    else had[fd] = 0;
                }
                continue;
            }
            ssize_t count = recv(fd, scratch, sizeof scratch, 0);
            if (count > 0) had[fd] += count;
            if (count == 0 || (most > 0 && had[fd] >= most)) close(fd);
        }
    }
}
