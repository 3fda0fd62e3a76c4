/// The kinds of Kubernetes objects that Weft reads.
public enum ObjectKind: String, Sendable, Hashable, Codable, CaseIterable {
    case namespace = "Namespace"
    case node = "Node"
    case service = "Service"
    case endpointSlice = "EndpointSlice"
    case pod = "Pod"
    case accessPolicy = "AccessPolicy"
    case httpRoute = "HTTPRoute"
    case grpcRoute = "GRPCRoute"
    case referenceGrant = "ReferenceGrant"
    case meshPolicy = "MeshPolicy"
    case backendTrafficPolicy = "XBackendTrafficPolicy"

    /// The versions of the kind that Weft reads, which say the same; the first is the one to write.
    var apiVersions: [String] {
        switch self {
        case .endpointSlice: ["discovery.k8s.io/v1"]
        case .accessPolicy, .meshPolicy: ["weft.mesh/v1alpha1"]
        case .backendTrafficPolicy: ["gateway.networking.x-k8s.io/v1alpha1"]
        case .httpRoute: ["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"]
        case .grpcRoute: ["gateway.networking.k8s.io/v1"]
        case .referenceGrant: ["gateway.networking.k8s.io/v1beta1", "gateway.networking.k8s.io/v1"]
        case .namespace, .node, .service, .pod: ["v1"]
        }
    }
    /// Whether objects of the kind live in a namespace.
    var isNamespaced: Bool { self != .namespace && self != .node }
}

/// What makes an object the same object in the next generation.
public struct ObjectKey: Sendable, Hashable, Codable, Comparable, CustomStringConvertible {
    public var kind: ObjectKind
    /// Empty for kinds that live in no namespace.
    public var namespace: String
    public var name: String

    public var description: String { namespace.isEmpty ? "\(kind.rawValue) \(name)" : "\(kind.rawValue) \(namespace)/\(name)" }

    public static func < (left: ObjectKey, right: ObjectKey) -> Bool {
        (left.kind.rawValue, left.namespace, left.name) < (right.kind.rawValue, right.namespace, right.name)
    }
}

/// Names that Weft reads from labels and annotations.
enum MeshNames {
    static let mode = "weft.mesh/mode"
    static let istioMode = "istio.io/dataplane-mode"
    static let failure = "weft.mesh/failure"
    static let protection = "weft.mesh/mtls"
    static let udpExceptionPorts = "weft.mesh/udp-exception-ports"
    static let networkNamespace = "weft.mesh/network-namespace"
    static let cgroup = "weft.mesh/cgroup"
    static let excludedOutboundPorts = "weft.mesh/exclude-outbound-ports"
    static let excludedInboundPorts = "weft.mesh/exclude-inbound-ports"
    static let excludedOutboundPrefixes = "weft.mesh/exclude-outbound-cidrs"
    static let serviceName = "kubernetes.io/service-name"
    static let zone = "topology.kubernetes.io/zone"
}

/// The part of `metadata` that Weft uses.
struct ObjectMetadata: Sendable, Hashable, Codable {
    var name: String
    /// Empty for kinds that live in no namespace.
    var namespace: String
    var uid: String?
    var labels: [String: String]
    var annotations: [String: String]
    /// The owner that controls the object (`controller: true`), or its only owner.
    var owner: Owner?
    /// `creationTimestamp`, RFC 3339 in UTC as the API server writes it, so that older is less; nil in manifests written by hand.
    var createdAt: String?
    /// Counts the versions of the object's intent; nil in manifests written by hand.
    var generation: Int?

    struct Owner: Sendable, Hashable, Codable {
        var kind: String
        var name: String
    }

    init?(_ metadata: ObjectReader, kind: ObjectKind) {
        guard let name = metadata.requiredString("name", remedy: "name the object") else { return nil }
        let namespace = metadata.string("namespace") ?? ""
        self.name = name
        // What `kubectl apply` does without --namespace.
        self.namespace = !kind.isNamespaced ? "" : namespace.isEmpty ? "default" : namespace
        if !Self.isDNSName(name) {
            metadata.fault("name", "“\(name.prefix(64))” is no Kubernetes name", remedy: "use lower-case letters, digits, “-” and “.”, at most 253")
        }
        uid = metadata.string("uid").flatMap { $0.isEmpty ? nil : $0 }
        if let uid, uid.utf8.count > DiscoveryLimits.uidBytesMax || !uid.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) {
            metadata.fault("uid", "“\(uid.prefix(64))” is no uid", remedy: "write a UUID, or leave it out")
        }
        labels = metadata.stringMap("labels")
        annotations = metadata.stringMap("annotations")
        owner = Self.owner(of: metadata)
        createdAt = metadata.string("creationTimestamp").flatMap { $0.isEmpty ? nil : $0 }
        if let createdAt, createdAt.wholeMatch(of: Self.timestamp) == nil {
            metadata.fault("creationTimestamp", "“\(createdAt.prefix(64))” is no time", remedy: "write it as the API server does, 2026-01-31T12:00:00Z, or leave it out")
        }
        generation = metadata.integer("generation", in: 0...Int.max, called: "a generation")
    }

    private static var timestamp: Regex<Substring> { /[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z/ }

    private static func owner(of metadata: ObjectReader) -> Owner? {
        let references = metadata.objects("ownerReferences")
        let controllers = references.filter { $0.boolean("controller") == true }
        guard let reference = controllers.first ?? (references.count == 1 ? references[0] : nil) else { return nil }
        guard
            let kind = reference.requiredString("kind", remedy: "write the owner's kind, such as ReplicaSet"),
            let name = reference.requiredString("name", remedy: "write the owner's name")
        else { return nil }
        return Owner(kind: kind, name: name)
    }

    /// RFC 1123 names as Kubernetes bounds them. They become parts of host names and metric labels, so nothing else may pass.
    static func isDNSName(_ text: String) -> Bool {
        guard (1...253).contains(text.utf8.count) else { return false }
        return text.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { label in
            !label.isEmpty && label.first != "-" && label.last != "-"
                && label.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == UInt8(ascii: "-") }
        }
    }
}

/// Whether an object asks to be in the mesh.
enum MeshMode: String, Sendable, Hashable, Codable, CaseIterable {
    case enabled, disabled

    /// Reads the labels of a Namespace or Pod; nil when they say nothing. Weft's own label wins over Istio's.
    init?(labelsOf metadata: ObjectReader) {
        guard let labels = metadata.object("labels") else { return nil }
        if labels.has(MeshNames.mode) {
            guard let mode = labels.choice(MeshNames.mode, MeshMode.self) else { return nil }
            self = mode
        } else {
            switch labels.string(MeshNames.istioMode) {
            case "ambient": self = .enabled
            case "none": self = .disabled
            default: return nil
            }
        }
    }
}
