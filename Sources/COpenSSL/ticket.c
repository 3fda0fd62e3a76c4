#include "include/copenssl.h"
#include <string.h>

// A session as DER (d2i_SSL_SESSION(3)) is a SEQUENCE whose element [3] is the peer's certificate.
enum { peer_tag = 3 };

/// The same session without that element, in memory of its own; NULL when memory is out.
static unsigned char *without_peer(const unsigned char *der, long count, long *bytes) {
    const unsigned char *in = der;
    long length;
    int tag, class;
    if (ASN1_get_object(&in, &length, &tag, &class, count) & 0x80) return NULL;
    const unsigned char *end = in + length;
    const size_t room = (size_t)length;
    unsigned char *kept = OPENSSL_malloc(room), *made = NULL;
    long size = 0;
    if (!kept) return NULL;
    while (in < end) {
        const unsigned char *element = in;
        if (ASN1_get_object(&in, &length, &tag, &class, end - in) & 0x80) goto out;
        in += length;
        if (class == V_ASN1_CONTEXT_SPECIFIC && tag == peer_tag) continue;
        memcpy(kept + size, element, (size_t)(in - element));
        size += in - element;
    }
    made = OPENSSL_malloc((size_t)ASN1_object_size(1, (int)size, V_ASN1_SEQUENCE));
    if (!made) goto out;
    unsigned char *place = made;
    ASN1_put_object(&place, 1, (int)size, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL);
    memcpy(place, kept, (size_t)size);
    *bytes = place - made + size;
out:
    OPENSSL_clear_free(kept, room);
    return made;
}

int copenssl_forget_certificate(SSL_SESSION *session) {
    // A session that was taken up again has none.
    if (!SSL_SESSION_get0_peer(session)) return 1;
    unsigned char *der = NULL;
    int count = i2d_SSL_SESSION(session, &der);
    if (count <= 0) return 0;
    long bytes = 0;
    unsigned char *rest = without_peer(der, count, &bytes);
    const unsigned char *in = rest;
    // Read into the session it came from: what is not there is let go.
    int done = rest && d2i_SSL_SESSION(&session, &in, bytes) != NULL;
    OPENSSL_clear_free(rest, (size_t)bytes);
    OPENSSL_clear_free(der, (size_t)count);
    return done;
}

void copenssl_forget_peer(SSL *ssl) {
    // The stack is the session's own, whatever SSL_get_peer_cert_chain's name promises.
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl);
    while (chain && sk_X509_num(chain) > 0) X509_free(sk_X509_pop(chain));
    SSL_SESSION *session = SSL_get_session(ssl);
    if (session) copenssl_forget_certificate(session);
}

SSL_SESSION *copenssl_session_alone(const SSL_SESSION *session) {
    unsigned char *der = NULL;
    int count = i2d_SSL_SESSION(session, &der);
    if (count <= 0) return NULL;
    long bytes = 0;
    unsigned char *rest = without_peer(der, count, &bytes);
    const unsigned char *in = rest;
    SSL_SESSION *alone = rest ? d2i_SSL_SESSION(NULL, &in, bytes) : NULL;
    OPENSSL_clear_free(rest, (size_t)bytes);
    OPENSSL_clear_free(der, (size_t)count);
    return alone;
}
