import Balancing
import MeshModel
import Synchronization

/// What is exact over all workers about one endpoint: a cache line of atomics.
///
///      0  requests in flight (28 bits), flags (4), requests begun (32): one addition counts both
///      8  failures in a row      12  failures since they were judged     16  latency (`PeakLatency`)
///     24  what its service's policy wants to be counted                  28  warming since, in milliseconds
///     32  for how long           36  … what the control thread knows of it, and nobody else reads or writes
///
/// Workers hold the pointer-sized value; the line stays where it is for the life of the process. An endpoint's line is
/// reused for another endpoint only after every worker has left the tables that named it *and* no request is in flight.
/// `@unchecked Sendable`: a pointer, but all that lies behind it is atomic, or the control thread's own.
public struct EndpointState: @unchecked Sendable {
    /// 64 bytes, so that two endpoints never share a line: a shared one costs each worker the other's writes.
    @usableFromInline static let strideBytes = 64

    @usableFromInline let line: UnsafeMutableRawPointer

    @inlinable
    init(line: UnsafeMutableRawPointer) { self.line = line }

    @inlinable
    func word<Word>(_ offset: Int, _ type: Word.Type) -> UnsafeMutablePointer<Atomic<Word>> {
        (line + offset).assumingMemoryBound(to: Atomic<Word>.self)
    }

    // MARK: Requests

    @inlinable var counter: UnsafeMutablePointer<Atomic<UInt64>> { word(0, UInt64.self) }

    /// Requests in flight and how the endpoint stands, as the balancer compares them.
    @inlinable
    public var load: EndpointLoad { EndpointLoad(rawValue: UInt32(truncatingIfNeeded: counter.pointee.load(ordering: .relaxed))) }

    /// Requests (or opaque connections) that all workers together have on the endpoint now.
    @inlinable public var inFlight: UInt32 { load.inFlight }

    /// Requests that were ever begun; the count wraps.
    @inlinable public var begun: UInt32 { UInt32(truncatingIfNeeded: counter.pointee.load(ordering: .relaxed) >> 32) }

    /// A request goes to the endpoint. Owed: one `finish()`, also after a failure.
    @inlinable
    public func begin() { counter.pointee.wrappingAdd(1 << 32 | 1, ordering: .relaxed) }

    /// The request has its answer, or has failed.
    @inlinable
    public func finish() {
        // Release: whatever the request did with this line is done before the line may be given to another endpoint.
        let before = counter.pointee.wrappingSubtract(1, ordering: .releasing).oldValue
        precondition(before & UInt64(EndpointLoad.flagged - 1) > 0, "finished a request that was never begun")
    }

    /// No request is in flight, nor was there one whose traces are not seen yet.
    var isUnused: Bool { counter.pointee.load(ordering: .acquiring) & UInt64(EndpointLoad.flagged - 1) == 0 }

    func set(_ flag: UInt32, to isSet: Bool) {
        if isSet { counter.pointee.bitwiseOr(UInt64(flag), ordering: .relaxed) } else { counter.pointee.bitwiseAnd(~UInt64(flag), ordering: .relaxed) }
    }

    // MARK: Failures and latency

    @inlinable var failuresInARow: UnsafeMutablePointer<Atomic<UInt32>> { word(8, UInt32.self) }
    @inlinable var failures: UnsafeMutablePointer<Atomic<UInt32>> { word(12, UInt32.self) }
    @inlinable var latencyWord: UnsafeMutablePointer<Atomic<UInt64>> { word(16, UInt64.self) }

    /// A request has been answered as it should be. Mostly one read of a line that is at hand.
    @inlinable
    public func succeeded() {
        if failuresInARow.pointee.load(ordering: .relaxed) != 0 { failuresInARow.pointee.store(0, ordering: .relaxed) }
    }

    /// Failures in a row, this one included.
    func countFailure() -> UInt32 {
        failures.pointee.wrappingAdd(1, ordering: .relaxed)
        return failuresInARow.pointee.wrappingAdd(1, ordering: .relaxed).newValue
    }

    /// As requests have found it lately.
    @inlinable public var latency: PeakLatency { PeakLatency(rawValue: latencyWord.pointee.load(ordering: .relaxed)) }

    /// A reply has begun after this time.
    public func heard(afterMicroseconds sample: UInt32, at milliseconds: UInt32) {
        latencyWord.pointee.store(latency.with(microseconds: sample, at: milliseconds).rawValue, ordering: .relaxed)
    }

    // MARK: What its service's policy wants

    /// Bits 0…15: failures in a row that eject, plus one; 0: the default. Bit 16: its latency is wanted.
    @inlinable var settings: UnsafeMutablePointer<Atomic<UInt32>> { word(24, UInt32.self) }

    /// Whether its latency decides about anything.
    @inlinable public var wantsLatency: Bool { settings.pointee.load(ordering: .relaxed) & 1 << 16 != 0 }

    var consecutiveFailuresMax: UInt16 {
        let kept = UInt16(truncatingIfNeeded: settings.pointee.load(ordering: .relaxed))
        return kept == 0 ? TrafficPolicy.default.consecutiveFailures : kept - 1
    }

    /// On the control thread, when tables that name the endpoint are made.
    func configure(_ policy: PolicyView) {
        var wanted: UInt32 = 0
        if !policy.isDefault {
            wanted = UInt32(min(policy.consecutiveFailures, .max - 1)) + 1
            if policy.latencyFactor > 0 || policy.algorithm == .peakEWMA { wanted |= 1 << 16 }
        }
        // Compared first: lines of endpoints that nobody has used yet need no page.
        if settings.pointee.load(ordering: .relaxed) != wanted { settings.pointee.store(wanted, ordering: .relaxed) }
    }

    // MARK: Warming up

    @inlinable var warmingSince: UnsafeMutablePointer<Atomic<UInt32>> { word(28, UInt32.self) }
    @inlinable var warmingFor: UnsafeMutablePointer<Atomic<UInt32>> { word(32, UInt32.self) }

    /// The share that it takes now, in 65,536ths, while it warms up.
    @inlinable
    public func warmth(at milliseconds: UInt32) -> UInt32 {
        let elapsed = milliseconds &- warmingSince.pointee.load(ordering: .relaxed)
        // A worker's turn may have begun a moment before.
        if Int32(bitPattern: elapsed) < 0 { return SlowStart.leastShare }
        return SlowStart.share(elapsedMilliseconds: elapsed, of: warmingFor.pointee.load(ordering: .relaxed))
    }

    func warmUp(since milliseconds: UInt32, for duration: UInt32) {
        warmingSince.pointee.store(milliseconds, ordering: .relaxed)
        warmingFor.pointee.store(duration, ordering: .relaxed)
        set(EndpointLoad.warming, to: true)
    }

    /// True when it has its full share from now on.
    func coolDown(at milliseconds: UInt32) -> Bool {
        guard milliseconds &- warmingSince.pointee.load(ordering: .relaxed) >= warmingFor.pointee.load(ordering: .relaxed) else { return false }
        set(EndpointLoad.warming, to: false)
        return true
    }

    // MARK: The control thread's own

    /// What is known of an endpoint that was ejected, or is asked about its health. Plain memory: one thread uses it.
    struct Record {
        /// `begun` when it was judged last.
        var judgedBegun: UInt32 = 0
        /// Why it is out; 0: it is not. Else an `EjectionReason`'s raw value.
        var ejectedFor: UInt8 = 0
        /// Its health check says it is unwell.
        var isUnwell = false
        /// Ejections lately; each interval without one takes one off.
        var times: UInt16 = 0
        /// When it may return.
        var ejectedUntil: UInt64 = 0
        var zero: UInt64 = 0
    }

    /// Whether its health check has found it unwell; for the control thread.
    public var isUnwell: Bool { record.pointee.isUnwell }

    /// Bytes 40…63.
    var record: UnsafeMutablePointer<Record> { (line + 40).assumingMemoryBound(to: Record.self) }
}

/// Why an endpoint gets no requests for a while.
public enum EjectionReason: UInt8, Sendable, CaseIterable {
    case consecutiveFailures = 1
    case successRate = 2
    case latency = 3

    /// As metrics and the log have it.
    public var name: StaticString {
        switch self {
        case .consecutiveFailures: "consecutive_failures"
        case .successRate: "success_rate"
        case .latency: "latency"
        }
    }
}

/// What is exact over all workers about one port of a service, in a line like its endpoints'.
///
///      0  requests in flight on its endpoints, where hashing wants to know      8  turns taken (round robin)
///     16  shares of the first tier and of the second that spill, of IPv4       24  who has used it last, and when
///     32  the same of IPv6                                                     40  … 63: free
public struct PortState: @unchecked Sendable {
    @usableFromInline let line: UnsafeMutableRawPointer

    @inlinable
    init(line: UnsafeMutableRawPointer) { self.line = line }

    @inlinable
    func word<Word>(_ offset: Int, _ type: Word.Type) -> UnsafeMutablePointer<Atomic<Word>> {
        (line + offset).assumingMemoryBound(to: Atomic<Word>.self)
    }

    /// All of them together; counted only for services whose requests are hashed.
    @inlinable public var requests: EndpointState { EndpointState(line: line) }

    /// The next turn's number.
    @inlinable public func takeTurn() -> UInt64 { word(8, UInt64.self).pointee.wrappingAdd(1, ordering: .relaxed).oldValue }

    /// The share of a family's requests that does not stay in a tier (0 or 1), in 65,536ths.
    @inlinable
    public func spill(ofTier tier: Int, isIPv4: Bool) -> UInt32 {
        word((isIPv4 ? 16 : 32) + tier * 4, UInt32.self).pointee.load(ordering: .relaxed)
    }

    func setSpill(ofTier tier: Int, isIPv4: Bool, _ share: UInt32) {
        let place = word((isIPv4 ? 16 : 32) + tier * 4, UInt32.self)
        if place.pointee.load(ordering: .relaxed) != share { place.pointee.store(share, ordering: .relaxed) }
    }

    /// A pod uses the port now: from its namespace the endpoints' health can be asked. Written once a second at most.
    @inlinable
    public func used(by pod: UInt32, atSecond second: UInt32) {
        let place = word(24, UInt64.self)
        if UInt32(truncatingIfNeeded: place.pointee.load(ordering: .relaxed)) != second { place.pointee.store(UInt64(pod) << 32 | UInt64(second), ordering: .relaxed) }
    }

    /// The pod that used it last, and when; the time is 0 while nobody has.
    public var lastUse: (pod: UInt32, second: UInt32) {
        let word = word(24, UInt64.self).pointee.load(ordering: .relaxed)
        return (UInt32(truncatingIfNeeded: word >> 32), UInt32(truncatingIfNeeded: word))
    }
}
