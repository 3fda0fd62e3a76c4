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

/// A series' key with label sets numbered over all workers, so that the workers' series meet.
struct SharedKey: Hashable, Sendable {
    var source: Int
    var destination: Int
    var service: Int
    /// Response code, then gRPC status, as in `SeriesKey`.
    var outcome: UInt64
    /// Reporter, protocol, flags and security, as in `SeriesKey`.
    var kind: UInt64

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
