// The counters' memory, from its first byte:
//
//     header │ pods' labels × podsMax │ worker area × workersMax, control area
//     worker area: counters │ cursors │ pods' counters │ label sets │ label bytes │ TCP series │ decisions │ request series
//
// Everything grows by appending: a record is filled first, then its cursor is stored with release order. A writer killed in
// between leaves bytes that no cursor covers, and its successor writes over them. The tables that find a record by its key are
// private to the writer; they are built anew from the records by each incarnation. So there is nothing to repair, and
// nothing a reader could follow out of bounds.

/// Where everything is in the counters' memory. Sizes and places are in bytes, limits in records.
public enum CountersLayout {
    @inlinable public static var workersMax: Int { 16 }
    /// The workers' areas and one for the proxy's control thread: still a single writer each.
    static var areasMax: Int { workersMax + 1 }
    @inlinable public static var podsMax: Int { 1_024 }
    /// Request series of one worker, before the ones that follow count as `overflow`. 64 services × 8 callers × 16 outcomes.
    @inlinable public static var requestSeriesPerWorkerMax: Int { 8_192 }
    @inlinable public static var tcpSeriesPerWorkerMax: Int { 4_096 }
    /// (service, port, protocol, reason) of one worker. Ports that no service has may take half of them: they are the client's choice.
    @inlinable public static var decisionSeriesPerWorkerMax: Int { 4_096 }
    /// Sets of labels (workloads and services) that one worker has met.
    @inlinable public static var labelSetsPerWorkerMax: Int { 8_192 }
    @inlinable public static var labelBytesPerWorkerMax: Int { 2 << 20 }
    /// One label's text; what is longer is cut. A SPIFFE id of Kubernetes names is shorter.
    public static let labelTextBytesMax = 256

    /// Bytes of the whole memory. Mostly never touched, so mostly not there: it exists page by page as series appear.
    public static let byteCount = areasOffset + areasMax * areaBytes

    @usableFromInline static let magic: UInt64 = 0x7372_746e_6366_6577  // "wefcntrs"
    /// Changes whenever a place does. Two builds that disagree about a limit or about `Counter` do not share a memory.
    static let fingerprint: UInt64 = {
        var hash: UInt64 = 1
        for part in [workersMax, podsMax, requestSeriesPerWorkerMax, tcpSeriesPerWorkerMax, decisionSeriesPerWorkerMax, labelSetsPerWorkerMax,
            labelBytesPerWorkerMax, Counter.allCases.count, PodCounter.allCases.count, byteCount]
        {
            hash = (hash ^ UInt64(part)).multipliedReportingOverflow(by: 0x9e37_79b9_7f4a_7c15).partialValue
        }
        for counter in Counter.allCases {
            for byte in "\(counter)".utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        }
        return hash
    }()

    // MARK: Header

    static let magicOffset = 0
    static let fingerprintOffset = 8
    static let incarnationOffset = 16
    /// Workers of the current incarnation: whose gauges count.
    static let workersOffset = 24
    static let headerBytes = 4_096

    // MARK: Pods' labels

    static let podsOffset = headerBytes
    static let podRecordBytes = 640
    /// Even: readable. Odd: being written.
    static let podVersionOffset = 0
    /// The pod's number on this node, plus one; 0 when the slot is free.
    static let podNumberOffset = 8
    /// Three UInt16 byte counts: namespace, workload, pod.
    static let podCountsOffset = 16
    static let podTextOffset = 24
    static let podNamespaceBytesMax = 63, podWorkloadBytesMax = 253, podNameBytesMax = 253

    // MARK: Worker area. Computed, so that a worker's code holds them as constants instead of reading them.

    static let areasOffset = (podsOffset + podsMax * podRecordBytes + 4_095) & ~4_095

    @inlinable static var countersBytes: Int { 512 * 8 }
    /// Five cursors: label sets, label bytes, request series, TCP series, decisions.
    @inlinable static var cursorsOffset: Int { countersBytes }
    @inlinable static var labelSetCursor: Int { 0 }
    @inlinable static var labelBytesCursor: Int { 8 }
    @inlinable static var requestCursor: Int { 16 }
    @inlinable static var tcpCursor: Int { 24 }
    @inlinable static var decisionCursor: Int { 32 }
    @inlinable static var podCountersOffset: Int { countersBytes + 64 }
    @inlinable static var podCountersStride: Int { 64 }
    @inlinable static var labelSetsOffset: Int { podCountersOffset + podsMax * podCountersStride }
    /// A set's hash, then offset and byte count in the label bytes as one word.
    @inlinable static var labelSetStride: Int { 16 }
    @inlinable static var labelBytesOffset: Int { labelSetsOffset + labelSetsPerWorkerMax * labelSetStride }
    @inlinable static var tcpSeriesOffset: Int { labelBytesOffset + labelBytesPerWorkerMax }
    /// Key (3 words), opened, closed, sent bytes, received bytes; one word to fill a cache line.
    @inlinable static var tcpSeriesStride: Int { 64 }
    @inlinable static var decisionSeriesOffset: Int { tcpSeriesOffset + (tcpSeriesPerWorkerMax + 1) * tcpSeriesStride }
    /// Key (3 words) and how often.
    @inlinable static var decisionSeriesStride: Int { 32 }
    /// Record 0 of every series table is the overflow series.
    @inlinable static var requestSeriesOffset: Int { decisionSeriesOffset + (decisionSeriesPerWorkerMax + 1) * decisionSeriesStride }
    @inlinable static var requestSeriesStride: Int { keyBytes + requestWords * 8 }
    @inlinable static var areaBytes: Int { (requestSeriesOffset + (requestSeriesPerWorkerMax + 1) * requestSeriesStride + 4_095) & ~4_095 }

    @inlinable static var keyBytes: Int { 24 }
    // A request series after its key: three histograms, each its buckets (the last is +Inf) and its sum; then, for calls of gRPC, their messages.
    // 19 and 10 are the bounds of `HistogramScale`, which checks them.
    @inlinable static var durationWords: Int { 19 + 2 }
    @inlinable static var bytesWords: Int { 10 + 2 }
    /// Of requests, and of responses.
    @inlinable static var messagesWords: Int { 2 }
    @inlinable static var requestWords: Int { durationWords + 2 * bytesWords + messagesWords }
    @inlinable static var durationOffset: Int { keyBytes }
    @inlinable static var requestBytesOffset: Int { keyBytes + durationWords * 8 }
    @inlinable static var responseBytesOffset: Int { requestBytesOffset + bytesWords * 8 }
    @inlinable static var messagesOffset: Int { responseBytesOffset + bytesWords * 8 }
}

/// What is counted per pod and worker; one cache line each.
public enum PodCounter: UInt8, Sendable, CaseIterable {
    /// Gauge: downstream connections open.
    case connections
    /// Gauge: bytes waiting in the proxy's buffers.
    case bufferedBytes
    /// Gauge: requests waiting for an upstream connection.
    case pendingRequests
    case requests
    /// CPU time the proxy spent for the pod.
    case cpuNanoseconds

    var isGauge: Bool {
        switch self {
        case .connections, .bufferedBytes, .pendingRequests: true
        case .requests, .cpuNanoseconds: false
        }
    }

    var definition: Counter.Definition {
        switch self {
        case .connections:
            .init(name: "weft_workload_connections", help: "Downstream connections of the pod open now.", kind: .gauge)
        case .bufferedBytes:
            .init(name: "weft_workload_buffered_bytes", help: "Bytes of the pod waiting in the proxy's buffers now.", kind: .gauge)
        case .pendingRequests:
            .init(name: "weft_workload_pending_requests", help: "Requests of the pod waiting for an upstream connection now.", kind: .gauge)
        case .requests: .init(name: "weft_workload_requests_total", help: "Requests carried for the pod, outbound and inbound.")
        case .cpuNanoseconds:
            .init(name: "weft_workload_proxy_cpu_seconds_total", help: "CPU time the shared proxy spent for the pod.", scale: 1e-9)
        }
    }
}
