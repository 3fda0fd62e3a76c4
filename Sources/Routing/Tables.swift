import MeshModel

/// One generation of everything the proxy routes by. Immutable; made and freed by the control thread, read by all workers.
///
/// It owns no copy of anything: it is a list of 1,024 shards and, per services shard, the list of slots.
public final class Tables {
    /// The snapshot's generation.
    public let generation: UInt64
    /// What workers read.
    let root: UnsafeMutablePointer<TablesRoot>
    private let shards: [ShardSlots?]

    init(generation: UInt64, shards: [ShardSlots?], states: EndpointStates) {
        self.generation = generation
        self.shards = shards
        root = .allocate(capacity: 1)
        let places = UnsafeMutablePointer<ShardPlace?>.allocate(capacity: ShardID.count)
        for ordinal in 0..<ShardID.count {
            // Not with `map`: what it made of nil had only its first word cleared, and was taken for a shard (Swift 6.3, unoptimised).
            if let shard = shards[ordinal] {
                places.advanced(by: ordinal).initialize(to: ShardPlace(view: shard.memory.view, slots: UnsafePointer(shard.slots.baseAddress), holdSlot: shard.holdSlot))
            } else {
                places.advanced(by: ordinal).initialize(to: nil)
            }
        }
        // All shards of a generation have it; without any, nobody has an identity.
        let trustDomain = shards.lazy.compactMap { $0?.memory.view.trustDomain }.first ?? UnsafeRawBufferPointer(start: nil, count: 0)
        root.initialize(
            to: TablesRoot(
                generation: generation, epoch: 0, statesBase: states.base, places: places, trustDomain: trustDomain,
                hasPolicies: shards[ShardID.firstPolicies..<ShardID.firstRoutes].contains { $0 != nil }, holds: states.holds.places))
    }

    deinit {
        root.pointee.places.deallocate()
        root.deallocate()
    }

    /// For reading on the control thread, and in tests.
    public var view: TablesView { TablesView(root: UnsafePointer(root)) }
}

/// Collects shards on the control thread until a generation is complete.
///
/// Generations come as differences, so nothing staged may be lost: what cannot take effect now waits for the next commit,
/// and a shard that was refused blocks every commit until a good one has come in its place.
public struct TablesBuilder {
    private let states: EndpointStates
    private var shards: [ShardSlots?] = Array(repeating: nil, count: ShardID.count)
    private var staged: [ShardID: Staged] = [:]

    private enum Staged {
        case shard(ShardMemory)
        case empty
        case refused
    }

    public init(states: EndpointStates) { self.states = states }

    /// Notes a shard of the coming generation; `nil` when the bucket is empty now. Has no effect before `commit`.
    public mutating func stage(_ id: ShardID, _ memory: ShardMemory?) {
        precondition(memory.map { $0.view.id == id } ?? true, "a shard staged for another's place")
        staged[id] = memory.map { .shard($0) } ?? .empty
    }

    /// Notes that a shard of the coming generation could not be used.
    public mutating func refuse(_ id: ShardID) { staged[id] = .refused }

    /// Everything staged takes effect at once. When it throws, the previous tables stay and the staged shards wait.
    /// - Parameter milliseconds: the time, of any beginning: new endpoints may warm up from then on.
    public mutating func commit(generation: UInt64, at milliseconds: UInt32 = 0) throws(RoutingFault) -> Tables {
        var next = shards
        for (id, change) in staged {
            switch change {
            case .shard(let memory): next[id.ordinal] = try ShardSlots(memory, after: shards[id.ordinal], states: states, milliseconds: milliseconds)
            case .empty: next[id.ordinal] = nil
            case .refused: throw .incomplete(missing: id)
            }
        }
        staged = [:]
        shards = next
        return Tables(generation: generation, shards: next, states: states)
    }
}

/// The flat start of a generation: what a worker's pointer points at.
@usableFromInline
struct TablesRoot {
    @usableFromInline let generation: UInt64
    /// The publisher's number for these tables.
    @usableFromInline var epoch: UInt64
    @usableFromInline let statesBase: UnsafeMutableRawPointer
    /// `ShardID.count` places, by ordinal.
    @usableFromInline let places: UnsafeMutablePointer<ShardPlace?>
    /// Inside one of the shards.
    @usableFromInline let trustDomain: UnsafeRawBufferPointer
    /// Some workload of this node has access rules.
    @usableFromInline let hasPolicies: Bool
    /// The process's; it outlives all tables.
    @usableFromInline let holds: RouteHoldsPlaces
}

@usableFromInline
struct ShardPlace {
    @usableFromInline let view: ShardView
    @usableFromInline let slots: UnsafePointer<UInt32>?
    /// Of a routes shard.
    @usableFromInline let holdSlot: UInt32
}
