import NodeSignals
import Telemetry

/// Readings of the node and of Weft's processes, taken anew for each page.
struct SignalSource: Sendable {
    let node: NodeSignals
    let processes = ProcessSignals()

    init(hostRoot: String) { node = NodeSignals(root: hostRoot) }
}

/// One page of metrics: the proxy's counters, what the agent knows, readings of processes and node, of one moment.
struct MetricsPage: Sendable {
    private let counters: CountersSource?
    private let signals: [Signal]

    init(plane: ControlPlane, desk: IdentityDesk, signals source: SignalSource) async {
        let known = await plane.known
        counters = known.instruments.counters
        let node = source.node.read()
        let identities = IdentityMetrics.families(await desk.status, attempts: await desk.attempts, authority: await desk.counts)
        signals = Self.families(known) + identities + Self.processes(known.processes, source.processes) + node.signals + Self.missing(node.missing)
    }

    /// Writes the page piece by piece; blocks as long as the sink does.
    func render(sink: @escaping (UnsafeRawBufferPointer) -> Void) {
        var page = PrometheusText(sink: sink)
        counters?.reader.snapshot().render(into: &page)
        for signal in signals {
            page.family(signal.name, help: signal.help, kind: signal.kind == .counter ? .counter : .gauge)
            for sample in signal.samples { page.sample(signal.name, labels: sample.labels.map { ($0.name, $0.value) }, sample.value) }
        }
        page.finish()
    }

    // MARK: Families

    static func families(_ known: ControlPlane.Known) -> [Signal] {
        typealias Sample = Signal.Sample
        let generations = known.generations
        var families = [
            Signal(
                "weft_ready", help: "Whether node, proxy and snapshot are there and agree, as /readyz says.", .gauge,
                [Sample(known.isReady ? 1 : 0)]),
            Signal("weft_snapshot_generation", help: "Generation of the snapshot that each process has.", .gauge, [
                Sample(Double(generations.published), labels: [.init("stage", "published")]),
                Sample(Double(generations.accepted), labels: [.init("stage", "accepted")]),
                Sample(Double(generations.applied), labels: [.init("stage", "applied")]),
            ]),
            Signal("weft_snapshot_age_seconds", help: "Time since the agent last published a snapshot.", .gauge, [Sample(generations.ageSeconds)]),
            Signal("weft_configuration_faults", help: "Faults in the configuration now.", .gauge, [Sample(Double(known.faultCount))]),
            Signal("weft_pods", help: "Pods of this node by enrolment.", .gauge, Self.podStates.map { state in
                Sample(Double(known.pods.count { $0.state == state }), labels: [.init("state", state)])
            }),
            Signal("weft_process_restarts_total", help: "Times node had to start the process again.", .counter, known.processes
                .filter { $0.name != "node" }.map { Sample(Double($0.restarts), labels: [.init("process", $0.name)]) }),
        ]
        let enrolled = known.pods.filter { $0.state == "enrolled" }.sorted { ($0.namespace, $0.name) < ($1.namespace, $1.name) }
        families.append(
            Signal("weft_pod_older_connections", help: "TCP connections older than the pod's enrolment, which go on unmeshed.", .gauge, enrolled.map {
                Sample(Double($0.olderConnections), labels: [.init("namespace", $0.namespace), .init("pod", $0.name)])
            }))
        families.append(
            Signal("weft_capture_verdicts_total", help: "Decisions of the capture hooks.", .counter, known.verdicts.map {
                Sample(Double($0.count), labels: [.init("verdict", $0.name)])
            }))
        return families.filter { !$0.samples.isEmpty }
    }

    private static let podStates = ["enrolled", "pending", "refused", "gone", "unmeshed"]

    private static func processes(_ processes: [Status.Process], _ source: ProcessSignals) -> [Signal] {
        let usages = processes.compactMap { process in source.usage(of: process.pid).map { (name: process.name, usage: $0) } }
        let own = usages.first { $0.name == "agent" }.map { ProcessSignals.standardSignals($0.usage) } ?? []
        return own + ProcessSignals.labelledSignals(usages)
    }

    private static func missing(_ sources: [MissingSource]) -> [Signal] {
        guard !sources.isEmpty else { return [] }
        return [
            Signal("weft_node_signal_missing", help: "Sources of node readings that gave nothing.", .gauge, sources.map {
                .init(1, labels: [.init("source", $0.source)])
            })
        ]
    }
}
