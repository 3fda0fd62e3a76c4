#pragma once
// Starting processes with nothing but what they need, and having no more oneself.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/// Users of the unprivileged processes: the port each is known for, so that they are recognised in `ps`.
enum { CLINUX_AGENT_USER = 15020, CLINUX_PROXY_USER = 15001 };

/// Where a start failed, so that the message can say it.
enum clinux_spawn_stage {
    CLINUX_SPAWN_FORK = 1, CLINUX_SPAWN_CGROUP, CLINUX_SPAWN_DESCRIPTORS, CLINUX_SPAWN_LIMITS, CLINUX_SPAWN_PRIVILEGES, CLINUX_SPAWN_EXEC
};

struct clinux_spawn {
    const char *path;
    char *const *arguments;      // argv, null-terminated
    char *const *environment;    // envp, null-terminated
    const int *descriptors;      // become 3, 4, 5 … of the child; everything else is closed
    size_t descriptor_count;
    int cgroup_procs;            // open `cgroup.procs` of the child's cgroup, or -1
    uid_t user;                  // also the group; 0 keeps root (tests)
};
/// Starts a child: own process group, no capabilities (bounding set too), no_new_privs, killed when the caller's thread ends, no core files,
/// descriptor limit raised to the hard limit. Returns its pid once exec has happened, or -errno with `*stage`.
pid_t clinux_spawn_child(const struct clinux_spawn *child, int *stage);

/// Keeps only the capabilities of `keep` (bit = number) in all sets of the calling thread; call before the first thread is made.
/// 0 or -errno; `*missing` gets the bits of `keep` that the process does not have (then nothing is changed and -EPERM is returned).
int clinux_reduce_capabilities(uint64_t keep, uint64_t *missing);
/// Raises RLIMIT_NOFILE to the hard limit; the limit, or -errno.
int64_t clinux_raise_descriptor_limit(void);

/// Raises RLIMIT_MEMLOCK to `bytes`, or as near as this process may; the limit, or -errno. Children inherit it.
int64_t clinux_raise_locked_memory_limit(uint64_t bytes);

/// Blocks `signals` for this thread (and those it makes) and answers a signalfd for them, or -errno.
int clinux_signal_descriptor(const int *signals, size_t count);
/// Reads one pending signal number, 0 when there is none, or -errno.
int clinux_next_signal(int descriptor);
/// Reaps one ended child: its pid (status in `*status`), 0 when there is none, or -errno.
pid_t clinux_reap(int *status);
static inline bool clinux_exited(int status) { return WIFEXITED(status); }
/// Exit code, or the signal that ended it.
static inline int clinux_exit_detail(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status); }
