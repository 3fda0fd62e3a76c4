import CLinux
import ControlChannel
import EventLoop
import Glibc
import MeshModel
import MutualTLS
import Routing
import Telemetry

/// Why the proxy cannot start or go on.
public enum ProxyFault: Error {
    case control(ControlFault)
    /// The node closed the control socket: it has ended, and so do we.
    case nodeGone
    case counters(CountersFault)
    case heartbeat
    case thread(errno: Int32)
    case confinement(errno: Int32)
    /// The kernel gives no memory for keys.
    case keys(CredentialsFault)
}

/// The control thread of `weft-proxy`: listens to the node, builds tables, tells the workers. It never touches traffic, and no worker waits for it.
public struct ProxyProcess: ~Copyable {
    private var control: ControlSocket
    private let stockDescriptors: [Int32]
    private let limits: ProxyLimits

    private var shared: WorkerShared
    private var builder: TablesBuilder
    private let publisher: TablesPublisher
    private let states: EndpointStates
    private var judge: EndpointJudge
    private var healthChecks = HealthChecks()
    private var directory: PodDirectory
    private var identities: OwnIdentities
    private var podAddresses: [UInt32: [IPAddress]] = [:]
    private var slots: [UInt32: PodSlot] = [:]
    /// Shards of the coming generation were bad: it will be refused as a whole.
    private var fault: String?
    /// A generation that not every worker has entered yet.
    private var unconfirmed: UInt64?
    private var hasClaimedPods = false
    private var nextAccessNotes: Nanoseconds = 0
    /// The workers end one by one; with the last of them, so do we.
    private var isDraining = false
    private var threads: [pthread_t] = []
    /// Pods whose counters go when the workers have surely let go of them.
    private var retiredPods: [(pod: UInt32, after: Nanoseconds)] = []

    /// Waits for the node's hello and maps what comes with it.
    public init(control descriptor: Int32, stock stockDescriptors: [Int32], limits: ProxyLimits) throws(ProxyFault) {
        Limits.check()
        control = ControlSocket(adopting: descriptor)
        self.stockDescriptors = stockDescriptors
        self.limits = limits
        do throws(CredentialsFault) {
            // Without memfd_secret(2) a process that may trace us reads our keys.
            if try TLSLibrary.begin() == .locked { say("warning", "this kernel has no secret memory", "keys=\"locked, left out of core files\"") }
        } catch {
            throw .keys(error)
        }
        let hello: ProxyHello
        do throws(ControlFault) {
            guard let message = try Self.next(&control) else { throw ControlFault.closed }
            hello = try ProxyHello(message)
        } catch {
            throw .control(error)
        }
        let region: CountersRegion
        do throws(CountersFault) { region = try CountersRegion.map(hello.counters, writable: true) } catch { throw .counters(error) }
        region.beginIncarnation(hello.incarnation, workers: stockDescriptors.count)
        let states = EndpointStates()
        publisher = TablesPublisher(workers: stockDescriptors.count, states: states)
        builder = TablesBuilder(states: states)
        directory = PodDirectory(region)
        self.states = states
        judge = EndpointJudge(intervalMilliseconds: UInt64(limits.judgeMilliseconds), now: monotonicNow() / 1_000_000)
        shared = WorkerShared(
            publisher: publisher, states: states, counters: region, heartbeatArray: hello.heartbeat, workers: stockDescriptors.count,
            descriptorLimit: Int(hello.descriptorLimit))
        identities = OwnIdentities()
        close(hello.counters)
    }

    /// Waits for a packet on the control socket, whatever mode it is in.
    private static func next(_ control: inout ControlSocket) throws(ControlFault) -> ControlMessage? {
        while true {
            if let message = try control.receive() { return message }
            var waiting = pollfd(fd: control.descriptor, events: Int16(POLLIN), revents: 0)
            poll(&waiting, 1, -1)
        }
    }

    // MARK: Life

    /// Starts the workers, confines the process and tells the node that traffic may come.
    public mutating func start() throws(ProxyFault) {
        for number in stockDescriptors.indices {
            clinux_make_non_blocking(stockDescriptors[number])
            let birth = WorkerBirth(
                number: number, limits: limits, shared: shared, stockDescriptor: stockDescriptors[number], seed: clinux_random_word())
            var thread = pthread_t()
            let result = pthread_create(&thread, nil, runWorker, Unmanaged.passRetained(birth).toOpaque())
            guard result == 0 else { throw .thread(errno: result) }
            threads.append(thread)
        }
        let confined = clinux_confine_proxy()
        guard confined == 0 else { throw .confinement(errno: -confined) }
        do throws(ControlFault) { try control.send(ProxyReady()) } catch { throw .control(error) }
    }

    /// Serves the control socket until the node ends, or until the workers have drained.
    public mutating func run() throws(ProxyFault) {
        while true {
            let isCalled = waitForWork()
            if isCalled { try receiveAll() }
            confirm()
            judgeEndpoints()
            checkHealth()
            identities.expire(now: unixSeconds())
            tellIdentities()
            publisher.reclaim()
            tellAccessNotes()
            if shared.finishedWorkers == threads.count { return }
        }
    }

    /// Waits for a message, for the judge's bell, or until there is something to do anyway. True when there is a message.
    private mutating func waitForWork() -> Bool {
        let now = monotonicNow() / 1_000_000
        // While a generation is on its way to the workers, or old ones wait to be freed, look again soon.
        let milliseconds: UInt64 = unconfirmed != nil ? 1 : isDraining ? 10 : publisher.retiredCount > 0 ? 100 : 1_000
        let look = min(judge.nextLook(now: now, isWarming: !states.warming.isEmpty), healthChecks.nextLook(now: now))
        let rest = Int32(truncatingIfNeeded: min(milliseconds, look > now ? look - now : 0))
        var waiting = ([control.descriptor, shared.judgeBell] + healthChecks.descriptors).map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        poll(&waiting, nfds_t(waiting.count), rest)
        if waiting[1].revents != 0 {
            var count: UInt64 = 0
            _ = read(shared.judgeBell, &count, 8)
        }
        return waiting[0].revents != 0
    }

    /// Asks endpoints how they are, where somebody wants to know.
    private mutating func checkHealth() {
        let now = monotonicNow() / 1_000_000
        let view = publisher.currentView
        let mailboxes = shared.mailboxes, pods = podAddresses
        let findings = healthChecks.look(view, now: now) { pods[$0] != nil } carry: { probe in
            mailboxes[Int(truncatingIfNeeded: probe.descriptor) % mailboxes.count].post(.probe(probe))
        }
        for finding in findings {
            let rulings = judge.checked(finding.slot, bucket: finding.bucket, isWell: finding.isWell, view, states, now: now)
            tell(rulings)
        }
    }

    /// Who has failed too often gets no requests for a while; whose time is over gets some again.
    private mutating func judgeEndpoints() {
        let rulings = judge.look(publisher.currentView, states, now: monotonicNow() / 1_000_000)
        tell(rulings)
        shared.counters.control.set(.endpointsEjected, to: UInt64(judge.ejectedCount))
        shared.counters.control.set(.endpointsUnwell, to: UInt64(judge.unwellCount))
    }

    /// Every ruling is counted; of those of one moment, a bounded number is told.
    private func tell(_ rulings: [EndpointJudge.Ruling]) {
        for (number, ruling) in rulings.enumerated() {
            if case .ejected(let reason, _) = ruling.kind {
                shared.counters.control.add(reason == .consecutiveFailures ? .ejectionsFailures : reason == .successRate ? .ejectionsSuccessRate : .ejectionsLatency)
            }
            guard number < Self.rulingsToldMax else { continue }
            let whom = "service=\(ruling.host) port=\(ruling.port) endpoint=\(ruling.endpoint) endpoint_port=\(ruling.endpointPort)"
            switch ruling.kind {
            case .ejected(let reason, let milliseconds): say("warning", "endpoint ejected", "reason=\(reason.name) for_ms=\(milliseconds) \(whom)")
            case .returned: say("info", "endpoint returns", whom)
            case .unwell: say("warning", "endpoint unwell", whom)
            case .well: say("info", "endpoint well again", whom)
            }
        }
        if rulings.count > Self.rulingsToldMax { say("warning", "more endpoints were judged", "times=\(rulings.count - Self.rulingsToldMax)") }
    }

    /// Lines that one look of the judge writes at most.
    private static let rulingsToldMax = 32

    private mutating func receiveAll() throws(ProxyFault) {
        do throws(ControlFault) {
            while let message = try receiveWithoutWaiting() { try handle(message) }
        } catch {
            if control.isClosed { throw .nodeGone }
            say("error", "control message refused", "fault=\(error)")
        }
    }

    private mutating func receiveWithoutWaiting() throws(ControlFault) -> ControlMessage? {
        var waiting = pollfd(fd: control.descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&waiting, 1, 0) > 0 else { return nil }
        return try control.receive()
    }

    // MARK: Messages

    private mutating func handle(_ message: ControlMessage) throws(ControlFault) {
        switch message.kind {
        case .podAdded: addPod(try PodAdded(message))
        case .podRemoved: removePod(try PodRemoved(message).pod)
        case .listenerAdded: addListener(try ListenerAdded(message))
        case .shardPublished: stage(try ShardPublished(message))
        case .snapshotComplete: try publish(try SnapshotComplete(message).generation)
        case .identityWanted, .identityIssued, .identityFiles, .identityWithdrawn, .trustBundle, .revocations: try handleIdentity(message)
        case .drain: drain(try Drain(message).deadlineMilliseconds)
        default:
            var unasked = message
            unasked.closeDescriptors()
        }
    }

    private mutating func addPod(_ added: PodAdded) {
        let addresses = added.addresses.compactMap { IPAddress(bytes: $0.bytes) }
        podAddresses[added.pod] = addresses
        let slot = slots[added.pod] ?? directory.add(pod: added.pod)
        slots[added.pod] = slot
        tellAll { _ in .podAdded(number: added.pod, slot: slot, addresses: addresses) }
        labelPods()
    }

    private mutating func removePod(_ pod: UInt32) {
        tellAll { _ in .podRemoved(number: pod) }
        podAddresses[pod] = nil
        // Its counters stay in the directory until the workers have let go; the node never reuses a number, so nothing else needs the slot now.
        slots[pod] = nil
        retiredPods.append((pod, monotonicNow() + 2_000_000_000))
    }
    private func addListener(_ added: ListenerAdded) {
        tellAll { worker in
            let own = worker == shared.mailboxes.count - 1 ? added.listener : clinux_duplicate(added.listener)
            return .listener(
                descriptor: own, podNumber: added.pod, isInbound: added.role == .inbound, readsSocketName: added.destinationFrom == .socketName,
                isIPv6: added.family == .ipv6)
        }
    }

    private mutating func stage(_ published: ShardPublished) {
        guard let family = ShardFamily(rawValue: published.family), Int(published.index) < Limits.bucketsPerFamily else {
            if let shard = published.shard { close(shard) }
            fault = fault ?? "shard family \(published.family) index \(published.index) is unknown"
            return
        }
        let id = ShardID(family: family, index: published.index)
        guard let descriptor = published.shard else { return builder.stage(id, nil) }
        do throws(SnapshotFault) {
            builder.stage(id, try ShardMemory(adopting: descriptor, expected: id))
        } catch {
            builder.refuse(id)
            fault = fault ?? "shard \(family) \(published.index): \(error)"
        }
    }

    /// Everything since the previous generation takes effect at once, or nothing does.
    private mutating func publish(_ generation: UInt64) throws(ControlFault) {
        defer { fault = nil }
        if let fault { return try refuse(generation, fault) }
        let tables: Tables
        do throws(RoutingFault) {
            tables = try builder.commit(generation: generation, at: UInt32(truncatingIfNeeded: monotonicNow() / 1_000_000))
        } catch {
            return try refuse(generation, "\(error)")
        }
        publisher.publish(tables)
        unconfirmed = generation
        tellAll { _ in .tablesPublished }
        labelPods()
        if !hasClaimedPods {
            hasClaimedPods = true
            directory.removeUnclaimed()
        }
    }

    private mutating func refuse(_ generation: UInt64, _ reason: String) throws(ControlFault) {
        say("error", "snapshot refused", "generation=\(generation) reason=\"\(reason)\"")
        shared.counters.control.add(.snapshotsRefused)
        try control.send(SnapshotRefused(generation: generation, reason: reason))
    }

    /// Tells the node when the last worker has entered the new tables.
    private mutating func confirm() {
        let now = monotonicNow()
        while let first = retiredPods.first, first.after < now {
            directory.remove(pod: first.pod)
            retiredPods.removeFirst()
        }
        guard let generation = unconfirmed, publisher.isAppliedEverywhere else { return }
        unconfirmed = nil
        do throws(ControlFault) { try control.send(SnapshotApplied(generation: generation)) } catch { say("error", "cannot report", "fault=\(error)") }
    }

    private mutating func handleIdentity(_ message: ControlMessage) throws(ControlFault) {
        switch message.kind {
        case .identityWanted:
            guard let requested = identities.want(try IdentityWanted(message)) else { break }
            defer { requested.closeDescriptors() }
            shared.counters.control.add(.identityKeysMade)
            try control.send(requested)
        case .identityIssued: identities.issue(try IdentityIssued(message))
        case .identityFiles: identities.read(try IdentityFiles(message))
        case .identityWithdrawn: identities.withdraw(try IdentityWithdrawn(message).identity)
        case .trustBundle: identities.trust(try TrustBundle(message))
        default: identities.revoke(try Revocations(message))
        }
        tellIdentities()
    }

    /// Hands on what has changed about our own identities: to the workers at once, to the node what became of it.
    private mutating func tellIdentities() {
        for letter in identities.takeLetters() {
            tellAll { _ in
                switch letter {
                case .identity(let identity):
                    identity.credentials?.retain()
                    return .identity(identity)
                case .revocations(let list):
                    list.retain()
                    return .revocations(list)
                case .rootsChanged: return .rootsChanged
                }
            }
        }
        for report in identities.takeReports() {
            switch report.state {
            case .active: shared.counters.control.add(.identityActive)
            case .refused: shared.counters.control.add(.identityRefused)
            case .expired: shared.counters.control.add(.identityExpired)
            }
            if report.state != .active {
                say("warning", "certificate not used", "identity=\(report.identity) number=\(report.number) state=\(report.state) reason=\"\(report.reason)\"")
            }
            do throws(ControlFault) { try control.send(report) } catch { say("error", "cannot report", "fault=\(error)") }
        }
    }

    /// What policy refused since the last look, at most once a second and a bounded number of lines.
    private mutating func tellAccessNotes() {
        let now = monotonicNow()
        guard now >= nextAccessNotes else { return }
        nextAccessNotes = now + 1_000_000_000
        for notes in shared.accessNotes {
            let (lines, others) = notes.collect()
            for (line, count) in lines { say("warning", line.message, line.details + (count > 1 ? " times=\(count)" : "")) }
            if others > 0 { say("warning", "more was refused", "times=\(others)") }
        }
    }

    private mutating func drain(_ milliseconds: UInt32) {
        isDraining = true
        say("info", "draining", "deadline_ms=\(milliseconds)")
        let until = monotonicNow() + UInt64(milliseconds) * 1_000_000
        tellAll { _ in .drain(until: until) }
    }

    private func tellAll(_ message: (Int) -> WorkerMessage) {
        for (worker, mailbox) in shared.mailboxes.enumerated() { mailbox.post(message(worker)) }
    }

    /// Names the pods in the metrics by what the snapshot says about their addresses.
    private func labelPods() {
        let view = publisher.currentView
        for (pod, addresses) in podAddresses {
            guard let workload = addresses.lazy.compactMap({ view.workload(at: $0) }).first else { continue }
            directory.label(pod: pod, namespace: workload.namespace, workload: workload.workloadName, name: workload.name)
        }
    }
}

/// What a thread needs to become a worker.
private final class WorkerBirth {
    let number: Int
    let limits: ProxyLimits
    let shared: WorkerShared
    let stockDescriptor: Int32
    let seed: UInt64

    init(number: Int, limits: ProxyLimits, shared: WorkerShared, stockDescriptor: Int32, seed: UInt64) {
        self.number = number
        self.limits = limits
        self.shared = shared
        self.stockDescriptor = stockDescriptor
        self.seed = seed
    }
}

private func runWorker(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    let birth = Unmanaged<WorkerBirth>.fromOpaque(argument!).takeRetainedValue()
    var worker = Worker(number: birth.number, limits: birth.limits, shared: birth.shared, stockDescriptor: birth.stockDescriptor, seed: birth.seed)
    worker.run()
    birth.shared.workerFinished()
    return nil
}
