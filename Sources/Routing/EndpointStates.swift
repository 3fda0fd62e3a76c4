import Glibc
import MeshModel
import Synchronization

/// What is exact over all workers about one endpoint: a cache line of atomics.
///
/// Workers hold the pointer-sized value; the line stays where it is for the life of the process. An endpoint's line is
/// reused for another endpoint only after every worker has left the tables that named it *and* no request is in flight.
/// `@unchecked Sendable`: a pointer, but all that lies behind it is atomic.
public struct EndpointState: @unchecked Sendable {
    /// 64 bytes, so that two endpoints never share a line: a shared one costs each worker the other's writes.
    @usableFromInline static let strideBytes = 64

    @usableFromInline let line: UnsafeMutableRawPointer

    @inlinable
    init(line: UnsafeMutableRawPointer) { self.line = line }

    /// Bytes 0..3. The other 60 belong to what later counts per endpoint: consecutive failures, ejection, latency.
    @inlinable
    var inFlightCounter: UnsafeMutablePointer<Atomic<UInt32>> { line.assumingMemoryBound(to: Atomic<UInt32>.self) }

    /// Requests (or opaque connections) that all workers together have on the endpoint now.
    @inlinable
    public var inFlight: UInt32 { inFlightCounter.pointee.load(ordering: .relaxed) }

    /// A request goes to the endpoint. Owed: one `finish()`, also after a failure.
    @inlinable
    public func begin() { inFlightCounter.pointee.wrappingAdd(1, ordering: .relaxed) }

    /// The request has its answer, or has failed.
    @inlinable
    public func finish() {
        // Release: whatever the request did with this line is done before the line may be given to another endpoint.
        let before = inFlightCounter.pointee.wrappingSubtract(1, ordering: .releasing).oldValue
        precondition(before > 0, "finished a request that was never begun")
    }
}

/// The process-wide slab of endpoint states. Slots are handed out and taken back by the control thread only.
///
/// The slab is a reservation of address space (`Limits.endpointsMax` lines, 64 MiB); pages exist once touched, so
/// 10,000 endpoints occupy 640 KB. `@unchecked Sendable`: workers read `base`, which is constant; the rest is the control thread's.
public final class EndpointStates: @unchecked Sendable {
    @usableFromInline let base: UnsafeMutableRawPointer
    /// What, like these states, outlives the generation that it was made for.
    public let holds = RouteHolds()
    private let capacity: Int
    /// Slots below this have been used.
    private var frontier = 0
    private var free: [UInt32] = []
    /// Per slot: how many shards' slot lists, over all generations that live, name it.
    private var owners: [UInt32] = []
    /// Named by no table any more, but requests are still in flight.
    private var draining: [UInt32] = []

    /// - Parameter capacity: endpoints at one time.
    public init(capacity: Int = Limits.endpointsMax) {
        self.capacity = capacity
        let byteCount = capacity * EndpointState.strideBytes
        let start = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        precondition(start != MAP_FAILED, "address space for endpoint states")
        base = start!
    }

    deinit { munmap(base, capacity * EndpointState.strideBytes) }

    /// The state of a slot that a current table names.
    @inlinable
    public func state(_ slot: UInt32) -> EndpointState { EndpointState(line: base + Int(slot) * EndpointState.strideBytes) }

    /// Slots that are named by tables or still have requests.
    public var slotsInUse: Int { frontier - free.count }

    // MARK: The control thread's side

    /// A zeroed slot with one owner; `nil` when all are in use.
    func claim() -> UInt32? {
        let slot: UInt32
        if let recycled = free.popLast() {
            slot = recycled
            state(slot).line.initializeMemory(as: UInt8.self, repeating: 0, count: EndpointState.strideBytes)
            owners[Int(slot)] = 1
        } else {
            guard frontier < capacity else { return nil }
            slot = UInt32(frontier)
            frontier += 1
            owners.append(1)
        }
        return slot
    }

    func retain(_ slot: UInt32) { owners[Int(slot)] += 1 }

    func release(_ slot: UInt32) {
        precondition(owners[Int(slot)] > 0, "an endpoint's slot was released twice")
        owners[Int(slot)] -= 1
        if owners[Int(slot)] == 0 { draining.append(slot) }
    }

    /// Frees the slots that nobody names and nobody uses. No table names them, so their in-flight counts only fall.
    func sweep() {
        draining.removeAll { slot in
            guard state(slot).inFlightCounter.pointee.load(ordering: .acquiring) == 0 else { return false }
            free.append(slot)
            return true
        }
    }
}
