/// One object that Weft reads, decoded and checked on its own.
enum ClusterObject: Sendable, Hashable, Codable {
    case namespace(NamespaceObject)
    case node(NodeObject)
    case service(ServiceObject)
    case endpointSlice(EndpointSliceObject)
    case pod(PodObject)
    case accessPolicy(AccessPolicyObject)
    case route(RouteObject)
    case referenceGrant(ReferenceGrantObject)
    case trafficPolicy(TrafficPolicyObject)

    init(_ kind: ObjectKind, _ metadata: ObjectMetadata, reading object: ObjectReader) {
        self =
            switch kind {
            case .namespace: .namespace(NamespaceObject(metadata, reading: object))
            case .node: .node(NodeObject(metadata, reading: object))
            case .service: .service(ServiceObject(metadata, reading: object))
            case .endpointSlice: .endpointSlice(EndpointSliceObject(metadata, reading: object))
            case .pod: .pod(PodObject(metadata, reading: object))
            case .accessPolicy: .accessPolicy(AccessPolicyObject(metadata, reading: object))
            case .httpRoute, .grpcRoute: .route(RouteObject(kind, metadata, reading: object))
            case .referenceGrant: .referenceGrant(ReferenceGrantObject(metadata, reading: object))
            case .meshPolicy: .trafficPolicy(TrafficPolicyObject(meshPolicy: metadata, reading: object))
            case .backendTrafficPolicy: .trafficPolicy(TrafficPolicyObject(backendTrafficPolicy: metadata, reading: object))
            }
    }

    /// What is wrong with parts of the object, while the rest of it can be in force.
    var partialFaults: [Fault] {
        switch self {
        // What a Gateway makes of a route is the Gateway's to tell.
        case .route(let route): !route.isForServices ? [] : route.problems.map { $0.fault.with(route.isRejected ? .leftOut : .restInForce) }
        case .namespace, .node, .service, .endpointSlice, .pod, .accessPolicy, .referenceGrant, .trafficPolicy: []
        }
    }
}

/// An object in force, and where it came from.
struct HeldObject: Sendable, Hashable, Codable {
    var object: ClusterObject
    var file: String
    var line: Int
    /// What is wrong with a newer version of the object, for whose sake this one stays; nil when this is the newest.
    var newerFaults: [Fault]?
}
