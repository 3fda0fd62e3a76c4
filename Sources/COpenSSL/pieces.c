#include "process.h"
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>

// A handshake asks for two thousand pieces of memory and gives most of them back before it ends; each read and write of a session takes a buffer of
// 17 KB for as long as the call lasts. The C library keeps seven pieces of a size at hand, and puts what comes back together with its neighbours,
// only to cut it again. Here each thread keeps what it gave back, by size.

// The C library's own pieces hold 16n + 8 bytes.
enum { sizes = 2048, kept_per_size = 128, kept_bytes_max = 1 << 20 };

struct piece {
    struct piece *next;
};
static __thread struct {
    struct piece *first;
    uint32_t count;
} kept[sizes];
static __thread size_t kept_bytes;

void *copenssl_take_piece(size_t count) {
    const size_t size = count <= 24 ? 1 : (count + 7) / 16;
    if (size < sizes && kept[size].first) {
        struct piece *p = kept[size].first;
        kept[size].first = p->next;
        kept[size].count--;
        kept_bytes -= size * 16;
        return p;
    }
    return malloc(count);
}

void copenssl_give_piece(void *p) {
    if (!p) return;
    const size_t size = (malloc_usable_size(p) - 8) / 16;
    if (size < sizes && kept[size].count < kept_per_size && kept_bytes + size * 16 <= kept_bytes_max) {
        ((struct piece *)p)->next = kept[size].first;
        kept[size].first = p;
        kept[size].count++;
        kept_bytes += size * 16;
    } else {
        free(p);
    }
}
