/// What a service does for those who call it, read in place. Each property is the field of `TrafficPolicy` of the same name; a service without
/// a policy answers with the defaults, which are constants.
public struct PolicyView: @unchecked Sendable {
    @usableFromInline let shard: ShardView
    @usableFromInline let record: UnsafePointer<PolicyRecord>?

    @inlinable
    init(shard: ShardView, record: UnsafePointer<PolicyRecord>?) {
        self.shard = shard
        self.record = record
    }

    /// Nobody wrote a policy for the service.
    @inlinable public var isDefault: Bool { record == nil }

    // MARK: Retries
    @inlinable public var retryBudgetPercent: UInt8 { record?.pointee.retryBudgetPercent ?? PolicyRecord().retryBudgetPercent }
    @inlinable public var retryBudgetPerSecondMin: UInt16 { record?.pointee.retryBudgetPerSecondMin ?? PolicyRecord().retryBudgetPerSecondMin }
    /// The policy says when to retry.
    @inlinable public var hasRetry: Bool { flags & PolicyRecord.hasRetry != 0 }
    @inlinable public var retryStatuses: StatusSet { record?.pointee.retryStatuses ?? PolicyRecord().retryStatuses }
    @inlinable public var retryAttempts: UInt8 { record?.pointee.retryAttempts ?? PolicyRecord().retryAttempts }
    @inlinable public var retryBackoffMilliseconds: UInt32 { record?.pointee.retryBackoffMilliseconds ?? PolicyRecord().retryBackoffMilliseconds }
    /// A bit for each.
    @inlinable public var retryGRPCStatuses: UInt32 { record?.pointee.retryGRPCStatuses ?? PolicyRecord().retryGRPCStatuses }

    // MARK: Circuit breaking
    @inlinable public var connectionsMax: UInt32 { record?.pointee.connectionsMax ?? PolicyRecord().connectionsMax }
    @inlinable public var pendingRequestsMax: UInt32 { record?.pointee.pendingRequestsMax ?? PolicyRecord().pendingRequestsMax }
    @inlinable public var requestsInFlightMax: UInt32 { record?.pointee.requestsInFlightMax ?? PolicyRecord().requestsInFlightMax }

    // MARK: Ejection
    @inlinable public var consecutiveFailures: UInt16 { record?.pointee.consecutiveFailures ?? PolicyRecord().consecutiveFailures }
    @inlinable public var successRateDeviationHundredths: UInt16 { record?.pointee.successRateDeviationHundredths ?? PolicyRecord().successRateDeviationHundredths }
    @inlinable public var latencyFactor: UInt8 { record?.pointee.latencyFactor ?? PolicyRecord().latencyFactor }
    @inlinable public var ejectionMilliseconds: UInt32 { record?.pointee.ejectionMilliseconds ?? PolicyRecord().ejectionMilliseconds }
    @inlinable public var ejectedPercentMax: UInt8 { record?.pointee.ejectedPercentMax ?? PolicyRecord().ejectedPercentMax }
    @inlinable public var panicPercent: UInt8 { record?.pointee.panicPercent ?? PolicyRecord().panicPercent }
    @inlinable public var slowStartMilliseconds: UInt32 { record?.pointee.slowStartMilliseconds ?? PolicyRecord().slowStartMilliseconds }

    // MARK: Balancing
    // Validated.
    @inlinable public var algorithm: BalancingAlgorithm { BalancingAlgorithm(rawValue: record?.pointee.algorithm ?? 0).unsafelyUnwrapped }
    @inlinable public var hashKey: HashKey { HashKey(rawValue: record?.pointee.hashKey ?? 0).unsafelyUnwrapped }
    @inlinable public var hashName: UnsafeRawBufferPointer { text(record?.pointee.hashName) }
    @inlinable public var locality: LocalityPreference { LocalityPreference(rawValue: record?.pointee.locality ?? 0).unsafelyUnwrapped }

    // MARK: Active health checks
    @inlinable public var healthCheck: HealthCheckView? {
        guard let record, record.pointee.healthKind != 0 else { return nil }
        return HealthCheckView(shard: shard, record: record)
    }

    // MARK: At a request's head
    @inlinable public var rateLimitCount: Int { Int(record?.pointee.rateLimitCount ?? 0) }
    @inlinable public var faultCount: Int { Int(record?.pointee.faultCount ?? 0) }

    /// The limit at a place in 0 ..< `rateLimitCount`.
    @inlinable
    public func rateLimit(at place: Int) -> RateLimitView {
        precondition(place >= 0 && place < rateLimitCount, "no such limit")
        return RateLimitView(policy: self, record: limits + place)
    }

    /// The fault at a place in 0 ..< `faultCount`.
    @inlinable
    public func fault(at place: Int) -> FaultView {
        precondition(place >= 0 && place < faultCount, "no such fault")
        return FaultView(policy: self, record: faults + place)
    }

    // MARK: When nothing healthy is left
    @inlinable public var hasFallback: Bool { (record?.pointee.fallbackKind ?? 0) != 0 }
    @inlinable public var fallback: FallbackView? {
        guard let record else { return nil }
        switch record.pointee.fallbackKind {
        case 1: return .reply(status: record.pointee.fallbackNumber, contentType: text(record.pointee.fallbackName), body: text(record.pointee.fallbackText))
        case 2: return .service(namespace: text(record.pointee.fallbackText), name: text(record.pointee.fallbackName), port: record.pointee.fallbackNumber)
        default: return nil
        }
    }

    // MARK: Parts

    @inlinable var flags: UInt8 { record?.pointee.flags ?? 0 }
    @inlinable var limits: UnsafePointer<RateLimitRecord> {
        UnsafeRawPointer(record.unsafelyUnwrapped + 1).assumingMemoryBound(to: RateLimitRecord.self)
    }
    @inlinable var faults: UnsafePointer<FaultRecord> { UnsafeRawPointer(limits + rateLimitCount).assumingMemoryBound(to: FaultRecord.self) }
    @inlinable var conditions: UnsafePointer<ConditionRecord> { UnsafeRawPointer(faults + faultCount).assumingMemoryBound(to: ConditionRecord.self) }

    @inlinable
    func text(_ reference: StringReference?) -> UnsafeRawBufferPointer {
        guard let reference, reference.byteCount > 0 else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        return shard.text(reference)
    }
}

/// How the mesh asks an endpoint whether it is well.
public struct HealthCheckView: @unchecked Sendable {
    @usableFromInline let shard: ShardView
    @usableFromInline let record: UnsafePointer<PolicyRecord>

    @inlinable
    init(shard: ShardView, record: UnsafePointer<PolicyRecord>) {
        self.shard = shard
        self.record = record
    }

    // Validated, and not 0.
    @inlinable public var kind: HealthCheck.Kind { HealthCheck.Kind(rawValue: record.pointee.healthKind - 1).unsafelyUnwrapped }
    @inlinable public var path: UnsafeRawBufferPointer { shard.text(record.pointee.healthPath) }
    @inlinable public var intervalMilliseconds: UInt32 { record.pointee.healthIntervalMilliseconds }
    @inlinable public var timeoutMilliseconds: UInt32 { record.pointee.healthTimeoutMilliseconds }
    @inlinable public var unhealthyAfter: UInt8 { record.pointee.healthUnhealthyAfter }
    @inlinable public var healthyAfter: UInt8 { record.pointee.healthHealthyAfter }
}

/// Which requests a limit or a fault is about.
public struct TrafficMatchView: @unchecked Sendable {
    @usableFromInline let policy: PolicyView
    @usableFromInline let record: UnsafePointer<MatchRecord>

    @inlinable
    init(policy: PolicyView, record: UnsafePointer<MatchRecord>) {
        self.policy = policy
        self.record = record
    }

    /// All requests.
    @inlinable public var isAny: Bool {
        let match = record.pointee
        return match.route.byteCount | match.rule.byteCount | match.method.byteCount | match.conditions.count | match.pathKind == 0
    }

    /// Empty: of any route, or of none.
    @inlinable public var route: UnsafeRawBufferPointer { policy.text(record.pointee.route) }
    /// Empty: any rule.
    @inlinable public var rule: UnsafeRawBufferPointer { policy.text(record.pointee.rule) }
    /// Empty: any method.
    @inlinable public var method: UnsafeRawBufferPointer { policy.text(record.pointee.method) }
    @inlinable public var conditionCount: Int { Int(record.pointee.conditions.count) }

    /// A header and the value it must have.
    @inlinable
    public func condition(at place: Int) -> (name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) {
        precondition(place >= 0 && place < conditionCount, "no such condition")
        let condition = policy.conditions[Int(record.pointee.conditions.start) + place]
        return (policy.text(condition.name), policy.text(condition.value))
    }

    /// Whether a path, normalised and without its query, is one of those.
    public func takes(path: UnsafeRawBufferPointer) -> Bool {
        let own = policy.text(record.pointee.path)
        switch record.pointee.pathKind {
        case 0: return true
        case 1: return path.elementsEqual(own)
        default: return path.starts(with: own) && (path.count == own.count || path[own.count] == 0x2F)
        }
    }
}

/// One token bucket of a policy.
public struct RateLimitView: @unchecked Sendable {
    @usableFromInline let policy: PolicyView
    @usableFromInline let record: UnsafePointer<RateLimitRecord>

    @inlinable
    init(policy: PolicyView, record: UnsafePointer<RateLimitRecord>) {
        self.policy = policy
        self.record = record
    }

    @inlinable public var match: TrafficMatchView {
        TrafficMatchView(policy: policy, record: UnsafeRawPointer(record).assumingMemoryBound(to: MatchRecord.self))
    }
    // Validated.
    @inlinable public var key: RateLimit.Key { RateLimit.Key(rawValue: UInt8(truncatingIfNeeded: record.pointee.key)).unsafelyUnwrapped }
    @inlinable public var keyName: UnsafeRawBufferPointer { policy.text(record.pointee.keyName) }
    /// The same as long as the limit's own fields are.
    @inlinable public var identity: UInt64 { record.pointee.identity }
    /// Between two tokens; 0: no limit.
    @inlinable public var nanosecondsPerRequest: UInt64 { record.pointee.nanosecondsPerRequest }
    /// Until an empty bucket is full.
    @inlinable public var nanosecondsOfBurst: UInt64 { record.pointee.nanosecondsOfBurst }
}

/// What a policy lets go wrong.
public struct FaultView: @unchecked Sendable {
    @usableFromInline let policy: PolicyView
    @usableFromInline let record: UnsafePointer<FaultRecord>

    @inlinable
    init(policy: PolicyView, record: UnsafePointer<FaultRecord>) {
        self.policy = policy
        self.record = record
    }

    @inlinable public var match: TrafficMatchView {
        TrafficMatchView(policy: policy, record: UnsafeRawPointer(record).assumingMemoryBound(to: MatchRecord.self))
    }
    @inlinable public var delayMilliseconds: UInt32 { record.pointee.delayMilliseconds }
    @inlinable public var delayPerMillion: UInt32 { record.pointee.delayPerMillion }
    @inlinable public var abortStatus: UInt16 { record.pointee.abortStatus }
    @inlinable public var abortGRPCStatus: UInt8 { record.pointee.abortGRPCStatus }
    @inlinable public var abortPerMillion: UInt32 { record.pointee.abortPerMillion }
}

/// What a client gets when no endpoint could be reached.
public enum FallbackView: @unchecked Sendable {
    case reply(status: UInt16, contentType: UnsafeRawBufferPointer, body: UnsafeRawBufferPointer)
    case service(namespace: UnsafeRawBufferPointer, name: UnsafeRawBufferPointer, port: UInt16)
}

extension ServiceView {
    /// What the service does for those who call it.
    @inlinable public var policy: PolicyView {
        let block = record.pointee.policy
        guard block.byteCount != 0 else { return PolicyView(shard: shard, record: nil) }
        // Validated: a whole record, at a place that 8 divides.
        return PolicyView(shard: shard, record: shard.text(block).baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: PolicyRecord.self))
    }
}
