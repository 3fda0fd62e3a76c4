#define _GNU_SOURCE
#include "include/copenssl.h"
#include "process.h"
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif

// The secure heap's place, for the allocator below to know its own.
static unsigned char *heap;
static size_t heap_bytes;
static __thread int in_vault;

static int is_secret(const void *p) { return (uintptr_t)p - (uintptr_t)heap < heap_bytes; }

// MARK: The allocator

// Outside the vault these are what pieces.c does, realloc, and one comparison each.
static void *secret_allocate(size_t count, const char *file, int line) {
    // Off meanwhile: an exhausted heap says so through the error queue, which allocates.
    int was = in_vault;
    in_vault = 0;
    void *p = CRYPTO_secure_malloc(count, file, line);
    in_vault = was;
    return p;
}

static void *allocate(size_t count, const char *file, int line) {
    if (__builtin_expect(in_vault, 0)) return secret_allocate(count, file, line);
    return copenssl_take_piece(count);
}

static void release(void *p, const char *file, int line) {
    if (__builtin_expect(is_secret(p), 0)) CRYPTO_secure_free(p, file, line);    // clears it
    else copenssl_give_piece(p);
}

static void *reallocate(void *p, size_t count, const char *file, int line) {
    if (!in_vault && !is_secret(p)) return realloc(p, count);
    if (!p) return allocate(count, file, line);
    if (!count) {
        release(p, file, line);
        return NULL;
    }
    void *grown = secret_allocate(count, file, line);
    if (!grown) return NULL;
    size_t held = is_secret(p) ? CRYPTO_secure_actual_size(p) : malloc_usable_size(p);
    memcpy(grown, p, held < count ? held : count);
    release(p, file, line);
    return grown;
}

// MARK: The heap

enum { page_bytes = 4096 };

static int is_zero(const unsigned char *page) {
    static const unsigned char zero[page_bytes];
    return memcmp(page, zero, page_bytes) == 0;
}

/// Replaces the pages of OpenSSL's arena by secret memory. OpenSSL has no way to be given an arena, but the arena as one piece can be asked for
/// while it is empty, which tells where it lies; its free lists live inside it and are carried over.
static int remap(size_t bytes) {
    int fd = (int)syscall(SYS_memfd_secret, (long)O_CLOEXEC);
    if (fd < 0) return -errno;
    int result = -ENOMEM;
    unsigned char *copy = malloc(bytes), *kept = calloc(bytes / page_bytes, 1);
    if (!copy || !kept) goto out;
    if (ftruncate(fd, (off_t)bytes) != 0) {
        result = -errno;
        goto out;
    }
    // Page by page, and only what is not zero, as the new pages are: a page that nobody has touched takes no memory.
    for (size_t at = 0; at < bytes; at += page_bytes)
        if (!is_zero(heap + at)) memcpy(copy + at, heap + at, page_bytes), kept[at / page_bytes] = 1;
    munlock(heap, bytes);
    if (mmap(heap, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
        result = -errno;
        mlock(heap, bytes);
        goto out;
    }
    for (size_t at = 0; at < bytes; at += page_bytes)
        if (kept[at / page_bytes]) memcpy(heap + at, copy + at, page_bytes);
    madvise(heap, bytes, MADV_DONTFORK);
    result = 0;
out:
    free(kept);
    free(copy);
    close(fd);
    return result;
}

/// What OpenSSL looks up once and keeps (decoders, key types) shall lie in the ordinary heap, so it is looked up before the first visit to the vault.
static void warm(void) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    BIO *bio = BIO_new(BIO_s_mem());
    if (key && bio && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL)) EVP_PKEY_free(PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL));
    BIO_free(bio);
    EVP_PKEY_free(key);
    ERR_clear_error();
}

int copenssl_begin(size_t bytes, size_t least) {
    if (!CRYPTO_set_mem_functions(allocate, reallocate, release)) return -EALREADY;
    // No configuration file: what the machine's openssl.cnf says about protocols and engines is not ours to obey.
    if (!OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, NULL)) return -ENOTSUP;
    if (!copenssl_make_socket_method() || !copenssl_make_provider()) return -ENOMEM;
    int made = CRYPTO_secure_malloc_init(bytes, least);
    if (!made) return -ENOMEM;
    void *whole = OPENSSL_secure_malloc(bytes);
    if (!whole) return -EINVAL;
    OPENSSL_secure_free(whole);
    heap = whole;
    heap_bytes = bytes;
    int remapped = remap(bytes);
    // 2: there, but not locked, so that it could reach a swap device. Secret memory never does.
    if (remapped != 0 && made == 2) return -EPERM;
    warm();
    return remapped == 0;
}

size_t copenssl_secret_bytes(void) { return CRYPTO_secure_used(); }

void copenssl_enter_vault(void) { in_vault = 1; }
void copenssl_leave_vault(void) {
    in_vault = 0;
    copenssl_clear_stack();
}

// Deeper than OpenSSL's key code goes: point multiplication keeps scalars and tables of some kilobytes on the stack and does not clear all.
enum { stack_bytes = 96 * 1024 };
__attribute__((noinline)) void copenssl_clear_stack(void) {
    unsigned char below[stack_bytes];
    OPENSSL_cleanse(below, sizeof below);
    __asm__ volatile("" : : "r"(below) : "memory");
}

// MARK: One key's memory

int copenssl_key_memory(void) {
    int fd = (int)syscall(SYS_memfd_secret, (long)O_CLOEXEC);
    const int is_secret_memory = fd >= 0;
    if (fd < 0) fd = memfd_create("weft-key", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return -errno;
    // Whoever maps it later shall not meet its end: of secret memory the kernel changes the length only once, the other is sealed.
    if (ftruncate(fd, copenssl_key_bytes) != 0 || (!is_secret_memory && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

void *copenssl_key_map(int fd) {
    // The bare call: the C library's fstat is newfstatat, which takes paths too and is not on the proxy's seccomp list. A shorter file would
    // be a SIGBUS.
    struct stat about;
    if (syscall(SYS_fstat, (long)fd, &about) != 0 || about.st_size != copenssl_key_bytes) return NULL;
    void *memory = mmap(NULL, copenssl_key_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) return NULL;
    // For the fallback; secret memory is both already.
    madvise(memory, copenssl_key_bytes, MADV_DONTDUMP);
    mlock(memory, copenssl_key_bytes);
    return memory;
}

void copenssl_key_unmap(void *memory) { munmap(memory, copenssl_key_bytes); }

EVP_PKEY *copenssl_generate_p256(void) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    copenssl_clear_stack();
    return key;
}

/// An RSA key makes copies of its primes when it first signs (Montgomery's form of them), and keeps them for as long as it lives. So it signs once
/// here, where they come to lie with the key itself.
static void settle(EVP_PKEY *key) {
    if (!key || !(EVP_PKEY_is_a(key, "RSA") || EVP_PKEY_is_a(key, "RSA-PSS"))) return;
    // What is looked up once and kept is none of the vault's: see `warm`.
    EVP_SIGNATURE_free(EVP_SIGNATURE_fetch(NULL, "RSA", NULL));
    EVP_MD *digest = EVP_MD_fetch(NULL, "SHA256", NULL);
    copenssl_enter_vault();
    size_t count = (size_t)EVP_PKEY_get_size(key);
    unsigned char nothing = 0, *signature = OPENSSL_malloc(count);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (signature && context && EVP_DigestSignInit(context, NULL, digest, NULL, key) == 1) EVP_DigestSign(context, signature, &count, &nothing, 1);
    EVP_MD_CTX_free(context);
    OPENSSL_free(signature);
    copenssl_leave_vault();
    EVP_MD_free(digest);
    ERR_clear_error();
}

int copenssl_key_store(EVP_PKEY *key, void *memory) {
    copenssl_enter_vault();
    unsigned char *der = NULL;
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key);
    int count = info ? i2d_PKCS8_PRIV_KEY_INFO(info, &der) : 0;
    uint32_t length = count > 0 && count <= copenssl_key_bytes - (int)sizeof length ? (uint32_t)count : 0;
    if (length) {
        memcpy(memory, &length, sizeof length);
        memcpy((char *)memory + sizeof length, der, length);
    }
    OPENSSL_clear_free(der, count > 0 ? (size_t)count : 0);
    PKCS8_PRIV_KEY_INFO_free(info);
    copenssl_leave_vault();
    return length > 0;
}

EVP_PKEY *copenssl_key_load(const void *memory) {
    uint32_t length;
    memcpy(&length, memory, sizeof length);
    if (length > copenssl_key_bytes - sizeof length) return NULL;
    copenssl_enter_vault();
    const unsigned char *der = (const unsigned char *)memory + sizeof length;
    EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &der, (long)length);
    copenssl_leave_vault();
    settle(key);
    return key;
}

// Without it OpenSSL would ask a terminal.
static int no_password(char *room, int count, int writing, void *pointer) {
    (void)room, (void)count, (void)writing, (void)pointer;
    return -1;
}

EVP_PKEY *copenssl_key_read(int fd, size_t most) {
    const size_t room = most;
    unsigned char *text = OPENSSL_secure_malloc(room);
    if (!text) return NULL;
    size_t count = 0;
    // Not pread, which the proxy's seccomp list does without; whoever shares the descriptor reads from the beginning too.
    if (lseek(fd, 0, SEEK_SET) != 0) most = 0;
    while (count < most) {
        ssize_t n = read(fd, text + count, most - count);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        count += (size_t)n;
    }
    EVP_PKEY *key = NULL;
    copenssl_enter_vault();
    BIO *bio = count > 0 && count < most ? BIO_new_mem_buf(text, (int)count) : NULL;
    if (bio) key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
    BIO_free(bio);
    copenssl_leave_vault();
    OPENSSL_secure_clear_free(text, room);
    settle(key);
    return key;
}
