/* Records shared by the BPF programs and Sources/Capture: declared once, included by the BPF compiler and imported by Swift as module CaptureABI.
 *
 * Fixed widths, no padding, sizes asserted. Addresses are 16 bytes in network order, IPv4 as ::ffff:a.b.c.d, so one record and one comparison serve both families.
 * A change of a record's size changes the pinned maps: a new node then replaces what an older one left instead of adopting it. */
#pragma once
#include <linux/types.h>

enum {
	/* The listeners inside every pod's namespace, on 127.0.0.1 and ::1. */
	CAPTURE_OUTBOUND_PORT = 15001,
	CAPTURE_INBOUND_PORT = 15006,
	/* Slots of the heartbeat. */
	CAPTURE_WORKERS_MAX = 16,
	/* A worker stamps every 100 ms; a slot older than this is silent. Twenty missed stamps are no scheduling hiccup. */
	CAPTURE_SILENT_AFTER_MILLISECONDS = 2000,
	/* Loopback destinations over which one pod's captured connections spread: 28,000 ephemeral ports each make 1.8 million connections. */
	CAPTURE_SPREAD = 64,
	/* More than a node's kubelet runs (110 by default, 250 at large providers). */
	CAPTURE_PODS_MAX = 4096,
	/* A strict pod that has asked from a UDP port hears answers there for so long. */
	CAPTURE_UDP_ANSWER_SECONDS = 60,
};

/* fd6d:6573:6800::/64 ("mesh"), the IPv6 counterpart of 127.0.0.0/8: an AnyIP route in the pod makes all of it local. In host order. */
#define CAPTURE_SPREAD_IPV6_WORD0 0xfd6d6573u
#define CAPTURE_SPREAD_IPV6_WORD1 0x68000000u

/* What a hook decided. CAPTURE_VERDICTS is the one list: enumerators, counters and metric labels come from it, in this order.
 * New verdicts go to the end: the counters live in a pinned map. */
#define CAPTURE_VERDICTS(VERDICT) \
	/* connect() of a process in a pod */ \
	VERDICT(REDIRECTED, "redirected") \
	VERDICT(PASSED_NOT_ENROLLED, "passed_not_enrolled") \
	VERDICT(PASSED_OUTBOUND_OFF, "passed_outbound_off") \
	VERDICT(PASSED_OWN_SOCKET, "passed_own_socket") \
	VERDICT(PASSED_LOOPBACK, "passed_loopback") \
	VERDICT(PASSED_LINK_LOCAL, "passed_link_local") \
	VERDICT(PASSED_OWN_ADDRESS, "passed_own_address") \
	VERDICT(PASSED_EXCLUDED_PORT, "passed_excluded_port") \
	VERDICT(PASSED_EXCLUDED_PREFIX, "passed_excluded_prefix") \
	VERDICT(PASSED_PROXY_SILENT, "passed_proxy_silent") \
	VERDICT(PASSED_NO_LISTENER, "passed_no_listener") \
	VERDICT(PASSED_NO_STORAGE, "passed_no_storage") \
	VERDICT(REFUSED_PROXY_SILENT, "refused_proxy_silent") \
	VERDICT(REFUSED_NO_LISTENER, "refused_no_listener") \
	VERDICT(REFUSED_NO_STORAGE, "refused_no_storage") \
	/* a connection that reaches a pod's namespace */ \
	VERDICT(INBOUND_STEERED, "inbound_steered") \
	VERDICT(INBOUND_PASSED_NOT_ENROLLED, "inbound_passed_not_enrolled") \
	VERDICT(INBOUND_PASSED_OTHER_ADDRESS, "inbound_passed_other_address") \
	VERDICT(INBOUND_PASSED_INBOUND_OFF, "inbound_passed_inbound_off") \
	VERDICT(INBOUND_PASSED_OWN_SOCKET, "inbound_passed_own_socket") \
	VERDICT(INBOUND_PASSED_SELF, "inbound_passed_self") \
	VERDICT(INBOUND_PASSED_EXCLUDED_PORT, "inbound_passed_excluded_port") \
	VERDICT(INBOUND_PASSED_PROXY_SILENT, "inbound_passed_proxy_silent") \
	VERDICT(INBOUND_PASSED_NO_LISTENER, "inbound_passed_no_listener") \
	VERDICT(INBOUND_DROPPED_PROXY_SILENT, "inbound_dropped_proxy_silent") \
	VERDICT(INBOUND_DROPPED_NO_LISTENER, "inbound_dropped_no_listener") \
	/* a redirected connection on its way to the one outbound listener */ \
	VERDICT(GATHERED, "gathered") \
	VERDICT(GATHER_NO_LISTENER, "gather_no_listener") \
	/* the original destination on its way to the proxy */ \
	VERDICT(DESTINATION_PUBLISHED, "destination_published") \
	VERDICT(DESTINATION_CLAIMED, "destination_claimed") \
	VERDICT(DESTINATION_WITHDRAWN, "destination_withdrawn") \
	VERDICT(DESTINATION_LOST, "destination_lost") \
	VERDICT(DESTINATION_TOLD, "destination_told") \
	VERDICT(DESTINATION_UNKNOWN, "destination_unknown") \
	/* Weft's own sockets */ \
	VERDICT(OWN_SOCKET_TAGGED, "own_socket_tagged") \
	VERDICT(OWN_SOCKET_UNTAGGED, "own_socket_untagged") \
	VERDICT(BYPASS_OPENED, "bypass_opened") \
	VERDICT(BYPASS_LOST, "bypass_lost") \
	/* what a strict pod sends other than by TCP */ \
	VERDICT(UDP_PASSED_LOCAL, "udp_passed_local") \
	VERDICT(UDP_PASSED_EXCEPTION, "udp_passed_exception") \
	VERDICT(UDP_REFUSED, "udp_refused") \
	VERDICT(ICMP_PASSED, "icmp_passed") \
	VERDICT(PROTOCOL_REFUSED, "protocol_refused") \
	/* a datagram that reaches a strict pod's namespace, and no connected socket there */ \
	VERDICT(INBOUND_UDP_PASSED_LOCAL, "inbound_udp_passed_local") \
	VERDICT(INBOUND_UDP_PASSED_EXCEPTION, "inbound_udp_passed_exception") \
	VERDICT(INBOUND_UDP_PASSED_ANSWER, "inbound_udp_passed_answer") \
	VERDICT(INBOUND_UDP_DROPPED, "inbound_udp_dropped") \
	/* a connection that reaches a strict pod's namespace by an address that is not the pod's */ \
	VERDICT(INBOUND_DROPPED_OTHER_ADDRESS, "inbound_dropped_other_address") \
	/* the kubelet's probes */ \
	VERDICT(INBOUND_PASSED_PROBE, "inbound_passed_probe") \
	VERDICT(PROBE_MARKED, "probe_marked") \
	VERDICT(PROBE_LOST, "probe_lost")

enum capture_verdict {
#define CAPTURE_VERDICT_ENUMERATOR(symbol, name) CAPTURE_##symbol,
	CAPTURE_VERDICTS(CAPTURE_VERDICT_ENUMERATOR)
#undef CAPTURE_VERDICT_ENUMERATOR
	CAPTURE_VERDICT_COUNT,
};

/* Slots of the verdicts map; the spare ones let a newer node adopt an older one's counters. */
enum { CAPTURE_VERDICTS_MAX = 64 };
_Static_assert((int)CAPTURE_VERDICT_COUNT <= (int)CAPTURE_VERDICTS_MAX, "every verdict has a counter");

/* 16 bytes in network order, IPv4 mapped. */
struct capture_address {
	__be32 word[4];
};
_Static_assert(sizeof(struct capture_address) == 16, "read by Sources/Capture");

enum {
	CAPTURE_POD_OUTBOUND = 1u << 0,
	CAPTURE_POD_INBOUND = 1u << 1,
	/* What happens while the proxy cannot serve: refused when set, past the mesh when not. */
	CAPTURE_POD_FAIL_CLOSED = 1u << 2,
	/* Nothing reaches the pod past the proxy, by whichever of its addresses and whatever it excludes. Whoever sets it sets the other three too. */
	CAPTURE_POD_STRICT = 1u << 3,
};

/* An enrolled pod; the key is its network namespace's cookie, so processes of the host's namespace are never captured. */
struct capture_pod {
	__u32 pod;
	__u32 flags;
	/* Absent addresses are all zero, which is nobody's address. */
	struct capture_address ipv4;
	struct capture_address ipv6;
};
_Static_assert(sizeof(struct capture_pod) == 40, "read by Sources/Capture");

enum capture_direction { CAPTURE_DIRECTION_OUTBOUND = 1, CAPTURE_DIRECTION_INBOUND = 2 };

/* What a port is listed for. */
enum capture_port_list {
	/* Not captured, by direction. */
	CAPTURE_PORTS_EXCLUDED_OUTBOUND = 1,
	CAPTURE_PORTS_EXCLUDED_INBOUND = 2,
	/* Where the kubelet asks how the pod is. */
	CAPTURE_PORTS_PROBED = 3,
	/* UDP of a strict pod that is let through, whether it is the local or the remote port. */
	CAPTURE_PORTS_UDP_EXCEPTIONS = 4,
};

struct capture_port_key {
	__u64 network_namespace;
	/* In host order. */
	__u16 port;
	__u16 list;
	__u32 zero;
};
_Static_assert(sizeof(struct capture_port_key) == 16, "read by Sources/Capture");

/* Key of a longest-prefix-match trie: the pod's 64 bits are always significant, the address's as many as the prefix says.
 * The cookie is two words, because one aligned __u64 after prefix_bits would put padding inside the prefix. */
struct capture_prefix_key {
	__u32 prefix_bits;
	__u32 network_namespace[2];
	struct capture_address address;
};
_Static_assert(sizeof(struct capture_prefix_key) == 28, "read by Sources/Capture");
enum { CAPTURE_PREFIX_KEY_NAMESPACE_BITS = 64 };

struct capture_listener_key {
	__u64 network_namespace;
	__u32 direction;
	/* 4 or 6. */
	__u32 family;
};
_Static_assert(sizeof(struct capture_listener_key) == 16, "read by Sources/Capture");

/* One connection as its client sees it. */
struct capture_connection_key {
	__u64 network_namespace;
	struct capture_address source;
	struct capture_address destination;
	__be16 source_port;
	__be16 destination_port;
	__u32 zero;
};
_Static_assert(sizeof(struct capture_connection_key) == 48, "no padding: keys are compared as bytes");

enum capture_destination_side {
	/* In the storage of a pod's socket: what the program asked for. */
	CAPTURE_ASKED = 1,
	/* In the storage of the socket the proxy accepted: where its downstream wanted to go. */
	CAPTURE_CLAIMED = 2,
};

struct capture_destination {
	struct capture_address address;
	__be16 port;
	__u16 side;
};
_Static_assert(sizeof(struct capture_destination) == 20, "read by Sources/Capture");

/* Why a connection goes to the app and not to the inbound listener. */
enum capture_bypass {
	CAPTURE_BYPASS_OWN = 1,
	CAPTURE_BYPASS_PROBE = 2,
};

/* A UDP port from which a strict pod has asked. */
struct capture_asked_key {
	__u64 network_namespace;
	/* In host order. */
	__u32 port;
	__u32 zero;
};
_Static_assert(sizeof(struct capture_asked_key) == 16, "no padding: keys are compared as bytes");

/* Set before load, constant for the verifier. The programs on the pods' cgroup serve every pod. sk_lookup and egress, which cannot ask whose packet they
 * judge, are loaded once for each pod with the pod's cookie in here, and again when it becomes strict or ceases to be: what only strict pods need, the
 * others' programs do not contain. The kubelet's has the host's cookie. */
struct capture_constants {
	__u64 network_namespace;
	__u32 workers;
	__u32 is_strict;
};
_Static_assert(sizeof(struct capture_constants) == 16, "written by Sources/Capture");

struct capture_heartbeat {
	/* CLOCK_MONOTONIC in nanoseconds; slot i is worker i's. */
	__u64 stamped[CAPTURE_WORKERS_MAX];
};
_Static_assert(sizeof(struct capture_heartbeat) == 128, "mapped by the proxy");

#ifndef __bpf__
/* The metric label of a verdict; NULL past the last one. */
static inline const char *capture_verdict_name(__u32 verdict)
{
	switch (verdict) {
#define CAPTURE_VERDICT_NAME(symbol, name) case CAPTURE_##symbol: return name;
	CAPTURE_VERDICTS(CAPTURE_VERDICT_NAME)
#undef CAPTURE_VERDICT_NAME
	default: return 0;
	}
}
#endif
