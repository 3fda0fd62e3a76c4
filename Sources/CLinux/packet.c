#define _GNU_SOURCE
#include "include/clinux_packet.h"
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <fcntl.h>

enum { descriptors_max = 253 };  // SCM_MAX_FD

int clinux_seqpacket_pair(int *mine, int *theirs, bool nonblocking) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return -errno;
    if (nonblocking && fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) {
        int error = errno;
        close(ends[0]);
        close(ends[1]);
        return -error;
    }
    *mine = ends[0];
    *theirs = ends[1];
    return 0;
}

ssize_t clinux_send_packet(int fd, const void *bytes, size_t count, const int *descriptors, size_t descriptor_count) {
    union { char bytes[CMSG_SPACE(sizeof(int) * descriptors_max)]; struct cmsghdr align; } control;
    struct iovec part = {.iov_base = (void *)bytes, .iov_len = count};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (descriptor_count > descriptors_max) return -EINVAL;
    if (descriptor_count > 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * descriptor_count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * descriptor_count);
        memcpy(CMSG_DATA(header), descriptors, sizeof(int) * descriptor_count);
    }
    ssize_t sent;
    do sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

ssize_t clinux_receive_packet(int fd, void *bytes, size_t capacity, int *descriptors, size_t descriptor_capacity,
                              size_t *descriptor_count, bool *truncated) {
    union { char bytes[CMSG_SPACE(sizeof(int) * descriptors_max)]; struct cmsghdr align; } control;
    struct iovec part = {.iov_base = bytes, .iov_len = capacity};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    *descriptor_count = 0;
    *truncated = false;
    ssize_t received;
    do received = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    while (received < 0 && errno == EINTR);
    if (received < 0) return -errno;
    *truncated = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(header) + i * sizeof(int), sizeof descriptor);
            if (*descriptor_count < descriptor_capacity) descriptors[(*descriptor_count)++] = descriptor;
            else close(descriptor), *truncated = true;
        }
    }
    return received;
}

void clinux_close(int fd) { if (fd >= 0) close(fd); }
