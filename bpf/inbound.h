/* Who gets a connection that reaches a pod's namespace? This program is loaded for one namespace: constants.network_namespace. */
#pragma once
#include <linux/bpf.h>
#include <linux/in.h>
#include "address.h"
#include "alive.h"
#include "maps.h"
#include "pod.h"

struct arrival {
	struct capture_connection_key connection;
	__u32 family;
	__u16 port;
};

static __always_inline struct arrival read_arrival(const struct bpf_sk_lookup *ctx)
{
	struct arrival arrival = { .family = settled(ctx->family) == AF_INET ? 4 : 6, .port = (__u16)settled(ctx->local_port) };
	struct capture_connection_key *connection = &arrival.connection;

	connection->network_namespace = constants.network_namespace;
	connection->source_port = (__be16)settled(ctx->remote_port);
	connection->destination_port = bpf_htons(arrival.port);
	if (arrival.family == 4) {
		connection->source = mapped_ipv4(settled(ctx->remote_ip4));
		connection->destination = mapped_ipv4(settled(ctx->local_ip4));
	} else {
		for (int i = 0; i < 4; i++) {
			connection->source.word[i] = settled(ctx->remote_ip6[i]);
			connection->destination.word[i] = settled(ctx->local_ip6[i]);
		}
	}
	return arrival;
}

/* A redirected connection: whichever loopback address it was spread to, one listener takes it. */
static __always_inline bool is_redirected(const struct arrival *arrival)
{
	return arrival->port == CAPTURE_OUTBOUND_PORT && is_loopback(&arrival->connection.destination);
}

/* The pod calls itself by its own address; the interface cannot tell, it is eth0 even for such a connection. Or a late segment of a redirected
 * connection seeks its client: nobody outside has a loopback address (an answer to one that was forged never leaves the pod). */
static __always_inline bool is_from_itself(const struct capture_connection_key *connection)
{
	return same_address(&connection->source, &connection->destination) || is_loopback(&connection->source);
}

/* An address of the namespace that the pod's record does not name: one more of an interface, or a link-local one. A strict pod's app listens there too. */
static __always_inline enum capture_verdict judge_other_address(const struct capture_connection_key *connection, const struct capture_pod *pod)
{
	if (!(pod->flags & CAPTURE_POD_STRICT) || is_loopback(&connection->destination) || is_from_itself(connection))
		return CAPTURE_INBOUND_PASSED_OTHER_ADDRESS;
	return CAPTURE_INBOUND_DROPPED_OTHER_ADDRESS;
}

static __always_inline enum capture_verdict judge_inbound(const struct arrival *arrival)
{
	const struct capture_connection_key *connection = &arrival->connection;
	__u64 network_namespace = connection->network_namespace;
	const struct capture_pod *pod = bpf_map_lookup_elem(&pods, &network_namespace);

	if (!pod)
		return CAPTURE_INBOUND_PASSED_NOT_ENROLLED;
	if (!same_address(&connection->destination, &pod->ipv4) && !same_address(&connection->destination, &pod->ipv6))
		return judge_other_address(connection, pod);
	if (!(pod->flags & CAPTURE_POD_INBOUND))
		return CAPTURE_INBOUND_PASSED_INBOUND_OFF;
	__u8 *why = bpf_map_lookup_elem(&bypass, connection);
	if (why)
		return *why == CAPTURE_BYPASS_PROBE ? CAPTURE_INBOUND_PASSED_PROBE : CAPTURE_INBOUND_PASSED_OWN_SOCKET;
	if (is_from_itself(connection))
		return CAPTURE_INBOUND_PASSED_SELF;
	/* Whoever writes a pod's manifest may leave the mesh where the namespace leaves it to him, and only there. */
	if (!(pod->flags & CAPTURE_POD_STRICT) && is_listed(network_namespace, CAPTURE_PORTS_EXCLUDED_INBOUND, arrival->port))
		return CAPTURE_INBOUND_PASSED_EXCLUDED_PORT;
	if (proxy_is_silent())
		return unless_closed(pod, CAPTURE_INBOUND_PASSED_PROXY_SILENT, CAPTURE_INBOUND_DROPPED_PROXY_SILENT);
	/* Becomes NO_LISTENER when the listener turns out to be gone. */
	return CAPTURE_INBOUND_STEERED;
}

static __always_inline bool hand_to_listener(struct bpf_sk_lookup *ctx, const struct arrival *arrival, enum capture_direction direction)
{
	struct capture_listener_key key = {
		.network_namespace = arrival->connection.network_namespace, .direction = direction, .family = arrival->family,
	};
	struct bpf_sock *listener = bpf_map_lookup_elem(&listeners, &key);
	long refused;

	if (!listener)
		return false;
	refused = bpf_sk_assign(ctx, listener, 0);
	bpf_sk_release(listener);
	return !refused;
}

static __always_inline enum capture_verdict when_listener_gone(const struct arrival *arrival)
{
	__u64 network_namespace = arrival->connection.network_namespace;
	const struct capture_pod *pod = bpf_map_lookup_elem(&pods, &network_namespace);

	if (!pod)
		return CAPTURE_INBOUND_PASSED_NOT_ENROLLED;
	return unless_closed(pod, CAPTURE_INBOUND_PASSED_NO_LISTENER, CAPTURE_INBOUND_DROPPED_NO_LISTENER);
}
