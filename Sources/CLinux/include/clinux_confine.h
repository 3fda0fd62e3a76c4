#pragma once
/// Leaves the process the system calls a data plane needs (read, write, epoll, sockets it already has, splice, memory, time) and answers EPERM
/// to every other: no open, socket, clone, execve, bpf, setns, ptrace. Nothing may become executable memory. Applies to all threads, for good.
/// Call after the threads exist. 0 or -errno (-EBUSY: a thread could not be brought along).
int clinux_confine_proxy(void);
