/* The kubelet's probes go to the app, in every mode: it proves its health by itself, and the kubelet has no identity.
 *
 * A probe is a connection of a socket in the kubelet's cgroup and in the host's namespace to a probe port of an enrolled pod. The host's address proves
 * nothing: NodePort traffic and pods in the host's network have it too. */
#pragma once
#include "connection.h"
#include "maps.h"
#include "pod.h"

/* The namespace of the pod that is probed; 0: none is. */
static __always_inline __u64 probed_namespace(const struct capture_connection_key *key)
{
	if (key->network_namespace != constants.network_namespace)
		return 0;
	const __u64 *network_namespace = bpf_map_lookup_elem(&addresses, &key->destination);
	if (!network_namespace || !is_listed(*network_namespace, CAPTURE_PORTS_PROBED, bpf_ntohs(key->destination_port)))
		return 0;
	return *network_namespace;
}

/* Before the SYN leaves. sk_lookup in the pod's namespace knows the connection by that namespace. */
static __always_inline void mark_probe(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct capture_connection_key key = key_at_client(ctx);
	__u64 network_namespace = probed_namespace(&key);
	__u8 why = CAPTURE_BYPASS_PROBE;

	if (!network_namespace)
		return;
	key.network_namespace = network_namespace;
	if (!bpf_sk_storage_get(&probed, sk, &network_namespace, BPF_SK_STORAGE_GET_F_CREATE) || bpf_map_update_elem(&bypass, &key, &why, BPF_ANY)) {
		count(CAPTURE_PROBE_LOST);
		return;
	}
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
	count(CAPTURE_PROBE_MARKED);
}

/* Not before the end, as for Weft's own; the pod may be gone from the maps by then. */
static __always_inline void unmark_probe(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct capture_connection_key key = key_at_client(ctx);
	const __u64 *network_namespace = bpf_sk_storage_get(&probed, sk, 0, 0);

	if (!network_namespace)
		return;
	key.network_namespace = *network_namespace;
	bpf_map_delete_elem(&bypass, &key);
}
