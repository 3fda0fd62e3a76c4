import Bytes
import EventLoop
import HTTPCodec
import MeshModel
import Routing
import Telemetry
import Upstream

// Between steps 4 and 5 of the journey: what a service's policy says about a request before an endpoint is chosen. Limits and faults are asked
// once, of the service that the client names; the breakers are those of the service that the request goes to.
extension Worker {
    /// What the policy of the service that is named says to the request whose head is in the worker's head, decoded from `bytes`.
    /// - Parameter route, rule: the route and rule that took it; empty: none.
    /// - Returns: why it goes no further; nil when it does, perhaps later (`exchange.delayMilliseconds`).
    mutating func admit(
        _ exchange: ExchangePlace, _ service: ServiceView, _ bytes: UnsafeRawBufferPointer, route: UnsafeRawBufferPointer, rule: UnsafeRawBufferPointer
    ) -> Refusal? {
        let policy = service.policy
        if policy.isDefault { return nil }
        if policy.hasRetry, !exchange.pointee.retry.isRoutes { exchange.pointee.retry = RetryPlan(policy) }
        if policy.rateLimitCount > 0, let milliseconds = overLimit(exchange, service, policy, bytes, route, rule) {
            return .rateLimited(retryAfterSeconds: UInt32((milliseconds + 999) / 1_000))
        }
        return policy.faultCount > 0 ? injected(exchange, policy, bytes, route, rule) : nil
    }

    // MARK: Limits and faults

    /// Milliseconds until a token of the first limit that has none; nil when all had one.
    private mutating func overLimit(
        _ exchange: ExchangePlace, _ service: ServiceView, _ policy: PolicyView, _ bytes: UnsafeRawBufferPointer, _ route: UnsafeRawBufferPointer,
        _ rule: UnsafeRawBufferPointer
    ) -> UInt64? {
        for place in 0..<policy.rateLimitCount {
            let limit = policy.rateLimit(at: place)
            guard matches(limit.match, bytes, route, rule) else { continue }
            let wait = shared.buckets.take(
                limit: limit.identity ^ service.hash, key: bucketKey(limit, exchange, bytes), every: limit.nanosecondsPerRequest,
                burst: limit.nanosecondsOfBurst, now: now)
            if wait > 0 { return (wait + 999_999) / 1_000_000 }
        }
        return nil
    }

    private func bucketKey(_ limit: RateLimitView, _ exchange: ExchangePlace, _ bytes: UnsafeRawBufferPointer) -> UInt64 {
        switch limit.key {
        case .everyone: return 1
        case .caller:
            let connection = connections.at(exchange.pointee.downstream)
            let caller = caller(of: connection)
            if caller.isAuthenticated { return UInt64(truncatingIfNeeded: caller.hash) }
            let address = callerAddress(of: connection, like: connection.pointee.address)
            return address.high &* 31 &+ address.low
        case .header:
            guard let value = fieldValue(limit.keyName, bytes) else { return 2 }
            return ShardHash.of(text: value)
        }
    }

    private mutating func injected(
        _ exchange: ExchangePlace, _ policy: PolicyView, _ bytes: UnsafeRawBufferPointer, _ route: UnsafeRawBufferPointer, _ rule: UnsafeRawBufferPointer
    ) -> Refusal? {
        for place in 0..<policy.faultCount {
            let fault = policy.fault(at: place)
            guard matches(fault.match, bytes, route, rule) else { continue }
            if isDrawn(fault.delayPerMillion) {
                exchange.pointee.delayMilliseconds = fault.delayMilliseconds
                ledger.count(.faultsDelayed)
            }
            guard isDrawn(fault.abortPerMillion) else { return nil }
            ledger.count(.faultsAborted)
            return .injected(status: fault.abortStatus, grpcStatus: fault.abortGRPCStatus)
        }
        return nil
    }

    /// True for so many of a million draws.
    private mutating func isDrawn(_ perMillion: UInt32) -> Bool {
        if perMillion == 0 { return false }
        return ((random.next() >> 32) * 1_000_000) >> 32 < UInt64(perMillion)
    }

    private func matches(
        _ match: TrafficMatchView, _ bytes: UnsafeRawBufferPointer, _ route: UnsafeRawBufferPointer, _ rule: UnsafeRawBufferPointer
    ) -> Bool {
        if match.isAny { return true }
        if !match.route.isEmpty, !match.route.elementsEqual(route) { return false }
        if !match.rule.isEmpty, !match.rule.elementsEqual(rule) { return false }
        if !match.method.isEmpty, !match.method.elementsEqual(head.methodName.of(bytes)) { return false }
        guard match.takes(path: normalPath(head.path.of(bytes))) else { return false }
        for place in 0..<match.conditionCount {
            let condition = match.condition(at: place)
            guard let value = fieldValue(condition.name, bytes), value.elementsEqual(condition.value) else { return false }
        }
        return true
    }

    /// The path that a request asks for, in normal form and without its query. What must be rewritten for that lies in the write memory, for now.
    private func normalPath(_ asked: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        let form = PathForm(asked)
        guard !form.isNormal, form.path.count <= writeMemory.count else { return form.path }
        return UnsafeRawBufferPointer(rebasing: writeMemory[..<PathForm.normalise(form.path, into: writeMemory)])
    }

    /// The first field with a name (given in lower case).
    private func fieldValue(_ name: UnsafeRawBufferPointer, _ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        for row in 0..<head.fieldCount {
            let field = head.field(row)
            if equalsIgnoringCase(field.name.of(bytes), name) { return field.value.of(bytes) }
        }
        return nil
    }

    // MARK: Breakers

    /// The service has as many connections as its policy allows: the request looks for a free one again soon, among those that count as pending.
    mutating func awaitConnection(_ number: UInt32, _ exchange: ExchangePlace) {
        if exchange.pointee.waitsUntil == 0 { exchange.pointee.waitsUntil = after(milliseconds: limits.connectMilliseconds) }
        guard now < exchange.pointee.waitsUntil else { return answer(number, .overflow(.connections)) }
        // This was no attempt.
        exchange.pointee.attempts -= 1
        exchange.pointee.lease = nil
        exchange.pointee.reach = .nothing
        pause(number, exchange, milliseconds: 1)
    }

    /// How long an idle connection rests: where a policy bounds their number, those of another worker may be waiting for its place.
    func restMilliseconds(_ upstream: ConnectionPlace) -> Int {
        let wanted = Int(pools.idleLimitMilliseconds(of: upstream.pointee.pool))
        return upstream.pointee.service == nil ? wanted : min(wanted, WorkerSizes.countedRestMilliseconds)
    }

    /// The request takes its place among those of the service that it goes to. Nil when there is one.
    mutating func enter(_ exchange: ExchangePlace, _ service: ServiceView) -> Refusal? {
        guard let state = shared.services.state(of: service) else { return nil }
        let policy = service.policy
        if policy.isDefault {
            state.begin(.requests)
            exchange.pointee.service = ServiceLease(begun: state)
            return nil
        }
        let max = policy.requestsInFlightMax
        guard state.begin(.requests, max: max == 0 ? .max : max) else { return .overflow(.requests) }
        exchange.pointee.service = ServiceLease(begun: state)
        exchange.pointee.retry.budgetPercent = policy.retryBudgetPercent
        exchange.pointee.retry.budgetPerSecondMin = policy.retryBudgetPerSecondMin
        exchange.pointee.pendingMax = policy.pendingRequestsMax
        exchange.pointee.connectionsMax = policy.connectionsMax
        exchange.pointee.hasFallback = policy.hasFallback && !exchange.pointee.hasFallenBack
        return nil
    }
}

/// Which of a service's limits a request has met.
enum Overflow { case requests, pending, connections }
