/// One object that Weft reads, decoded and checked on its own.
enum ClusterObject: Sendable, Hashable, Codable {
    case namespace(NamespaceObject)
    case node(NodeObject)
    case service(ServiceObject)
    case endpointSlice(EndpointSliceObject)
    case pod(PodObject)
    case accessPolicy(AccessPolicyObject)

    init(_ kind: ObjectKind, _ metadata: ObjectMetadata, reading object: ObjectReader) {
        self =
            switch kind {
            case .namespace: .namespace(NamespaceObject(metadata, reading: object))
            case .node: .node(NodeObject(metadata, reading: object))
            case .service: .service(ServiceObject(metadata, reading: object))
            case .endpointSlice: .endpointSlice(EndpointSliceObject(metadata, reading: object))
            case .pod: .pod(PodObject(metadata, reading: object))
            case .accessPolicy: .accessPolicy(AccessPolicyObject(metadata, reading: object))
            }
    }
}

/// An object in force, and where it came from.
struct HeldObject: Sendable, Hashable, Codable {
    var object: ClusterObject
    var file: String
    var line: Int
}
