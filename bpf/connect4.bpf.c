#include "outbound.h"

SEC("cgroup/connect4")
int weft_connect4(struct bpf_sock_addr *ctx)
{
	if (!is_tcp(ctx))
		return CONNECT_ALLOW;
	enum capture_verdict verdict = judge_outbound(ctx, mapped_ipv4(ctx->user_ip4));
	if (verdict == CAPTURE_REDIRECTED) {
		ctx->user_ip4 = spread_ipv4();
		ctx->user_port = bpf_htons(CAPTURE_OUTBOUND_PORT);
	}
	return answer(verdict);
}
