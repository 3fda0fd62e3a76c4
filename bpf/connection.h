/* A connection's key, as its client sees it, read from either end. */
#pragma once
#include <linux/bpf.h>
#include "address.h"
#include "maps.h"

static __always_inline struct capture_address local_address(const struct bpf_sock_ops *ctx)
{
	if (ctx->family == AF_INET)
		return mapped_ipv4(settled(ctx->local_ip4));
	return (struct capture_address){ {
		settled(ctx->local_ip6[0]), settled(ctx->local_ip6[1]), settled(ctx->local_ip6[2]), settled(ctx->local_ip6[3]),
	} };
}

static __always_inline struct capture_address remote_address(const struct bpf_sock_ops *ctx)
{
	if (ctx->family == AF_INET)
		return mapped_ipv4(settled(ctx->remote_ip4));
	return (struct capture_address){ {
		settled(ctx->remote_ip6[0]), settled(ctx->remote_ip6[1]), settled(ctx->remote_ip6[2]), settled(ctx->remote_ip6[3]),
	} };
}

static __always_inline __be16 local_port(const struct bpf_sock_ops *ctx)
{
	return bpf_htons((__u16)settled(ctx->local_port));   /* the one port in host order */
}

static __always_inline __be16 remote_port(const struct bpf_sock_ops *ctx)
{
	return (__be16)(settled(ctx->remote_port) >> 16);    /* network order, in the upper half */
}

static __always_inline struct capture_connection_key key_at_client(struct bpf_sock_ops *ctx)
{
	return (struct capture_connection_key){
		.network_namespace = bpf_get_netns_cookie(ctx),
		.source = local_address(ctx), .source_port = local_port(ctx),
		.destination = remote_address(ctx), .destination_port = remote_port(ctx),
	};
}

static __always_inline struct capture_connection_key key_at_server(struct bpf_sock_ops *ctx)
{
	return (struct capture_connection_key){
		.network_namespace = bpf_get_netns_cookie(ctx),
		.source = remote_address(ctx), .source_port = remote_port(ctx),
		.destination = local_address(ctx), .destination_port = local_port(ctx),
	};
}
