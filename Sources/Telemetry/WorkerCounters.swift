import Synchronization

/// A request series of one worker: where its requests are recorded. Find it with `requestSeries`, keep it as long as its key
/// stays the same; it is valid for the life of the process.
public struct RequestSeries: Sendable, Equatable {
    @usableFromInline let number: UInt32
    @inlinable init(number: UInt32) { self.number = number }
}

/// A TCP series of one worker.
public struct TCPSeries: Sendable, Equatable {
    @usableFromInline let number: UInt32
    @inlinable init(number: UInt32) { self.number = number }
}

/// A pod's place in the per-pod counters; from `PodDirectory`.
public struct PodSlot: Sendable, Equatable {
    @usableFromInline let number: UInt32
    @inlinable init(number: UInt32) { self.number = number }
}

/// One worker's counters. Only that worker's thread writes them, so counting is a relaxed load and store (0.7 ns for four;
/// an atomic add would be 18), and only that thread interns labels and series.
///
/// A handle of a few pointers: copy it freely within the worker. `@unchecked Sendable` so that it can be made elsewhere and
/// handed to its worker; no compiler sees that only one thread then uses it.
public struct WorkerCounters: @unchecked Sendable {
    @usableFromInline let area: UnsafeMutableRawPointer
    @usableFromInline let index: SeriesIndex
    @usableFromInline let durations: HistogramScale
    @usableFromInline let byteCounts: HistogramScale

    init(area: UnsafeMutableRawPointer) {
        self.area = area
        index = SeriesIndex()
        durations = .durationNanoseconds
        byteCounts = .byteCounts
    }

    // MARK: Counters and gauges

    /// Adds to a counter or gauge.
    @inlinable
    public func add(_ counter: Counter, _ amount: UInt64 = 1) { add(at: Int(counter.rawValue) * 8, amount) }

    /// Takes from a gauge.
    @inlinable
    public func subtract(_ gauge: Counter, _ amount: UInt64 = 1) { add(at: Int(gauge.rawValue) * 8, 0 &- amount) }

    /// Sets a gauge.
    @inlinable
    public func set(_ gauge: Counter, to value: UInt64) {
        word(at: Int(gauge.rawValue) * 8).pointee.store(value, ordering: .relaxed)
    }

    /// This worker's value.
    @inlinable
    public func value(of counter: Counter) -> UInt64 { word(at: Int(counter.rawValue) * 8).pointee.load(ordering: .relaxed) }

    // MARK: Pods

    /// Raises a pod's counter or gauge.
    @inlinable
    public func add(_ counter: PodCounter, to pod: PodSlot, _ amount: UInt64 = 1) { add(at: offset(of: counter, pod), amount) }

    /// Lowers a pod's gauge. What another worker raised may be lowered here: the reader adds them all up.
    @inlinable
    public func subtract(_ gauge: PodCounter, from pod: PodSlot, _ amount: UInt64 = 1) { add(at: offset(of: gauge, pod), 0 &- amount) }

    @inlinable
    func offset(of counter: PodCounter, _ pod: PodSlot) -> Int {
        CountersLayout.podCountersOffset + Int(pod.number) * CountersLayout.podCountersStride + Int(counter.rawValue) * 8
    }

    // MARK: Requests

    /// Counts a request: one in the total, one in each histogram.
    ///
    /// - Parameters:
    ///   - requestBytes: bytes of the request's body; as in Istio, heads count where the caller includes them.
    @inlinable
    public func record(_ series: RequestSeries, durationNanoseconds: UInt64, requestBytes: UInt64, responseBytes: UInt64) {
        let record = CountersLayout.requestSeriesOffset + Int(series.number) * CountersLayout.requestSeriesStride
        add(at: record + CountersLayout.durationOffset + durations.bucket(of: durationNanoseconds) * 8, 1)
        add(at: record + CountersLayout.requestBytesOffset - 8, durationNanoseconds)
        add(at: record + CountersLayout.requestBytesOffset + byteCounts.bucket(of: requestBytes) * 8, 1)
        add(at: record + CountersLayout.responseBytesOffset - 8, requestBytes)
        add(at: record + CountersLayout.responseBytesOffset + byteCounts.bucket(of: responseBytes) * 8, 1)
        add(at: record + CountersLayout.messagesOffset - 8, responseBytes)
    }

    /// Counts the messages of a gRPC call, beside the call itself.
    @inlinable
    public func recordMessages(_ series: RequestSeries, requests: UInt64, responses: UInt64) {
        let record = CountersLayout.requestSeriesOffset + Int(series.number) * CountersLayout.requestSeriesStride
        add(at: record + CountersLayout.messagesOffset, requests)
        add(at: record + CountersLayout.messagesOffset + 8, responses)
    }

    // MARK: Opaque connections

    /// A connection has reached its upstream.
    @inlinable public func opened(_ series: TCPSeries) { add(at: tcp(series, 0), 1) }
    /// A connection that was counted as opened has ended.
    @inlinable public func closed(_ series: TCPSeries) { add(at: tcp(series, 1), 1) }
    /// Bytes to the downstream (Istio: sent in response).
    @inlinable public func sent(_ series: TCPSeries, bytes: UInt64) { add(at: tcp(series, 2), bytes) }
    /// Bytes from the downstream (Istio: received in request).
    @inlinable public func received(_ series: TCPSeries, bytes: UInt64) { add(at: tcp(series, 3), bytes) }

    @inlinable
    func tcp(_ series: TCPSeries, _ field: Int) -> Int {
        CountersLayout.tcpSeriesOffset + Int(series.number) * CountersLayout.tcpSeriesStride + 24 + field * 8
    }

    // MARK: Words

    @inlinable
    func word(at offset: Int) -> UnsafeMutablePointer<Atomic<UInt64>> { (area + offset).assumingMemoryBound(to: Atomic<UInt64>.self) }

    @inlinable
    func add(at offset: Int, _ amount: UInt64) {
        let word = word(at: offset)
        word.pointee.store(word.pointee.load(ordering: .relaxed) &+ amount, ordering: .relaxed)
    }
}
