#define _GNU_SOURCE
#include "include/copenssl.h"
#include "process.h"
#include <errno.h>
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

static int socket_write(BIO *bio, const char *bytes, int count) {
    struct copenssl_socket *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (count <= 0) return 0;
    long n;
    do n = transmit(s->descriptor, bytes, (size_t)count);
    while (n < 0 && errno == EINTR);
    s->is_full = n < count;
    if (n >= 0) return (int)n;
    if (errno == EAGAIN) BIO_set_retry_write(bio);
    else s->error = errno;
    return -1;
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
