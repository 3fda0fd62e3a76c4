import Balancing
import MeshModel

/// One shard as the tables hold it: its memory, and for a services shard the slots of its endpoints' and ports' states.
///
/// Generations share unchanged ones. Control thread only; the last generation that lets go gives the slots back.
@usableFromInline
final class ShardSlots {
    let memory: ShardMemory
    /// By the endpoint's number in the shard; behind them by the port's; behind those, for each port, where its hash table's view lies.
    let slots: UnsafeMutableBufferPointer<UInt32>
    /// A routes shard's own slot; `.max` with the others.
    let holdSlot: UInt32
    private let states: EndpointStates
    private var hashTables: [Int: HeldHashTable] = [:]

    /// Gives every endpoint a slot: that of the same (service, port, address, port) in the bucket's previous shard, or a
    /// new one. A service's bucket never changes, so nothing else need be searched.
    init(_ memory: ShardMemory, after previous: ShardSlots?, states: EndpointStates, milliseconds: UInt32) throws(RoutingFault) {
        self.memory = memory
        self.states = states
        let view = memory.view
        let end = Self.hashTablesOffset(endpoints: view.endpointCount, ports: view.portCount) / 4 + 2 * view.portCount
        slots = .allocate(capacity: end)
        slots.initialize(repeating: .max)
        (UnsafeMutableRawPointer(slots.baseAddress!) + (end - 2 * view.portCount) * 4)
            .initializeMemory(as: UInt8.self, repeating: 0, count: 8 * view.portCount)
        let isRoutes = view.id.family == .routes
        holdSlot = isRoutes ? states.holds.claim(view) ?? .max : .max
        if isRoutes, holdSlot == .max { throw .holdsExhausted }
        for place in 0..<view.serviceCount {
            let service = view.service(at: place)
            let older = previous.flatMap { $0.service(like: service) }
            for portPlace in 0..<service.portCount {
                let port = service.port(at: portPlace)
                let olderPort = older?.port(numbered: port.number)
                try claim(view.endpointCount + port.placeInShard, previous, olderPort.map { $0.shardEndpointCount + $0.placeInShard })
                try claimEndpoints(of: port, service.policy, previous, olderPort, milliseconds)
                makeHashTable(of: port, service.policy.algorithm, previous, olderPort)
            }
        }
    }

    private func claimEndpoints(
        of port: PortView, _ policy: PolicyView, _ previous: ShardSlots?, _ olderPort: PortView?, _ milliseconds: UInt32
    ) throws(RoutingFault) {
        for place in 0..<port.endpointCount {
            let number = port.firstEndpoint + place
            let endpoint = port.endpoint(at: place)
            let olderPlace = olderPort?.place(of: endpoint.address, port: endpoint.port)
            try claim(number, previous, olderPlace.map { olderPort!.firstEndpoint + $0 })
            let state = states.state(slots[number])
            state.configure(policy)
            // New beside others, or ready again: it begins with less than its share. Where everything is new, nobody does.
            let wasReady = olderPlace.map { $0 < olderPort!.readyCount } ?? false
            if place < port.readyCount, !wasReady, policy.slowStartMilliseconds > 0, let olderPort, olderPort.readyCount > 0 {
                state.warmUp(since: milliseconds, for: policy.slowStartMilliseconds)
                states.warming.append(slots[number])
            }
        }
    }

    private func claim(_ number: Int, _ previous: ShardSlots?, _ older: Int?) throws(RoutingFault) {
        if let previous, let older {
            let slot = previous.slots[older]
            states.retain(slot)
            slots[number] = slot
        } else if let slot = states.claim(bucket: memory.view.id.index) {
            slots[number] = slot
        } else {
            // `deinit` runs for the fully initialised object and returns what was taken so far.
            throw .endpointsExhausted
        }
    }

    deinit {
        for slot in slots[..<(memory.view.endpointCount + memory.view.portCount)] where slot != .max { states.release(slot) }
        slots.deallocate()
        if holdSlot != .max { states.holds.replace(holdSlot, memory) }
    }

    // MARK: Hash tables

    /// A table with what it was made of; generations share it while that is the same.
    private final class HeldHashTable {
        let keys: [UInt64]
        let isRing: Bool
        let table: HashTable
        let view: UnsafeMutablePointer<HashTable.View>

        init?(_ keys: [UInt64], isRing: Bool) {
            guard let table = isRing ? HashTable.ring(keys) : HashTable.maglev(keys) else { return nil }
            self.keys = keys
            self.isRing = isRing
            self.table = table
            view = .allocate(capacity: 1)
            view.initialize(to: table.view)
        }

        deinit { view.deallocate() }
    }

    /// Bytes from the slots' start to the list of hash tables, which is aligned for pointers.
    @inlinable static func hashTablesOffset(endpoints: Int, ports: Int) -> Int { ((endpoints &+ ports) &* 4 &+ 7) & ~7 }

    private func makeHashTable(of port: PortView, _ algorithm: BalancingAlgorithm, _ previous: ShardSlots?, _ olderPort: PortView?) {
        guard algorithm == .ringHash || algorithm == .maglev, port.readyCount > 1 else { return }
        let keys = (0..<port.readyCount).map { place in
            let endpoint = port.endpoint(at: place)
            return ShardHash.mix(ShardHash.of(endpoint.address), UInt64(endpoint.port) ^ 0x8ebc_6af0_9c88_c6e3)
        }
        let isRing = algorithm == .ringHash
        var held = olderPort.flatMap { previous?.hashTables[$0.placeInShard] }
        if held?.keys != keys || held?.isRing != isRing { held = HeldHashTable(keys, isRing: isRing) }
        guard let held else { return }
        hashTables[port.placeInShard] = held
        let offset = Self.hashTablesOffset(endpoints: port.shardEndpointCount, ports: port.shardPortCount)
        (UnsafeMutableRawPointer(slots.baseAddress!) + offset).assumingMemoryBound(to: UnsafePointer<HashTable.View>?.self)[port.placeInShard] = UnsafePointer(held.view)
    }

    private func service(like service: ServiceView) -> ServiceView? {
        let hash = ShardHash.of(namespace: service.namespace, name: service.name)
        return memory.view.service(hash: hash, namespace: service.namespace, name: service.name)
    }
}

/// Why shards cannot become tables.
public enum RoutingFault: Error, Equatable {
    /// A shard was refused and no good one has come in its place.
    case incomplete(missing: ShardID)
    /// More than `Limits.endpointsMax` endpoints at one time.
    case endpointsExhausted
    /// More than `RouteHolds.slotsMax` routes shards are held by requests under way.
    case holdsExhausted
}
