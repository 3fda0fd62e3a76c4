/* Connections that the proxy opens towards the app of the pod whose namespace its socket lives in. */
#pragma once
#include "connection.h"
#include "maps.h"

/* Written before the SYN leaves, for sk_lookup in the same namespace. The namespace is part of the key, and only sockets of the node's own cgroup get
 * here, so no pod can open a way past its own proxy, let alone a neighbour's. */
static __always_inline void open_bypass(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	__u32 *tag = bpf_sk_storage_get(&own, sk, 0, 0);
	if (!tag)
		return;
	struct capture_connection_key key = key_at_client(ctx);
	const struct capture_pod *pod = bpf_map_lookup_elem(&pods, &key.network_namespace);
	if (!pod || !(same_address(&key.destination, &pod->ipv4) || same_address(&key.destination, &pod->ipv6)))
		return;
	__u8 why = CAPTURE_BYPASS_OWN;
	if (bpf_map_update_elem(&bypass, &key, &why, BPF_ANY)) {
		count(CAPTURE_BYPASS_LOST);
		return;
	}
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
	count(CAPTURE_BYPASS_OPENED);
}

/* Not before the end: with SYN cookies the handshake's last ACK is looked up as well. */
static __always_inline void close_bypass(struct bpf_sock_ops *ctx)
{
	struct capture_connection_key key = key_at_client(ctx);

	bpf_map_delete_elem(&bypass, &key);
}
