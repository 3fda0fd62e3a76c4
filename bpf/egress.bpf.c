/* On a strict pod's own cgroup: what its sockets send other than by TCP, which connect4 and connect6 have judged.
 *
 * Packets, not connect() and sendmsg(): resolvers connect a UDP socket to every address they were told, without ever sending, to learn which of them can
 * be reached (RFC 6724); a socket that was connected before its pod became strict sends without another call that a hook sees; and raw sockets pass by
 * those hooks. The sender gets EPERM. */
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include "udp.h"

enum { EGRESS_REFUSE = 0, EGRESS_ALLOW = 1 };
enum { SOCKET_STREAM = 1 };

/* Of an IPv6 packet only what follows the first header: one with options has no business here. */
static __always_inline enum capture_verdict judge_packet(struct __sk_buff *ctx)
{
	struct capture_address to;
	struct udphdr udp;
	__u32 header;
	__u8 protocol;

	if (ctx->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr ip;
		if (bpf_skb_load_bytes(ctx, 0, &ip, sizeof(ip)))
			return CAPTURE_PROTOCOL_REFUSED;
		to = mapped_ipv4(ip.daddr);
		protocol = ip.protocol;
		header = ip.ihl * 4;
	} else if (ctx->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr ip;
		if (bpf_skb_load_bytes(ctx, 0, &ip, sizeof(ip)))
			return CAPTURE_PROTOCOL_REFUSED;
		__builtin_memcpy(&to, &ip.daddr, sizeof(to));
		protocol = ip.nexthdr;
		header = sizeof(ip);
	} else {
		return CAPTURE_PROTOCOL_REFUSED;
	}
	if (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6)
		return CAPTURE_ICMP_PASSED;
	if (protocol != IPPROTO_UDP || bpf_skb_load_bytes(ctx, header, &udp, sizeof(udp)))
		return CAPTURE_PROTOCOL_REFUSED;
	return judge_sent_datagram(&to, bpf_ntohs(udp.source), bpf_ntohs(udp.dest));
}

SEC("cgroup_skb/egress")
int weft_egress(struct __sk_buff *ctx)
{
	struct bpf_sock *sk = ctx->sk ? bpf_sk_fullsock(ctx->sk) : 0;
	enum capture_verdict verdict;

	if (!sk || (sk->protocol == IPPROTO_TCP && sk->type == SOCKET_STREAM))
		return EGRESS_ALLOW;
	verdict = judge_packet(ctx);
	count(verdict);
	return verdict == CAPTURE_UDP_REFUSED || verdict == CAPTURE_PROTOCOL_REFUSED ? EGRESS_REFUSE : EGRESS_ALLOW;
}
