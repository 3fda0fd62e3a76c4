// One gRPC-shaped call after the other on one HTTP/2 connection (RFC 9113, without TLS): what a hop adds to a call when nothing else happens.
//
//   unary -t HOST:PORT [-d seconds]     POST of 100 bytes; a call is over at the END_STREAM of its reply. One line of JSON, as lg's.
//
// Nothing is decoded but the status, which is one byte when it is 200 (HPACK's static table, RFC 7541, Appendix A).
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { frameHead = 9, bodyBytes = 100, room = 1 << 16, samplesMax = 1 << 22 };
enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE };
static uint8_t out[4096], in[room];
static int outBytes, inBytes, fd;
static uint32_t samples[samplesMax];
static unsigned long long bytes;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void frame(uint32_t length, uint8_t type, uint8_t flags, uint32_t id, const void *payload) {
    uint8_t h[frameHead] = {length >> 16, length >> 8, length, type, flags, id >> 24, id >> 16, id >> 8, id};
    memcpy(out + outBytes, h, frameHead);
    memcpy(out + outBytes + frameHead, payload, length);
    outBytes += frameHead + length;
}

static void push(void) {
    if (send(fd, out, outBytes, MSG_NOSIGNAL) != outBytes) {
        perror("unary: send");
        exit(1);
    }
    outBytes = 0;
}

/// A field that is not to be indexed: the block is the same for every call.
static int field(uint8_t *at, int nameIndex, const char *name, const char *value) {
    int n = 0, length = strlen(value);
    at[n++] = nameIndex; // below 15: fits the prefix of four bits
    if (nameIndex == 0) {
        at[n++] = strlen(name);
        memcpy(at + n, name, strlen(name));
        n += strlen(name);
    }
    at[n++] = length;
    memcpy(at + n, value, length);
    return n + length;
}

/// Reads until the call is over: 1 when it was a 200 with a body and an end, 0 when it failed.
static int awaitReply(uint32_t id) {
    int isOK = 0, body = 0;
    for (;;) {
        int at = 0;
        while (inBytes - at >= frameHead) {
            uint8_t *f = in + at, *payload = f + frameHead;
            uint32_t length = f[0] << 16 | f[1] << 8 | f[2], of = (f[5] & 127u) << 24 | f[6] << 16 | f[7] << 8 | f[8];
            if (inBytes - at < (int)(frameHead + length)) break;
            at += frameHead + length;
            if (f[3] == SETTINGS && !(f[4] & 1)) frame(0, SETTINGS, 1, 0, payload), push();
            else if (f[3] == PING && !(f[4] & 1)) frame(8, PING, 1, 0, payload), push();
            else if (f[3] == GOAWAY) {
                fprintf(stderr, "unary: GOAWAY %d\n", payload[7]);
                exit(1);
            } else if (of == id && f[3] == RST_STREAM) return 0;
            else if (of == id && f[3] == HEADERS && !body) {
                uint8_t *block = payload;
                while ((*block & 0xe0) == 0x20) { // size updates of the table
                    if ((*block++ & 31) == 31) while (*block++ & 128) {}
                }
                isOK = *block == 0x88;
            } else if (of == id && f[3] == DATA) body += length;
            if (of == id && (f[3] == HEADERS || f[3] == DATA) && (f[4] & 1)) {
                memmove(in, in + at, inBytes - at);
                inBytes -= at;
                return isOK && body == bodyBytes;
            }
        }
        memmove(in, in + at, inBytes - at);
        inBytes -= at;
        ssize_t n = recv(fd, in + inBytes, room - inBytes, 0);
        if (n <= 0) {
            fprintf(stderr, "unary: the connection ended\n");
            exit(1);
        }
        inBytes += n;
        bytes += n;
    }
}

static int compare(const void *a, const void *b) {
    uint32_t x = *(uint32_t *)a, y = *(uint32_t *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
    double seconds = 3;
    char *target = NULL, *colon;
    for (int option; (option = getopt(argc, argv, "t:d:")) > 0;) {
        if (option == 't') target = optarg;
        else if (option == 'd') seconds = atof(optarg);
        else return 64;
    }
    if (!target || !(colon = strchr(target, ':'))) return 64;
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    uint8_t block[512];
    int blockBytes = 0;
    block[blockBytes++] = 0x83; // :method POST
    block[blockBytes++] = 0x86; // :scheme http
    blockBytes += field(block + blockBytes, 4, "", "/bench.Echo/Call");
    blockBytes += field(block + blockBytes, 1, "", target);
    blockBytes += field(block + blockBytes, 0, "content-type", "application/grpc");
    blockBytes += field(block + blockBytes, 0, "te", "trailers");
    *colon = 0;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(colon + 1))};
    inet_pton(AF_INET, target, &to.sin_addr);
    int one = 1;
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (void *)&to, sizeof to)) {
        perror("unary: connect");
        return 1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    memcpy(out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", outBytes = 24);
    uint8_t body[bodyBytes], window[4] = {0x7f, 0xff, 0, 0};
    memset(body, 'p', sizeof body);
    frame(0, SETTINGS, 0, 0, body);
    frame(4, WINDOW_UPDATE, 0, 0, window);
    int calls = 0, failed = 0;
    uint64_t start = now(), end = start + (uint64_t)(seconds * 1e9), t = start;
    for (uint32_t id = 1; t < end && calls < samplesMax; id += 2) {
        frame(blockBytes, HEADERS, 4, id, block);
        frame(bodyBytes, DATA, 1, id, body);
        push();
        failed += !awaitReply(id);
        uint64_t over = now();
        samples[calls++] = over - t;
        t = over;
    }
    double took = (t - start) / 1e9;
    qsort(samples, calls, sizeof *samples, compare);
    printf("{\"secs\":%.6f,\"done\":%d,\"non200\":%d,\"err_inflight\":0,\"err_connect\":0,\"bytes\":%llu,\"bytes_end\":%llu,\"rps\":%.1f,"
           "\"p50\":%.2f,\"p90\":%.2f,\"p99\":%.2f,\"s50\":%.2f,\"s99\":%.2f}\n",
           took, calls, failed, bytes, bytes, calls / took, samples[calls / 2] / 1e3, samples[calls / 10 * 9] / 1e3,
           samples[(int)(calls * .99)] / 1e3, samples[calls / 2] / 1e3, samples[(int)(calls * .99)] / 1e3);
    return 0;
}
