/* Addresses as 16 bytes, IPv4 mapped. */
#pragma once
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "abi/capture.h"

#ifndef AF_INET
#define AF_INET 2
#endif
#ifndef AF_INET6
#define AF_INET6 10
#endif

/* Reads a field of a context here and now. Otherwise the compiler folds a later field's offset into the context pointer, which the verifier refuses
 * ("dereference of modified ctx ptr"). */
#define settled(field) ({ __u32 value_ = (field); asm volatile("" : "+r"(value_)); value_; })

static __always_inline struct capture_address mapped_ipv4(__be32 address)
{
	return (struct capture_address){ { 0, 0, bpf_htonl(0xffff), address } };
}

static __always_inline bool is_ipv4(const struct capture_address *a)
{
	return !a->word[0] && !a->word[1] && a->word[2] == bpf_htonl(0xffff);
}

static __always_inline bool same_address(const struct capture_address *a, const struct capture_address *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] && a->word[2] == b->word[2] && a->word[3] == b->word[3];
}

static __always_inline bool is_spread_ipv6(const struct capture_address *a)
{
	return a->word[0] == bpf_htonl(CAPTURE_SPREAD_IPV6_WORD0) && a->word[1] == bpf_htonl(CAPTURE_SPREAD_IPV6_WORD1);
}

/* What never leaves the pod: 127.0.0.0/8, ::1, the spread prefix, and 0.0.0.0 and ::, which connect() takes for the loopback. */
static __always_inline bool is_loopback(const struct capture_address *a)
{
	if (is_ipv4(a))
		return (a->word[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000) || !a->word[3];
	return is_spread_ipv6(a) || (!a->word[0] && !a->word[1] && !a->word[2] && (!a->word[3] || a->word[3] == bpf_htonl(1)));
}

/* fe80::/10 means nothing without the interface it was asked on, which an original destination does not carry. */
static __always_inline bool is_link_local_ipv6(const struct capture_address *a)
{
	return (a->word[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}
