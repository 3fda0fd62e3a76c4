/// All counters at one time, summed over the workers; private memory, no longer the writer's.
public struct CountersSnapshot: Sendable {
    /// Workers of the running incarnation.
    public let workers: Int
    /// By `Counter`'s order: one value, or one per worker.
    var counters: [[UInt64]] = []
    var pods: [Pod] = []
    var labels = SharedLabels()
    var requests = SeriesTotals(words: CountersLayout.requestWords)
    var tcp = SeriesTotals(words: 4)
    var decisions = SeriesTotals(words: 1)

    init(workers: Int) { self.workers = workers }

    struct Pod: Sendable {
        /// Namespace, workload, pod.
        var labels: [[UInt8]]
        /// By `PodCounter`'s order.
        var values: [UInt64]
    }

    /// How many different series there are of requests and of TCP.
    public var seriesCounts: (requests: Int, tcp: Int) { (requests.keys.count, tcp.keys.count) }

    /// A counter's value, summed over the workers.
    public func value(of counter: Counter) -> UInt64 { counters[Int(counter.rawValue)].reduce(0, &+) }

    /// All requests counted so far, over all series. A request between two meshed pods of one node counts twice, once per reporter.
    public var requestsTotal: UInt64 {
        requests.keys.indices.reduce(0) { total, place in
            requests.values(at: place)[..<(CountersLayout.durationWords - 1)].reduce(total, &+)
        }
    }
}

/// What connections to a port were taken for, why, and how many.
public struct ProtocolDecision: Sendable, Equatable {
    /// Empty where no service is known, `overflow` for what found no room.
    public var serviceNamespace, serviceName: String
    /// The service's port; the one asked for where no service is known.
    public var port: UInt16
    /// `http/1.1`, `http/2`, `tls` or `tcp`.
    public var spoken: String
    /// `declared`, `first-bytes`, `server-first` …
    public var reason: String
    public var connections: UInt64

    public init(serviceNamespace: String, serviceName: String, port: UInt16, spoken: String, reason: String, connections: UInt64) {
        (self.serviceNamespace, self.serviceName, self.port) = (serviceNamespace, serviceName, port)
        (self.spoken, self.reason, self.connections) = (spoken, reason, connections)
    }
}

extension CountersSnapshot {
    /// The decisions about protocols, in no order.
    public var protocolDecisions: [ProtocolDecision] {
        decisions.keys.indices.map { place in
            let key = decisions.keys[place]
            let connections = decisions.values(at: place)[0]
            if key == .overflow {
                return ProtocolDecision(
                    serviceNamespace: "overflow", serviceName: "overflow", port: 0, spoken: "overflow", reason: "overflow", connections: connections)
            }
            // Host, name, namespace. A set of another sort can only come from a damaged record: nothing is known then.
            let texts = labels.texts[key.service].map { String(decoding: $0, as: UTF8.self) }
            return ProtocolDecision(
                serviceNamespace: texts.count == ServiceLabels.count ? texts[2] : "", serviceName: texts.count == ServiceLabels.count ? texts[1] : "",
                port: key.decidedPort, spoken: key.decidedProtocol?.text ?? "unknown", reason: key.decisionReason?.text ?? "unknown",
                connections: connections)
        }
    }
}

/// A series' key with label sets numbered over all workers, so that the workers' series meet.
struct SharedKey: Hashable, Sendable {
    var source: Int
    var destination: Int
    var service: Int
    /// Response code, then gRPC status, as in `SeriesKey`.
    var outcome: UInt64
    /// Reporter, protocol, flags and security, as in `SeriesKey`.
    var kind: UInt64

    /// Whether the requests are calls of gRPC; those that found no room may be.
    var isOfCalls: Bool { self == .overflow || RequestProtocol(rawValue: UInt8(truncatingIfNeeded: kind >> 8)) == .grpc }

    /// Of a decision, as in `SeriesKey`.
    var decidedPort: UInt16 { UInt16(truncatingIfNeeded: kind) }
    var decidedProtocol: DecidedProtocol? { DecidedProtocol(rawValue: UInt8(truncatingIfNeeded: kind >> 16)) }
    var decisionReason: DecisionReason? { DecisionReason(rawValue: UInt8(truncatingIfNeeded: kind >> 24)) }

    /// The series of everything that found no room.
    static let overflow = SharedKey(source: -1, destination: -1, service: -1, outcome: 0, kind: 0)
}

/// Label sets over all workers; number 0 is the unknown one.
struct SharedLabels: Sendable {
    private(set) var texts: [[ArraySlice<UInt8>]] = [[]]
    private var numbers: [[UInt8]: Int] = [:]

    /// The number of a set, `nil` when the bytes are none.
    mutating func number(of blob: [UInt8]) -> Int? {
        if let number = numbers[blob] { return number }
        guard let parts = LabelBlob.texts(blob) else { return nil }
        numbers[blob] = texts.count
        texts.append(parts)
        return texts.count - 1
    }
}

/// Series and their values, `words` for each.
struct SeriesTotals: Sendable {
    let words: Int
    private(set) var keys: [SharedKey] = []
    private var places: [SharedKey: Int] = [:]
    private var totals: [UInt64] = []

    init(words: Int) { self.words = words }

    /// The series' words, numbered from 0.
    func values(at place: Int) -> [UInt64] { Array(totals[(place * words)..<((place + 1) * words)]) }

    /// Adds a record's words to its series.
    mutating func add(_ key: SharedKey, value: (Int) -> UInt64) {
        let place: Int
        if let known = places[key] {
            place = known
        } else {
            place = keys.count
            places[key] = place
            keys.append(key)
            totals.append(contentsOf: repeatElement(0, count: words))
        }
        for word in 0..<words { totals[place * words + word] &+= value(word) }
    }
}
