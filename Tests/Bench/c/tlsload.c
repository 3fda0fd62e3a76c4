#define _GNU_SOURCE
// Load over mutual TLS 1.3, one thread, epoll, closed loop. One line of JSON on stdout.
//
//   tlsload -t HOST:PORT -C chain.pem -K key.pem -A roots.pem   [-c connections] [-d seconds] [-p path] [-H authority]
//      -2 PORT   HTTP/2 as Weft's proxies speak it among themselves (ALPN weft-h2), to that port of the destination; else HTTP/1.1
//      -x        a new connection per request: connect, handshake, one request, close; latency includes all of it
//      -r        with -x: resume, with the ticket of the connection before
//      -i        open all connections, one request each, then hold them until a line arrives on stdin (READY, ALIVE n)
//      -k N      with -i: how many may be opening at once
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SAMPLES_MAX = 8 << 20, BUFFER_BYTES = 64 << 10, FRAME_HEADER_BYTES = 9 };
enum { FRAME_DATA = 0, FRAME_HEADERS = 1, FRAME_RST_STREAM = 3, FRAME_SETTINGS = 4, FRAME_GOAWAY = 7, END_STREAM = 1, ACK = 1 };

enum stage { CONNECTING, SHAKING, ASKING, RESTING };

struct connection {
    int fd;
    enum stage stage;
    SSL *ssl;
    SSL_SESSION *ticket;
    unsigned stream;
    double began;
    // The reply: HTTP/1 bytes so far, or a frame that came in part.
    unsigned char held[BUFFER_BYTES];
    int held_count;
    long body_left;
    int saw_200;
};

static struct {
    const char *path, *authority, *inner_port;
    int fresh, resumes, idles, opening_max, connections;
    double seconds;
    struct sockaddr_in address;
} options = {.path = "/s/1024", .authority = "h0.test", .connections = 64, .seconds = 3, .opening_max = 32};

static SSL_CTX *context;
static int poller, opening, alive;
static unsigned *samples;
static long done, sample_count, handshakes, resumed, errors_connect, errors_tls, errors_in_flight, other_than_200;
static int has_ended;
static unsigned char opening_frames[512], request[1024];
static int opening_bytes, request_bytes;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void die(const char *what) {
    fprintf(stderr, "tlsload: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(2);
}

static unsigned char *frame(unsigned char *at, int length, int kind, int flags, unsigned stream) {
    at[0] = length >> 16, at[1] = length >> 8, at[2] = length, at[3] = kind, at[4] = flags;
    at[5] = stream >> 24, at[6] = stream >> 16, at[7] = stream >> 8, at[8] = stream;
    return at + FRAME_HEADER_BYTES;
}

// A field that leaves the dynamic table alone (RFC 7541, 6.2.2); `index` 0: by its name.
static unsigned char *field(unsigned char *at, int index, const char *name, const char *value) {
    *at++ = index;
    if (!index) {
        *at++ = strlen(name);
        at = memcpy(at, name, strlen(name)) + strlen(name);
    }
    *at++ = strlen(value);
    return memcpy(at, value, strlen(value)) + strlen(value);
}

static void prepare(void) {
    if (!options.inner_port) {
        request_bytes = snprintf((char *)request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", options.path, options.authority);
        return;
    }
    unsigned char *at = opening_frames;
    at = memcpy(at, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24) + 24;
    at = frame(at, 0, FRAME_SETTINGS, 0, 0);
    at = frame(at, 4, 8, 0, 0);
    memcpy(at, "\x7f\x00\x00\x00", 4);
    opening_bytes = at + 4 - opening_frames;
    unsigned char *block = request + FRAME_HEADER_BYTES, *end = block;
    char destination[32];
    snprintf(destination, sizeof destination, "%s;http1", options.inner_port);
    *end++ = 0x82, *end++ = 0x86;
    end = field(end, 4, "", options.path);
    end = field(end, 1, "", options.authority);
    end = field(end, 0, "x-weft-destination", destination);
    frame(request, end - block, FRAME_HEADERS, END_STREAM | 4, 1);
    request_bytes = end - request;
}

static void watch(struct connection *c, unsigned events, int operation) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event)) die("epoll_ctl");
}

static void start(struct connection *c) {
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("no socket");
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->began = now();
    c->stage = CONNECTING;
    c->stream = 1;
    c->held_count = 0;
    c->saw_200 = 0;
    c->body_left = -1;
    opening++;
    if (connect(c->fd, (struct sockaddr *)&options.address, sizeof options.address) && errno != EINPROGRESS) {
        errors_connect++;
        close(c->fd);
        c->fd = -1;
        opening--;
        return;
    }
    watch(c, EPOLLOUT, EPOLL_CTL_ADD);
}

static void end(struct connection *c, int in_order) {
    if (c->ssl) {
        if (in_order) SSL_shutdown(c->ssl);
        SSL_free(c->ssl);
        c->ssl = NULL;
        ERR_clear_error();
    }
    if (c->stage == CONNECTING || c->stage == SHAKING) opening--;
    close(c->fd);
    c->fd = -1;
}

static void failed(struct connection *c, long *counter) {
    ++*counter;
    end(c, 0);
    if (!has_ended && !options.idles) start(c);
}

static int send_all(struct connection *c, const unsigned char *bytes, int count) {
    // A request is far smaller than any socket's buffer.
    return SSL_write(c->ssl, bytes, count) == count;
}

static void ask(struct connection *c) {
    c->stage = ASKING;
    c->saw_200 = 0;
    c->body_left = -1;
    if (!options.fresh) c->began = now();
    if (options.inner_port) {
        request[5] = c->stream >> 24, request[6] = c->stream >> 16, request[7] = c->stream >> 8, request[8] = c->stream;
        if (c->stream == 1) {
            unsigned char both[sizeof opening_frames + sizeof request];
            memcpy(both, opening_frames, opening_bytes);
            memcpy(both + opening_bytes, request, request_bytes);
            if (!send_all(c, both, opening_bytes + request_bytes)) return failed(c, &errors_in_flight);
            return;
        }
    }
    if (!send_all(c, request, request_bytes)) failed(c, &errors_in_flight);
}

static void answered(struct connection *c) {
    done++;
    if (!c->saw_200) other_than_200++;
    if (sample_count < SAMPLES_MAX) samples[sample_count++] = (now() - c->began) * 1e6;
    if (options.idles) {
        c->stage = RESTING;
        alive++;
        return;
    }
    if (has_ended) return end(c, 1);
    if (options.fresh) {
        end(c, 1);
        start(c);
        return;
    }
    c->stream += 2;
    ask(c);
}

// Frames in `held`; true when the reply has ended.
static int read_frames(struct connection *c) {
    int at = 0, over = 0;
    while (c->held_count - at >= FRAME_HEADER_BYTES) {
        unsigned char *f = c->held + at;
        int length = f[0] << 16 | f[1] << 8 | f[2];
        if (length > BUFFER_BYTES - FRAME_HEADER_BYTES) return -1;
        if (c->held_count - at < FRAME_HEADER_BYTES + length) break;
        unsigned stream = (unsigned)f[5] << 24 | f[6] << 16 | f[7] << 8 | f[8];
        if (f[3] == FRAME_SETTINGS && !(f[4] & ACK)) {
            unsigned char ack[FRAME_HEADER_BYTES];
            frame(ack, 0, FRAME_SETTINGS, ACK, 0);
            if (!send_all(c, ack, sizeof ack)) return -1;
        } else if (f[3] == FRAME_GOAWAY || (f[3] == FRAME_RST_STREAM && stream == c->stream)) {
            return -1;
        } else if (stream == c->stream) {
            if (f[3] == FRAME_HEADERS && length && f[FRAME_HEADER_BYTES] == 0x88) c->saw_200 = 1;
            if ((f[3] == FRAME_HEADERS || f[3] == FRAME_DATA) && f[4] & END_STREAM) over = 1;
        }
        at += FRAME_HEADER_BYTES + length;
    }
    memmove(c->held, c->held + at, c->held_count - at);
    c->held_count -= at;
    return over;
}

static int read_http1(struct connection *c) {
    if (c->body_left < 0) {
        c->held[c->held_count < BUFFER_BYTES ? c->held_count : BUFFER_BYTES - 1] = 0;
        char *blank = strstr((char *)c->held, "\r\n\r\n"), *length = strcasestr((char *)c->held, "\r\ncontent-length:");
        if (!blank) return c->held_count < BUFFER_BYTES - 1 ? 0 : -1;
        if (!length || length > blank) return -1;
        c->saw_200 = !strncmp((char *)c->held + 9, "200", 3);
        c->body_left = atol(length + 17) - (c->held_count - (blank + 4 - (char *)c->held));
    } else {
        c->body_left -= c->held_count;
    }
    c->held_count = 0;
    return c->body_left == 0 ? 1 : c->body_left < 0 && c->body_left != 0 ? -1 : 0;
}

static void receive(struct connection *c) {
    for (;;) {
        int count = SSL_read(c->ssl, c->held + c->held_count, BUFFER_BYTES - 1 - c->held_count);
        if (count <= 0) {
            int why = SSL_get_error(c->ssl, count);
            if (why == SSL_ERROR_WANT_READ) return;
            if (c->stage == RESTING) {
                alive--;
                return end(c, 0);
            }
            return failed(c, &errors_in_flight);
        }
        c->held_count += count;
        unsigned before = c->stream;
        int over = options.inner_port ? read_frames(c) : read_http1(c);
        if (over < 0) return failed(c, &errors_in_flight);
        if (over && c->stage == ASKING) {
            answered(c);
            if (c->fd < 0 || options.fresh || c->stream == before) return;
        }
    }
}

static void shake(struct connection *c) {
    int result = SSL_connect(c->ssl);
    if (result == 1) {
        opening--;
        handshakes++;
        if (SSL_session_reused(c->ssl)) resumed++;
        watch(c, EPOLLIN, EPOLL_CTL_MOD);
        return ask(c);
    }
    int why = SSL_get_error(c->ssl, result);
    if (why == SSL_ERROR_WANT_READ) return watch(c, EPOLLIN, EPOLL_CTL_MOD);
    if (why == SSL_ERROR_WANT_WRITE) return watch(c, EPOLLOUT, EPOLL_CTL_MOD);
    failed(c, &errors_tls);
}

static void serve(struct connection *c) {
    if (c->fd < 0) return;
    if (c->stage == CONNECTING) {
        int code = 0;
        socklen_t size = sizeof code;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &code, &size);
        if (code) return failed(c, &errors_connect);
        c->ssl = SSL_new(context);
        SSL_set_fd(c->ssl, c->fd);
        SSL_set_app_data(c->ssl, (char *)c);
        if (options.resumes && c->ticket) SSL_set_session(c->ssl, c->ticket);
        c->stage = SHAKING;
        return shake(c);
    }
    if (c->stage == SHAKING) return shake(c);
    receive(c);
}

static int got_ticket(SSL *ssl, SSL_SESSION *ticket) {
    struct connection *c = (struct connection *)SSL_get_app_data(ssl);
    if (c->ticket) SSL_SESSION_free(c->ticket);
    c->ticket = ticket;
    return 1;
}

static int ascending(const void *a, const void *b) {
    unsigned left = *(const unsigned *)a, right = *(const unsigned *)b;
    return left < right ? -1 : left > right;
}

static unsigned quantile(double share) { return sample_count ? samples[(long)(share * (sample_count - 1))] : 0; }

static void set_up_tls(const char *chain, const char *key, const char *roots) {
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set1_groups_list(context, "X25519:P-256");
    SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256");
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (SSL_CTX_use_certificate_chain_file(context, chain) != 1 || SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_load_verify_locations(context, roots, NULL) != 1)
        die("cannot load the certificate, its key or the roots");
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    static const unsigned char weft[] = "\x07weft-h2", http1[] = "\x08http/1.1";
    if (options.inner_port) SSL_CTX_set_alpn_protos(context, weft, sizeof weft - 1);
    else SSL_CTX_set_alpn_protos(context, http1, sizeof http1 - 1);
    SSL_CTX_set_session_cache_mode(context, options.resumes ? SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL : SSL_SESS_CACHE_OFF);
    if (options.resumes) SSL_CTX_sess_set_new_cb(context, got_ticket);
}

int main(int count, char **arguments) {
    const char *chain = NULL, *key = NULL, *roots = NULL, *target = NULL;
    for (int letter; (letter = getopt(count, arguments, "t:C:K:A:c:d:p:H:2:xrik:")) != -1;) switch (letter) {
    case 't': target = optarg; break;
    case 'C': chain = optarg; break;
    case 'K': key = optarg; break;
    case 'A': roots = optarg; break;
    case 'c': options.connections = atoi(optarg); break;
    case 'd': options.seconds = atof(optarg); break;
    case 'p': options.path = optarg; break;
    case 'H': options.authority = optarg; break;
    case '2': options.inner_port = optarg; break;
    case 'x': options.fresh = 1; break;
    case 'r': options.resumes = 1; break;
    case 'i': options.idles = 1; break;
    case 'k': options.opening_max = atoi(optarg); break;
    default: die("see the head of tlsload.c for its options");
    }
    char *colon = target ? strrchr((char *)target, ':') : NULL;
    if (!colon || !chain || !key || !roots) die("-t HOST:PORT, -C, -K and -A are needed");
    *colon = 0;
    options.address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(colon + 1))};
    if (inet_pton(AF_INET, target, &options.address.sin_addr) != 1) die("-t wants an IPv4 address");
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    samples = malloc(SAMPLES_MAX * sizeof *samples);
    set_up_tls(chain, key, roots);
    prepare();
    poller = epoll_create1(0);
    struct connection *all = calloc(options.connections, sizeof *all);
    double began = now();
    int started = 0, opened_at_end = 0;
    struct epoll_event events[256];
    for (; !options.idles && started < options.connections; started++) start(all + started);
    while (now() - began < options.seconds || options.idles) {
        for (; options.idles && started < options.connections && opening < options.opening_max; started++) start(all + started);
        if (options.idles && started == options.connections && done + errors_connect + errors_tls + errors_in_flight >= started) break;
        int ready = epoll_wait(poller, events, 256, 100);
        for (int i = 0; i < ready; i++) serve(events[i].data.ptr);
    }
    double took = now() - began;
    has_ended = 1;
    if (options.idles) {
        printf("READY\n");
        fflush(stdout);
        char line[8];
        if (!fgets(line, sizeof line, stdin)) line[0] = 0;
        for (int ready; (ready = epoll_wait(poller, events, 256, 50)) > 0;)
            for (int i = 0; i < ready; i++) serve(events[i].data.ptr);
        opened_at_end = alive;
    }
    qsort(samples, sample_count, sizeof *samples, ascending);
    printf("{\"n\": %ld, \"ok\": %ld, \"handshakes\": %ld, \"resumed\": %ld, \"secs\": %.4f, \"rps\": %.1f, \"p50\": %u, \"p99\": %u, \"max\": %u, \"non200\": %ld, "
           "\"err_connect\": %ld, \"err_tls\": %ld, \"err_inflight\": %ld}\n",
           done, done - other_than_200, handshakes, resumed, took, done / took, quantile(0.5), quantile(0.99), quantile(1), other_than_200, errors_connect, errors_tls, errors_in_flight);
    if (options.idles) printf("ALIVE %d\n", opened_at_end);
    return 0;
}
