/// What one update changed.
public struct SnapshotChange: Sendable {
    /// The number of this state; it grows by one with each update that changed a shard.
    public let generation: UInt64
    /// The shards that differ from the previous generation.
    public let shards: [ShardImage]
}

/// Turns the agent's knowledge into shards, and tells which of them changed.
///
/// An update costs what it changed: the input of each bucket is kept and compared first (shared arrays compare by
/// identity), only differing buckets are compiled, and of those only the ones whose bytes differ are published.
public struct SnapshotWriter: Sendable {
    public private(set) var generation: UInt64
    private var surroundings = Surroundings(nodeName: "", zone: "", clusterDomain: "", trustDomain: "")
    private var serviceInputs = [[Service]](repeating: [], count: Limits.bucketsPerFamily)
    private var addressInputs = [[AddressInput]](repeating: [], count: Limits.bucketsPerFamily)
    private var policyInputs = [[WorkloadAccess]](repeating: [], count: Limits.bucketsPerFamily)
    private var routeInputs = [[RoutedService]](repeating: [], count: Limits.bucketsPerFamily)
    /// As the last state had them: routes seldom change, and an unchanged array is known by its identity.
    private var routes: [ServiceRoutes] = []
    private var images: [ShardImage?] = Array(repeating: nil, count: ShardID.count)

    /// - Parameter generation: the newest number in use; a restarted agent continues from what the node has kept.
    public init(continuing generation: UInt64 = 0) { self.generation = generation }

    /// All non-empty shards of the current generation: what a proxy that knows nothing needs.
    public var current: [ShardImage] { images.compactMap { $0 }.filter { !$0.bytes.isEmpty } }

    /// Compiles a state. When it throws, the previous generation stays as it was.
    ///
    /// Of two services with one name, or two claims to one address, the first in the state's order wins.
    public mutating func update(_ state: MeshState) throws(SnapshotFault) -> SnapshotChange {
        let surroundings = Surroundings(
            nodeName: state.nodeName, zone: state.zone, clusterDomain: state.clusterDomain, trustDomain: state.trustDomain)
        let isMoved = surroundings != self.surroundings
        let services = BucketInputs.services(state)
        let addresses = BucketInputs.addresses(state)
        let policies = BucketInputs.policies(state)
        let routes = state.routes == self.routes ? routeInputs : BucketInputs.routes(state)
        let next = generation + 1
        var changed: [ShardImage] = []
        for bucket in 0..<Limits.bucketsPerFamily {
            if isMoved || services[bucket] != serviceInputs[bucket] {
                let id = ShardID(family: .services, index: UInt16(bucket))
                let bytes = try ShardCompiler.services(services[bucket], id: id, in: surroundings)
                note(ShardImage(id: id, version: next, bytes: bytes), in: &changed)
            }
            if isMoved || addresses[bucket] != addressInputs[bucket] {
                let id = ShardID(family: .addresses, index: UInt16(bucket))
                let bytes = try ShardCompiler.addresses(addresses[bucket], id: id, in: surroundings)
                note(ShardImage(id: id, version: next, bytes: bytes), in: &changed)
            }
            if isMoved || policies[bucket] != policyInputs[bucket] {
                let id = ShardID(family: .policies, index: UInt16(bucket))
                let bytes = try ShardCompiler.policies(policies[bucket], id: id, in: surroundings)
                note(ShardImage(id: id, version: next, bytes: bytes), in: &changed)
            }
            if isMoved || routes[bucket] != routeInputs[bucket] {
                let id = ShardID(family: .routes, index: UInt16(bucket))
                let bytes = try RouteCompiler.routes(routes[bucket], id: id, in: surroundings)
                note(ShardImage(id: id, version: next, bytes: bytes), in: &changed)
            }
        }
        self.surroundings = surroundings
        serviceInputs = services
        addressInputs = addresses
        policyInputs = policies
        routeInputs = routes
        self.routes = state.routes
        for image in changed { images[image.id.ordinal] = image }
        if !changed.isEmpty { generation = next }
        return SnapshotChange(generation: generation, shards: changed)
    }

    /// Adds an image to the changes when its bytes differ from the published ones; no image and an empty one are equal.
    private func note(_ image: ShardImage, in changed: inout [ShardImage]) {
        if (images[image.id.ordinal]?.bytes ?? []) != image.bytes { changed.append(image) }
    }
}

/// What every shard depends on besides its own input.
struct Surroundings: Sendable, Equatable {
    var nodeName: String
    var zone: String
    var clusterDomain: String
    var trustDomain: String
}

/// What becomes one `AddressRecord`.
struct AddressInput: Sendable, Equatable {
    struct Reference: Sendable, Equatable {
        var namespace: String
        var name: String
        var servicePort: UInt16
        var endpointPort: UInt16
        var isHeadless: Bool
    }

    var address: IPAddress
    var workload: Workload?
    var isClusterAddress = false
    var references: [Reference] = []
}
