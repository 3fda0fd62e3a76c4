import Routing
import Upstream

// What an attempt says about its endpoint. Only what is the endpoint's own fault counts: not what its callers, policies or limits of ours did.
extension Worker {
    /// The endpoint has begun to answer.
    @inline(__always)
    func heardReply(_ exchange: ExchangePlace) {
        guard exchange.pointee.target.slot != nobody else { return }
        let state = shared.states.state(exchange.pointee.target.slot)
        if state.wantsLatency, exchange.pointee.attempts == 1 { noteLatency(exchange, state) }
    }

    /// Of a first attempt: a second one's time is partly another endpoint's.
    private func noteLatency(_ exchange: ExchangePlace, _ state: EndpointState) {
        let elapsed = now > exchange.pointee.started ? now - exchange.pointee.started : 0
        state.heard(afterMicroseconds: UInt32(clamping: elapsed / 1_000), at: milliseconds)
    }

    /// The endpoint has said all it had to say, or has taken an opaque connection.
    @inline(__always)
    func judgeReply(_ exchange: ExchangePlace) {
        guard exchange.pointee.target.slot != nobody else { return }
        if isFailure(exchange) { shared.endpointFailed(exchange.pointee.target.slot) } else { shared.states.state(exchange.pointee.target.slot).succeeded() }
    }

    /// 5xx but 501, which is about the request; of gRPC what maps to these: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS.
    @inline(__always)
    private func isFailure(_ exchange: ExchangePlace) -> Bool {
        if exchange.pointee.status >= 500 { return exchange.pointee.status != 501 }
        guard exchange.pointee.isGRPC, let status = exchange.pointee.grpcStatus else { return false }
        return status < 32 && (1 << UInt32(status)) & Self.failingGRPCStatuses != 0
    }

    private static var failingGRPCStatuses: UInt32 { 1 << 2 | 1 << 4 | 1 << 13 | 1 << 14 | 1 << 15 }

    /// The attempt has failed.
    func judge(_ exchange: ExchangePlace, _ failure: UpstreamFailure) {
        guard exchange.pointee.lease != nil, exchange.pointee.target.slot != nobody else { return }
        switch failure {
        case .connect, .connectTimeout, .endedInReply, .replyTimeout, .refusedBehindPeer, .malformedReply, .streamReset, .settingsTimeout, .notSecured,
            .endedBeforeReply(_, reused: false):
            shared.endpointFailed(exchange.pointee.target.slot)
        // A connection that had come of age, a session that is draining, and what is lacking on our side.
        case .endedBeforeReply(_, reused: true), .refusedStream, .noSocket, .noIdentity, .notHTTP2, .tunnelRefused, .callerRevoked: break
        }
    }

    /// The exchange ends with an answer of ours.
    func judge(_ exchange: ExchangePlace, _ refusal: Refusal) {
        switch refusal {
        case .upstream(let failure): judge(exchange, failure)
        case .badReply: judge(exchange, UpstreamFailure.malformedReply)
        case .replyTimeout: judge(exchange, UpstreamFailure.replyTimeout)
        default: break
        }
    }

    /// For whoever asks the endpoints of the port how they are: from this pod's namespace they can be reached.
    func noteUse(_ service: ServiceDestination, _ connection: ConnectionPlace) {
        service.portState.used(by: pods.budgets[Int(connection.pointee.pod)].number, atSecond: UInt32(truncatingIfNeeded: now / 1_000_000_000))
    }
}
