#pragma once
// OpenSSL 3.0 for module MutualTLS: its headers, the macros that the Swift importer drops, a BIO that speaks to a socket, and memory for secrets.
#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stddef.h>
#include <stdint.h>

// MARK: The socket under a session

enum { copenssl_outlet_records = 8 };
/// A record among sealed bytes: where it ends, and how many bytes of content it holds.
struct copenssl_sealed {
    uint32_t end, content;
};

/// Where one worker gathers sealed records, to send them in one call: with each call of its own, the reader would be woken by the first.
struct copenssl_outlet {
    unsigned char *bytes;
    uint32_t capacity, count;
    int records;
    struct copenssl_sealed record[copenssl_outlet_records];
};

/// Sealed bytes that a socket did not take.
struct copenssl_held {
    uint32_t start, count;
    int first, records;
    struct copenssl_sealed record[copenssl_outlet_records];
    unsigned char bytes[];
};

/// What the BIO of one session knows of its socket. Lies at the front of MutualTLS's own record of the session.
struct copenssl_socket {
    int descriptor;
    /// errno of the last call that failed for good; 0: none.
    int error;
    /// The last recv brought less than there was room for, or nothing: the kernel has no more, and epoll's next edge will tell. Until the owner
    /// clears it, no further recv is tried.
    unsigned char is_drained;
    /// The last recv told of the peer's FIN.
    unsigned char has_ended;
    /// How many more times the kernel may be asked for bytes before OpenSSL is told that there are none just now: what one call does is bounded, whatever
    /// a peer puts into its records.
    unsigned char reads_left;
    /// Where records go that are being gathered; NULL: straight to the socket, behind what is held.
    struct copenssl_outlet *outlet;
    /// NULL: nothing is.
    struct copenssl_held *held;
};

/// A BIO of a session's socket. Its method is made once per process.
BIO *copenssl_socket_bio(struct copenssl_socket *socket);
/// Notes that the outlet's bytes since the last record are one, with so much content.
void copenssl_outlet_note(struct copenssl_outlet *outlet, size_t content);
/// Sends what was gathered. Returns the content of those records of which everything has left; of the others the rest is held. -1: the socket is of
/// no use any more, or memory is out; its `error` tells.
long copenssl_outlet_send(struct copenssl_outlet *outlet, struct copenssl_socket *socket);
/// The same for what is held.
long copenssl_held_send(struct copenssl_socket *socket);
/// Holds back what was gathered, which has no content: it leaves in front of what comes next. 0: memory is out.
int copenssl_outlet_hold(struct copenssl_outlet *outlet, struct copenssl_socket *socket);
/// Gathers what was held back so.
void copenssl_outlet_take(struct copenssl_outlet *outlet, struct copenssl_socket *socket);

// MARK: Memory for secrets

/// Makes OpenSSL's secure heap: a power of two of bytes, handed out in pieces of at least `least`. It is what memfd_secret(2) gives, which no
/// other process maps and the kernel itself does not read (1), or, where the kernel has no such memory, locked and left out of core files (0).
/// -errno: there is none at all. Call before anything else of OpenSSL.
int copenssl_begin(size_t bytes, size_t least);
/// Bytes of the secure heap in use.
size_t copenssl_secret_bytes(void);

/// Between these two, everything OpenSSL allocates on this thread lies in the secure heap: for parsing and writing private keys, whose decoders leave
/// copies wherever they pass. `leave` also clears the stack below its caller.
void copenssl_enter_vault(void);
void copenssl_leave_vault(void);
/// Overwrites what earlier calls have left below the caller's frame.
void copenssl_clear_stack(void);

/// Memory for one private key: a descriptor that can be handed over and mapped, as long as `copenssl_key_bytes`; or -errno.
int copenssl_key_memory(void);
enum { copenssl_key_bytes = 4096 };
/// Maps it, and returns NULL for a descriptor that is not of that length.
void *copenssl_key_map(int descriptor);
void copenssl_key_unmap(void *memory);

/// A key pair on P-256, or NULL.
EVP_PKEY *copenssl_generate_p256(void);
/// Writes the private key as PKCS#8 DER into key memory: `{u32 length, bytes}`. 0: it does not fit.
int copenssl_key_store(EVP_PKEY *key, void *memory);
EVP_PKEY *copenssl_key_load(const void *memory);
/// Reads a PEM private key of at most `most` bytes from a file's beginning; NULL when there is none, or when it is encrypted.
EVP_PKEY *copenssl_key_read(int descriptor, size_t most);

/// Adds a subjectAltName with one URI to a certificate request.
int copenssl_request_name(X509_REQ *request, const void *uri, int count);
void copenssl_close(int descriptor);

// MARK: Tickets

/// Lets a session go without its peer's certificate, which a ticket would carry and its opening parse: 190 µs on a server that knows the peer anyway.
/// False when memory is out.
int copenssl_forget_certificate(SSL_SESSION *session);
/// The same for a connection whose peer is known by now, and for the rest of its chain: 7 KB for as long as it rests.
void copenssl_forget_peer(SSL *ssl);
/// A session of its own with the same keys and without certificates: a ticket that waits in a pool holds 1 KB instead of the server's chain.
SSL_SESSION *copenssl_session_alone(const SSL_SESSION *session);

// MARK: Macros

static inline long copenssl_ctx_set_mode(SSL_CTX *c, long mode) { return SSL_CTX_set_mode(c, mode); }
static inline int copenssl_ctx_only_tls13(SSL_CTX *c) {
    return (int)SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) && (int)SSL_CTX_set_max_proto_version(c, TLS1_3_VERSION);
}
static inline long copenssl_ctx_set_groups(SSL_CTX *c, const char *list) { return SSL_CTX_set1_groups_list(c, list); }
static inline long copenssl_ctx_set_signatures(SSL_CTX *c, const char *list) { return SSL_CTX_set1_sigalgs_list(c, list); }
static inline void copenssl_ctx_read_ahead(SSL_CTX *c) { SSL_CTX_set_read_ahead(c, 1); }
static inline long copenssl_ctx_set_cache_mode(SSL_CTX *c, long mode) { return SSL_CTX_set_session_cache_mode(c, mode); }
static inline void copenssl_ctx_set_max_chain(SSL_CTX *c, long bytes) { SSL_CTX_set_max_cert_list(c, bytes); }
static inline long copenssl_ctx_add_chain(SSL_CTX *c, X509 *certificate) { return SSL_CTX_add1_chain_cert(c, certificate); }
static inline long copenssl_ctx_set_store(SSL_CTX *c, X509_STORE *store) { return SSL_CTX_set1_verify_cert_store(c, store); }
static inline void copenssl_ctx_set_options(SSL_CTX *c) {
    SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_COMPRESSION | SSL_OP_PRIORITIZE_CHACHA);
}
static inline void copenssl_set_owner(SSL *s, void *owner) { SSL_set_ex_data(s, 0, owner); }
static inline void *copenssl_owner(const SSL *s) { return SSL_get_ex_data(s, 0); }
static inline SSL *copenssl_store_session(X509_STORE_CTX *c) {
    return (SSL *)X509_STORE_CTX_get_ex_data(c, SSL_get_ex_data_X509_STORE_CTX_idx());
}
static inline int copenssl_chain_count(X509_STORE_CTX *c) { return sk_X509_num(X509_STORE_CTX_get0_chain(c)); }
static inline X509 *copenssl_chain_at(X509_STORE_CTX *c, int place) { return sk_X509_value(X509_STORE_CTX_get0_chain(c), place); }
static inline STACK_OF(X509) *copenssl_new_stack(void) { return sk_X509_new_null(); }
static inline void copenssl_free_stack(STACK_OF(X509) *stack) { sk_X509_free(stack); }
static inline int copenssl_push(STACK_OF(X509) *stack, X509 *certificate) { return sk_X509_push(stack, certificate); }
static inline int copenssl_is_library_ssl(unsigned long error) { return ERR_GET_LIB(error) == ERR_LIB_SSL; }
static inline int copenssl_reason(unsigned long error) { return ERR_GET_REASON(error); }
/// AES in hardware: then AES-GCM is the cheapest cipher, otherwise ChaCha20.
int copenssl_has_aes(void);
/// Seconds since 1970, or INT64_MIN for what is no time.
int64_t copenssl_unix_seconds(const ASN1_TIME *time);

/// Alerts are reasons above this (ssl.h says SSL_AD_REASON_OFFSET).
enum { copenssl_alert_offset = SSL_AD_REASON_OFFSET };
enum {
    copenssl_mode = SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER,
    copenssl_verify_mutual = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
    copenssl_cache_none = SSL_SESS_CACHE_OFF,
    copenssl_cache_callback_only = SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL,
};
