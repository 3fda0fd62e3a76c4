#define _GNU_SOURCE
#include "include/copenssl.h"
#include "process.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

// recv and send without the C library's thread-cancellation points, which cost 0.1 µs each in a process with more than one thread.
static long receive(int fd, void *bytes, size_t count) { return syscall(SYS_recvfrom, (long)fd, bytes, count, 0L, 0L, 0L); }
static long transmit(int fd, const void *bytes, size_t count) {
    return syscall(SYS_sendto, (long)fd, bytes, count, (long)MSG_NOSIGNAL, 0L, 0L);
}

static int socket_read(BIO *bio, char *bytes, int room) {
    struct copenssl_socket *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (room <= 0) return 0;
    if ((s->is_drained && !s->has_ended) || s->reads_left == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    s->reads_left--;
    long n;
    do n = receive(s->descriptor, bytes, (size_t)room);
    while (n < 0 && errno == EINTR);
    s->is_drained = n < room;
    if (n > 0) return (int)n;
    if (n == 0) {
        s->has_ended = 1;
        BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
        return 0;
    }
    if (errno == EAGAIN) BIO_set_retry_read(bio);
    else s->error = errno;
    return -1;
}

/// How much the socket takes; -1: it is of no use any more.
static long offer(struct copenssl_socket *s, const unsigned char *bytes, size_t count) {
    long n;
    do n = transmit(s->descriptor, bytes, count);
    while (n < 0 && errno == EINTR);
    if (n >= 0) return n;
    if (errno == EAGAIN) return 0;
    s->error = errno;
    return -1;
}

static int socket_write(BIO *bio, const char *bytes, int count) {
    struct copenssl_socket *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (count <= 0) return 0;
    struct copenssl_outlet *outlet = s->outlet;
    if (outlet && outlet->capacity - outlet->count >= (uint32_t)count) {
        memcpy(outlet->bytes + outlet->count, bytes, (size_t)count);
        outlet->count += (uint32_t)count;
        return count;
    }
    // What OpenSSL has to say by itself (an answer to KeyUpdate, an alert) goes behind what was sealed before it. If that has content, whoever sent it
    // asks what has become of it.
    long n = s->held && !s->held->records ? copenssl_held_send(s) : 0;
    if (n == 0 && !outlet && !s->held) n = offer(s, (const unsigned char *)bytes, (size_t)count);
    if (n > 0) return (int)n;
    if (n == 0) BIO_set_retry_write(bio);
    return -1;
}

void copenssl_outlet_note(struct copenssl_outlet *o, size_t content) {
    o->record[o->records++] = (struct copenssl_sealed){.end = o->count, .content = (uint32_t)content};
}

/// Content of the records from `*first` on that end before `gone`.
static long settle(const struct copenssl_sealed *record, int *first, int records, uint32_t gone) {
    long content = 0;
    while (*first < records && record[*first].end <= gone) content += record[(*first)++].content;
    return content;
}

/// Keeps what the outlet has behind its first `gone` bytes and `first` records.
static int hold(struct copenssl_outlet *o, struct copenssl_socket *s, uint32_t gone, int first) {
    struct copenssl_held *held = malloc(sizeof *held + (o->count - gone));
    if (!held) return 0;
    *held = (struct copenssl_held){.count = o->count - gone, .records = o->records - first};
    for (int i = first; i < o->records; i++)
        held->record[i - first] = (struct copenssl_sealed){.end = o->record[i].end - gone, .content = o->record[i].content};
    memcpy(held->bytes, o->bytes + gone, o->count - gone);
    s->held = held;
    return 1;
}

static void empty(struct copenssl_outlet *o) { o->count = 0, o->records = 0; }

long copenssl_outlet_send(struct copenssl_outlet *o, struct copenssl_socket *s) {
    if (!o->count) return 0;
    long n = offer(s, o->bytes, o->count);
    int first = 0;
    long content = n < 0 ? n : settle(o->record, &first, o->records, (uint32_t)n);
    if (n >= 0 && (uint32_t)n < o->count && !hold(o, s, (uint32_t)n, first)) {
        s->error = ENOMEM;
        content = -1;
    }
    empty(o);
    return content;
}

int copenssl_outlet_hold(struct copenssl_outlet *o, struct copenssl_socket *s) {
    if (o->count && !hold(o, s, 0, o->records)) return 0;
    empty(o);
    return 1;
}

void copenssl_outlet_take(struct copenssl_outlet *o, struct copenssl_socket *s) {
    struct copenssl_held *held = s->held;
    o->count = held->count - held->start;
    memcpy(o->bytes, held->bytes + held->start, o->count);
    free(held);
    s->held = NULL;
}

long copenssl_held_send(struct copenssl_socket *s) {
    struct copenssl_held *held = s->held;
    if (!held) return 0;
    long n = offer(s, held->bytes + held->start, held->count - held->start);
    if (n < 0) return -1;
    held->start += (uint32_t)n;
    long content = settle(held->record, &held->first, held->records, held->start);
    if (held->start == held->count) {
        free(held);
        s->held = NULL;
    }
    return content;
}

static long socket_control(BIO *bio, int command, long number, void *pointer) {
    (void)number, (void)pointer;
    switch (command) {
    case BIO_CTRL_FLUSH: case BIO_CTRL_DUP: return 1;
    case BIO_CTRL_EOF: return (BIO_test_flags(bio, BIO_FLAGS_IN_EOF)) != 0;
    default: return 0;
    }
}

static int socket_create(BIO *bio) {
    BIO_set_init(bio, 1);
    return 1;
}

static BIO_METHOD *method;

BIO *copenssl_socket_bio(struct copenssl_socket *socket) {
    BIO *bio = method ? BIO_new(method) : NULL;
    if (bio) BIO_set_data(bio, socket);
    return bio;
}

int copenssl_make_socket_method(void) {
    if (method) return 1;
    BIO_METHOD *made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket");
    if (!made) return 0;
    BIO_meth_set_read(made, socket_read);
    BIO_meth_set_write(made, socket_write);
    BIO_meth_set_ctrl(made, socket_control);
    BIO_meth_set_create(made, socket_create);
    method = made;
    return 1;
}
