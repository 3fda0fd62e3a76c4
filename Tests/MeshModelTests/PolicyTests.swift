import Testing

@testable import MeshModel

/// A traffic policy comes out of the snapshot as it went in, and one that nobody wrote costs nothing.
@Suite struct PolicyTests {
    @Test func aServiceWithoutPolicyHasTheDefaults() throws {
        let policy = try read(.default)
        let written = TrafficPolicy.default
        #expect(policy.isDefault && policy.rateLimitCount == 0 && policy.faultCount == 0 && policy.fallback == nil && policy.healthCheck == nil)
        #expect(policy.retryBudgetPercent == written.retryBudgetPercent && policy.retryBudgetPerSecondMin == written.retryBudgetPerSecondMin)
        #expect(!policy.hasRetry && policy.retryStatuses.isEmpty)
        #expect(policy.consecutiveFailures == written.consecutiveFailures && policy.ejectionMilliseconds == written.ejectionMilliseconds)
        #expect(policy.successRateDeviationHundredths == written.successRateDeviationHundredths && policy.latencyFactor == written.latencyFactor)
        #expect(policy.ejectedPercentMax == written.ejectedPercentMax && policy.panicPercent == written.panicPercent)
        #expect(policy.algorithm == written.algorithm && policy.hashKey == written.hashKey && policy.locality == written.locality)
        #expect(policy.connectionsMax == 0 && policy.pendingRequestsMax == 0 && policy.requestsInFlightMax == 0 && policy.slowStartMilliseconds == 0)
    }

    /// One field differs from the defaults: all others must still be them, in the record as in the constants.
    @Test func theRecordsDefaultsAreTheModels() throws {
        var barely = TrafficPolicy.default
        barely.slowStartMilliseconds = 1
        let policy = try read(barely), without = try read(.default)
        #expect(!policy.isDefault && policy.slowStartMilliseconds == 1)
        #expect(policy.retryBudgetPercent == without.retryBudgetPercent && policy.retryBudgetPerSecondMin == without.retryBudgetPerSecondMin)
        #expect(policy.consecutiveFailures == without.consecutiveFailures && policy.ejectionMilliseconds == without.ejectionMilliseconds)
        #expect(policy.successRateDeviationHundredths == without.successRateDeviationHundredths && policy.latencyFactor == without.latencyFactor)
        #expect(policy.ejectedPercentMax == without.ejectedPercentMax && policy.panicPercent == without.panicPercent)
        #expect(policy.algorithm == without.algorithm && policy.hashKey == without.hashKey && policy.locality == without.locality)
    }

    @Test(arguments: [3, 6, 9]) func everyFieldComesBack(number: Int) throws {
        let written = SampleMesh.policy(number)
        let policy = try read(written)
        #expect(policy.retryBudgetPercent == 30 && policy.hasRetry && policy.retryAttempts == 2 && policy.retryBackoffMilliseconds == 25)
        #expect((0...700).filter { policy.retryStatuses.contains(UInt16($0)) } == [400, 429, 500, 503, 599])
        #expect(policy.retryGRPCStatuses == 1 << 14 | 1 << 8)
        #expect(policy.requestsInFlightMax == UInt32(number) && policy.algorithm == written.algorithm)
        #expect(policy.hashKey == .header && string(policy.hashName) == "x-user")
        let check = try #require(policy.healthCheck)
        #expect(check.kind == .http && string(check.path) == "/healthz" && check.intervalMilliseconds == 5_000 && check.unhealthyAfter == 3)
        #expect(policy.rateLimitCount == written.rateLimits.count && policy.faultCount == 2)
        for place in 0..<policy.rateLimitCount {
            let limit = policy.rateLimit(at: place)
            #expect(limit.key == .header && string(limit.keyName) == "x-tenant")
            #expect(limit.nanosecondsPerRequest == 10_000_000 && limit.nanosecondsOfBurst == 1_000_000_000)
            #expect(string(limit.match.route) == "HTTPRoute shop/cart" && string(limit.match.method) == "GET" && limit.match.conditionCount == 1)
            #expect(withBytes("/v\(place)/x") { limit.match.takes(path: $0) } && withBytes("/v\(place)") { limit.match.takes(path: $0) })
            #expect(!withBytes("/v\(place)x") { limit.match.takes(path: $0) } && !limit.match.isAny)
        }
        let delay = policy.fault(at: 0), abort = policy.fault(at: 1)
        #expect(delay.delayMilliseconds == 5 && delay.delayPerMillion == 10_000 && withBytes("/slow") { delay.match.takes(path: $0) })
        #expect(!withBytes("/slow/er") { delay.match.takes(path: $0) })
        #expect(abort.abortStatus == 503 && abort.abortPerMillion == 1 && string(abort.match.condition(at: 1).name) == "x-e")
        switch policy.fallback {
        case .reply(let status, let type, let body): #expect(number == 6 && status == 200 && string(type) == "text/plain" && string(body) == "later")
        case .service(let namespace, let name, let port): #expect(number != 6 && string(namespace) == "shop" && string(name) == "spare" && port == 80)
        case nil: Issue.record("no fallback")
        }
    }

    @Test func whatCannotBeKeptIsALimit() {
        var policy = TrafficPolicy()
        policy.rateLimits = [RateLimit(requests: 1, intervalMilliseconds: .max, burst: .max)]
        #expect(throws: SnapshotFault.limit("burstNanosecondsMax")) { try read(policy) }
        policy.rateLimits = Array(repeating: RateLimit(requests: 1), count: Limits.rateLimitsPerServiceMax + 1)
        #expect(throws: SnapshotFault.limit("rateLimitsPerServiceMax")) { try read(policy) }
    }

    private func read(_ policy: TrafficPolicy) throws -> PolicyView {
        var writer = SnapshotWriter()
        let other = Service(namespace: "shop", name: "other", policy: SampleMesh.policy(1))
        let images = try writer.update(MeshState(nodeName: "n", services: [Service(namespace: "shop", name: "cart", policy: policy), other])).shards
        for image in images {
            let memory = try ShardMemory(copying: image.bytes)
            for place in 0..<memory.view.serviceCount where string(memory.view.service(at: place).name) == "cart" {
                // Kept for the rest of the test's process: the view only borrows.
                return Unmanaged.passRetained(memory).takeUnretainedValue().view.service(at: place).policy
            }
        }
        throw SnapshotFault.truncated
    }
}
