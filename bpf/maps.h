/* Every map, once. They are weak, so that `bpftool gen object` folds the copies of all hooks into one. */
#pragma once
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "abi/capture.h"

/* Half of the helpers in use are for GPL programs only. */
char LICENSE[] __weak SEC("license") = "GPL";

const volatile struct capture_constants constants __weak SEC(".rodata") = {};

/* Enrolled pods by namespace cookie. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CAPTURE_PODS_MAX);
	__type(key, __u64);
	__type(value, struct capture_pod);
} pods __weak SEC(".maps");

/* Enrolled pods' namespaces by the pods' addresses, for those who see only where a connection goes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * CAPTURE_PODS_MAX);
	__type(key, struct capture_address);
	__type(value, __u64);
} addresses __weak SEC(".maps");

/* Ports that are not treated like others: see capture_port_list. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct capture_port_key);
	__type(value, __u8);
} port_lists __weak SEC(".maps");

/* Outbound prefixes that are not captured. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct capture_prefix_key);
	__type(value, __u8);
} excluded_prefixes __weak SEC(".maps");

/* The proxy's listeners inside the pods. A closed listener leaves by itself, so presence is proof that somebody holds it. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 4 * CAPTURE_PODS_MAX);
	__type(key, struct capture_listener_key);
	__type(value, __u64);
} listeners __weak SEC(".maps");

/* Original destinations, on both ends: see capture_destination_side. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct capture_destination);
} destinations __weak SEC(".maps");

/* Original destinations of connections that are being set up: from the client's SYN until the accepted socket has its copy.
 * A plain hash: an LRU of 1,024 lost 2,176 of 3,000, and a loss is a connection nobody can place. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct capture_connection_key);
	__type(value, struct capture_destination);
} connecting __weak SEC(".maps");

/* Sockets made in the node's own cgroup, and nothing else: the only thing by which a socket is believed to be Weft's. A mark proves nothing, for
 * SO_MARK and IP_TRANSPARENT need no more than CAP_NET_RAW, which pods have. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} own __weak SEC(".maps");

/* Connections that go to the app, not to the inbound listener, and why: those of Weft's own sockets to the pod of the namespace they live in, and the
 * kubelet's probes. One for each open upstream connection of the node; ten times a process's usual 20,000 descriptors. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct capture_connection_key);
	__type(value, __u8);
} bypass __weak SEC(".maps");

/* Which pod a socket of the kubelet probes, by its namespace's cookie. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} probed __weak SEC(".maps");

/* When a strict pod last asked from a UDP port, in nanoseconds of bpf_ktime. Losing one costs a DNS client a second question. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct capture_asked_key);
	__type(value, __u64);
} asked_from __weak SEC(".maps");

/* One element, so that one lookup reads every worker's stamp; the mapping is an array of u64. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct capture_heartbeat);
} heartbeat __weak SEC(".maps");

/* Times each verdict was reached. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, CAPTURE_VERDICTS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} verdicts __weak SEC(".maps");

static __always_inline void count(enum capture_verdict verdict)
{
	__u32 slot = verdict;
	__u64 *times = bpf_map_lookup_elem(&verdicts, &slot);

	if (times)
		__sync_fetch_and_add(times, 1);
}
