#include "include/copenssl.h"
#include <unistd.h>

int copenssl_request_name(X509_REQ *request, const void *uri, int count) {
    int result = 0;
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *text = ASN1_IA5STRING_new();
    STACK_OF(X509_EXTENSION) *extensions = NULL;
    if (!names || !name || !text || !ASN1_STRING_set(text, uri, count)) goto out;
    GENERAL_NAME_set0_value(name, GEN_URI, text);
    text = NULL;
    if (!sk_GENERAL_NAME_push(names, name)) goto out;
    name = NULL;
    // Critical, for the subject is empty (RFC 5280, 4.2.1.6).
    result = X509V3_add1_i2d(&extensions, NID_subject_alt_name, names, 1, X509V3_ADD_DEFAULT) == 1 && X509_REQ_add_extensions(request, extensions) == 1;
out:
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    ASN1_IA5STRING_free(text);
    GENERAL_NAME_free(name);
    GENERAL_NAMES_free(names);
    return result;
}

void copenssl_close(int descriptor) { close(descriptor); }
