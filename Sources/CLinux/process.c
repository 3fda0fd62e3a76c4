#define _GNU_SOURCE
#include "include/clinux_process.h"
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>

extern int close_range(unsigned first, unsigned last, int flags);

static int last_capability(void) {
    int last = 0;
    while (prctl(PR_CAPBSET_READ, last + 1, 0, 0, 0) >= 0) last++;
    return last;
}

static int set_capabilities(uint64_t permitted) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {
        {.effective = (uint32_t)permitted, .permitted = (uint32_t)permitted},
        {.effective = (uint32_t)(permitted >> 32), .permitted = (uint32_t)(permitted >> 32)},
    };
    return syscall(SYS_capset, &header, data) == 0 ? 0 : -errno;
}

static int drop_bounding_set(uint64_t keep) {
    for (int capability = 0, last = last_capability(); capability <= last; capability++) {
        if (keep >> capability & 1) continue;
        if (prctl(PR_CAPBSET_READ, capability, 0, 0, 0) == 1 && prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) return -errno;
    }
    return 0;
}

static uint64_t permitted_capabilities(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    if (syscall(SYS_capget, &header, data) != 0) return 0;
    return data[0].permitted | (uint64_t)data[1].permitted << 32;
}

int clinux_reduce_capabilities(uint64_t keep, uint64_t *missing) {
    *missing = keep & ~permitted_capabilities();
    if (*missing) return -EPERM;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) return -errno;
    int result = drop_bounding_set(keep);
    return result != 0 ? result : set_capabilities(keep);
}

int64_t clinux_raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return -errno;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) return -errno;
    return (int64_t)limit.rlim_max;
}

int64_t clinux_raise_locked_memory_limit(uint64_t bytes) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return -errno;
    if (limit.rlim_max < bytes) {
        const struct rlimit wanted = {bytes, bytes};
        if (setrlimit(RLIMIT_MEMLOCK, &wanted) == 0) return (int64_t)bytes;
    }
    // Without CAP_SYS_RESOURCE the hard limit is what there is.
    limit.rlim_cur = limit.rlim_max < bytes ? limit.rlim_max : bytes;
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0) return -errno;
    return (int64_t)limit.rlim_cur;
}

// In the child, between fork and exec: only async-signal-safe calls.
struct failure { int stage, error; };

static int move_descriptors(const struct clinux_spawn *child, int *report) {
    const int first = 3, count = (int)child->descriptor_count;
    int sources[64];
    if (count > (int)(sizeof sources / sizeof *sources)) return -E2BIG;
    // All away from the target range first: a source may have the number of another's target.
    int lifted = fcntl(*report, F_DUPFD_CLOEXEC, first + count);
    if (lifted < 0) return -errno;
    *report = lifted;
    for (int i = 0; i < count; i++) {
        sources[i] = fcntl(child->descriptors[i], F_DUPFD_CLOEXEC, first + count);
        if (sources[i] < 0) return -errno;
    }
    for (int i = 0; i < count; i++)
        if (dup2(sources[i], first + i) < 0) return -errno;
    int empty = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (empty >= 0) dup2(empty, 0);
    return close_range((unsigned)(first + count), ~0u, 1u << 2 /* CLOSE_RANGE_CLOEXEC: the report pipe lives until exec */) == 0 ? 0 : -errno;
}

static int give_up_privileges(const struct clinux_spawn *child, pid_t parent) {
    if (child->user != 0) {
        int result = drop_bounding_set(0);
        if (result != 0) return result;
        if (setgroups(0, NULL) != 0 || setresgid(child->user, child->user, child->user) != 0 ||
            setresuid(child->user, child->user, child->user) != 0) return -errno;
        if ((result = set_capabilities(0)) != 0) return result;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -errno;
    // After setuid, which clears it; and the parent may have died before it was set.
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) return -errno;
    return getppid() == parent ? 0 : -ESRCH;
}

static struct failure prepare(const struct clinux_spawn *child, pid_t parent, int *report) {
    struct failure none = {0};
    sigset_t empty;
    sigemptyset(&empty);
    sigprocmask(SIG_SETMASK, &empty, NULL);
    for (int number = 1; number < 32; number++) signal(number, SIG_DFL);
    // An own process group: Ctrl-C in a terminal reaches node alone, which then stops its children in order.
    setpgid(0, 0);
    if (child->cgroup_procs >= 0 && write(child->cgroup_procs, "0", 1) != 1) return (struct failure){CLINUX_SPAWN_CGROUP, errno};
    int result = move_descriptors(child, report);
    if (result != 0) return (struct failure){CLINUX_SPAWN_DESCRIPTORS, -result};
    const struct rlimit no_core = {0, 0};
    if (setrlimit(RLIMIT_CORE, &no_core) != 0 || clinux_raise_descriptor_limit() < 0) return (struct failure){CLINUX_SPAWN_LIMITS, errno};
    result = give_up_privileges(child, parent);
    if (result != 0) return (struct failure){CLINUX_SPAWN_PRIVILEGES, -result};
    return none;
}

pid_t clinux_spawn_child(const struct clinux_spawn *child, int *stage) {
    int report[2];
    *stage = CLINUX_SPAWN_FORK;
    if (pipe2(report, O_CLOEXEC) != 0) return -errno;
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0) {
        int error = errno;
        close(report[0]);
        close(report[1]);
        return -error;
    }
    if (pid == 0) {
        struct failure failure = prepare(child, parent, &report[1]);
        if (failure.stage == 0) {
            execve(child->path, child->arguments, child->environment);
            failure = (struct failure){CLINUX_SPAWN_EXEC, errno};
        }
        ssize_t written = write(report[1], &failure, sizeof failure);
        _exit(written == sizeof failure ? 127 : 126);
    }
    close(report[1]);
    struct failure failure = {0};
    ssize_t got;
    do got = read(report[0], &failure, sizeof failure);
    while (got < 0 && errno == EINTR);
    close(report[0]);
    if (got != sizeof failure) return pid;     // closed by exec
    *stage = failure.stage;
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
    return -failure.error;
}

int clinux_signal_descriptor(const int *signals, size_t count) {
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < count; i++) sigaddset(&set, signals[i]);
    int result = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (result != 0) return -result;
    int descriptor = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return descriptor < 0 ? -errno : descriptor;
}

int clinux_next_signal(int descriptor) {
    struct signalfd_siginfo info;
    ssize_t got;
    do got = read(descriptor, &info, sizeof info);
    while (got < 0 && errno == EINTR);
    if (got < 0) return errno == EAGAIN ? 0 : -errno;
    return got == sizeof info ? (int)info.ssi_signo : 0;
}

pid_t clinux_reap(int *status) {
    pid_t pid;
    do pid = waitpid(-1, status, WNOHANG);
    while (pid < 0 && errno == EINTR);
    return pid >= 0 ? pid : errno == ECHILD ? 0 : -errno;
}
