/* On the node's own cgroup only: whatever socket is made there is Weft's, also when it was made after setns into a pod and when it is passed on to the
 * proxy, which lives in a cgroup of its own and cannot make such sockets. */
#include "address.h"
#include "maps.h"

enum { CREATE_ALLOW = 1 };

SEC("cgroup/sock_create")
int weft_sock_create(struct bpf_sock *sk)
{
	__u32 tag = 1;

	if (sk->family != AF_INET && sk->family != AF_INET6)
		return CREATE_ALLOW;
	count(bpf_sk_storage_get(&own, sk, &tag, BPF_SK_STORAGE_GET_F_CREATE) ? CAPTURE_OWN_SOCKET_TAGGED : CAPTURE_OWN_SOCKET_UNTAGGED);
	return CREATE_ALLOW;
}
