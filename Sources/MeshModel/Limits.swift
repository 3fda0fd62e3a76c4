/// Limits that more than one room lives by: a name, a unit, a reason. What only one module needs stays in that module.
public enum Limits {
    // MARK: The proxy's shape

    /// Worker threads; also the slots of the heartbeat map and the areas of the counters.
    public static let workersMax = 16
    /// Pods of one node that Weft carries. Kubernetes recommends 110, large nodes run 250.
    public static let podsMax = 1_024
    /// Identities that one proxy has known in its life: service accounts of its pods. Their numbers are never given twice, so that what is kept
    /// under one cannot become another's; a node that sees more than these needs a new proxy.
    public static let identitiesMax = 1 << 14

    // MARK: The snapshot

    /// Shards per family. 10,000 services leave about 40 in a bucket, so one change rewrites a few kilobytes.
    public static let bucketsPerFamily = 256
    /// One shard's bytes: 10,000 endpoints of one service are 240 KB, so this is for mistakes, not for growth.
    public static let shardBytesMax = 32 << 20
    /// Endpoints with a state of their own at one time, those still draining included: 64 MiB of address space,
    /// of which only touched pages exist.
    public static let endpointsMax = 1 << 20
    /// A DNS name without its final dot (RFC 1035, 2.3.4).
    public static let hostBytesMax = 253

    /// Access rules that select one workload. Each request asks them one after the other: about 100 ns per rule that compares an identity, 250 with method and path.
    public static let accessRulesPerWorkloadMax = 1_024
    /// Comparisons of one access rule.
    public static let accessTermsPerRuleMax = 1_024

    /// Rate limits of one service; each request that it concerns asks all of them, at about 40 ns.
    public static let rateLimitsPerServiceMax = 64
    /// Faults injected for one service; the first that matches is taken.
    public static let faultsPerServiceMax = 64
    /// Headers that one limit or fault compares.
    public static let conditionsPerMatchMax = 16
    /// What a full bucket may stand for: a day. Longer ones would remember more than a restart does.
    public static let burstNanosecondsMax: UInt64 = 86_400_000_000_000

    /// Matches of one port's routes: 64 routes of 16 rules with 8 matches are 8,192.
    public static let routeMatchesPerPortMax = 16_384
    /// Rules of one port's routes.
    public static let routeRulesPerPortMax = 4_096
    /// With more matches than this, a port's routes are found by their paths, not one after the other.
    public static let routeMatchesInTurnMax = 6
    /// Headers and query parameters of one match; the Gateway API has 16 of each.
    public static let fieldPatternsPerMatchMax = 64
    /// Backends of one rule, its mirrors apart; the Gateway API has 16.
    public static let backendsPerRuleMax = 256
    /// Changes to the header fields of one message by one rule or backend; the Gateway API has 48.
    public static let fieldEditsMax = 128
    /// Bytes of a request's path or field value that routes look at: a head has no more.
    public static let routedTextBytesMax = 1 << 16

    // MARK: Balancing

    /// With more ready endpoints than this, a node's callers use some of them: connections would otherwise grow with callers times endpoints.
    public static let apertureAboveEndpoints = 1_000
    /// So many; at 250 the busiest of them has hardly more than its share (two choices), and a tenth of them may fail unnoticed.
    public static let apertureEndpoints = 250

    // MARK: What one pod may take of one worker: a budget for the whole proxy would be a count that all workers write

    /// Connections of one pod, to its clients and to its endpoints. 10,000 idle ones are a supported case (S6), with as much again
    /// for bursts.
    public static let connectionsPerPodMax = 20_000
    /// Bytes of one pod that wait in the worker's buffers, over all its connections.
    public static let bufferedBytesPerPodMax = 32 << 20
    /// Requests of one pod that wait for an upstream connection. A client that fills this queue gets half of it: enough for a thousand calls that
    /// begin at once, while the first handshake is under way.
    public static let pendingRequestsPerPodMax = 2_048
    /// Streams of one pod's HTTP/2 connections that are open.
    public static let streamsPerPodMax = 20_000
    /// Streams of all pods that one worker carries at a time; what this reserves is address space.
    public static let streamsPerWorkerMax = 1 << 17
    /// Idle upstream connections kept for one pod.
    public static let idleUpstreamsPerPodMax = 512

    // MARK: Time

    /// A request's head, from its first byte; then 408.
    public static let headTimeoutMilliseconds = 10_000
    /// A keep-alive connection without a request.
    public static let idleTimeoutMilliseconds = 300_000
    /// A connect() to an endpoint.
    public static let connectTimeoutMilliseconds = 3_000
    /// From the whole request sent until the reply's head; then 504.
    public static let replyTimeoutMilliseconds = 300_000
    /// How long the first bytes may take before a connection of undeclared protocol is opaque.
    public static let detectionTimeoutMilliseconds = 100
    /// Workers stamp the heartbeat every 100 ms (`EventLoop.Heartbeat`) and count as gone after this silence.
    public static let heartbeatSilenceMillisecondsMax = 2_000

    // MARK: Second tries

    /// Attempts of one request on an endpoint, the first included.
    public static let attemptsPerRequestMax = 2
    /// How often a server may give one request back unprocessed (GOAWAY, REFUSED_STREAM) and get it again, on a connection that takes it.
    public static let refusalsPerRequestMax = 32

    /// The limits as one system: each line is a promise that two of them make to each other. Promises to the limits of
    /// other modules are kept by a test (`SharedLimitsTests`), for this module knows none of those.
    /// Called once at the start of `weft-proxy`.
    public static func check() {
        precondition(bucketsPerFamily.nonzeroBitCount == 1, "a bucket is chosen by the hash's top bits")
        precondition(bucketsPerFamily <= 1 << 16, "a shard's index is a UInt16 on the control channel")
        precondition(connectTimeoutMilliseconds * attemptsPerRequestMax < replyTimeoutMilliseconds, "a second try needs time left")
        precondition(endpointsMax < UInt32.max, "an endpoint's slot is a UInt32")
    }
}
