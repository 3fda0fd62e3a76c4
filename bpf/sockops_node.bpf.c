/* On the node's own cgroup, which its listeners belong to and so do the sockets accepted from them: the proxy's end of captured connections,
 * and the connections it opens itself. */
#include "bypass.h"
#include "destination.h"

SEC("sockops")
int weft_sockops_node(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	__u32 op = ctx->op, port = ctx->local_port;

	if (!sk)
		return 1;
	if (op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB && port == CAPTURE_OUTBOUND_PORT)
		claim_destination(ctx, sk);
	else if (op == BPF_SOCK_OPS_TCP_CONNECT_CB)
		open_bypass(ctx, sk);
	else if (op == BPF_SOCK_OPS_STATE_CB && ctx->args[1] == BPF_TCP_CLOSE)
		close_bypass(ctx);
	return 1;
}
