// A service's traffic policy inside its services shard: one block of the strings section, at a place that 8 divides.
//
//     PolicyRecord │ RateLimitRecord × n │ FaultRecord × m │ ConditionRecord × k
//
// A service that nobody wrote a policy for has none, and pays nothing: its fields are the constants of `PolicyRecord()`.

@usableFromInline
struct PolicyRecord {
    @usableFromInline var retryStatuses = StatusSet()
    @usableFromInline var retryGRPCStatuses: UInt32 = 0
    @usableFromInline var retryBackoffMilliseconds: UInt32 = 0
    @usableFromInline var connectionsMax: UInt32 = 0
    @usableFromInline var pendingRequestsMax: UInt32 = 0
    @usableFromInline var requestsInFlightMax: UInt32 = 0
    @usableFromInline var ejectionMilliseconds: UInt32 = 30_000
    @usableFromInline var slowStartMilliseconds: UInt32 = 0
    @usableFromInline var healthIntervalMilliseconds: UInt32 = 0
    @usableFromInline var healthTimeoutMilliseconds: UInt32 = 0
    @usableFromInline var healthPath = StringReference()
    @usableFromInline var hashName = StringReference()
    @usableFromInline var fallbackText = StringReference()
    @usableFromInline var fallbackName = StringReference()
    @usableFromInline var rateLimitCount: UInt32 = 0
    @usableFromInline var faultCount: UInt32 = 0
    @usableFromInline var conditionCount: UInt32 = 0
    @usableFromInline var retryBudgetPerSecondMin: UInt16 = 3
    @usableFromInline var consecutiveFailures: UInt16 = 5
    @usableFromInline var successRateDeviationHundredths: UInt16 = 190
    /// Of a fallback: the reply's status, or the service's port.
    @usableFromInline var fallbackNumber: UInt16 = 0
    @usableFromInline var retryBudgetPercent: UInt8 = 20
    @usableFromInline var retryAttempts: UInt8 = 0
    @usableFromInline var latencyFactor: UInt8 = 0
    @usableFromInline var ejectedPercentMax: UInt8 = 50
    @usableFromInline var panicPercent: UInt8 = 50
    @usableFromInline var algorithm: UInt8 = 0
    @usableFromInline var hashKey: UInt8 = 0
    @usableFromInline var locality: UInt8 = 0
    /// 0: none; else `HealthCheck.Kind` plus one.
    @usableFromInline var healthKind: UInt8 = 0
    @usableFromInline var healthUnhealthyAfter: UInt8 = 0
    @usableFromInline var healthHealthyAfter: UInt8 = 0
    /// 0: none, 1: a reply, 2: a service.
    @usableFromInline var fallbackKind: UInt8 = 0
    @usableFromInline var flags: UInt8 = 0
    @usableFromInline var zero: UInt8 = 0
    @usableFromInline var zero2: UInt16 = 0

    @usableFromInline static let hasRetry: UInt8 = 1

    @inlinable init() {}
}

/// `TrafficMatch`.
@usableFromInline
struct MatchRecord {
    @usableFromInline var route = StringReference()
    @usableFromInline var rule = StringReference()
    @usableFromInline var path = StringReference()
    @usableFromInline var method = StringReference()
    /// Among the block's conditions.
    @usableFromInline var conditions = RecordRange()
    /// 0: any, 1: exact, 2: prefix.
    @usableFromInline var pathKind: UInt32 = 0
    @usableFromInline var zero: UInt32 = 0
}

@usableFromInline
struct RateLimitRecord {
    @usableFromInline var match = MatchRecord()
    /// The same for as long as the limit's own fields are.
    @usableFromInline var identity: UInt64 = 0
    @usableFromInline var keyName = StringReference()
    /// Between two tokens.
    @usableFromInline var nanosecondsPerRequest: UInt64 = 0
    /// Until an empty bucket is full.
    @usableFromInline var nanosecondsOfBurst: UInt64 = 0
    @usableFromInline var key: UInt32 = 0
    @usableFromInline var zero: UInt32 = 0
}

@usableFromInline
struct FaultRecord {
    @usableFromInline var match = MatchRecord()
    @usableFromInline var delayMilliseconds: UInt32 = 0
    @usableFromInline var delayPerMillion: UInt32 = 0
    @usableFromInline var abortPerMillion: UInt32 = 0
    @usableFromInline var abortStatus: UInt16 = 0
    @usableFromInline var abortGRPCStatus: UInt8 = 0
    @usableFromInline var zero: UInt8 = 0
}

/// A header with exactly this value.
@usableFromInline
struct ConditionRecord {
    @usableFromInline var name = StringReference()
    @usableFromInline var value = StringReference()
}

extension ShardCompiler {
    /// The block of a policy; empty for one that says nothing.
    mutating func block(_ policy: TrafficPolicy) throws(SnapshotFault) -> StringReference {
        if policy == .default { return StringReference() }
        guard policy.rateLimits.count <= Limits.rateLimitsPerServiceMax else { throw .limit("rateLimitsPerServiceMax") }
        guard policy.faults.count <= Limits.faultsPerServiceMax else { throw .limit("faultsPerServiceMax") }
        var record = PolicyRecord()
        numbers(of: policy, into: &record)
        texts(of: policy, into: &record)
        var conditions: [ConditionRecord] = []
        var limits: [RateLimitRecord] = []
        for limit in policy.rateLimits {
            let each = UInt64(limit.intervalMilliseconds) * 1_000_000 / UInt64(max(1, limit.requests))
            let (burst, overflows) = each.multipliedReportingOverflow(by: UInt64(max(1, limit.burst)))
            guard !overflows, burst <= Limits.burstNanosecondsMax else { throw .limit("burstNanosecondsMax") }
            limits.append(
                RateLimitRecord(
                    match: try self.match(limit.match, &conditions), identity: Self.identity(of: limit), keyName: shared(limit.keyName),
                    nanosecondsPerRequest: each, nanosecondsOfBurst: burst, key: UInt32(limit.key.rawValue)))
        }
        var faults: [FaultRecord] = []
        for fault in policy.faults {
            faults.append(
                FaultRecord(
                    match: try self.match(fault.match, &conditions), delayMilliseconds: fault.delayMilliseconds, delayPerMillion: fault.delayPerMillion,
                    abortPerMillion: fault.abortPerMillion, abortStatus: fault.abortStatus, abortGRPCStatus: fault.abortGRPCStatus))
        }
        record.rateLimitCount = UInt32(limits.count)
        record.faultCount = UInt32(faults.count)
        record.conditionCount = UInt32(conditions.count)
        return appendBlock { bytes in
            withUnsafeBytes(of: record) { bytes += $0 }
            limits.withUnsafeBytes { bytes += $0 }
            faults.withUnsafeBytes { bytes += $0 }
            conditions.withUnsafeBytes { bytes += $0 }
        }
    }

    private func numbers(of policy: TrafficPolicy, into record: inout PolicyRecord) {
        record.retryBudgetPercent = policy.retryBudgetPercent
        record.retryBudgetPerSecondMin = policy.retryBudgetPerSecondMin
        if let retry = policy.retry {
            record.flags |= PolicyRecord.hasRetry
            record.retryStatuses = StatusSet(retry.statuses)
            for status in retry.grpcStatuses where status < 32 { record.retryGRPCStatuses |= 1 << UInt32(status) }
            record.retryAttempts = retry.attempts
            record.retryBackoffMilliseconds = retry.backoffMilliseconds
        }
        record.connectionsMax = policy.connectionsMax
        record.pendingRequestsMax = policy.pendingRequestsMax
        record.requestsInFlightMax = policy.requestsInFlightMax
        record.consecutiveFailures = policy.consecutiveFailures
        record.successRateDeviationHundredths = policy.successRateDeviationHundredths
        record.latencyFactor = policy.latencyFactor
        record.ejectionMilliseconds = policy.ejectionMilliseconds
        record.ejectedPercentMax = policy.ejectedPercentMax
        record.panicPercent = policy.panicPercent
        record.slowStartMilliseconds = policy.slowStartMilliseconds
        record.algorithm = policy.algorithm.rawValue
        record.hashKey = policy.hashKey.rawValue
        record.locality = policy.locality.rawValue
        guard let check = policy.healthCheck else { return }
        record.healthKind = check.kind.rawValue + 1
        record.healthIntervalMilliseconds = check.intervalMilliseconds
        record.healthTimeoutMilliseconds = check.timeoutMilliseconds
        record.healthUnhealthyAfter = check.unhealthyAfter
        record.healthHealthyAfter = check.healthyAfter
    }

    private mutating func texts(of policy: TrafficPolicy, into record: inout PolicyRecord) {
        record.hashName = shared(policy.hashName)
        if let check = policy.healthCheck { record.healthPath = shared(check.path) }
        switch policy.fallback {
        case .reply(let status, let contentType, let body):
            record.fallbackKind = 1
            record.fallbackNumber = status
            record.fallbackName = shared(contentType)
            record.fallbackText = shared(body)
        case .service(let namespace, let name, let port):
            record.fallbackKind = 2
            record.fallbackNumber = port
            record.fallbackName = shared(name)
            record.fallbackText = shared(namespace)
        case nil: break
        }
    }

    private mutating func match(_ match: TrafficMatch, _ conditions: inout [ConditionRecord]) throws(SnapshotFault) -> MatchRecord {
        guard match.headers.count <= Limits.conditionsPerMatchMax else { throw .limit("conditionsPerMatchMax") }
        var record = MatchRecord(route: shared(match.route), rule: shared(match.rule), method: shared(match.method ?? ""))
        switch match.path {
        case .any: break
        case .exact(let path): (record.pathKind, record.path) = (1, shared(path.normalPath))
        case .prefix(let path): (record.pathKind, record.path) = (2, shared(path.normalPath))
        case .expression: throw .limit("a traffic policy compares no expressions")
        }
        record.conditions = RecordRange(start: UInt32(conditions.count), count: UInt32(match.headers.count))
        for header in match.headers { conditions.append(ConditionRecord(name: shared(header.name), value: shared(header.value))) }
        return record
    }

    /// A bucket goes on as it is over a change of anything else.
    private static func identity(of limit: RateLimit) -> UInt64 {
        let match = limit.match
        var text = "\(limit.requests) \(limit.intervalMilliseconds) \(limit.burst) \(limit.key.rawValue) \(limit.keyName) \(match.route) \(match.rule) "
        text += "\(match.method ?? "") \(match.path) " + match.headers.map { "\($0.name)=\($0.value)" }.joined(separator: " ")
        return text.withUTF8 { ShardHash.checksum(UnsafeRawBufferPointer($0)) }
    }
}

extension ShardView {
    /// Checks the block of a service's policy as everything else is checked: any bytes end in a view or a thrown fault.
    func checkPolicy(_ block: StringReference, _ header: ShardHeader) throws(SnapshotFault) {
        if block.byteCount == 0 { return }
        let size = MemoryLayout<PolicyRecord>.stride
        guard block.offset % 8 == 0, header.strings.offset % 8 == 0, Int(block.byteCount) >= size else { throw .outOfBounds(section: 4) }
        let start = Int(header.strings.offset) + Int(block.offset)
        let record = base.load(fromByteOffset: start, as: PolicyRecord.self)
        for text in [record.healthPath, record.hashName, record.fallbackText, record.fallbackName] { try check(text, header) }
        guard BalancingAlgorithm(rawValue: record.algorithm) != nil, HashKey(rawValue: record.hashKey) != nil,
            LocalityPreference(rawValue: record.locality) != nil, record.healthKind == 0 || HealthCheck.Kind(rawValue: record.healthKind - 1) != nil,
            record.fallbackKind <= 2, record.rateLimitCount <= Limits.rateLimitsPerServiceMax, record.faultCount <= Limits.faultsPerServiceMax,
            record.conditionCount <= UInt32(block.byteCount)
        else { throw .outOfBounds(section: 4) }
        let limitsStart = start + size
        let faultsStart = limitsStart + Int(record.rateLimitCount) * MemoryLayout<RateLimitRecord>.stride
        let conditionsStart = faultsStart + Int(record.faultCount) * MemoryLayout<FaultRecord>.stride
        guard conditionsStart + Int(record.conditionCount) * MemoryLayout<ConditionRecord>.stride == start + Int(block.byteCount)
        else { throw .outOfBounds(section: 4) }
        for number in 0..<Int(record.rateLimitCount) {
            let limit = base.load(fromByteOffset: limitsStart + number * MemoryLayout<RateLimitRecord>.stride, as: RateLimitRecord.self)
            try check(limit.match, record, header)
            try check(limit.keyName, header)
            guard limit.key < RateLimit.Key.allCases.count, limit.nanosecondsPerRequest <= limit.nanosecondsOfBurst,
                limit.nanosecondsOfBurst <= Limits.burstNanosecondsMax
            else { throw .outOfBounds(section: 4) }
        }
        for number in 0..<Int(record.faultCount) {
            let fault = base.load(fromByteOffset: faultsStart + number * MemoryLayout<FaultRecord>.stride, as: FaultRecord.self)
            try check(fault.match, record, header)
        }
        for number in 0..<Int(record.conditionCount) {
            let condition = base.load(fromByteOffset: conditionsStart + number * MemoryLayout<ConditionRecord>.stride, as: ConditionRecord.self)
            try check(condition.name, header)
            try check(condition.value, header)
        }
    }

    private func check(_ match: MatchRecord, _ record: PolicyRecord, _ header: ShardHeader) throws(SnapshotFault) {
        for text in [match.route, match.rule, match.path, match.method] { try check(text, header) }
        guard match.pathKind <= 2, match.conditions.count <= Limits.conditionsPerMatchMax,
            Int(match.conditions.start) + Int(match.conditions.count) <= Int(record.conditionCount)
        else { throw .outOfBounds(section: 4) }
    }
}
