/// Everything the agent knows that the proxy must know: the input of `SnapshotWriter`.
///
/// Plain values in Kubernetes' words; whoever fills them has already judged the objects they came from.
public struct MeshState: Sendable, Equatable {
    /// The node this snapshot is for; endpoints on it are marked `isSameNode`.
    public var nodeName: String
    /// The node's zone (`topology.kubernetes.io/zone`); empty when it has none.
    public var zone: String
    /// The domain under which services have names.
    public var clusterDomain: String
    /// What identities begin with: `spiffe://<trustDomain>/ns/…/sa/…`.
    public var trustDomain: String
    public var workloads: [Workload]
    public var services: [Service]
    public var namespaces: [NamespaceSettings]
    /// Access rules at workloads of this node; those that none selects are not here.
    public var access: [WorkloadAccess]
    /// What routes say about ports of services; ports without routes are not here. Of each port at most one entry per callers' namespace.
    public var routes: [ServiceRoutes]

    public init(
        nodeName: String, zone: String = "", clusterDomain: String = "cluster.local", trustDomain: String = "cluster.local",
        workloads: [Workload] = [], services: [Service] = [], namespaces: [NamespaceSettings] = [], access: [WorkloadAccess] = [],
        routes: [ServiceRoutes] = []
    ) {
        self.nodeName = nodeName
        self.zone = zone
        self.clusterDomain = clusterDomain
        self.trustDomain = trustDomain
        self.workloads = workloads
        self.services = services
        self.namespaces = namespaces
        self.access = access
        self.routes = routes
    }
}

/// A pod with an identity. Strings that are not known are empty; metrics show those as `unknown`.
public struct Workload: Sendable, Equatable {
    /// The pod's `metadata.uid`.
    public var uid: String
    /// The pod's name.
    public var name: String
    public var namespace: String
    public var serviceAccount: String
    public var nodeName: String
    public var addresses: [IPAddress]
    /// The name of what made the pod (Deployment, StatefulSet …); the pod's own name when nothing did.
    public var workloadName: String
    /// `app.kubernetes.io/name` or `app`.
    public var app: String
    /// `app.kubernetes.io/version` or `version`.
    public var version: String
    /// `service.istio.io/canonical-name`, else app, else workload name.
    public var canonicalService: String
    /// `service.istio.io/canonical-revision`, else version, else `latest`.
    public var canonicalRevision: String
    public var isMeshed: Bool
    public var isReady: Bool
    /// It takes no plaintext from outside, and what cannot be protected is refused.
    public var isStrict: Bool
    /// Its namespace lets traffic pass unmeshed while the mesh is down. Never so for a strict workload.
    public var failsOpen: Bool
    /// The cluster's name, `Kubernetes` where nobody chose one, as in Istio.
    public var cluster: String

    public init(
        uid: String, name: String, namespace: String, serviceAccount: String = "default", nodeName: String = "",
        addresses: [IPAddress] = [], workloadName: String? = nil, app: String = "", version: String = "",
        canonicalService: String = "", canonicalRevision: String = "", isMeshed: Bool = false, isReady: Bool = true,
        isStrict: Bool = false, failsOpen: Bool = false, cluster: String = "Kubernetes"
    ) {
        self.uid = uid
        self.name = name
        self.namespace = namespace
        self.serviceAccount = serviceAccount
        self.nodeName = nodeName
        self.addresses = addresses
        self.workloadName = workloadName ?? name
        self.app = app
        self.version = version
        self.canonicalService = canonicalService
        self.canonicalRevision = canonicalRevision
        self.isMeshed = isMeshed
        self.isReady = isReady
        self.isStrict = isStrict
        self.failsOpen = failsOpen && !isStrict
        self.cluster = cluster
    }
}

/// What clients name: a name, its cluster addresses, and per port the endpoints behind it.
public struct Service: Sendable, Equatable {
    public var namespace: String
    public var name: String
    /// Cluster IPs, one per family; empty when headless.
    public var addresses: [IPAddress]
    public var isHeadless: Bool
    public var ports: [ServicePort]
    public var policy: TrafficPolicy

    public init(
        namespace: String, name: String, addresses: [IPAddress] = [], isHeadless: Bool = false, ports: [ServicePort] = [],
        policy: TrafficPolicy = .default
    ) {
        self.namespace = namespace
        self.name = name
        self.addresses = addresses
        self.isHeadless = isHeadless
        self.ports = ports
        self.policy = policy
    }
}

/// One port of a service with the endpoints that serve it.
public struct ServicePort: Sendable, Equatable {
    /// Empty for a service's only, unnamed port.
    public var name: String
    public var port: UInt16
    public var protocolHint: ProtocolHint
    public var endpoints: [Endpoint]

    public init(name: String = "", port: UInt16, protocolHint: ProtocolHint = .undeclared, endpoints: [Endpoint] = []) {
        self.name = name
        self.port = port
        self.protocolHint = protocolHint
        self.endpoints = endpoints
    }
}

/// What `appProtocol` or the port's name says will be spoken.
public enum ProtocolHint: UInt8, Sendable, CaseIterable {
    /// Nothing said: the first bytes decide.
    case undeclared = 0
    case http1 = 1
    case http2 = 2
    /// Opaque bytes; no detection, so server-first protocols do not wait.
    case tcp = 3
    /// The application's own TLS; opaque to Weft.
    case tls = 4
    /// HTTP/2 as `http2`; said apart because who reads the status wants to see what was declared.
    case grpc = 5

    /// What answers behind the port speaks HTTP/2 from its first byte (RFC 9113, 3.3).
    @inlinable public var isHTTP2: Bool { self == .http2 || self == .grpc }
}

/// One address of a service port.
public struct Endpoint: Sendable, Equatable {
    public var address: IPAddress
    /// The port the pod listens on (`targetPort`), not the service's.
    public var port: UInt16
    public var isReady: Bool
    public var isTerminating: Bool
    public var zone: String
    public var nodeName: String
    /// The zones and nodes whose callers should prefer it (`hints` of its slice); empty: nobody said.
    public var zoneHints: [String] = []
    public var nodeHints: [String] = []
    /// The `uid` of the workload behind it, when the slice names its pod.
    public var workloadUID: String?

    public init(
        address: IPAddress, port: UInt16, isReady: Bool = true, isTerminating: Bool = false, zone: String = "",
        nodeName: String = "", workloadUID: String? = nil
    ) {
        self.address = address
        self.port = port
        self.isReady = isReady
        self.isTerminating = isTerminating
        self.zone = zone
        self.nodeName = nodeName
        self.workloadUID = workloadUID
    }
}

/// What a namespace chose. The node's hooks act on it; the proxy reads what follows from it off each workload.
public struct NamespaceSettings: Sendable, Equatable {
    public var name: String
    public var isMeshed: Bool
    public var failure: FailurePolicy
    public var mode: ProtectionMode

    public init(name: String, isMeshed: Bool = false, failure: FailurePolicy = .open, mode: ProtectionMode = .permissive) {
        self.name = name
        self.isMeshed = isMeshed
        self.failure = failure
        self.mode = mode
    }
}

/// Whether a workload takes what is not protected by mutual TLS.
public enum ProtectionMode: UInt8, Sendable {
    /// Plaintext is taken too; its caller counts as unauthenticated.
    case permissive = 0
    /// Plaintext from outside is refused, as is everything while no proxy is alive.
    case strict = 1
}

/// What happens to a namespace's new connections while no proxy is alive.
public enum FailurePolicy: UInt8, Sendable {
    /// They pass unmeshed.
    case open = 0
    /// They are refused.
    case closed = 1
}
