/* A program that asks who it is connected to hears what it asked for, not the proxy's address. */
#include "destination.h"

enum { NAME_ALLOW = 1 };

SEC("cgroup/getpeername4")
int weft_getpeername4(struct bpf_sock_addr *ctx)
{
	const struct capture_destination *asked = ctx->sk ? asked_by(ctx->sk) : 0;

	if (asked && is_ipv4(&asked->address)) {
		ctx->user_ip4 = asked->address.word[3];
		ctx->user_port = asked->port;
	}
	return NAME_ALLOW;
}

SEC("cgroup/getpeername6")
int weft_getpeername6(struct bpf_sock_addr *ctx)
{
	const struct capture_destination *asked = ctx->sk ? asked_by(ctx->sk) : 0;

	if (asked) {
		ctx->user_ip6[0] = asked->address.word[0];
		ctx->user_ip6[1] = asked->address.word[1];
		ctx->user_ip6[2] = asked->address.word[2];
		ctx->user_ip6[3] = asked->address.word[3];
		ctx->user_port = asked->port;
	}
	return NAME_ALLOW;
}
