#define _GNU_SOURCE
#include "include/copenssl.h"
#include <sys/auxv.h>
#include <time.h>

int copenssl_has_aes(void) {
#if defined(__x86_64__)
    return __builtin_cpu_supports("aes") != 0;
#else
    return (getauxval(AT_HWCAP) & (1 << 3)) != 0;    // HWCAP_AES
#endif
}

int64_t copenssl_unix_seconds(const ASN1_TIME *time) {
    struct tm parts;
    if (!time || !ASN1_TIME_to_tm(time, &parts)) return INT64_MIN;
    return (int64_t)timegm(&parts);
}
