/* On the pods' cgroup: the client's end of a captured connection. */
#include "destination.h"

SEC("sockops")
int weft_sockops_pods(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	__u32 op = ctx->op;

	if (!sk)
		return 1;
	if (op == BPF_SOCK_OPS_TCP_CONNECT_CB)
		publish_destination(ctx, sk);
	else if (op == BPF_SOCK_OPS_STATE_CB && ctx->args[1] == BPF_TCP_CLOSE)
		withdraw_destination(ctx, sk);
	return 1;
}
