/* On the kubelet's cgroup: its probes. */
#include "probe.h"

SEC("sockops")
int weft_sockops_kubelet(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	__u32 op = ctx->op;

	if (!sk)
		return 1;
	if (op == BPF_SOCK_OPS_TCP_CONNECT_CB)
		mark_probe(ctx, sk);
	else if (op == BPF_SOCK_OPS_STATE_CB && ctx->args[1] == BPF_TCP_CLOSE)
		unmark_probe(ctx, sk);
	return 1;
}
