import Glibc
import MeshModel
import Synchronization

/// A rule that an exchange will ask again in a later turn: when the reply's head is written. Three numbers, to be copied freely; released once.
public struct RouteHold: Sendable, Equatable {
    @usableFromInline var slot: UInt32
    @usableFromInline var rule: UInt32
    /// `.max`: no backend.
    @usableFromInline var backend: UInt32

    /// Holds nothing.
    public static let none = RouteHold(slot: .max, rule: 0, backend: .max)
    @inlinable public var isNone: Bool { slot == .max }

    @inlinable
    init(slot: UInt32, rule: UInt32, backend: UInt32) {
        self.slot = slot
        self.rule = rule
        self.backend = backend
    }
}

/// Who still needs a routes shard that newer tables have replaced: per shard a slot, per slot and worker a count that only this worker writes.
///
/// A generation lives until no worker is in it, which is a turn of the loop; an exchange lives longer, and its reply is edited by the rule that took
/// the request. So a routes shard that is no generation's any more is kept until all counts of its slot are 0. They cannot rise by then: a worker
/// holds rules of the tables it is in.
///
/// `@unchecked Sendable`: workers write the counts and read `views`, the rest is the control thread's.
public final class RouteHolds: @unchecked Sendable {
    /// Routes shards in use and held, at one time: 256 are in use, and each other one is held by a request under way.
    public static let slotsMax = 1 << 16

    let places: RouteHoldsPlaces
    private let byteCount = RouteHolds.slotsMax * Limits.workersMax * MemoryLayout<UInt32>.stride
    private var frontier = 0
    private var free: [UInt32] = []
    private var replaced: [(slot: UInt32, memory: ShardMemory)] = []

    init() {
        // Address space: pages exist once touched.
        let start = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        precondition(start != MAP_FAILED, "address space for holds")
        places = RouteHoldsPlaces(counts: start!, views: .allocate(capacity: RouteHolds.slotsMax))
    }

    deinit {
        munmap(places.counts, byteCount)
        places.views.deallocate()
    }

    // MARK: The control thread's side

    /// Replaced shards that are still held.
    public var heldCount: Int { replaced.count }

    /// A slot for a shard that is about to be published; nil when all are in use.
    func claim(_ view: ShardView) -> UInt32? {
        guard let slot = free.popLast() ?? (frontier < RouteHolds.slotsMax ? UInt32(frontier) : nil) else { return nil }
        if Int(slot) == frontier { frontier += 1 }
        places.views.advanced(by: Int(slot)).initialize(to: view)
        return slot
    }

    /// No generation has the shard any more.
    func replace(_ slot: UInt32, _ memory: ShardMemory) { replaced.append((slot, memory)) }

    /// Lets go of the shards that nobody holds.
    func sweep() {
        replaced.removeAll { slot, _ in
            // Acquire: what the worker read of the shard, it has read.
            guard (0..<Limits.workersMax).allSatisfy({ places.count(slot, worker: $0).pointee.load(ordering: .acquiring) == 0 }) else { return false }
            free.append(slot)
            return true
        }
    }
}

/// Where counts and shards are: what workers need of `RouteHolds`, without a reference to it.
@usableFromInline
struct RouteHoldsPlaces {
    @usableFromInline let counts: UnsafeMutableRawPointer
    /// By slot.
    @usableFromInline let views: UnsafeMutablePointer<ShardView>

    /// Worker by worker, so that two of them seldom write to one cache line.
    @inlinable
    func count(_ slot: UInt32, worker: Int) -> UnsafeMutablePointer<Atomic<UInt32>> {
        precondition(worker >= 0 && worker < Limits.workersMax, "no such worker")
        return (counts + (worker * RouteHolds.slotsMax + Int(slot)) * MemoryLayout<UInt32>.stride).assumingMemoryBound(to: Atomic<UInt32>.self)
    }
}

extension TablesView {
    /// Keeps a rule of these tables, and the backend that was chosen, for later turns. Owed: one `release`.
    @inlinable
    public func hold(_ rule: RouteRuleView, _ backend: RouteBackendView?, worker: Int) -> RouteHold {
        guard let place = root.pointee.places[ShardID.firstRoutes + Int(rule.shard.id.index)], place.view.isSame(as: rule.shard) else {
            preconditionFailure("a rule of other tables: its shard may be gone by the next turn")
        }
        let slot = place.holdSlot
        let count = root.pointee.holds.count(slot, worker: worker)
        count.pointee.store(count.pointee.load(ordering: .relaxed) + 1, ordering: .relaxed)
        return RouteHold(slot: slot, rule: UInt32(truncatingIfNeeded: rule.number), backend: backend.map { UInt32(truncatingIfNeeded: $0.number) } ?? .max)
    }

    /// The rule and backend as they were when they were held, whatever has been published since; nil for a hold of nothing.
    @inlinable
    public func held(_ hold: RouteHold) -> (rule: RouteRuleView, backend: RouteBackendView?)? {
        guard !hold.isNone else { return nil }
        let shard = root.pointee.holds.views[Int(hold.slot)]
        guard let rule = RouteRuleView(numbered: Int(hold.rule), in: shard) else { return nil }
        return (rule, hold.backend == .max ? nil : RouteBackendView(numbered: Int(hold.backend), in: shard))
    }

    /// The exchange needs its rule no more. Releasing `none` does nothing; afterwards the hold is `none`.
    @inlinable
    public func release(_ hold: inout RouteHold, worker: Int) {
        guard !hold.isNone else { return }
        let count = root.pointee.holds.count(hold.slot, worker: worker)
        let before = count.pointee.load(ordering: .relaxed)
        precondition(before > 0, "released a rule that is not held")
        count.pointee.store(before - 1, ordering: .releasing)
        hold = .none
    }
}
