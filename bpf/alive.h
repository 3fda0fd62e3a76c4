/* Can the proxy serve this pod right now? */
#pragma once
#include <stdbool.h>
#include "maps.h"

/* One worker that stamps is enough: workers share every listener.
 * A stamp from the future is no sign of life: the subtraction wraps and it counts as old. So does the 0 of a slot that never was stamped. */
static __always_inline bool proxy_is_silent(void)
{
	__u32 zero = 0;
	const volatile struct capture_heartbeat *beat = bpf_map_lookup_elem(&heartbeat, &zero);

	if (!beat)
		return true;
	for (__u32 worker = 0; worker < CAPTURE_WORKERS_MAX; worker++) {
		if (worker >= constants.workers)
			break;
		__u64 stamped = beat->stamped[worker];   /* read before the clock: a fresh stamp is never ahead of it */
		if (stamped && bpf_ktime_get_ns() - stamped <= CAPTURE_SILENT_AFTER_MILLISECONDS * 1000000ull)
			return false;
	}
	return true;
}

static __always_inline bool has_listener(__u64 network_namespace, enum capture_direction direction, __u32 family)
{
	struct capture_listener_key key = { .network_namespace = network_namespace, .direction = direction, .family = family };
	struct bpf_sock *listener = bpf_map_lookup_elem(&listeners, &key);

	if (!listener)
		return false;
	bpf_sk_release(listener);
	return true;
}
