#pragma once
/// No core file, and no look into the memory for anybody but root: not for a debugger of the same user, not through /proc. To be called first of all,
/// before there is anything to hide. 0 or -errno.
int clinux_keep_memory_private(void);
/// Leaves the process the system calls a data plane needs (read, write, epoll, sockets it already has, splice, memory, time, socket
/// pairs within itself) and answers EPERM to every other: no open, socket, clone, execve, bpf, setns, ptrace. Nothing may become executable memory. Applies to all threads, for good.
/// Call after the threads exist. 0 or -errno (-EBUSY: a thread could not be brought along).
int clinux_confine_proxy(void);
