/// Which side of a request this proxy saw (Istio's `reporter`).
public enum Reporter: UInt8, Sendable, CaseIterable {
    case source, destination
    var text: String { self == .source ? "source" : "destination" }
}

/// Istio's `request_protocol`.
public enum RequestProtocol: UInt8, Sendable, CaseIterable {
    case http, grpc, tcp
    var text: String {
        switch self {
        case .http: "http"
        case .grpc: "grpc"
        case .tcp: "tcp"
        }
    }
}

/// What a connection was taken for.
public enum DecidedProtocol: UInt8, Sendable, CaseIterable {
    case http1, http2
    /// The application's own TLS: its bytes pass, its SNI may choose the service.
    case tls
    /// Opaque bytes.
    case tcp

    /// As a label: `http/1.1`, `http/2`, `tls`, `tcp`.
    public var text: String {
        switch self {
        case .http1: "http/1.1"
        case .http2: "http/2"
        case .tls: "tls"
        case .tcp: "tcp"
        }
    }
}

/// Why it was taken for that.
public enum DecisionReason: UInt8, Sendable, CaseIterable {
    /// `appProtocol` or the port's name said so.
    case declared
    /// The client's first bytes.
    case firstBytes
    /// The server spoke before the client.
    case serverFirst
    /// The same, and it was expected: a server of this port had lately done so.
    case remembered
    /// The client had said nothing when its server ended, failed or gave up on it.
    case clientSilent
    /// The client ended its side before one could tell what it speaks.
    case clientEnded

    /// As a label: `first-bytes`, `server-first` …
    public var text: String {
        switch self {
        case .declared: "declared"
        case .firstBytes: "first-bytes"
        case .serverFirst: "server-first"
        case .remembered: "remembered"
        case .clientSilent: "client-silent"
        case .clientEnded: "client-ended"
        }
    }
}

/// Istio's `connection_security_policy`: what protected the connection, as the destination sees it.
public enum SecurityPolicy: UInt8, Sendable, CaseIterable {
    case unknown, none, mutualTLS
    var text: String {
        switch self {
        case .unknown: "unknown"
        case .none: "none"
        case .mutualTLS: "mutual_tls"
        }
    }
}

/// Envoy's short words for what went wrong, as Istio's dashboards know them.
public enum ResponseFlags: UInt8, Sendable, CaseIterable {
    case none
    /// No healthy endpoint.
    case noHealthyUpstream
    case upstreamConnectionFailure
    case upstreamConnectionTermination
    case upstreamRequestTimeout
    case upstreamRemoteReset
    case upstreamRetryLimitExceeded
    case upstreamOverflow
    case noRouteFound
    case downstreamConnectionTermination
    case localReset
    case rateLimited
    case unauthorized
    case downstreamProtocolError
    case upstreamProtocolError
    case overload
    case streamIdleTimeout
    case faultInjected

    var text: String {
        switch self {
        case .none: "-"
        case .noHealthyUpstream: "UH"
        case .upstreamConnectionFailure: "UF"
        case .upstreamConnectionTermination: "UC"
        case .upstreamRequestTimeout: "UT"
        case .upstreamRemoteReset: "UR"
        case .upstreamRetryLimitExceeded: "URX"
        case .upstreamOverflow: "UO"
        case .noRouteFound: "NR"
        case .downstreamConnectionTermination: "DC"
        case .localReset: "LR"
        case .rateLimited: "RL"
        case .unauthorized: "UAEX"
        case .downstreamProtocolError: "DPE"
        case .upstreamProtocolError: "UPE"
        case .overload: "OM"
        case .streamIdleTimeout: "SI"
        case .faultInjected: "FI"
        }
    }
}

/// An interned set of label values: a peer's or a service's. Belongs to the worker that made it, and stays valid for the
/// life of the process.
public struct LabelSet: Sendable, Equatable {
    @usableFromInline let number: UInt32

    @inlinable
    init(number: UInt32) { self.number = number }

    /// Every label `unknown`: nobody knows who it is.
    public static let unknown = LabelSet(number: 0)
    /// No room was left for this set: its series counts as `overflow`.
    public static let overflow = LabelSet(number: .max)
}

/// The identity of one series: who called whom, how, and with what result. Three words, compared and hashed as such.
public struct SeriesKey: Sendable, Equatable {
    @usableFromInline let peers: UInt64
    @usableFromInline let service: UInt64
    @usableFromInline let kind: UInt64

    /// For HTTP and gRPC requests.
    /// - Parameters:
    ///   - responseCode: 0 when no response was sent (Istio's convention for a client that left).
    ///   - grpcStatus: `nil` where it does not apply; the label is then empty. A code that gRPC does not define counts as 2
    ///     (UNKNOWN), which is how clients take it: a server must not make a series of every number.
    @inlinable
    public init(
        reporter: Reporter, source: LabelSet, destination: LabelSet, service: LabelSet, requestProtocol: RequestProtocol,
        responseCode: UInt16, grpcStatus: UInt8? = nil, flags: ResponseFlags = .none, security: SecurityPolicy = .unknown
    ) {
        peers = UInt64(source.number) | UInt64(destination.number) << 32
        self.service = UInt64(service.number) | UInt64(responseCode) << 32 | UInt64(grpcStatus.map { $0 > 16 ? 2 : $0 } ?? .max) << 48
        kind =
            UInt64(reporter.rawValue) | UInt64(requestProtocol.rawValue) << 8 | UInt64(flags.rawValue) << 16
            | UInt64(security.rawValue) << 24
    }

    /// For opaque connections.
    @inlinable
    public init(
        tcp reporter: Reporter, source: LabelSet, destination: LabelSet, service: LabelSet, flags: ResponseFlags = .none,
        security: SecurityPolicy = .unknown
    ) {
        self.init(
            reporter: reporter, source: source, destination: destination, service: service, requestProtocol: .tcp,
            responseCode: 0, flags: flags, security: security)
    }

    /// For decisions about protocols.
    /// - Parameter port: the service's port; the one asked for where no service is known.
    @inlinable
    public init(decision: DecidedProtocol, reason: DecisionReason, service: LabelSet, port: UInt16) {
        self.init(
            peers: 0, service: UInt64(service.number), kind: UInt64(port) | UInt64(decision.rawValue) << 16 | UInt64(reason.rawValue) << 24)
    }

    @inlinable
    init(peers: UInt64, service: UInt64, kind: UInt64) {
        self.peers = peers
        self.service = service
        self.kind = kind
    }

    /// A part could not be interned, so the series has no labels of its own.
    @inlinable
    var isOverflow: Bool {
        UInt32(truncatingIfNeeded: peers) == .max || peers >> 32 == 0xffff_ffff || UInt32(truncatingIfNeeded: service) == .max
    }

    @inlinable
    var hash: UInt64 {
        let product = (peers ^ 0xa076_1d64_78bd_642f).multipliedFullWidth(by: service ^ kind &<< 7 ^ 0xe703_7ed1_a0b4_28db)
        return product.high ^ product.low
    }
}

/// Labels of one side of a request. Empty texts become `unknown`. The bytes are borrowed for the call.
public struct PeerLabels {
    public var workload, namespace, principal, app, version, canonicalService, canonicalRevision, cluster: UnsafeRawBufferPointer

    public static let count = 8

    @inlinable
    public init(
        workload: UnsafeRawBufferPointer, namespace: UnsafeRawBufferPointer, principal: UnsafeRawBufferPointer,
        app: UnsafeRawBufferPointer, version: UnsafeRawBufferPointer, canonicalService: UnsafeRawBufferPointer,
        canonicalRevision: UnsafeRawBufferPointer, cluster: UnsafeRawBufferPointer
    ) {
        self.workload = workload
        self.namespace = namespace
        self.principal = principal
        self.app = app
        self.version = version
        self.canonicalService = canonicalService
        self.canonicalRevision = canonicalRevision
        self.cluster = cluster
    }
}

/// Labels of the service asked for. Empty texts become `unknown`. The bytes are borrowed for the call.
public struct ServiceLabels {
    /// `cart.shop.svc.cluster.local`.
    public var host: UnsafeRawBufferPointer
    public var name, namespace: UnsafeRawBufferPointer

    public static let count = 3

    @inlinable
    public init(host: UnsafeRawBufferPointer, name: UnsafeRawBufferPointer, namespace: UnsafeRawBufferPointer) {
        self.host = host
        self.name = name
        self.namespace = namespace
    }
}
