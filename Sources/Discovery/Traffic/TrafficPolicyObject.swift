import MeshModel

/// A `MeshPolicy`, or an `XBackendTrafficPolicy`: what a Service does for those who call it. Decoded strictly: a field that nobody knows could
/// be the misspelt half of a protection that its author counts on.
struct TrafficPolicyObject: Sendable, Hashable, Codable {
    var metadata: ObjectMetadata
    /// `meshPolicy` or `backendTrafficPolicy`.
    var kind: ObjectKind
    /// None: the Services of its namespace that have no policy of their own.
    var targets: [Target]
    var policy: TrafficPolicy

    /// What a policy is about, in its own namespace.
    struct Target: Sendable, Hashable, Codable {
        var kind: Kind
        var name: String
        /// A rule of a route, by its name; empty: all of them.
        var sectionName: String
        var field: String
        var line: Int

        enum Kind: String, Sendable, Hashable, Codable, CaseIterable {
            case service = "Service"
            case httpRoute = "HTTPRoute"
            case grpcRoute = "GRPCRoute"
        }
    }

    /// As faults name it.
    var name: String { "\(kind.rawValue) \(metadata.namespace)/\(metadata.name)" }

    init(meshPolicy metadata: ObjectMetadata, reading object: ObjectReader) {
        (self.metadata, kind, targets, policy) = (metadata, .meshPolicy, [], TrafficPolicy())
        guard let spec = object.requiredObject("spec") else { return }
        let aboutServices = ["retries", "circuitBreaker", "outlierEjection", "slowStart", "healthCheck", "balancing", "locality", "fallback"]
        let aboutRequests = ["rateLimits", "faults"]
        spec.allowOnly(["targetRefs"] + aboutServices + aboutRequests)
        if spec.has("targetRefs"), spec.elements("targetRefs").isEmpty {
            spec.fault("targetRefs", "is empty", remedy: "name a Service, or leave it out to mean those of the namespace that have no policy of their own")
        }
        spec.limit("targetRefs", to: TrafficLimits.targetsMax)
        targets = spec.objects("targetRefs").compactMap { Self.target($0, mayBeRoute: true) }
        if targets.contains(where: { $0.kind != .service }) {
            for field in aboutServices where spec.has(field) {
                spec.fault(field, "is about a Service, and the policy is about a route", remedy: "write it into a policy whose targetRefs name the Service")
            }
        }
        if !(aboutServices + aboutRequests).contains(where: spec.has) {
            spec.fault("targetRefs", "is all there is: the policy says nothing", remedy: "write one of \((aboutServices + aboutRequests).joined(separator: ", "))")
        }
        if let retries = spec.object("retries") { TrafficReading.retries(retries, &policy) }
        if let breaker = spec.object("circuitBreaker") { TrafficReading.breaker(breaker, &policy) }
        if let ejection = spec.object("outlierEjection") { TrafficReading.ejection(ejection, &policy) }
        policy.slowStartMilliseconds = spec.milliseconds("slowStart") ?? 0
        if let check = spec.object("healthCheck") { policy.healthCheck = TrafficReading.healthCheck(check) }
        if let balancing = spec.object("balancing") { TrafficReading.balancing(balancing, &policy) }
        if let locality = spec.choice("locality", TrafficReading.Locality.self) { policy.locality = locality.preference }
        if let fallback = spec.object("fallback") { policy.fallback = TrafficReading.fallback(fallback, in: metadata.namespace) }
        spec.limit("rateLimits", to: TrafficLimits.rateLimitsMax)
        policy.rateLimits = spec.objects("rateLimits").compactMap(RequestPolicyReading.rateLimit)
        spec.limit("faults", to: TrafficLimits.faultsMax)
        policy.faults = spec.objects("faults").compactMap(RequestPolicyReading.fault)
    }

    /// The Gateway API's own (GEP-3388, GEP-1619).
    init(backendTrafficPolicy metadata: ObjectMetadata, reading object: ObjectReader) {
        (self.metadata, kind, targets, policy) = (metadata, .backendTrafficPolicy, [], TrafficPolicy())
        guard let spec = object.requiredObject("spec") else { return }
        spec.allowOnly(["targetRefs", "retryConstraint", "sessionPersistence"])
        spec.limit("targetRefs", to: TrafficLimits.targetsMax)
        if spec.elements("targetRefs").isEmpty { spec.fault("targetRefs", "is missing", remedy: "name the Services that the policy is about") }
        targets = spec.objects("targetRefs").compactMap { Self.target($0, mayBeRoute: false) }
        policy.session = RouteTiming.session(spec)
        guard let constraint = spec.object("retryConstraint") else { return }
        constraint.allowOnly(["budget", "minRetryRate"])
        if let budget = constraint.object("budget") {
            budget.allowOnly(["percent", "interval"])
            policy.retryBudgetPercent = UInt8(budget.integer("percent", in: 0...100, called: "a percentage") ?? 20)
            if budget.has("interval") {
                budget.fault("interval", "is not used: Weft counts the requests in flight, whenever they began", remedy: "leave it out")
            }
        }
        guard let rate = constraint.object("minRetryRate") else { return }
        rate.allowOnly(["count", "interval"])
        let count = rate.integer("count", in: 1...1_000_000, called: "a number of retries") ?? 10
        let milliseconds = max(1, Int(rate.milliseconds("interval") ?? 1_000))
        let perSecond = count * 1_000 / milliseconds
        if perSecond > UInt16.max || perSecond == 0 {
            rate.fault("count", "is \(count) in \(milliseconds) ms", remedy: "write a rate of 1 to \(UInt16.max) retries a second")
        }
        policy.retryBudgetPerSecondMin = UInt16(clamping: perSecond)
    }

    private static func target(_ reader: ObjectReader, mayBeRoute: Bool) -> Target? {
        reader.allowOnly(mayBeRoute ? ["group", "kind", "name", "sectionName"] : ["group", "kind", "name"])
        guard let kind = reader.choice("kind", Target.Kind.self) ?? (reader.has("kind") ? nil : .service) else { return nil }
        guard let name = reader.requiredString("name", remedy: "write the name of the \(kind.rawValue)") else { return nil }
        let group = reader.string("group") ?? (kind == .service ? "" : RouteObject.Parent.gatewayGroup)
        let rightGroups = kind == .service ? ["", "core"] : [RouteObject.Parent.gatewayGroup]
        if !rightGroups.contains(group) {
            reader.fault("group", "“\(group.prefix(64))” is not the group of a \(kind.rawValue)", remedy: kind == .service ? "leave it out" : "write \(RouteObject.Parent.gatewayGroup)")
        }
        if kind != .service, !mayBeRoute { reader.fault("kind", "“\(kind.rawValue)” cannot be a target", remedy: "write Service") }
        let section = reader.nonEmpty("sectionName") ?? ""
        if kind == .service, !section.isEmpty { reader.fault("sectionName", "names a port, and a policy is about a whole Service", remedy: "leave it out") }
        return Target(kind: kind, name: name, sectionName: section, field: reader.path, line: reader.line)
    }
}

/// Bounds of traffic policies.
enum TrafficLimits {
    static let targetsMax = 16
    static let rateLimitsMax = 16
    static let faultsMax = 16
    /// Headers that one limit or fault compares.
    static let headersMax = Limits.conditionsPerMatchMax
    /// A fallback's body.
    static let bodyBytesMax = 4_096
    /// Attempts after the first.
    static let retriesMax = 10
}
