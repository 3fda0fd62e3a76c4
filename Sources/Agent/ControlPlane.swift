import ControlChannel
import Discovery
import Foundation
import Identity
import Logging
import MeshModel
import Telemetry

/// What the agent knows and what it has node do about it. Manifests and node's messages come in, messages to node go out
/// through `send`, which never waits; status and metrics read from here.
actor ControlPlane {
    private let configuration: AgentConfiguration
    private let send: @Sendable ([Outgoing]) -> Void
    private let logger: Logger
    private let stateFile: StateFile

    private var manifests: Manifests
    private(set) var view: ClusterView?
    private var publisher: SnapshotPublisher
    private var ledger = EnrolmentLedger()
    /// Why the newest state could not become a snapshot.
    private var compileFault: String?
    private var changedAt = ContinuousClock.now
    private var publishedAt = ContinuousClock.now

    private var hello: AgentHello?
    private var proxy: ProcessState?
    private(set) var instruments = Instruments()
    private var decisions = DecisionBook()

    /// What node gave the agent to read, and from where.
    struct Instruments: Sendable {
        var counters: CountersSource?
        var verdicts: MappedNumbers?
        var verdictNames: [String] = []
        var heartbeat: HeartbeatStamps?
    }

    init(_ configuration: AgentConfiguration, logger: Logger, send: @escaping @Sendable ([Outgoing]) -> Void) {
        self.configuration = configuration
        self.send = send
        self.logger = logger
        let stateFile = StateFile(path: configuration.stateFile, manifests: configuration.manifests)
        self.stateFile = stateFile
        var manifests = Manifests(nodeName: configuration.nodeName, trustDomain: configuration.identities.trustDomain)
        var generation: UInt64 = 0
        do {
            if let state = try stateFile.load() {
                generation = state.generation
                try manifests.restore(state.objects)
            }
        } catch {
            logger.warning("the state of an earlier agent is not readable and not used", metadata: ["file": "\(stateFile.path)", "error": "\(error)"])
        }
        self.manifests = manifests
        publisher = SnapshotPublisher(after: generation)
    }

    // MARK: What comes in

    /// The manifests as they are now.
    func take(_ reading: DirectoryReading) {
        let next = manifests.take(reading)
        let isChanged = next != view
        let knownFaults = Set(view?.faults ?? [])
        view = next
        for fault in next.faults where !knownFaults.contains(fault) {
            logger.warning("configuration fault", metadata: ["fault": "\(fault)", "consequence": "\(fault.consequence.rawValue)"])
        }
        guard isChanged else { return }
        changedAt = .now
        // Before the first full reading nothing is known, and publishing nothing would take away what node keeps.
        guard manifests.isSynced else {
            logger.warning("nothing is published before the manifests can be read", metadata: ["directory": "\(configuration.manifests)"])
            return
        }
        logger.info(
            "configuration read",
            metadata: [
                "services": "\(next.state.services.count)", "workloads": "\(next.state.workloads.count)", "pods": "\(next.pods.count)",
                "faults": "\(next.faults.count)",
            ])
        // Pods first: with the first complete snapshot node takes the list of pods for complete too.
        send(ledger.want(next.pods))
        publish { publisher throws(SnapshotFault) in try publisher.offer(next.state) }
        saveState()
    }

    /// A message from node.
    func take(_ message: NodeMessage) {
        switch message {
        case .hello(let hello): greet(hello)
        case .pod(let state):
            if state.state == .refused { logger.warning("pod refused", metadata: ["uid": "\(state.uid)", "reason": "\(state.reason)"]) }
            send(ledger.heard(state))
        case .process(let state): proxy = state
        case .accepted(let generation):
            publish { publisher throws(SnapshotFault) in try publisher.nodeAccepted(generation) }
        case .applied(let generation): publisher.proxyApplied(generation)
        case .refused(let generation, let reason):
            logger.error("the proxy refused a snapshot and keeps the one before", metadata: ["generation": "\(generation)", "reason": "\(reason)"])
            publish { publisher throws(SnapshotFault) in try publisher.proxyRefused(generation, reason: reason) }
        case .identityRequested, .identityFound, .identityState: break  // the identity desk's
        case .fault(let fault): logger.error("a control message could not be sent or understood", metadata: ["fault": "\(fault)"])
        }
    }

    /// The identities that this node's captured pods need; nil before the manifests were read.
    var identities: Set<SPIFFEIdentity>? {
        guard manifests.isSynced, let view else { return nil }
        let accounts = Dictionary(
            view.state.workloads.filter { $0.nodeName == configuration.nodeName }.map { ($0.uid, $0.serviceAccount) }, uniquingKeysWith: { first, _ in first })
        return Set(
            view.pods.compactMap { pod in
                guard case .enrol = pod.wish, let account = accounts[pod.uid] else { return nil }
                return SPIFFEIdentity(trustDomain: configuration.identities.trustDomain, namespace: pod.namespace, serviceAccount: account)
            })
    }

    /// What mesh-wide policies revoke; nil before the manifests were read.
    var revocations: RevocationList? { manifests.isSynced ? view?.access.revocations : nil }

    /// Answers what would become of a call.
    func explain(_ inquiry: AccessInquiry) throws(InquiryFault) -> Explanation {
        guard manifests.isSynced, let view else { throw InquiryFault("the agent has not read the manifests yet; try again") }
        return try AccessExplainer(view: view).explain(inquiry)
    }

    private func greet(_ hello: AgentHello) {
        self.hello = hello
        if hello.nodeName != configuration.nodeName {
            logger.warning("node goes by another name", metadata: ["node": "\(hello.nodeName)", "agent": "\(configuration.nodeName)"])
        }
        instruments = Instruments(
            counters: CountersSource(adopting: hello.counters, logger: logger),
            verdicts: MappedNumbers(adopting: hello.verdicts, count: hello.verdictNames.count),
            verdictNames: hello.verdictNames,
            heartbeat: HeartbeatStamps(adopting: hello.heartbeat))
        decisions = DecisionBook(before: instruments.counters?.reader.decisions() ?? [])
    }

    private func publish(_ step: (inout SnapshotPublisher) throws(SnapshotFault) -> [Outgoing]) {
        do throws(SnapshotFault) {
            let before = publisher.published
            let messages = try step(&publisher)
            compileFault = nil
            send(messages)
            guard publisher.published != before else { return }
            publishedAt = .now
            logger.info("snapshot published", metadata: ["generation": "\(publisher.published)", "shards": "\(max(0, messages.count - 1))"])
            saveState()
        } catch {
            compileFault = "\(error)"
            logger.error("no snapshot can be made of the configuration; the one before stays", metadata: ["error": "\(error)"])
        }
    }

    private func saveState() {
        do {
            try stateFile.save(generation: publisher.published, objects: manifests.encodedObjects())
        } catch {
            logger.warning("the state for the next agent is not saved", metadata: ["file": "\(stateFile.path)", "error": "\(error)"])
        }
    }

    /// Reads what the proxy took connections for, and tells what is new.
    func readDecisions() {
        guard let counters = instruments.counters else { return }
        let news = decisions.take(counters.reader.decisions(), at: .now)
        guard !news.isEmpty else { return }
        let declarations = declarations
        for key in news.prefix(AgentLimits.decisionLinesMax) {
            logger.info(
                "protocol decided",
                metadata: [
                    "service": "\(key.service.isEmpty ? "unknown" : "\(key.namespace)/\(key.service)")", "port": "\(key.port)",
                    "protocol": "\(key.spoken)", "reason": "\(key.reason)", "declared": "\(declarations[key.servicePort] ?? "")",
                ])
        }
        if news.count > AgentLimits.decisionLinesMax {
            logger.info("more protocols decided", metadata: ["count": "\(news.count - AgentLimits.decisionLinesMax)"])
        }
    }

    /// What Services declare, by `namespace/service:port`, as the decisions name them.
    private var declarations: [String: String] {
        var declarations: [String: String] = [:]
        for service in view?.state.services ?? [] {
            for port in service.ports { declarations["\(service.namespace)/\(service.name):\(port.port)"] = "\(port.protocolHint)" }
        }
        return declarations
    }

    // MARK: What is shown

    private var protocols: [Status.ProtocolDecision] {
        let now = ContinuousClock.now
        let declarations = declarations
        return decisions.entries.map { key, entry in
            Status.ProtocolDecision(
                namespace: key.namespace, service: key.service, port: key.port, declared: declarations[key.servicePort] ?? "", spoken: key.spoken, reason: key.reason,
                connections: entry.connections, ageSeconds: entry.lastFell.map { Self.seconds($0, until: now) })
        }.sorted { ($0.namespace, $0.service, $0.port, $0.spoken, $0.reason) < ($1.namespace, $1.service, $1.port, $1.spoken, $1.reason) }
    }

    /// What is missing for the node to be ready; empty when it is.
    var notReady: [String] {
        var missing: [String] = []
        if hello == nil { missing.append("weft node has not said hello yet") }
        switch proxy?.state {
        case .ready: break
        case .starting: missing.append("the proxy is starting")
        case .stale: missing.append("the proxy's heartbeat is older than \(Limits.heartbeatSilenceMillisecondsMax) ms")
        case .down: missing.append("the proxy is down and will be started again")
        case nil: missing.append("no proxy has been started yet")
        }
        if !manifests.isSynced { missing.append("the manifests in \(configuration.manifests) have not been read yet") }
        if let compileFault { missing.append("no snapshot can be made: \(compileFault)") }
        if let refusal = publisher.refusal { missing.append("the proxy refused generation \(refusal.generation): \(refusal.reason)") }
        if publisher.published == 0 {
            missing.append("no snapshot has been published yet")
        } else if !publisher.isAgreed {
            let (published, accepted, applied) = (publisher.published, publisher.accepted, publisher.applied)
            missing.append("generations differ: agent published \(published), node accepted \(accepted), proxy applied \(applied)")
        }
        return missing
    }

    /// What a page of metrics needs, of one moment.
    struct Known: Sendable {
        var isReady: Bool
        var generations: Status.Generations
        var processes: [Status.Process]
        var pods: [Status.Pod]
        var verdicts: [Status.Verdict]
        var faultCount: Int
        var instruments: Instruments
    }

    var known: Known {
        Known(
            isReady: notReady.isEmpty, generations: generations, processes: processes, pods: pods, verdicts: verdicts,
            faultCount: view?.faults.count ?? 0, instruments: instruments)
    }

    var generations: Status.Generations {
        Status.Generations(
            published: publisher.published, accepted: publisher.accepted, applied: publisher.applied, agree: publisher.isAgreed,
            ageSeconds: Self.seconds(since: publishedAt),
            refusal: compileFault ?? publisher.refusal.map { "generation \($0.generation): \($0.reason)" })
    }

    var processes: [Status.Process] {
        var processes = [
            Status.Process(name: "node", pid: Int(getppid()), incarnation: 0, restarts: 0, state: hello == nil ? "starting" : "ready"),
            Status.Process(
                name: "agent", pid: Int(getpid()), incarnation: hello?.incarnation ?? 0,
                restarts: hello.map { max($0.incarnation, 1) - 1 } ?? 0, state: "ready"),
        ]
        if let proxy {
            let workers = instruments.counters.map(\.reader.workers).flatMap { $0 > 0 ? $0 : nil }
            processes.append(
                Status.Process(
                    name: "proxy", pid: Int(proxy.processID), incarnation: proxy.incarnation, restarts: proxy.restarts, state: "\(proxy.state)",
                    heartbeatAgeMilliseconds: instruments.heartbeat?.oldestAgeMilliseconds(workers: workers)))
        }
        return processes
    }

    var verdicts: [Status.Verdict] {
        guard let numbers = instruments.verdicts else { return [] }
        return instruments.verdictNames.enumerated().map { Status.Verdict(name: $1, count: numbers[$0]) }
    }

    var pods: [Status.Pod] {
        ledger.pods.map { pod in
            let answer = ledger.states[pod.uid]
            var status = Status.Pod(
                namespace: pod.namespace, name: pod.name, uid: pod.uid, state: answer.map { "\($0.state)" } ?? "pending",
                reason: answer?.reason ?? "", addresses: [], pod: answer?.pod ?? 0, namespaceCookie: answer?.namespaceCookie ?? 0,
                listeners: answer?.listeners ?? 0, olderConnections: answer?.olderConnections ?? 0)
            switch pod.wish {
            case .enrol(let enrolment):
                status.isStrict = enrolment.isStrict
                status.addresses = enrolment.addresses.map(\.description)
                if answer == nil { status.reason = "node has not answered yet" }
            case .leave(let because):
                // While node still lets go of it, its own word is shown.
                if answer == nil || answer?.state == .gone { (status.state, status.reason) = ("unmeshed", because) }
            }
            return status
        }
    }

    private var policies: [Status.Policy] {
        guard let view else { return [] }
        let own = view.state.workloads.filter { $0.nodeName == configuration.nodeName && $0.isMeshed }
        return view.access.summaries(over: own).map { summary in
            Status.Policy(
                namespace: summary.namespace, name: summary.name, action: summary.action, mode: summary.isAudit ? "audit" : "enforce", strength: summary.strength,
                rules: summary.rules, podsHere: summary.selected)
        }
    }

    var status: Status {
        let notReady = notReady
        return Status(
            nodeName: configuration.nodeName, time: LogLine.timestamp(), isReady: notReady.isEmpty, notReady: notReady,
            processes: processes, generations: generations,
            configuration: Status.Configuration(
                directory: configuration.manifests, ageSeconds: Self.seconds(since: changedAt), faults: view?.faults ?? [], notes: view?.notes ?? []),
            pods: pods, policies: policies, routes: view?.routes ?? [], services: (view?.state.services ?? []).map(Status.Service.init), protocols: protocols,
            kubeletCgroup: hello?.kubeletCgroup ?? "", verdicts: verdicts)
    }

    private static func seconds(since instant: ContinuousClock.Instant) -> Double { seconds(instant, until: .now) }

    private static func seconds(_ instant: ContinuousClock.Instant, until now: ContinuousClock.Instant) -> Double {
        let (seconds, attoseconds) = (now - instant).components
        return (Double(seconds) + Double(attoseconds) * 1e-18).rounded(toMilliseconds: ())
    }
}

extension Double {
    fileprivate func rounded(toMilliseconds _: Void) -> Double { (self * 1_000).rounded() / 1_000 }
}

extension Status.Service {
    init(_ service: MeshModel.Service) {
        self.init(
            namespace: service.namespace, name: service.name, addresses: service.addresses.map(\.description), isHeadless: service.isHeadless,
            ports: service.ports.map { port in
                Port(
                    name: port.name, port: port.port, protocolHint: "\(port.protocolHint)",
                    endpointsReady: Self.count(port.endpoints.filter(\.isReady)), endpointsTotal: Self.count(port.endpoints))
            })
    }

    /// A pod with an address of each family is one endpoint to whoever reads this.
    private static func count(_ endpoints: [Endpoint]) -> Int {
        Set(endpoints.map { $0.workloadUID ?? "\($0.address)" }).count
    }
}
