/* In each pod's namespace: gathers redirected connections, and steers those from outside into the proxy's transparent listener. */
#include "inbound.h"
#include "udp.h"

SEC("sk_lookup")
int weft_sk_lookup(struct bpf_sk_lookup *ctx)
{
	enum capture_verdict verdict;

	if (ctx->protocol != IPPROTO_TCP && !(constants.is_strict && ctx->protocol == IPPROTO_UDP))
		return SK_PASS;
	struct arrival arrival = read_arrival(ctx);
	if (constants.is_strict && ctx->protocol == IPPROTO_UDP) {
		verdict = judge_datagram(&arrival);
		count(verdict);
		/* The sender gets an ICMP error: port unreachable. */
		return verdict == CAPTURE_INBOUND_UDP_DROPPED ? SK_DROP : SK_PASS;
	}
	if (is_redirected(&arrival)) {
		count(hand_to_listener(ctx, &arrival, CAPTURE_DIRECTION_OUTBOUND) ? CAPTURE_GATHERED : CAPTURE_GATHER_NO_LISTENER);
		return SK_PASS;
	}
	verdict = judge_inbound(&arrival);
	if (verdict == CAPTURE_INBOUND_STEERED && !hand_to_listener(ctx, &arrival, CAPTURE_DIRECTION_INBOUND))
		verdict = when_listener_gone(&arrival);
	count(verdict);
	/* A dropped SYN is answered with a reset at once: the caller gets ECONNREFUSED, never a timeout. */
	switch (verdict) {
	case CAPTURE_INBOUND_DROPPED_PROXY_SILENT:
	case CAPTURE_INBOUND_DROPPED_NO_LISTENER:
	case CAPTURE_INBOUND_DROPPED_OTHER_ADDRESS:
		return SK_DROP;
	default:
		return SK_PASS;
	}
}
