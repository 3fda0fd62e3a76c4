/// The endpoints of a port in the order a shard has them: the ready ones by tier, then the others; each part by address and port.
///
/// An address told twice counts once, ready if it was once.
struct PortEndpoints {
    private(set) var records: [EndpointRecord] = []
    private(set) var readyCount = 0
    private(set) var firstTierCount = 0
    private(set) var secondTierCount = 0

    init(of port: ServicePort, under policy: TrafficPolicy, in surroundings: Surroundings) {
        var ready: [EndpointRecord] = []
        var others: [EndpointRecord] = []
        let hints = Hints(port.endpoints, in: surroundings)
        for endpoint in port.endpoints {
            var flags: UInt16 = 0
            if endpoint.isReady && !endpoint.isTerminating { flags |= EndpointRecord.isReady }
            if endpoint.isTerminating { flags |= EndpointRecord.isTerminating }
            let isSameNode = !endpoint.nodeName.isEmpty && endpoint.nodeName == surroundings.nodeName
            let isSameZone = !endpoint.zone.isEmpty && endpoint.zone == surroundings.zone
            if isSameNode { flags |= EndpointRecord.isSameNode }
            if isSameZone { flags |= EndpointRecord.isSameZone }
            if hints.byNode ? endpoint.nodeHints.contains(surroundings.nodeName) : isSameNode { flags |= EndpointRecord.isForNode }
            if hints.byZone ? endpoint.zoneHints.contains(surroundings.zone) : isSameZone { flags |= EndpointRecord.isForZone }
            let record = EndpointRecord(address: endpoint.address, port: endpoint.port, flags: flags)
            if flags & EndpointRecord.isReady != 0 { ready.append(record) } else { others.append(record) }
        }
        if ready.count + others.count > 1 {
            ready = Self.unique(ready)
            let places = Set(ready.map(Place.init))
            others = Self.unique(others.filter { !places.contains(Place($0)) })
        }
        readyCount = ready.count
        sortByTier(&ready, policy, surroundings)
        records = ready + others
    }

    /// Who says the same hash should mean the same endpoint means it for all nodes: hashing knows no tiers.
    private mutating func sortByTier(_ ready: inout [EndpointRecord], _ policy: TrafficPolicy, _ surroundings: Surroundings) {
        let tier: (EndpointRecord) -> Int
        switch policy.locality {
        case _ where policy.algorithm == .ringHash || policy.algorithm == .maglev: return firstTierCount = ready.count
        case .none where ready.count > Limits.apertureAboveEndpoints:
            let aperture = Self.aperture(of: ready, from: surroundings.nodeName)
            tier = { aperture.contains(Place($0)) ? 0 : 1 }
        case .none: return firstTierCount = ready.count
        case .sameZone: tier = { $0.flags & EndpointRecord.isForZone != 0 ? 0 : 2 }
        case .sameNode: tier = { $0.flags & EndpointRecord.isForNode != 0 ? 0 : $0.flags & EndpointRecord.isForZone != 0 ? 1 : 2 }
        }
        var tiers: [[EndpointRecord]] = [[], [], []]
        for record in ready { tiers[tier(record)].append(record) }
        // The nearest that there are come first: a tier without anybody is nobody's preference.
        tiers = tiers.filter { !$0.isEmpty }
        firstTierCount = tiers.first?.count ?? 0
        secondTierCount = tiers.count > 1 ? tiers[1].count : 0
        ready = tiers.flatMap { $0 }
    }

    /// The endpoints that one node's callers use: on a circle on which hashes place endpoints and nodes, those that follow the node. When
    /// an endpoint comes or goes, each node that used it changes one of its own.
    private static func aperture(of ready: [EndpointRecord], from nodeName: String) -> Set<Place> {
        let circle = ready.map { (hash: ShardHash.mix(ShardHash.of($0.address) ^ UInt64($0.port), ShardHash.fourth), place: Place($0)) }
            .sorted { ($0.hash, $0.place.address, $0.place.port) < ($1.hash, $1.place.address, $1.place.port) }
        let start = ShardHash.mix(ShardHash.of(uid: nodeName), ShardHash.second)
        let first = circle.firstIndex { $0.hash >= start } ?? 0
        return Set((0..<Limits.apertureEndpoints).map { circle[(first + $0) % circle.count].place })
    }

    private struct Place: Hashable {
        let address: IPAddress
        let port: UInt16
        init(_ record: EndpointRecord) {
            address = record.address
            port = record.port
        }
    }

    private static func unique(_ records: [EndpointRecord]) -> [EndpointRecord] {
        var result: [EndpointRecord] = []
        result.reserveCapacity(records.count)
        for record in records.sorted(by: { ($0.address, $0.port) < ($1.address, $1.port) })
        where result.last.map(Place.init) != Place(record) {
            result.append(record)
        }
        return result
    }

    /// Whether the slices' hints say for whom endpoints are, or the endpoints' own places do.
    ///
    /// As kube-proxy has it: hints count when every ready endpoint has one and some of them mean this zone (or node).
    private struct Hints {
        let byZone: Bool
        let byNode: Bool

        init(_ endpoints: [Endpoint], in surroundings: Surroundings) {
            let ready = endpoints.filter { $0.isReady && !$0.isTerminating }
            byZone = ready.allSatisfy { !$0.zoneHints.isEmpty } && ready.contains { $0.zoneHints.contains(surroundings.zone) }
            byNode = ready.allSatisfy { !$0.nodeHints.isEmpty } && ready.contains { $0.nodeHints.contains(surroundings.nodeName) }
        }
    }
}
