/* In each pod's namespace: gathers redirected connections, and steers those from outside into the proxy's transparent listener. */
#include "inbound.h"

SEC("sk_lookup")
int weft_sk_lookup(struct bpf_sk_lookup *ctx)
{
	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	struct arrival arrival = read_arrival(ctx);
	if (is_redirected(&arrival)) {
		count(hand_to_listener(ctx, &arrival, CAPTURE_DIRECTION_OUTBOUND) ? CAPTURE_GATHERED : CAPTURE_GATHER_NO_LISTENER);
		return SK_PASS;
	}
	enum capture_verdict verdict = judge_inbound(&arrival);
	if (verdict == CAPTURE_INBOUND_STEERED && !hand_to_listener(ctx, &arrival, CAPTURE_DIRECTION_INBOUND))
		verdict = when_listener_gone(&arrival);
	count(verdict);
	/* A dropped SYN is answered with a reset at once: the caller gets ECONNREFUSED, never a timeout. */
	return verdict == CAPTURE_INBOUND_DROPPED_PROXY_SILENT || verdict == CAPTURE_INBOUND_DROPPED_NO_LISTENER ? SK_DROP : SK_PASS;
}
