// Routes as the snapshot carries them: per port of a Service what HTTPRoutes and GRPCRoutes attached to it say, in the order in which
// requests are compared. Who may attach what, and which of two matches goes first, was decided by whoever made these values.

/// What routes say about one port of a Service. A port without routes sends its requests to the Service's own endpoints; a request that
/// none of a port's matches takes is answered 404 (GEP-1426).
public struct ServiceRoutes: Sendable, Equatable {
    /// The Service that clients name.
    public var namespace: String
    public var name: String
    public var port: UInt16
    /// Consumer routes: only for callers in this namespace, for whom they stand in place of the producer's. Nil: the producer's routes.
    public var callersNamespace: String?
    /// The first that matches decides.
    public var matches: [RouteMatch]
    public var rules: [RouteRule]

    public init(namespace: String, name: String, port: UInt16, callersNamespace: String? = nil, matches: [RouteMatch] = [], rules: [RouteRule] = []) {
        self.namespace = namespace
        self.name = name
        self.port = port
        self.callersNamespace = callersNamespace
        self.matches = matches
        self.rules = rules
    }
}

/// One match of one rule. All of its parts must hold.
public struct RouteMatch: Sendable, Equatable {
    public var hostname: HostPattern
    public var path: PathPattern
    /// In upper case; nil: any.
    public var method: String?
    public var headers: [FieldPattern]
    /// Parameters of the query; of repeated ones the first is compared.
    public var query: [FieldPattern]
    /// The place of its rule in `ServiceRoutes.rules`.
    public var rule: Int

    public init(
        hostname: HostPattern = .any, path: PathPattern = .any, method: String? = nil, headers: [FieldPattern] = [], query: [FieldPattern] = [],
        rule: Int
    ) {
        self.hostname = hostname
        self.path = path
        self.method = method
        self.headers = headers
        self.query = query
        self.rule = rule
    }
}

/// The host a request asks for, compared without its port and without regard to case.
public enum HostPattern: Sendable, Hashable, Codable {
    case any
    /// In lower case.
    case exact(String)
    /// `*.example.com` is `.example.com` here: one label or more in front of it.
    case suffix(String)
}

/// The path a request asks for, normalised, without its query.
public enum PathPattern: Sendable, Hashable, Codable {
    case any
    case exact(String)
    /// Whole path elements: `/foo` takes `/foo`, `/foo/` and `/foo/bar`, not `/foobar`. Without a slash at the end.
    case prefix(String)
    /// The whole path must match.
    case expression(String)
}

/// A header field or query parameter.
public struct FieldPattern: Sendable, Hashable, Codable {
    /// A header's in lower case.
    public var name: String
    public var value: ValuePattern

    public init(name: String, value: ValuePattern) {
        self.name = name
        self.value = value
    }
}

/// A value compared, with regard to case.
public enum ValuePattern: Sendable, Hashable, Codable {
    case exact(String)
    /// The whole value must match.
    case expression(String)
}

/// One rule of one route: what becomes of the requests that its matches take.
public struct RouteRule: Sendable, Equatable {
    /// `HTTPRoute shop/cart`.
    public var route: String
    /// The rule's name, or else its field: `spec.rules[2]`.
    public var rule: String
    /// Own answers are a gRPC status (a GRPCRoute's rule).
    public var isGRPC: Bool
    public var action: RouteAction
    public var requestHeaders: FieldEdits
    public var responseHeaders: FieldEdits
    public var rewrite: URLRewrite?
    public var mirrors: [RequestMirror]
    public var cors: CORSRule?
    public var timeouts: RouteTimeouts
    public var retry: RetryRule?
    public var session: SessionRule?

    public init(
        route: String, rule: String, isGRPC: Bool = false, action: RouteAction, requestHeaders: FieldEdits = FieldEdits(),
        responseHeaders: FieldEdits = FieldEdits(), rewrite: URLRewrite? = nil, mirrors: [RequestMirror] = [], cors: CORSRule? = nil,
        timeouts: RouteTimeouts = RouteTimeouts(), retry: RetryRule? = nil, session: SessionRule? = nil
    ) {
        self.route = route
        self.rule = rule
        self.isGRPC = isGRPC
        self.action = action
        self.requestHeaders = requestHeaders
        self.responseHeaders = responseHeaders
        self.rewrite = rewrite
        self.mirrors = mirrors
        self.cors = cors
        self.timeouts = timeouts
        self.retry = retry
        self.session = session
    }
}

/// What a rule does with a request.
public enum RouteAction: Sendable, Equatable {
    /// To one of these, by weight. None, or all of weight 0: answered 500.
    case forward([WeightedBackend])
    case redirect(RequestRedirect)
}

/// One of the backends of a rule.
public struct WeightedBackend: Sendable, Equatable {
    public var target: BackendTarget
    /// Its share is weight / sum of weights.
    public var weight: UInt32
    public var requestHeaders: FieldEdits
    public var responseHeaders: FieldEdits

    public init(_ target: BackendTarget, weight: UInt32 = 1, requestHeaders: FieldEdits = FieldEdits(), responseHeaders: FieldEdits = FieldEdits()) {
        self.target = target
        self.weight = weight
        self.requestHeaders = requestHeaders
        self.responseHeaders = responseHeaders
    }
}

/// Where requests of a backend go.
public enum BackendTarget: Sendable, Equatable {
    /// The ready endpoints of a Service's port; the Service's own routes are not asked again.
    case service(namespace: String, name: String, port: UInt16)
    /// The reference does not lead anywhere, or may not: its share of requests is answered 500.
    case unresolved
}

/// Changes to the header fields of a message: what is set or removed first, then what is added (names in lower case, each in one list only).
public struct FieldEdits: Sendable, Hashable, Codable {
    public struct Field: Sendable, Hashable, Codable {
        public var name: String
        public var value: String

        public init(name: String, value: String) {
            self.name = name
            self.value = value
        }
    }

    public var set: [Field]
    public var add: [Field]
    public var remove: [String]

    public init(set: [Field] = [], add: [Field] = [], remove: [String] = []) {
        self.set = set
        self.add = add
        self.remove = remove
    }

    public var isEmpty: Bool { self.set.isEmpty && add.isEmpty && remove.isEmpty }
}

/// A new path, or a new beginning of it.
public enum PathEdit: Sendable, Hashable, Codable {
    case full(String)
    /// In place of the prefix that has matched.
    case prefix(String)
}

/// The answer that sends the client elsewhere. What is not said stays as it was asked for.
public struct RequestRedirect: Sendable, Hashable, Codable {
    public var scheme: String?
    public var hostname: String?
    public var path: PathEdit?
    public var port: UInt16?
    /// 301, 302, 303, 307 or 308.
    public var status: UInt16

    public init(scheme: String? = nil, hostname: String? = nil, path: PathEdit? = nil, port: UInt16? = nil, status: UInt16 = 302) {
        self.scheme = scheme
        self.hostname = hostname
        self.path = path
        self.port = port
        self.status = status
    }
}

/// What the backend sees instead of what was asked for.
public struct URLRewrite: Sendable, Hashable, Codable {
    public var hostname: String?
    public var path: PathEdit?

    public init(hostname: String? = nil, path: PathEdit? = nil) {
        self.hostname = hostname
        self.path = path
    }
}

/// A copy of some requests goes to another backend; its answer is dropped.
public struct RequestMirror: Sendable, Equatable {
    public var target: BackendTarget
    /// Copied are numerator of denominator requests.
    public var numerator: UInt32
    public var denominator: UInt32

    public init(target: BackendTarget, numerator: UInt32 = 100, denominator: UInt32 = 100) {
        self.target = target
        self.numerator = numerator
        self.denominator = denominator
    }
}

/// Cross-origin requests that browsers may make (Fetch standard, 3.2).
public struct CORSRule: Sendable, Hashable, Codable {
    /// `*`, or `scheme://host[:port]` with `*` as a label in front at most.
    public var origins: [String]
    public var methods: [String]
    public var headers: [String]
    public var exposedHeaders: [String]
    public var allowsCredentials: Bool
    public var maxAgeSeconds: UInt32

    public init(
        origins: [String] = [], methods: [String] = [], headers: [String] = [], exposedHeaders: [String] = [], allowsCredentials: Bool = false,
        maxAgeSeconds: UInt32 = 5
    ) {
        self.origins = origins
        self.methods = methods
        self.headers = headers
        self.exposedHeaders = exposedHeaders
        self.allowsCredentials = allowsCredentials
        self.maxAgeSeconds = maxAgeSeconds
    }
}

/// How long things may take (GEP-1742). Nil: the mesh's own limits; 0: no limit.
public struct RouteTimeouts: Sendable, Hashable, Codable {
    /// From the request's head to the end of its reply, retries included.
    public var requestMilliseconds: UInt32?
    /// One attempt at a backend, to the end of its reply.
    public var backendRequestMilliseconds: UInt32?

    public init(requestMilliseconds: UInt32? = nil, backendRequestMilliseconds: UInt32? = nil) {
        self.requestMilliseconds = requestMilliseconds
        self.backendRequestMilliseconds = backendRequestMilliseconds
    }
}

/// When a request is sent once more (GEP-1731). Within the Service's retry budget, and never after a reply has begun.
public struct RetryRule: Sendable, Hashable, Codable {
    /// Statuses of a reply that call for another attempt.
    public var statuses: [UInt16]
    /// Statuses of a gRPC call that do so, where it ends with its head.
    public var grpcStatuses: [UInt8]
    /// Attempts after the first.
    public var attempts: UInt8
    /// The least pause before each.
    public var backoffMilliseconds: UInt32

    public init(statuses: [UInt16] = [], grpcStatuses: [UInt8] = [], attempts: UInt8 = 1, backoffMilliseconds: UInt32 = 0) {
        self.statuses = statuses
        self.grpcStatuses = grpcStatuses
        self.attempts = attempts
        self.backoffMilliseconds = backoffMilliseconds
    }
}

/// Requests of one session go to one endpoint (GEP-1619).
public struct SessionRule: Sendable, Hashable, Codable {
    public var usesCookie: Bool
    /// Of the cookie or header.
    public var name: String
    /// 0: no such end.
    public var absoluteTimeoutSeconds: UInt32
    public var idleTimeoutSeconds: UInt32
    /// The cookie outlives the browser's session (`Max-Age` is the absolute timeout).
    public var isPermanent: Bool

    public init(usesCookie: Bool = true, name: String, absoluteTimeoutSeconds: UInt32 = 0, idleTimeoutSeconds: UInt32 = 0, isPermanent: Bool = false) {
        self.usesCookie = usesCookie
        self.name = name
        self.absoluteTimeoutSeconds = absoluteTimeoutSeconds
        self.idleTimeoutSeconds = idleTimeoutSeconds
        self.isPermanent = isPermanent
    }
}
