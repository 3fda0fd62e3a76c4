import MeshModel

/// One shard as the tables hold it: its memory, and for a services shard the slot of each endpoint's state.
///
/// Generations share unchanged ones. Control thread only; the last generation that lets go gives the slots back.
final class ShardSlots {
    let memory: ShardMemory
    /// By the endpoint's number in the shard.
    let slots: UnsafeMutableBufferPointer<UInt32>
    /// A routes shard's own slot; `.max` with the others.
    let holdSlot: UInt32
    private let states: EndpointStates

    /// Gives every endpoint a slot: that of the same (service, port, address, port) in the bucket's previous shard, or a
    /// new one. A service's bucket never changes, so nothing else need be searched.
    init(_ memory: ShardMemory, after previous: ShardSlots?, states: EndpointStates) throws(RoutingFault) {
        self.memory = memory
        self.states = states
        let view = memory.view
        slots = .allocate(capacity: view.endpointCount)
        slots.initialize(repeating: .max)
        let isRoutes = view.id.family == .routes
        holdSlot = isRoutes ? states.holds.claim(view) ?? .max : .max
        if isRoutes, holdSlot == .max { throw .holdsExhausted }
        for place in 0..<view.serviceCount {
            let service = view.service(at: place)
            let older = previous.flatMap { $0.service(like: service) }
            for portPlace in 0..<service.portCount {
                let port = service.port(at: portPlace)
                let olderPort = older?.port(numbered: port.number)
                for endpointPlace in 0..<port.endpointCount {
                    let number = port.firstEndpoint + endpointPlace
                    let endpoint = port.endpoint(at: endpointPlace)
                    if let previous, let olderPort, let olderPlace = olderPort.place(of: endpoint.address, port: endpoint.port) {
                        let slot = previous.slots[olderPort.firstEndpoint + olderPlace]
                        states.retain(slot)
                        slots[number] = slot
                    } else if let slot = states.claim() {
                        slots[number] = slot
                    } else {
                        // `deinit` runs for the fully initialised object and returns what was taken so far.
                        throw .endpointsExhausted
                    }
                }
            }
        }
    }

    deinit {
        for slot in slots where slot != .max { states.release(slot) }
        slots.deallocate()
        if holdSlot != .max { states.holds.replace(holdSlot, memory) }
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
