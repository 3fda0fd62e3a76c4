#include "include/copenssl.h"
#include "process.h"
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/provider.h>
#include <string.h>

// OpenSSL 3.0 looks through every decoder and every kind of key it knows, name by name, for each public key of each certificate it parses: 93 µs of the
// 640 µs that a full handshake cost the server's side, and twice that with an intermediate. This provider is OpenSSL's default one, which lives in a
// library context of its own, seen through a narrower door: of decoders and kinds of keys only what TLS 1.3 between workloads needs. All else is
// passed on as it is. Measured in one run: 637 → 505 µs.

static OSSL_PROVIDER *whole;

enum { algorithms_max = 64 };
static OSSL_ALGORITHM decoders[algorithms_max], key_kinds[algorithms_max];

/// Whether the first of an algorithm's names ("EC:id-ecPublicKey:…") is one of these.
static int is_named(const OSSL_ALGORITHM *a, const char *const *names) {
    size_t length = strcspn(a->algorithm_names, ":");
    for (; *names; names++)
        if (strlen(*names) == length && memcmp(*names, a->algorithm_names, length) == 0) return 1;
    return 0;
}

static int is_decoder_wanted(const OSSL_ALGORITHM *a) {
    static const char *const kinds[] = {"EC", "ED25519", "RSA", "RSA-PSS", NULL};
    const char *about = a->property_definition;
    if (strstr(about, "input=pem")) return 1;
    return strstr(about, "input=der") && is_named(a, kinds)
        && (strstr(about, "structure=SubjectPublicKeyInfo") || strstr(about, "structure=PrivateKeyInfo") || strstr(about, "structure=type-specific"));
}

// HMAC is a kind of key to OpenSSL: the one that a resumed session's binder is made with.
static int is_key_kind_wanted(const OSSL_ALGORITHM *a) {
    static const char *const kinds[] = {"EC", "ED25519", "RSA", "RSA-PSS", "X25519", "HMAC", NULL};
    return is_named(a, kinds);
}

static const OSSL_ALGORITHM *chosen(const OSSL_ALGORITHM *all, OSSL_ALGORITHM *room, int (*is_wanted)(const OSSL_ALGORITHM *)) {
    int count = 0;
    for (; all && all->algorithm_names && count < algorithms_max - 1; all++)
        if (is_wanted(all)) room[count++] = *all;
    memset(&room[count], 0, sizeof room[count]);
    return room;
}

static const OSSL_ALGORITHM *query(void *context, int operation, int *may_not_keep) {
    (void)context;
    const OSSL_ALGORITHM *all = OSSL_PROVIDER_query_operation(whole, operation, may_not_keep);
    switch (operation) {
    case OSSL_OP_DECODER: return decoders[0].algorithm_names ? decoders : chosen(all, decoders, is_decoder_wanted);
    case OSSL_OP_KEYMGMT: return key_kinds[0].algorithm_names ? key_kinds : chosen(all, key_kinds, is_key_kind_wanted);
    default: return all;
    }
}

static int capabilities(void *context, const char *capability, OSSL_CALLBACK *each, void *pointer) {
    (void)context;
    return OSSL_PROVIDER_get_capabilities(whole, capability, each, pointer);
}

static int begin(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *core, const OSSL_DISPATCH **ours, void **context) {
    (void)handle, (void)core;
    static const OSSL_DISPATCH functions[] = {
        {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query},
        {OSSL_FUNC_PROVIDER_GET_CAPABILITIES, (void (*)(void))capabilities},
        {0, NULL},
    };
    *ours = functions;
    *context = OSSL_PROVIDER_get0_provider_ctx(whole);
    return 1;
}

int copenssl_make_provider(void) {
    OSSL_LIB_CTX *library = OSSL_LIB_CTX_new();
    if (!library || !(whole = OSSL_PROVIDER_load(library, "default"))) return 0;
    // Loaded by name into the process's own context, it takes the place that the default provider would take by itself.
    return OSSL_PROVIDER_add_builtin(NULL, "weft", begin) && OSSL_PROVIDER_load(NULL, "weft") != NULL;
}
