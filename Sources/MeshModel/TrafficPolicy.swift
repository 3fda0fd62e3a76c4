/// What a Service does for those who call it, beyond routing: intent from MeshPolicy, and defaults for who wrote none.
///
/// The defaults are meant to be right for most services; each is measured or taken from what the field has settled on.
public struct TrafficPolicy: Sendable, Hashable, Codable {
    // MARK: Retries
    /// Retries may make up this share of the requests in flight …
    public var retryBudgetPercent: UInt8 = 20
    /// … or this many a second, whichever is more.
    public var retryBudgetPerSecondMin: UInt16 = 3
    /// For requests whose route says nothing about retries. Nil: only what nobody has seen is sent again.
    public var retry: RetryRule?

    // MARK: Circuit breaking, over all workers of a node; 0: no limit
    public var connectionsMax: UInt32 = 0
    public var pendingRequestsMax: UInt32 = 0
    public var requestsInFlightMax: UInt32 = 0

    // MARK: Ejection of endpoints that fail
    /// Failures (5xx, gRPC UNAVAILABLE and the like, broken or refused connections) in a row; 0: never.
    public var consecutiveFailures: UInt16 = 5
    /// An endpoint whose success rate lies this many hundredths of a standard deviation below the mean is ejected; 0: never.
    public var successRateDeviationHundredths: UInt16 = 190
    /// An endpoint whose latency is this many times the median's is ejected; 0: never.
    public var latencyFactor: UInt8 = 0
    public var ejectionMilliseconds: UInt32 = 30_000
    public var ejectedPercentMax: UInt8 = 50
    /// With a smaller share of healthy endpoints than this, health is not asked: all of them get requests.
    public var panicPercent: UInt8 = 50
    /// A new or returning endpoint's share grows to the full one over this time; 0: at once.
    public var slowStartMilliseconds: UInt32 = 0

    // MARK: Balancing
    public var algorithm = BalancingAlgorithm.leastRequests
    /// What `ringHash` and `maglev` hash.
    public var hashKey = HashKey.source
    /// The name of the header or cookie that is hashed.
    public var hashName = ""
    public var locality = LocalityPreference.none

    // MARK: Active health checks
    public var healthCheck: HealthCheck?

    // MARK: At a request's head
    /// All that apply must have a token.
    public var rateLimits: [RateLimit] = []
    /// The first that matches is injected.
    public var faults: [FaultInjection] = []

    // MARK: When nothing healthy is left
    public var fallback: Fallback?

    /// Requests of one session go to one endpoint, where no route says it otherwise (GEP-1619 by XBackendTrafficPolicy).
    /// In the snapshot it is a rule's, as any other session.
    public var session: SessionRule?

    public init() {}

    /// What a Service without a MeshPolicy gets.
    public static let `default` = TrafficPolicy()
}

/// How one of several endpoints is chosen.
public enum BalancingAlgorithm: UInt8, Sendable, Codable, CaseIterable {
    /// The one of two random endpoints with fewer requests in flight.
    case leastRequests = 0
    /// The one of two random endpoints whose latency, weighed by its requests in flight, is lower.
    case peakEWMA = 1
    case roundRobin = 2
    case random = 3
    case ringHash = 4
    case maglev = 5
}

/// What of a request is hashed.
public enum HashKey: UInt8, Sendable, Codable, CaseIterable {
    /// The calling pod's address.
    case source = 0
    case header = 1
    case cookie = 2
    /// The path without its query.
    case path = 3
}

/// Which endpoints are preferred (`spec.trafficDistribution` of a Service, topology hints of its slices).
public enum LocalityPreference: UInt8, Sendable, Codable, CaseIterable {
    case none = 0
    /// `PreferClose`, `PreferSameZone`: the own zone while it has enough healthy endpoints, then others.
    case sameZone = 1
    /// `PreferSameNode`: the own node, then the own zone, then others.
    case sameNode = 2
}

/// How the mesh asks an endpoint whether it is well.
public struct HealthCheck: Sendable, Hashable, Codable {
    public enum Kind: UInt8, Sendable, Codable, CaseIterable {
        /// A connection can be made.
        case tcp = 0
        /// GET of `path` is answered 2xx.
        case http = 1
        /// `grpc.health.v1.Health/Check` of the service `path` says SERVING.
        case grpc = 2
    }

    public var kind: Kind
    public var path: String
    public var intervalMilliseconds: UInt32
    public var timeoutMilliseconds: UInt32
    public var unhealthyAfter: UInt8
    public var healthyAfter: UInt8

    public init(
        kind: Kind, path: String = "", intervalMilliseconds: UInt32 = 5_000, timeoutMilliseconds: UInt32 = 1_000, unhealthyAfter: UInt8 = 3,
        healthyAfter: UInt8 = 2
    ) {
        self.kind = kind
        self.path = path
        self.intervalMilliseconds = intervalMilliseconds
        self.timeoutMilliseconds = timeoutMilliseconds
        self.unhealthyAfter = unhealthyAfter
        self.healthyAfter = healthyAfter
    }
}

/// Requests that a limit or a fault is about. All of its parts must hold.
public struct TrafficMatch: Sendable, Hashable, Codable {
    /// `HTTPRoute shop/cart`: those that a rule of this route takes; empty: all that name the Service.
    public var route: String
    /// The rule's name, or its field (`spec.rules[2]`); empty: any of the route's.
    public var rule: String
    public var path: PathPattern
    /// In upper case; nil: any.
    public var method: String?
    /// Exact values; an expression is none that this can say.
    public var headers: [FieldEdits.Field]

    public init(route: String = "", rule: String = "", path: PathPattern = .any, method: String? = nil, headers: [FieldEdits.Field] = []) {
        self.route = route
        self.rule = rule
        self.path = path
        self.method = method
        self.headers = headers
    }
}

/// A token bucket: so many requests in an interval, and as many at once as it holds. Exact over the workers of one node.
public struct RateLimit: Sendable, Hashable, Codable {
    /// Who shares a bucket.
    public enum Key: UInt8, Sendable, Codable, CaseIterable {
        /// All requests.
        case everyone = 0
        /// Those of one calling service account; of one address where nobody is proven.
        case caller = 1
        /// Those with the same value of the header `keyName`; those without it share one too.
        case header = 2
    }

    public var requests: UInt32
    public var intervalMilliseconds: UInt32
    /// Tokens that a bucket holds.
    public var burst: UInt32
    public var key: Key
    /// In lower case.
    public var keyName: String
    public var match: TrafficMatch

    public init(
        requests: UInt32, intervalMilliseconds: UInt32 = 1_000, burst: UInt32? = nil, key: Key = .everyone, keyName: String = "",
        match: TrafficMatch = TrafficMatch()
    ) {
        self.requests = requests
        self.intervalMilliseconds = intervalMilliseconds
        self.burst = burst ?? requests
        self.key = key
        self.keyName = keyName
        self.match = match
    }
}

/// What goes wrong on purpose, for a share of the requests.
public struct FaultInjection: Sendable, Hashable, Codable {
    public var delayMilliseconds: UInt32
    /// Of a million requests, those that are delayed.
    public var delayPerMillion: UInt32
    /// 0: the abort is a gRPC status.
    public var abortStatus: UInt16
    public var abortGRPCStatus: UInt8
    /// Of a million requests, those that are answered instead of forwarded; drawn apart from the delay.
    public var abortPerMillion: UInt32
    public var match: TrafficMatch

    public init(
        delayMilliseconds: UInt32 = 0, delayPerMillion: UInt32 = 0, abortStatus: UInt16 = 0, abortGRPCStatus: UInt8 = 0, abortPerMillion: UInt32 = 0,
        match: TrafficMatch = TrafficMatch()
    ) {
        self.delayMilliseconds = delayMilliseconds
        self.delayPerMillion = delayPerMillion
        self.abortStatus = abortStatus
        self.abortGRPCStatus = abortGRPCStatus
        self.abortPerMillion = abortPerMillion
        self.match = match
    }
}

/// What a client gets when no endpoint could be reached.
public enum Fallback: Sendable, Hashable, Codable {
    case reply(status: UInt16, contentType: String, body: String)
    /// The ready endpoints of another Service's port.
    case service(namespace: String, name: String, port: UInt16)
}
