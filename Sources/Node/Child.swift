import CLinux
import Glibc

/// A process that is to be started, all of it.
struct ChildProgram {
    let path: String
    let arguments: [String]
    let user: uid_t
    let room: CgroupTree.Room
}

/// A running child.
final class RunningChild {
    let pid: pid_t
    let incarnation: UInt32
    /// Milliseconds of the monotonic clock.
    let started: UInt64
    let channel: ChildChannel
    /// One stock channel per worker; the agent has none.
    let stock: [ChildChannel]
    /// When it closed a channel of its own accord, in milliseconds of the monotonic clock.
    var silentSince: UInt64?
    /// SIGKILL was sent: once is enough.
    var isKilled = false

    init(pid: pid_t, incarnation: UInt32, started: UInt64, channel: ChildChannel, stock: [ChildChannel]) {
        self.pid = pid; self.incarnation = incarnation; self.started = started; self.channel = channel; self.stock = stock
    }

    func kill() {
        guard !isKilled else { return }
        isKilled = true
        // Ours until reaped, and reaping is this thread's: the number cannot belong to anybody else yet.
        Glibc.kill(pid, SIGKILL)
    }
}

/// waiting ──start──▶ running ──ended──▶ waiting        any ──stop──▶ stopped
struct ChildSlot {
    enum State {
        /// To be started at this time (milliseconds of the monotonic clock).
        case waiting(until: UInt64)
        case running(RunningChild)
        /// Never to be started again.
        case stopped
    }
    var state = State.waiting(until: 0)
    var backoff = Backoff()
    var incarnation: UInt32 = 0

    var running: RunningChild? {
        if case .running(let child) = state { return child }
        return nil
    }
    /// Starts after the first.
    var restarts: UInt32 { incarnation == 0 ? 0 : incarnation - 1 }
}

/// Starts a program with fresh channels as its descriptors 3, 4, 5 …
func start(_ program: ChildProgram, incarnation: UInt32, stockChannels: Int, cgroups: CgroupTree) throws(StartFault) -> RunningChild {
    var mine: [ChildChannel] = [], theirs: [Int32] = []
    defer { for descriptor in theirs { clinux_close(descriptor) } }
    for _ in 0...stockChannels {
        var ends: (Int32, Int32) = (-1, -1)
        let result = clinux_seqpacket_pair(&ends.0, &ends.1, true)
        guard result == 0 else { throw .failed("cannot make a socket pair: \(errorText(-result))") }
        mine.append(ChildChannel(adopting: ends.0))
        theirs.append(ends.1)
    }
    let entrance = cgroups.entrance(program.room)
    guard entrance >= 0 else { throw .failed("cannot open the cgroup \(cgroups.path(program.room)): \(errorText(errno))") }
    defer { clinux_close(entrance) }
    var stage: Int32 = 0
    let pid = withCStrings([program.path] + program.arguments) { arguments in
        withCStrings(childEnvironment()) { environment in
            program.path.withCString { path in
                theirs.withUnsafeBufferPointer { descriptors in
                    var child = clinux_spawn(
                        path: path, arguments: arguments, environment: environment, descriptors: descriptors.baseAddress,
                        descriptor_count: descriptors.count, cgroup_procs: entrance, user: program.user)
                    return clinux_spawn_child(&child, &stage)
                }
            }
        }
    }
    guard pid > 0 else {
        throw .failed("cannot start \(program.path) (\(spawnStageName(stage))): \(errorText(-pid))")
    }
    return RunningChild(pid: pid, incarnation: incarnation, started: monotonicMilliseconds(), channel: mine[0], stock: Array(mine.dropFirst()))
}

/// Children know what their arguments say; of the environment they get what libc reads.
private func childEnvironment() -> [String] {
    let names: [String] = ["PATH", "LANG", "TZ"]
    return names.compactMap { name in getenv(name).map { "\(name)=\(String(cString: $0))" } }
}

private func spawnStageName(_ stage: Int32) -> String {
    switch Int(stage) {
    case Int(CLINUX_SPAWN_FORK.rawValue): "fork"
    case Int(CLINUX_SPAWN_CGROUP.rawValue): "entering its cgroup"
    case Int(CLINUX_SPAWN_DESCRIPTORS.rawValue): "handing over descriptors"
    case Int(CLINUX_SPAWN_LIMITS.rawValue): "setting limits"
    case Int(CLINUX_SPAWN_PRIVILEGES.rawValue): "giving up privileges"
    default: "exec"
    }
}

/// A null-terminated array of C strings that lives as long as the call.
func withCStrings<Result>(_ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Result) -> Result {
    var pointers: [UnsafeMutablePointer<CChar>?] = strings.map { strdup($0) } + [nil]
    defer { for pointer in pointers { free(pointer) } }
    return pointers.withUnsafeMutableBufferPointer { body(UnsafePointer($0.baseAddress!)) }
}
