/* What an enrolled pod's settings say, in both directions. */
#pragma once
#include <stdbool.h>
#include "maps.h"

/* In doubt a pod keeps its connection, unless its namespace said otherwise. */
static __always_inline enum capture_verdict
unless_closed(const struct capture_pod *pod, enum capture_verdict passed, enum capture_verdict refused)
{
	return pod->flags & CAPTURE_POD_FAIL_CLOSED ? refused : passed;
}

static __always_inline bool is_listed(__u64 network_namespace, enum capture_port_list list, __u16 port)
{
	struct capture_port_key key = { .network_namespace = network_namespace, .port = port, .list = list };

	return bpf_map_lookup_elem(&port_lists, &key) != 0;
}
