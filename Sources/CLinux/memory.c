#define _GNU_SOURCE
#include "include/clinux_memory.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

int clinux_memory_sealed(const char *name, const void *bytes, size_t count, bool immutable) {
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return -errno;
    size_t written = 0;
    while (bytes && written < count) {
        ssize_t n = write(fd, (const char *)bytes + written, count - written);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) goto fail;
        written += (size_t)n;
    }
    if (!bytes && ftruncate(fd, (off_t)count) != 0) goto fail;
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | (immutable ? F_SEAL_WRITE : 0);
    if (fcntl(fd, F_ADD_SEALS, seals) != 0) goto fail;
    return fd;
fail:;
    int error = errno;
    close(fd);
    return -error;
}

int clinux_memory_is_sealed(int fd, bool immutable) {
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0) return -errno;
    int wanted = F_SEAL_SHRINK | F_SEAL_GROW | (immutable ? F_SEAL_WRITE : 0);
    return (seals & wanted) == wanted;
}

int clinux_memory_is_secret(int fd) {
    struct statfs filesystem;
    if (fstatfs(fd, &filesystem) != 0) return -errno;
    return filesystem.f_type == SECRETMEM_MAGIC;
}

int64_t clinux_memory_size(int fd) {
    // lseek, not fstat: glibc's fstat is newfstatat, which takes paths too and is not on the proxy's seccomp list.
    off_t size = lseek(fd, 0, SEEK_END);
    return size < 0 ? -errno : size;
}
