#include "include/clinux_bpf.h"
#include <errno.h>
#include <linux/bpf.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

int clinux_bpf_read(int map, void *value) {
    uint32_t first = 0;
    union bpf_attr request = {.map_fd = (uint32_t)map, .key = (uintptr_t)&first, .value = (uintptr_t)value};
    return syscall(SYS_bpf, BPF_MAP_LOOKUP_ELEM, &request, sizeof request) == 0 ? 0 : -errno;
}
