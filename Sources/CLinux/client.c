#define _GNU_SOURCE
#include "include/clinux_client.h"
#include <stdatomic.h>

enum { first_port = 1024, last_port = 32767, tries_max = 8 };

int clinux_bind_as_client(int fd, const struct clinux_address *client) {
    // One turn for the whole process: a port comes back after 31,744 connections, when the last one that had it is most likely gone.
    static _Atomic uint32_t turn;
    uint32_t expected = 0;
    // Where the previous proxy stopped is not known; its connections may still be in TIME_WAIT. Begin somewhere else.
    if (atomic_load_explicit(&turn, memory_order_relaxed) == 0)
        atomic_compare_exchange_strong(&turn, &expected, (uint32_t)clinux_monotonic_nanoseconds() | 1u);
    struct clinux_address address = *client;
    for (int i = 0; i < tries_max; i++) {
        uint32_t next = atomic_fetch_add_explicit(&turn, 1, memory_order_relaxed);
        address.port = (uint16_t)(first_port + next % (last_port - first_port + 1));
        int result = clinux_bind(fd, &address);
        if (result != -EADDRINUSE) return result;
    }
    address.port = 0;
    return clinux_bind(fd, &address);
}
