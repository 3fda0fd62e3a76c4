import Glibc
import MeshModel
import Synchronization

/// What is exact over all workers about one service: two cache lines of atomics. Breakers and the retry budget live here.
///
/// `@unchecked Sendable`: a pointer, but all that lies behind it is atomic, and stays where it is for the life of the process.
public struct ServiceState: @unchecked Sendable {
    @usableFromInline static let strideBytes = 128

    @usableFromInline let line: UnsafeMutableRawPointer

    @inlinable
    init(line: UnsafeMutableRawPointer) { self.line = line }

    @inlinable var hash: UnsafeMutablePointer<Atomic<UInt64>> { line.assumingMemoryBound(to: Atomic<UInt64>.self) }
    @inlinable func count(_ count: Count) -> UnsafeMutablePointer<Atomic<UInt32>> { (line + count.rawValue).assumingMemoryBound(to: Atomic<UInt32>.self) }
    /// When the reserve of retries that no share of the requests pays for is full again.
    @inlinable var reserveFullAt: UnsafeMutablePointer<Atomic<UInt64>> { (line + 24).assumingMemoryBound(to: Atomic<UInt64>.self) }

    /// What is counted; the raw value is its place in the line.
    public enum Count: Int, Sendable {
        case requests = 8
        /// Requests that are being tried again.
        case retries = 12
        /// Requests that wait for a connection.
        case pending = 16
        case connections = 20
    }

    @inlinable public func value(_ count: Count) -> UInt32 { self.count(count).pointee.load(ordering: .relaxed) }

    /// One more, without a limit. Owed: one `finish`.
    @inlinable public func begin(_ count: Count) { self.count(count).pointee.wrappingAdd(1, ordering: .relaxed) }

    /// One more, unless there are `max` already. Exact: of any number of workers that ask at once, no more than fit are let in.
    @inlinable
    public func begin(_ count: Count, max: UInt32) -> Bool {
        let counter = self.count(count)
        var seen = counter.pointee.load(ordering: .relaxed)
        while seen < max {
            let (exchanged, original) = counter.pointee.compareExchange(expected: seen, desired: seen + 1, ordering: .relaxed)
            if exchanged { return true }
            seen = original
        }
        return false
    }

    @inlinable
    public func finish(_ count: Count) {
        let before = self.count(count).pointee.wrappingSubtract(1, ordering: .relaxed).oldValue
        precondition(before > 0, "finished what was never begun")
    }

    /// Whether one more request may be sent again: retries make up `percent` of the requests in flight at most, or `perSecondMin` a second.
    /// Owed after true: one `finish(.retries)`.
    public func beginRetry(percent: UInt8, perSecondMin: UInt16, now: UInt64) -> Bool {
        let allowed = UInt32(truncatingIfNeeded: UInt64(value(.requests)) * UInt64(percent) / 100)
        if begin(.retries, max: allowed) { return true }
        guard perSecondMin > 0 else { return false }
        guard TokenBucket.take(reserveFullAt, every: 1_000_000_000 / UInt64(perSecondMin), burst: 1_000_000_000, now: now) == 0 else { return false }
        begin(.retries)
        return true
    }
}

/// The process-wide states of services, found by the service's hash. Workers claim a place at a service's first request and nobody gives one
/// back: a name that comes again is the same service. Over `servicesMax` names in the life of a process the later ones are not counted, so
/// their breakers never open and only what nobody has seen is sent again.
///
/// `@unchecked Sendable`: what changes is atomic.
public final class ServiceStates: @unchecked Sendable {
    /// Twice what a large cluster has.
    public static let servicesMax = 1 << 15
    static let probesMax = 64

    private let base: UnsafeMutableRawPointer

    public init() {
        // Pages exist once touched: a service in use takes 128 bytes.
        let start = mmap(nil, Self.servicesMax * ServiceState.strideBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        precondition(start != MAP_FAILED, "address space for service states")
        base = start!
    }

    deinit { munmap(base, Self.servicesMax * ServiceState.strideBytes) }

    /// The state of a service; nil when there are too many.
    public func state(of service: ServiceView) -> ServiceState? { state(hash: service.hash) }

    func state(hash wanted: UInt64) -> ServiceState? {
        let hash = wanted == 0 ? 1 : wanted
        // The low bits choose the place within a shard's table; the middle ones are as good and not the same.
        var place = Int(truncatingIfNeeded: hash >> 20) & (Self.servicesMax - 1)
        for _ in 0..<Self.probesMax {
            let state = ServiceState(line: base + place * ServiceState.strideBytes)
            var seen = state.hash.pointee.load(ordering: .relaxed)
            if seen == 0 { seen = state.hash.pointee.compareExchange(expected: 0, desired: hash, ordering: .relaxed).original }
            if seen == hash || seen == 0 { return state }
            place = (place + 1) & (Self.servicesMax - 1)
        }
        return nil
    }
}
