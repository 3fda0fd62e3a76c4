/* The original destination's way from the pod's socket to the one the proxy accepts.
 *
 *   connect hook          socket's storage (ASKED)
 *   client's SYN          connecting[namespace, source, destination]
 *   server's ESTABLISHED  accepted socket's storage (CLAIMED), gone from connecting
 *
 * Published before the SYN leaves, so a server that accepts with the SYN's data (TCP fast open) finds it too; and kept on the accepted socket, so a
 * client that writes and closes before accept() takes nothing away. */
#pragma once
#include "connection.h"
#include "maps.h"

static __always_inline const struct capture_destination *asked_by(struct bpf_sock *sk)
{
	const struct capture_destination *noted = bpf_sk_storage_get(&destinations, sk, 0, 0);

	return noted && noted->side == CAPTURE_ASKED ? noted : 0;
}

static __always_inline const struct capture_destination *claimed_by(struct bpf_sock *sk)
{
	const struct capture_destination *noted = bpf_sk_storage_get(&destinations, sk, 0, 0);

	return noted && noted->side == CAPTURE_CLAIMED ? noted : 0;
}

static __always_inline void publish_destination(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	const struct capture_destination *asked = asked_by(sk);

	if (!asked)
		return;
	struct capture_connection_key key = key_at_client(ctx);
	struct capture_destination copy = *asked;
	/* Whoever had this key before is gone, or the port would not be free. */
	if (bpf_map_update_elem(&connecting, &key, &copy, BPF_ANY)) {
		count(CAPTURE_DESTINATION_LOST);
		return;
	}
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
	count(CAPTURE_DESTINATION_PUBLISHED);
}

static __always_inline void claim_destination(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct capture_connection_key key = key_at_server(ctx);
	const struct capture_destination *published = bpf_map_lookup_elem(&connecting, &key);

	if (!published)
		return;
	struct capture_destination copy = *published;
	copy.side = CAPTURE_CLAIMED;
	count(bpf_sk_storage_get(&destinations, sk, &copy, BPF_SK_STORAGE_GET_F_CREATE) ? CAPTURE_DESTINATION_CLAIMED : CAPTURE_DESTINATION_LOST);
	bpf_map_delete_elem(&connecting, &key);
}

/* The connection never came about, or ended: nobody will claim it any more. */
static __always_inline void withdraw_destination(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	if (!asked_by(sk))
		return;
	struct capture_connection_key key = key_at_client(ctx);
	if (!bpf_map_delete_elem(&connecting, &key))
		count(CAPTURE_DESTINATION_WITHDRAWN);
}
