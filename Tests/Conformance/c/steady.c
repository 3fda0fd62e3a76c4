// A well-behaved HTTP/2 client: C connections, one request at a time on each, together R per second by the clock (latency counts from
// when each was due). One line of JSON on stdout.
//
//   steady ADDRESS:PORT BLOCK -c CONNECTIONS -r RATE -d SECONDS
//
// BLOCK is a file with the header block of the request; it must not touch the dynamic table.
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
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { connectionsMax = 64, inputBytes = 1 << 17 };
static struct { int fd; uint32_t stream; uint64_t due; size_t have; unsigned char input[inputBytes]; } all[connectionsMax];
static unsigned char block[4096];
static size_t blockBytes;
static double *latency;
static uint64_t samples, errors, status200;
static char other[2 * 256 + 1]; // the last header block that did not begin with status 200, in hexadecimal

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void say(int i, int type, int flags, uint32_t stream, const void *payload, size_t count) {
    unsigned char frame[9 + 4096] = {count >> 16, count >> 8, count, type, flags, stream >> 24, stream >> 16, stream >> 8, stream};
    memcpy(frame + 9, payload, count);
    if (send(all[i].fd, frame, 9 + count, MSG_NOSIGNAL) != (ssize_t)(9 + count)) errors++;
}

static struct sockaddr_in to = {.sin_family = AF_INET};

static void dial(int i) {
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    static const unsigned char settings[] = {0, 4, 0x7f, 255, 255, 255}, window[] = {0x7f, 255, 0, 0};
    int one = 1;
    all[i].fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(all[i].fd, (void *)&to, sizeof to)) perror("steady"), exit(1);
    setsockopt(all[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    all[i].stream = (uint32_t)-1, all[i].have = 0, all[i].due = 0;
    if (send(all[i].fd, preface, 24, MSG_NOSIGNAL) != 24) exit(1);
    say(i, 4, 0, 0, settings, sizeof settings);
    say(i, 8, 0, 0, window, sizeof window);
}

static void ask(int i, uint64_t due) {
    all[i].stream += 2;
    all[i].due = due;
    say(i, 1, 5, all[i].stream, block, blockBytes);
}

/// Takes what has come; false at the end of the connection.
static int hear(int i) {
    ssize_t n = recv(all[i].fd, all[i].input + all[i].have, inputBytes - all[i].have, MSG_DONTWAIT);
    if (n <= 0) return n < 0 && errno == EAGAIN;
    all[i].have += n;
    size_t at = 0;
    for (unsigned char *f; f = all[i].input + at, all[i].have - at >= 9; ) {
        size_t length = f[0] << 16 | f[1] << 8 | f[2];
        uint32_t stream = (uint32_t)f[5] << 24 | f[6] << 16 | f[7] << 8 | f[8];
        if (all[i].have - at < 9 + length) break;
        at += 9 + length;
        if (f[3] == 4 && !(f[4] & 1)) say(i, 4, 1, 0, "", 0);
        else if (f[3] == 6 && !(f[4] & 1)) say(i, 6, 1, 0, f + 9, length);
        else if (f[3] == 7) return 0;
        else if (stream == all[i].stream && f[3] == 3) all[i].due = 0, errors++;
        else if (stream == all[i].stream) {
            if (f[3] == 1 && length && f[9] == 0x88) status200++; // :status 200, indexed
            else if (f[3] == 1) for (size_t o = 0; o < length && o < 256; o++) sprintf(other + 2 * o, "%02x", f[9 + o]);
            if (f[3] <= 1 && f[4] & 1) latency[samples++] = (now() - all[i].due) / 1000.0, all[i].due = 0;
        }
    }
    memmove(all[i].input, all[i].input + at, all[i].have -= at);
    return 1;
}

static int ascending(const void *a, const void *b) { return (*(double *)a > *(double *)b) - (*(double *)a < *(double *)b); }

int main(int argc, char **argv) {
    int option, connections = 4;
    double rate = 400, seconds = 1;
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    while ((option = getopt(argc, argv, "c:r:d:")) > 0) switch (option) {
        case 'c': connections = atoi(optarg); break;
        case 'r': rate = atof(optarg); break;
        case 'd': seconds = atof(optarg); break;
        default: return 64;
        }
    FILE *file = argc - optind == 2 ? fopen(argv[optind + 1], "rb") : NULL;
    if (!file || connections < 1 || connections > connectionsMax || !(blockBytes = fread(block, 1, sizeof block, file))) return 64;
    char *colon = strchr(argv[optind], ':');
    if (!colon) return 64;
    *colon = 0;
    to.sin_port = htons(atoi(colon + 1));
    if (inet_pton(AF_INET, argv[optind], &to.sin_addr) != 1) return 64;
    latency = malloc(sizeof *latency * (size_t)(rate * seconds + 2 * connections));
    struct pollfd wait[connectionsMax];
    for (int i = 0; i < connections; i++) dial(i), wait[i] = (struct pollfd){.fd = all[i].fd, .events = POLLIN};
    uint64_t began = now(), asked = 0, total = rate * seconds, open = 0, late = 0;
    while (asked < total || open) {
        uint64_t time = now(), due = began + asked * 1e9 / rate;
        if (asked < total && time >= due) {
            int i = 0;
            while (i < connections && all[i].due) i++;
            if (i < connections) {
                ask(i, due), asked++, open++;
                continue;
            }
        }
        if (time > began + (seconds + 10) * 1e9) {
            late = open;
            break;
        }
        uint64_t left = asked < total && due > time && open < (uint64_t)connections ? due - time : 100000000;
        struct timespec patience = {left / 1000000000, left % 1000000000};
        ppoll(wait, connections, &patience, NULL);
        for (int i = 0; i < connections; i++) {
            if (!wait[i].revents) continue;
            int waited = all[i].due != 0;
            if (!hear(i)) { // a connection that ends under it counts, and another takes its place
                errors++, all[i].due = 0;
                close(all[i].fd);
                dial(i);
                wait[i].fd = all[i].fd;
            }
            if (waited && !all[i].due) open--;
        }
    }
    qsort(latency, samples, sizeof *latency, ascending);
    double at50 = samples ? latency[samples / 2] : 0, at99 = samples ? latency[samples * 99 / 100] : 0, most = samples ? latency[samples - 1] : 0;
    printf("{\"n\":%llu,\"status200\":%llu,\"errors\":%llu,\"late\":%llu,\"p50\":%.1f,\"p99\":%.1f,\"max\":%.1f,\"other\":\"%s\"}\n", (unsigned long long)samples,
           (unsigned long long)status200, (unsigned long long)errors, (unsigned long long)late, at50, at99, most, other);
    return 0;
}
