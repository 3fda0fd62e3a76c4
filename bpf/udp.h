/* UDP of a strict pod: what the mesh cannot protect neither leaves nor arrives, but for the ports that are excepted. */
#pragma once
#include "address.h"
#include "inbound.h"
#include "maps.h"
#include "pod.h"

/* From here answers may come. Cluster DNS answers from another address than was asked when a service's address is translated inside the socket, so the
 * port alone is remembered. */
static __always_inline void note_asked(__u16 local_port)
{
	struct capture_asked_key key = { .network_namespace = constants.network_namespace, .port = local_port };
	__u64 now = bpf_ktime_get_ns();

	bpf_map_update_elem(&asked_from, &key, &now, BPF_ANY);
}

static __always_inline bool has_asked(__u16 local_port)
{
	struct capture_asked_key key = { .network_namespace = constants.network_namespace, .port = local_port };
	const volatile __u64 *asked = bpf_map_lookup_elem(&asked_from, &key);

	return asked && bpf_ktime_get_ns() - *asked <= CAPTURE_UDP_ANSWER_SECONDS * 1000000000ull;
}

/* A connected socket has been found before anybody asks this program. Anyone may send from port 53: an excepted port at the other end opens only ports
 * from which the pod has asked. */
static __always_inline enum capture_verdict judge_datagram(const struct arrival *arrival)
{
	const struct capture_connection_key *connection = &arrival->connection;

	if (is_loopback(&connection->destination) || is_from_itself(connection))
		return CAPTURE_INBOUND_UDP_PASSED_LOCAL;
	if (is_listed(constants.network_namespace, CAPTURE_PORTS_UDP_EXCEPTIONS, arrival->port))
		return CAPTURE_INBOUND_UDP_PASSED_EXCEPTION;
	if (is_listed(constants.network_namespace, CAPTURE_PORTS_UDP_EXCEPTIONS, bpf_ntohs(connection->source_port)) && has_asked(arrival->port))
		return CAPTURE_INBOUND_UDP_PASSED_ANSWER;
	return CAPTURE_INBOUND_UDP_DROPPED;
}

static __always_inline enum capture_verdict judge_sent_datagram(const struct capture_address *to, __u16 local_port, __u16 remote_port)
{
	__u64 network_namespace = constants.network_namespace;
	const struct capture_pod *pod = bpf_map_lookup_elem(&pods, &network_namespace);

	if (is_loopback(to) || (pod && (same_address(to, &pod->ipv4) || same_address(to, &pod->ipv6))))
		return CAPTURE_UDP_PASSED_LOCAL;
	if (is_listed(network_namespace, CAPTURE_PORTS_UDP_EXCEPTIONS, remote_port)) {
		note_asked(local_port);
		return CAPTURE_UDP_PASSED_EXCEPTION;
	}
	/* A server of an excepted port answers. */
	if (is_listed(network_namespace, CAPTURE_PORTS_UDP_EXCEPTIONS, local_port))
		return CAPTURE_UDP_PASSED_EXCEPTION;
	return CAPTURE_UDP_REFUSED;
}
