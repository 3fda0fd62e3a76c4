import CLinux
import ControlChannel
import Glibc

/// The privileged process: holds what must survive the two it supervises, and makes for them what they may not make.
///
/// One thread, one loop: signals, the namespace thread's answers, the children's packets, and time. Nothing here waits for a child or a pod.
/// The parts of the loop are in `Supervisor+….swift`, one for each neighbour.
final class Supervisor {
    let configuration: NodeConfiguration
    let capture: any PodCapturing
    let namespaceThread: NamespaceThread
    let namespaceRoot: NamespaceRoot
    let cgroups: CgroupTree
    let stateFile: StateFile
    let poller: Poller
    let heartbeat: HeartbeatMap
    let signals: Int32
    /// The counters memfd, and the same memory for readers.
    let counters: Int32, countersReadOnly: Int32
    let descriptorLimit: UInt32

    var agent = ChildSlot()
    var proxy = ChildSlot()
    /// What the agent was told last of the proxy.
    var proxyState = ProcessState.State.down
    var appliedGeneration: UInt64?
    var shards = ShardStore()
    /// Snapshots that were completed since this process began.
    var snapshotsCompleted: UInt64 = 0
    let identities = IdentityStore()
    /// Set when the running agent has completed its first snapshot.
    var agentHasSpoken = false

    var pods: [String: Pod] = [:]
    /// Which pod has which namespace: two pods never share one.
    var uidOfCookie: [UInt64: String] = [:]
    /// Enrolments of the running proxy, by number.
    var uidOfNumber: [UInt32: String] = [:]
    /// What a previous node left and nobody has asked for yet, by namespace cookie.
    var adopted: [UInt64: Adopted] = [:]
    /// Namespaces that are changed right now, beside those of enrolled pods.
    var changing: [UInt64: StateFile.Entry] = [:]
    var lastPodNumber: UInt32 = 0

    var nextWatch: UInt64 = 0, nextPodCheck: UInt64 = 0
    var stopping: Stopping?

    struct Adopted {
        let entry: StateFile.Entry
        let namespace: NamespaceFile
    }

    init(
        configuration: NodeConfiguration, capture: any PodCapturing, namespaceThread: NamespaceThread, cgroups: CgroupTree, signals: Int32,
        counters: Int32, descriptorLimit: UInt32
    ) throws(StartFault) {
        Limits.check()
        self.configuration = configuration
        self.capture = capture
        self.namespaceThread = namespaceThread
        self.cgroups = cgroups
        self.signals = signals
        self.counters = counters
        self.descriptorLimit = descriptorLimit
        countersReadOnly = clinux_read_only(counters)
        guard countersReadOnly >= 0 else { throw .failed("cannot open the counters for reading: \(errorText(-countersReadOnly))") }
        guard let host = NamespaceIdentity(path: "/proc/self/ns/net") else { throw .failed("cannot read /proc/self/ns/net: is /proc mounted?") }
        namespaceRoot = NamespaceRoot(root: configuration.namespacesRoot, host: host)
        stateFile = StateFile(path: configuration.stateDirectory + "/node/pods.state")
        poller = try Poller()
        heartbeat = try HeartbeatMap(descriptor: capture.heartbeat, workers: configuration.workers)
        poller.watch(signals, for: .signals)
        poller.watch(namespaceThread.descriptor, for: .namespaceThread)
    }

    /// Runs until SIGTERM or SIGINT and everything is undone.
    func run() {
        adopt()
        while !isStopped {
            let now = monotonicMilliseconds()
            startDueChildren(now: now)
            if now >= nextWatch {
                watchProxy(now: now)
                endSilentChildren(now: now)
                nextWatch = now + Limits.watchMilliseconds
            }
            if now >= nextPodCheck {
                checkPods(now: now)
                nextPodCheck = now + Limits.podCheckMilliseconds
            }
            goOnStopping(now: now)
            for event in poller.wait(milliseconds: millisecondsToWait(now: monotonicMilliseconds())) { handle(event) }
        }
    }

    private func millisecondsToWait(now: UInt64) -> UInt64 {
        var next = min(nextWatch, nextPodCheck)
        for slot in [agent, proxy] {
            if case .waiting(let until) = slot.state { next = min(next, until) }
        }
        return next > now ? next - now : 0
    }

    private func handle(_ event: Poller.Event) {
        switch event.source {
        case .signals: takeSignals()
        case .namespaceThread: namespaceThread.deliver()
        case .agent(let incarnation):
            guard let child = agent.running, child.incarnation == incarnation else { return }
            serve(child.channel, of: child, event) { message throws(ControlFault) in try self.take(message, from: child) }
        case .proxy(let incarnation):
            guard let child = proxy.running, child.incarnation == incarnation else { return }
            serve(child.channel, of: child, event) { message throws(ControlFault) in try self.takeFromProxy(message) }
        case .stock(let incarnation, let worker):
            guard let child = proxy.running, child.incarnation == incarnation, child.stock.indices.contains(worker) else { return }
            serve(child.stock[worker], of: child, event) { message throws(ControlFault) in
                try self.takeFromWorker(message, child: child, worker: worker)
            }
        }
    }

    /// Reads what a child sent, a bounded number of packets so that others get their turn, and sends what waited.
    /// A child that sends what is no message breaks a promise of our own programs: it is ended, and started afresh.
    private func serve(_ channel: ChildChannel, of child: RunningChild, _ event: Poller.Event, take: (ControlMessage) throws(ControlFault) -> Void) {
        if event.isWritable { channel.flush() }
        if event.isReadable {
            do throws(ControlFault) {
                for _ in 0..<64 {
                    guard let message = try channel.receive() else { break }
                    try take(message)
                }
            } catch .closed {
                // It ends, and SIGCHLD will say so. One that lives on without a channel is of no use: see `endSilentChildren`.
                poller.forget(channel.descriptor)
                if child.silentSince == nil { child.silentSince = monotonicMilliseconds() }
                return
            } catch {
                Log.error("a child sent what is not a message", ("pid", "\(child.pid)"), ("fault", "\(error)"))
                child.kill()
            }
        }
        arm(channel, event.source)
    }

    /// Asks for writability exactly while something waits; ends a child that lets too much wait.
    func arm(_ channel: ChildChannel, _ source: EventSource) {
        poller.setWritableInterest(channel.hasWaiting, channel.descriptor, for: source)
        guard channel.isOverrun else { return }
        switch source {
        case .agent: agent.running?.kill()
        case .proxy, .stock: proxy.running?.kill()
        case .signals, .namespaceThread: break
        }
    }

    private func endSilentChildren(now: UInt64) {
        for child in [agent.running, proxy.running] {
            if let child, let since = child.silentSince, now >= since + Limits.silentMilliseconds { child.kill() }
        }
    }

    private func takeSignals() {
        while true {
            let signal = clinux_next_signal(signals)
            guard signal > 0 else { return }
            switch signal {
            case SIGCHLD: reap()
            case SIGTERM, SIGINT: beginStopping(now: monotonicMilliseconds(), signal: signal)
            default: break
            }
        }
    }

    private func reap() {
        while true {
            var status: Int32 = 0
            let pid = clinux_reap(&status)
            guard pid > 0 else { return }
            let how = (clinux_exited(status) ? "code" : "signal", "\(clinux_exit_detail(status))")
            let level = stopping == nil ? Log.Level.warning : .info
            let now = monotonicMilliseconds()
            if let child = agent.running, child.pid == pid {
                Log.write(level, "agent ended", [("pid", "\(pid)"), how])
                agentEnded(child, now: now)
            } else if let child = proxy.running, child.pid == pid {
                Log.write(level, "proxy ended", [("pid", "\(pid)"), how])
                proxyEnded(child, now: now)
            }
        }
    }

    private func startDueChildren(now: UInt64) {
        // The proxy first: what it needs is here already when it is a restart.
        if case .waiting(let until) = proxy.state, now >= until { startProxy(now: now) }
        if case .waiting(let until) = agent.state, now >= until { startAgent(now: now) }
    }
}
