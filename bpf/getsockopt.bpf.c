/* On the node's own cgroup: the proxy, without any privilege, asks an accepted socket where its downstream wanted to go, with the very call that
 * answers under iptables redirection: SO_ORIGINAL_DST at level IP or IPV6. */
#include <linux/in.h>
#include <linux/in6.h>
#include "destination.h"

enum { LEVEL_IP = 0, LEVEL_IPV6 = 41, ORIGINAL_DST = 80 };

static __always_inline bool tell_ipv4(struct bpf_sockopt *ctx, const struct capture_destination *claimed)
{
	struct sockaddr_in *to = ctx->optval;

	if ((void *)(to + 1) > ctx->optval_end)
		return false;
	*to = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = claimed->port, .sin_addr.s_addr = claimed->address.word[3] };
	ctx->optlen = sizeof(*to);
	return true;
}

static __always_inline bool tell_ipv6(struct bpf_sockopt *ctx, const struct capture_destination *claimed)
{
	struct sockaddr_in6 *to = ctx->optval;

	if ((void *)(to + 1) > ctx->optval_end)
		return false;
	*to = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = claimed->port };
	__builtin_memcpy(&to->sin6_addr, &claimed->address, sizeof(claimed->address));
	ctx->optlen = sizeof(*to);
	return true;
}

SEC("cgroup/getsockopt")
int weft_getsockopt(struct bpf_sockopt *ctx)
{
	int level = ctx->level;

	if (ctx->optname != ORIGINAL_DST || (level != LEVEL_IP && level != LEVEL_IPV6))
		return 1;
	const struct capture_destination *claimed = ctx->sk ? claimed_by(ctx->sk) : 0;
	bool told = claimed && is_ipv4(&claimed->address) == (level == LEVEL_IP) &&
		(level == LEVEL_IP ? tell_ipv4(ctx, claimed) : tell_ipv6(ctx, claimed));
	if (told)
		ctx->retval = 0;   /* the kernel, which knows of no redirection, had answered ENOENT */
	count(told ? CAPTURE_DESTINATION_TOLD : CAPTURE_DESTINATION_UNKNOWN);
	return 1;
}
