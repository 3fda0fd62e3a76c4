/// What a Service does for those who call it, beyond routing: intent from MeshPolicy, and defaults for who wrote none.
///
/// The defaults are meant to be right for most services; each is measured or taken from what the field has settled on.
public struct TrafficPolicy: Sendable, Equatable {
    // MARK: Retries
    /// Retries may make up this share of the requests in flight …
    public var retryBudgetPercent: UInt8 = 20
    /// … or this many a second, whichever is more.
    public var retryBudgetPerSecondMin: UInt16 = 3

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

    public init() {}

    /// What a Service without a MeshPolicy gets.
    public static let `default` = TrafficPolicy()
}

/// How one of several endpoints is chosen.
public enum BalancingAlgorithm: UInt8, Sendable, CaseIterable {
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
public enum HashKey: UInt8, Sendable, CaseIterable {
    /// The calling pod's address.
    case source = 0
    case header = 1
    case cookie = 2
    /// The path without its query.
    case path = 3
}

/// Which endpoints are preferred (`spec.trafficDistribution` of a Service, topology hints of its slices).
public enum LocalityPreference: UInt8, Sendable, CaseIterable {
    case none = 0
    /// `PreferClose`, `PreferSameZone`: the own zone while it has enough healthy endpoints, then others.
    case sameZone = 1
    /// `PreferSameNode`: the own node, then the own zone, then others.
    case sameNode = 2
}

/// How the mesh asks an endpoint whether it is well.
public struct HealthCheck: Sendable, Equatable {
    public enum Kind: UInt8, Sendable, CaseIterable {
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
