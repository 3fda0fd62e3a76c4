import Balancing
import Glibc
import MeshModel
import Synchronization

/// The process-wide slab of the states of endpoints and of service ports. Slots are handed out and taken back by the control thread only.
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
    /// Per slot: the bucket of the shards that name it. A failure is traced back by it.
    private let buckets: UnsafeMutablePointer<UInt8>
    /// Two sets of buckets in a cache line each: those with failures since somebody looked, and those to look at now.
    private let marks: UnsafeMutableRawPointer
    /// Endpoints that warm up, as far as the control thread knows; see `EndpointJudge`.
    public var warming: [UInt32] = []

    /// - Parameter capacity: endpoints at one time.
    public init(capacity: Int = Limits.endpointsMax) {
        self.capacity = capacity
        let byteCount = capacity * EndpointState.strideBytes
        let start = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        precondition(start != MAP_FAILED, "address space for endpoint states")
        base = start!
        let bytes = mmap(nil, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        precondition(bytes != MAP_FAILED, "address space for the buckets of endpoint states")
        buckets = bytes!.assumingMemoryBound(to: UInt8.self)
        marks = .allocate(byteCount: 2 * EndpointState.strideBytes, alignment: EndpointState.strideBytes)
        marks.initializeMemory(as: UInt8.self, repeating: 0, count: 2 * EndpointState.strideBytes)
    }

    deinit {
        munmap(base, capacity * EndpointState.strideBytes)
        munmap(buckets, capacity)
        marks.deallocate()
    }

    /// The state of a slot that a current table names.
    @inlinable
    public func state(_ slot: UInt32) -> EndpointState { EndpointState(line: base + Int(slot) * EndpointState.strideBytes) }

    // MARK: A worker's side

    /// A request to the endpoint has failed by the endpoint's fault. True when it has failed so often in a row that it should be judged at once.
    public func failed(_ slot: UInt32) -> Bool {
        let state = state(slot)
        let inARow = state.countFailure()
        let bucket = Int(buckets[Int(slot)])
        mark(bucket, in: 0)
        let most = UInt32(state.consecutiveFailuresMax)
        // Every so many times, not once: what could not be ejected now may be later.
        guard most > 0, inARow % most == 0 else { return false }
        mark(bucket, in: 1)
        return true
    }

    /// Looked at before it is written: while a service fails, all workers come here.
    private func mark(_ bucket: Int, in set: Int) {
        let word = marked(bucket / 64, in: set)
        let bit: UInt64 = 1 << UInt64(bucket % 64)
        if word.pointee.load(ordering: .relaxed) & bit == 0 { word.pointee.bitwiseOr(bit, ordering: .releasing) }
    }

    private func marked(_ word: Int, in set: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
        (marks + set * EndpointState.strideBytes + word * 8).assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    // MARK: The control thread's side

    func bucket(of slot: UInt32) -> Int { Int(buckets[Int(slot)]) }

    /// Buckets with failures since the last call.
    public func takeFailed() -> [Int] { take(0) }

    /// Buckets with an endpoint that has failed too often in a row since the last call.
    public func takeUrgent() -> [Int] { take(1) }

    private func take(_ set: Int) -> [Int] {
        var result: [Int] = []
        for word in 0..<Limits.bucketsPerFamily / 64 {
            guard marked(word, in: set).pointee.load(ordering: .relaxed) != 0 else { continue }
            var bits = marked(word, in: set).pointee.exchange(0, ordering: .acquiring)
            while bits != 0 {
                result.append(word * 64 + bits.trailingZeroBitCount)
                bits &= bits - 1
            }
        }
        return result
    }

    /// Slots that are named by tables or still have requests.
    public var slotsInUse: Int { frontier - free.count }

    /// A zeroed slot with one owner; `nil` when all are in use.
    func claim(bucket: UInt16) -> UInt32? {
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
        buckets[Int(slot)] = UInt8(truncatingIfNeeded: bucket)
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
            guard state(slot).isUnused else { return false }
            free.append(slot)
            return true
        }
    }
}
