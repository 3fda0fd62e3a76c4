#include "outbound.h"

/* A v4-mapped destination stays mapped, so that a socket which had bound itself to its mapped pod address can still connect. */
static __always_inline void point_at_proxy(struct bpf_sock_addr *ctx, bool mapped)
{
	if (mapped) {
		ctx->user_ip6[3] = spread_ipv4();
	} else {
		ctx->user_ip6[0] = bpf_htonl(CAPTURE_SPREAD_IPV6_WORD0);
		ctx->user_ip6[1] = bpf_htonl(CAPTURE_SPREAD_IPV6_WORD1);
		ctx->user_ip6[2] = 0;
		ctx->user_ip6[3] = bpf_htonl(spread());
	}
	ctx->user_port = bpf_htons(CAPTURE_OUTBOUND_PORT);
}

SEC("cgroup/connect6")
int weft_connect6(struct bpf_sock_addr *ctx)
{
	struct capture_address to = { { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] } };

	if (!is_tcp(ctx))
		return CONNECT_ALLOW;
	enum capture_verdict verdict = judge_outbound(ctx, to);
	if (verdict == CAPTURE_REDIRECTED)
		point_at_proxy(ctx, is_ipv4(&to));
	return answer(verdict);
}
