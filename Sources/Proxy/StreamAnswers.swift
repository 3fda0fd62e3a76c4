import EventLoop
import HTTPCodec
import Telemetry
import Upstream

// What a client's stream gets from us instead of the upstream's whole reply: an answer of our own, or a reset.
extension Worker {
    mutating func answerStream(_ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace, _ refusal: Refusal, _ verdict: Verdict) {
        let index = exchange.pointee.downstream
        let session = sessions.at(connection.pointee.session)
        let stream = exchange.pointee.downstreamStream
        var status = exchange.pointee.status
        if case .upstream(.streamReset) = refusal {
            // The server's own word, which its client may know how to read, passes as it is, behind what it has said before.
            session.pointee.codec.resetBehindQueue(stream, exchange.pointee.resetCode)
            ledger.count(.http2ResetsSentDownstream)
        } else if exchange.pointee.isGRPC, !refusal.isPlainHTTP, !exchange.pointee.replyHasBegun || !exchange.pointee.replyIsEnded && refusal.endsWithStatus {
            // A gRPC client looks for its status in the trailers, whatever it got before.
            let call = refusal.grpcStatus
            session.pointee.codec.submitReply(stream, GRPCReply(status: call, reason: verdict.reason, isUpstreams: verdict.isUpstreams))
            exchange.pointee.grpcStatus = call.rawValue
            status = 200
        } else if exchange.pointee.isTunnel {
            // What was said before the end is the client's.
            session.pointee.codec.resetBehindQueue(stream, refusal.tunnelResetCode)
            ledger.count(.http2ResetsSentDownstream)
        } else if exchange.pointee.replyHasBegun {
            if refusal.isServers { session.pointee.codec.resetBehindQueue(stream, refusal.resetCode) } else { session.pointee.codec.reset(stream, refusal.resetCode) }
            ledger.count(.http2ResetsSentDownstream)
        } else {
            answerCrossOrigin(exchange)
            var reply = Reply(
                status: verdict.status, reason: verdict.reason, isUpstreams: verdict.isUpstreams, keepsAlive: true,
                answersHead: exchange.pointee.method == .head, retryAfterSeconds: refusal.retryAfterSeconds)
            reply.fields = room.takeAnswer()
            reply.isEmpty = refusal.isEmpty
            reply.content = refusal.content
            session.pointee.codec.submitReply(stream, reply)
            status = UInt16(verdict.status)
        }
        describeUnsent(exchange, connection)
        ledger.recordFailure(exchange, status: status, verdict.flags, now: now)
        releaseUpstream(exchange, mayRest: false)
        end(number, exchange, connection)
        again(connection, index)
    }
}

extension Refusal {
    /// What a gRPC client is told.
    var grpcStatus: GRPC.Status {
        switch self {
        case .deadlinePassed: .deadlineExceeded
        case .requestBody(.bodyTooLarge), .rateLimited: .resourceExhausted
        case .injected(0, let call): GRPC.Status(rawValue: call) ?? .unknown
        case .noBackend, .backendUnresolved: .unavailable
        default: GRPC.Status(http: verdict.status)
        }
    }

    /// What a policy says in place of the reason.
    var content: (type: UnsafeRawBufferPointer, body: UnsafeRawBufferPointer)? {
        if case .fallback(_, let type, let body) = self { return (type, body) }
        return nil
    }

    /// When it is worth asking again.
    var retryAfterSeconds: Int? {
        if case .rateLimited(let seconds) = self { return Int(max(1, seconds)) }
        return nil
    }

    /// Whether a call that has begun may end with a status of ours. Not behind content that may be the half of something.
    var endsWithStatus: Bool {
        switch self {
        case .badReply: false
        default: true
        }
    }

    /// It is the server that breaks the reply off: its client gets what came before, and then the end.
    var isServers: Bool {
        switch self {
        case .upstream, .badReply: true
        default: false
        }
    }

    /// Why a reply that has begun does not go on.
    var resetCode: HTTP2Code {
        switch self {
        case .deadlinePassed, .replyTimeout, .requestBodyTimeout: .cancel
        default: .internalError
        }
    }

    /// The same of a tunnel: what breaks its server's connection is told as such (RFC 9113, 8.5).
    var tunnelResetCode: HTTP2Code {
        if case .upstream = self { return .connectError }
        return resetCode
    }
}
