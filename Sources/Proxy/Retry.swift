import EventLoop
import HTTPCodec
import MeshModel
import Routing
import Telemetry
import Upstream

// Attempts after the first that a route or a policy asks for: after a listed status, a reset, an attempt's time. Each needs a place in the
// service's retry budget. What nobody has seen (a refused connect, a stream given back) is sent again without one: it costs the
// application nothing (Failures).
extension Worker {
    /// The reply whose final head is in the worker's head calls for another attempt, and there will be one: nothing of it passes.
    /// - Parameter isWhole: nothing of the reply follows `bytes`, so its connection may rest.
    mutating func retriesInstead(_ number: UInt32, _ bytes: UnsafeRawBufferPointer, isWhole: Bool) -> Bool {
        let exchange = exchanges.at(number)
        guard exchange.pointee.retry.isSet || head.status >= 500, exchange.pointee.account.reportsSource else { return false }
        let call = exchange.pointee.isGRPC && isWhole ? head.grpcStatus(bytes)?.rawValue : nil
        let isWanted = exchange.pointee.retry.wants(status: UInt16(head.status), grpcStatus: call)
        guard isWanted || head.status >= 500 else { return false }
        if wasRetriedBelow(exchange) {
            if isWanted { ledger.count(.retriesRefusedDeeper) }
            return false
        }
        guard isWanted else { return false }
        guard mayTryAgain(exchange) else {
            noteVain(exchange)
            return false
        }
        let mayRest = isWhole && head.keepsAlive && exchange.pointee.requestPhase == .complete
        ledger.count(.retriesStatus)
        // What its client never hears of still speaks against the endpoint.
        (exchange.pointee.status, exchange.pointee.grpcStatus) = (UInt16(head.status), call)
        judgeReply(exchange)
        (exchange.pointee.status, exchange.pointee.grpcStatus) = (0, nil)
        leaveAttempt(exchange, mayRest: mayRest)
        tryAgain(number, exchange)
        return true
    }

    /// An attempt has failed in a way that its server may have seen: whether there will be another is the plan's to say.
    mutating func retriesAfter(_ number: UInt32, _ exchange: ExchangePlace, _ failure: UpstreamFailure) -> Bool {
        guard exchange.pointee.retry.isSet, exchange.pointee.method.isIdempotent else { return false }
        let counter: Counter
        switch failure {
        case .endedBeforeReply, .streamReset: counter = .retriesReset
        case .replyTimeout: counter = .retriesTimeout
        default: return false
        }
        guard mayTryAgain(exchange) else {
            noteVain(exchange)
            return false
        }
        ledger.count(counter)
        tryAgain(number, exchange)
        return true
    }

    /// The attempt is over; the exchange is not.
    private mutating func leaveAttempt(_ exchange: ExchangePlace, mayRest: Bool) {
        exchange.pointee.tried = EndpointAddress(address: exchange.pointee.target.address, port: exchange.pointee.target.port)
        releaseUpstream(exchange, mayRest: mayRest)
        exchange.pointee.lease = nil
    }

    /// Whether the plan, the request, its time and its service's budget allow one more attempt. What says no is counted.
    private mutating func mayTryAgain(_ exchange: ExchangePlace) -> Bool {
        guard exchange.pointee.attempts <= exchange.pointee.retry.attempts, !exchange.pointee.replyHasBegun else { return false }
        // Its own further attempts are marked above too.
        if !exchange.pointee.isRetrying, shared.retried.knows(identity(exchange), .above, now: now) {
            ledger.count(.retriesRefusedDeeper)
            return false
        }
        guard survivingMessage(exchange) != nil else {
            ledger.count(.retriesRefusedSize)
            return false
        }
        guard exchange.pointee.giveUpAt == 0 || now + UInt64(leastPause(exchange)) * 1_000_000 < exchange.pointee.giveUpAt else {
            ledger.count(.retriesRefusedDeadline)
            return false
        }
        let plan = exchange.pointee.retry
        guard exchange.pointee.service?.beginRetry(plan, now: now) == true else {
            ledger.count(.retriesRefusedBudget)
            return false
        }
        return true
    }

    /// Milliseconds before the next attempt, at least: those of the plan, doubled with each.
    private func leastPause(_ exchange: ExchangePlace) -> UInt32 {
        let shift = UInt32(min(max(exchange.pointee.attempts, 1) - 1, 6))
        return min(exchange.pointee.retry.backoffMilliseconds << min(shift, 6), WorkerSizes.backoffMillisecondsMax)
    }

    private mutating func tryAgain(_ number: UInt32, _ exchange: ExchangePlace) {
        let least = leastPause(exchange)
        // Up to half as much again: those who failed together do not come together.
        let milliseconds = Int(least) + (least > 1 ? Int(random.next() % UInt64(least / 2 + 1)) : 0)
        exchange.pointee.attemptEndsAt = 0
        exchange.pointee.isRetrying = true
        shared.retried.note(identity(exchange), .above, now: now)
        exchange.pointee.replyPhase = .head
        exchange.pointee.interimReplies = 0
        if milliseconds == 0 { return dispatchHeld(number, mayRepeat: true, mayReuse: true) }
        pause(number, exchange, milliseconds: milliseconds)
    }

    /// The pause is over.
    mutating func resume(_ number: UInt32) { dispatchHeld(number, mayRepeat: true, mayReuse: true) }

    /// What is held of the request goes out, for the first time or once more, by the tables of this turn.
    mutating func dispatchHeld(_ number: UInt32, mayRepeat: Bool, mayReuse: Bool) {
        let exchange = exchanges.at(number)
        let connection = connections.at(exchange.pointee.downstream)
        guard !connection.pointee.isBroken, let message = survivingMessage(exchange) else { return answer(number, .noOtherEndpoint) }
        let again = heldRoute(exchange, connection, message)
        dispatch(number, again.route, again.message, mayRepeat: mayRepeat, mayReuse: mayReuse)
    }

    /// Where a request that is held goes by the tables of this turn. A parked head is in the worker's head afterwards.
    mutating func heldRoute(_ exchange: ExchangePlace, _ connection: ConnectionPlace, _ message: Message) -> (route: Route, message: Message) {
        if case .held = message {
            let bytes = takeUp(exchange, message)
            return (routeAgain(exchange, connection, host: head.authority.of(bytes)), message)
        }
        let bytes = bytes(of: message, exchange)
        return (routeAgain(exchange, connection, host: exchange.pointee.isRelay ? serverName(in: bytes) : Self.host(in: bytes)), message)
    }

    /// What of the request can be sent once more; nil when it went out and was too large to keep.
    func survivingMessage(_ exchange: ExchangePlace) -> Message? {
        if exchange.pointee.passesContent { return exchange.pointee.heldHeadCount > 0 ? .held : nil }
        if exchange.pointee.replay != BlockPool.none { return .replay }
        return exchange.pointee.seen == .nothing || !exchange.pointee.unsent.isEmpty ? .unsent : nil
    }
}
