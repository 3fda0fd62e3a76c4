/// A `Namespace`: whether its pods are meshed, and what happens to them when the proxy is not there.
struct NamespaceObject: Sendable, Hashable, Codable {
    var metadata: ObjectMetadata
    var mode: MeshMode?
    var failure: FailureMode
    var protection: Protection
    /// Ports that a strict pod may use by UDP; nil: DNS alone.
    var udpExceptionPorts: [UInt16]?

    /// What becomes of a pod's new connections while no proxy is alive.
    enum FailureMode: String, Sendable, Hashable, Codable, CaseIterable {
        /// They pass, unmeshed.
        case open
        /// They are refused.
        case closed
    }

    init(_ metadata: ObjectMetadata, reading object: ObjectReader) {
        self.metadata = metadata
        let reader = object.object("metadata")
        mode = reader.flatMap { MeshMode(labelsOf: $0) }
        failure = reader?.object("annotations")?.choice(MeshNames.failure, FailureMode.self) ?? .open
        protection = reader.flatMap { Protection(of: $0) } ?? .permissive
        if let annotations = reader?.object("annotations"), annotations.has(MeshNames.udpExceptionPorts) {
            udpExceptionPorts = annotations.ports(MeshNames.udpExceptionPorts)
        }
    }
}

/// A `Node`: the zone its pods are in.
struct NodeObject: Sendable, Hashable, Codable {
    var metadata: ObjectMetadata

    init(_ metadata: ObjectMetadata, reading _: ObjectReader) {
        self.metadata = metadata
    }

    var zone: String { metadata.labels[MeshNames.zone] ?? "" }
}
