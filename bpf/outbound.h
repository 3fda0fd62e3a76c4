/* Shall this connect() go to the proxy? Decided here for both families; the hooks only translate. */
#pragma once
#include <asm/socket.h>
#include <linux/errno.h>
#include <linux/in.h>
#include "address.h"
#include "alive.h"
#include "maps.h"
#include "pod.h"

enum { CONNECT_REFUSE = 0, CONNECT_ALLOW = 1 };
enum { TYPE_STREAM = 1 };

/* TCP, and MPTCP, whose hook runs on its first subflow, an ordinary TCP socket. Nothing else is Weft's business. */
static __always_inline bool is_tcp(const struct bpf_sock_addr *ctx)
{
	return ctx->type == TYPE_STREAM && ctx->protocol == IPPROTO_TCP;
}

static __always_inline bool is_own(struct bpf_sock *sk)
{
	__u32 *tag = bpf_sk_storage_get(&own, sk, 0, 0);

	return tag && *tag;
}

static __always_inline bool is_excluded_prefix(__u64 network_namespace, const struct capture_address *to)
{
	struct capture_prefix_key key = {
		.prefix_bits = CAPTURE_PREFIX_KEY_NAMESPACE_BITS + 128,
		.network_namespace = { (__u32)network_namespace, (__u32)(network_namespace >> 32) },
		.address = *to,
	};

	return bpf_map_lookup_elem(&excluded_prefixes, &key) != 0;
}

/* The hook of a multipath socket runs on its first subflow, which sockops sees too; getpeername asks the socket that the program holds. */
static __always_inline struct mptcp_sock *program_side(struct bpf_sock *sk)
{
	return bpf_skc_to_mptcp_sock(sk);
}

/* Notes on the socket what the program asked for: sockops publishes it, getpeername answers with it. */
static __always_inline bool remember(struct bpf_sock *sk, const struct capture_destination *asked)
{
	struct capture_destination *noted = bpf_sk_storage_get(&destinations, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	struct mptcp_sock *multipath;

	if (!noted)
		return false;
	*noted = *asked;
	multipath = program_side(sk);
	if (multipath) {
		noted = bpf_sk_storage_get(&destinations, multipath, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (noted)
			*noted = *asked;
	}
	return true;
}

/* A socket may connect again (AF_UNSPEC first, or after a failure): an older note would make getpeername lie. */
static __always_inline void forget(struct bpf_sock *sk)
{
	struct mptcp_sock *multipath = program_side(sk);

	bpf_sk_storage_delete(&destinations, sk);
	if (multipath)
		bpf_sk_storage_delete(&destinations, multipath);
}

/* A socket tied to an interface (`curl --interface eth0`) would look for the proxy there, and the proxy is on lo: it is untied. The tie chose
 * the way out, which the proxy's own socket takes anyway. Fails with EPERM where the kernel would not let the program do it (no CAP_NET_RAW). */
static __always_inline bool untie_from_interface(struct bpf_sock_addr *ctx, struct bpf_sock *sk)
{
	char none = 0;

	return !sk->bound_dev_if || bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTODEVICE, &none, sizeof(none)) == 0;
}

static __always_inline enum capture_verdict judge(struct bpf_sock_addr *ctx, struct bpf_sock *sk, const struct capture_destination *asked)
{
	__u64 network_namespace = bpf_get_netns_cookie(ctx);
	const struct capture_pod *pod = bpf_map_lookup_elem(&pods, &network_namespace);

	if (!pod)
		return CAPTURE_PASSED_NOT_ENROLLED;
	if (is_own(sk))
		return CAPTURE_PASSED_OWN_SOCKET;
	if (!(pod->flags & CAPTURE_POD_OUTBOUND))
		return CAPTURE_PASSED_OUTBOUND_OFF;
	if (is_loopback(&asked->address))
		return CAPTURE_PASSED_LOOPBACK;
	if (same_address(&asked->address, &pod->ipv4) || same_address(&asked->address, &pod->ipv6))
		return CAPTURE_PASSED_OWN_ADDRESS;
	if (is_link_local_ipv6(&asked->address))
		return CAPTURE_PASSED_LINK_LOCAL;
	if (is_listed(network_namespace, CAPTURE_PORTS_EXCLUDED_OUTBOUND, bpf_ntohs(asked->port)))
		return CAPTURE_PASSED_EXCLUDED_PORT;
	if (is_excluded_prefix(network_namespace, &asked->address))
		return CAPTURE_PASSED_EXCLUDED_PREFIX;
	if (!has_listener(network_namespace, CAPTURE_DIRECTION_OUTBOUND, is_ipv4(&asked->address) ? 4 : 6))
		return unless_closed(pod, CAPTURE_PASSED_NO_LISTENER, CAPTURE_REFUSED_NO_LISTENER);
	if (proxy_is_silent())
		return unless_closed(pod, CAPTURE_PASSED_PROXY_SILENT, CAPTURE_REFUSED_PROXY_SILENT);
	if (!untie_from_interface(ctx, sk))
		return unless_closed(pod, CAPTURE_PASSED_NO_LISTENER, CAPTURE_REFUSED_NO_LISTENER);
	if (!remember(sk, asked))
		return unless_closed(pod, CAPTURE_PASSED_NO_STORAGE, CAPTURE_REFUSED_NO_STORAGE);
	return CAPTURE_REDIRECTED;
}

static __always_inline enum capture_verdict judge_outbound(struct bpf_sock_addr *ctx, struct capture_address to)
{
	struct capture_destination asked = { .address = to, .port = (__be16)ctx->user_port, .side = CAPTURE_ASKED };
	struct bpf_sock *sk = ctx->sk;
	enum capture_verdict verdict;

	if (!sk)
		return CAPTURE_PASSED_NO_STORAGE;
	verdict = judge(ctx, sk, &asked);
	if (verdict != CAPTURE_REDIRECTED)
		forget(sk);
	count(verdict);
	return verdict;
}

static __always_inline int answer(enum capture_verdict verdict)
{
	switch (verdict) {
	case CAPTURE_REFUSED_PROXY_SILENT:
	case CAPTURE_REFUSED_NO_LISTENER:
	case CAPTURE_REFUSED_NO_STORAGE:
		/* Programs know what to do with a refused connection; EPERM, the default, they take for a local fault. */
		bpf_set_retval(-ECONNREFUSED);
		return CONNECT_REFUSE;
	default:
		return CONNECT_ALLOW;
	}
}

static __always_inline __u32 spread(void)
{
	return 1 + bpf_get_prandom_u32() % CAPTURE_SPREAD;
}

static __always_inline __be32 spread_ipv4(void)
{
	return bpf_htonl(0x7f000000 | spread());
}
