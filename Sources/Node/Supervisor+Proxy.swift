import CLinux
import ControlChannel
import Glibc

/// The proxy: started, told everything, watched by its heartbeat, started again.
extension Supervisor {
    func startProxy(now: UInt64) {
        proxy.incarnation += 1
        let incarnation = proxy.incarnation
        let stockDescriptors = (0..<configuration.workers).map { "\(4 + $0)" }.joined(separator: ",")
        let program = ChildProgram(
            path: configuration.proxyPath, arguments: ["--control-fd", "3", "--stock-fds", stockDescriptors],
            user: uid_t(CLINUX_PROXY_USER), room: .proxy)
        do throws(StartFault) {
            let child = try start(program, incarnation: incarnation, stockChannels: configuration.workers, cgroups: cgroups)
            proxy.state = .running(child)
            poller.watch(child.channel.descriptor, for: .proxy(incarnation: incarnation))
            for (worker, channel) in child.stock.enumerated() {
                poller.watch(channel.descriptor, for: .stock(incarnation: incarnation, worker: worker))
            }
            Log.info("proxy started", ("pid", "\(child.pid)"), ("incarnation", "\(incarnation)"))
            appliedGeneration = nil
            tellProxyEverything(child)
            changeProxyState(.starting)
        } catch {
            Log.error(error.message)
            proxy.state = .waiting(until: now + proxy.backoff.pause(started: now, ended: now))
            changeProxyState(.down)
        }
    }

    /// What a new proxy must know, in an order in which every step makes sense: itself, identities, the snapshot, and then pods with their listeners.
    /// With listeners first it would judge the queued connections by tables it does not have yet (503 for every service, seen under load).
    private func tellProxyEverything(_ child: RunningChild) {
        child.channel.send(ProxyHello(
            incarnation: child.incarnation, workers: UInt32(configuration.workers), nodeName: configuration.nodeName,
            descriptorLimit: descriptorLimit, heartbeat: capture.heartbeat, counters: counters))
        // Identities before the tables that speak of meshed workloads: a proxy that knows the one and not the other would refuse.
        identities.tellProxy { child.channel.send($0) }
        for shard in shards.all() { child.channel.send(shard) }
        if let generation = shards.generation { child.channel.send(SnapshotComplete(generation: generation)) }
        for enrolment in pods.values.compactMap(\.enrolment).sorted(by: { $0.number < $1.number }) { tellProxy(of: enrolment) }
        arm(child.channel, .proxy(incarnation: child.incarnation))
    }

    /// Sends to the running proxy; without one nothing is lost, the next is told everything.
    func sendToProxy(_ payload: some ControlPayload) {
        guard let child = proxy.running else { return }
        child.channel.send(payload)
        arm(child.channel, .proxy(incarnation: child.incarnation))
    }

    func tellProxy(of enrolment: Enrolment) {
        tellProxyOfSettings(enrolment)
        func listener(_ descriptor: Int32, _ role: ListenerAdded.Role, _ family: SocketFamily) {
            guard descriptor >= 0 else { return }
            sendToProxy(ListenerAdded(
                pod: enrolment.number, role: role, destinationFrom: role == .outbound ? .captured : .socketName, family: family,
                listener: descriptor))
        }
        listener(enrolment.listeners.outbound4, .outbound, .ipv4)
        listener(enrolment.listeners.outbound6, .outbound, .ipv6)
        listener(enrolment.listeners.inbound4, .inbound, .ipv4)
        listener(enrolment.listeners.inbound6, .inbound, .ipv6)
    }

    func tellProxyOfSettings(_ enrolment: Enrolment) {
        sendToProxy(PodAdded(
            pod: enrolment.number, namespaceCookie: enrolment.before.namespaceCookie, addresses: enrolment.applied.addresses,
            flags: enrolment.applied.flags))
    }

    func takeFromProxy(_ message: ControlMessage) throws(ControlFault) {
        switch message.kind {
        case .proxyReady:
            _ = try ProxyReady(message)
            Log.info("proxy ready", ("incarnation", "\(proxy.incarnation)"))
            changeProxyState(.ready)
        case .snapshotApplied:
            let applied = try SnapshotApplied(message)
            appliedGeneration = applied.generation
            sendToAgent(applied)
        case .snapshotRefused:
            let refused = try SnapshotRefused(message)
            Log.error("the proxy refused a snapshot", ("generation", "\(refused.generation)"), ("reason", refused.reason))
            sendToAgent(refused)
        default:
            if try !takeIdentityFromProxy(message) { try refuseKind(message) }
        }
    }

    /// A kind this neighbour has no business to send.
    func refuseKind(_ message: ControlMessage) throws(ControlFault) {
        var message = message
        message.closeDescriptors()
        throw .wrongKind(message.rawKind)
    }

    func proxyEnded(_ child: RunningChild, now: UInt64) {
        if stopping != nil { proxy.state = .stopped; return }
        proxy.state = .waiting(until: now + proxy.backoff.pause(started: child.started, ended: now))
        appliedGeneration = nil
        changeProxyState(.down)
        startProxyIfDue(now: now)
    }

    /// At once when it is due: clients wait in the listeners' queues meanwhile.
    private func startProxyIfDue(now: UInt64) {
        if case .waiting(let until) = proxy.state, now >= until { startProxy(now: now) }
    }

    /// Judges the heartbeat. While nobody is alive the hooks have switched to `failure`; connections that were queued before that must not wait for
    /// a proxy that may never come: they are reset, and their clients try again.
    func watchProxy(now: UInt64) {
        let child = proxy.running
        let pulse = ProxyPulse.judge(stamps: heartbeat.stamps(), started: child?.started ?? now, now: now)
        switch pulse {
        case .alive:
            if proxyState == .stale { changeProxyState(.ready) }
        case .stale, .hung:
            if proxyState == .ready { changeProxyState(.stale) }
            // When this look comes late itself, the whole machine stood still: the proxy gets the chance to stamp first.
            let isPunctual = now < nextWatch + 4 * Limits.watchMilliseconds
            if pulse == .hung, isPunctual, let child, !child.isKilled {
                Log.error("the proxy hangs; starting a new one", ("pid", "\(child.pid)"), ("limit_ms", "\(Limits.hangMilliseconds)"))
                child.kill()
            }
            // A proxy that has just started has nothing to be ashamed of: the queue is its first work. One that keeps failing is.
            let newest = heartbeat.stamps().max() ?? 0
            if now > newest + Limits.heartbeatAgeMilliseconds, stopping == nil { refuseQueuedConnections() }
        }
    }

    private func refuseQueuedConnections() {
        var refused: Int32 = 0
        for enrolment in pods.values.compactMap(\.enrolment) {
            for listener in enrolment.listeners.all { refused += clinux_refuse_queued(listener, Limits.refusedPerWatchMax) }
        }
        if refused > 0 { Log.warning("connections refused that no proxy took", ("count", "\(refused)")) }
    }

    func changeProxyState(_ state: ProcessState.State) {
        if state != proxyState { Log.info("proxy state", ("state", "\(state)")) }
        proxyState = state
        sendToAgent(currentProcessState)
    }

    var currentProcessState: ProcessState {
        ProcessState(
            process: .proxy, processID: UInt32(proxy.running?.pid ?? 0), incarnation: proxy.incarnation, restarts: proxy.restarts, state: proxyState)
    }
}
