import Bytes
import EventLoop
import HTTPCodec
import MeshModel
import Routing

// Step 4 of the journey for HTTP/2: each stream of a client's session brings one request, which becomes an exchange.
extension Worker {
    mutating func requestEvent(_ event: HTTP2Event, _ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace) {
        switch event {
        case .head(let stream, _, let bytes, let ends):
            beginStream(stream, bytes, ends: ends, connection, index, session)
        case .data(let stream, let owner, let content, let ends):
            guard owner != 0 else { return session.pointee.codec.consumed(stream, content.count) }
            takeContent(owner - 1, stream, content, ends: ends, connection, session)
        case .ended(_, let owner):
            guard owner != 0 else { return }
            requestEnded(owner - 1)
            passRequestContent(owner - 1, UnsafeRawBufferPointer(start: nil, count: 0), ends: true)
        case .trailers(_, let owner, let bytes):
            guard owner != 0 else { return }
            requestEnded(owner - 1)
            passRequestTrailers(owner - 1, bytes)
        case .reset(_, let owner, let code, _):
            ledger.count(.http2ResetsReceivedDownstream)
            guard owner != 0 else { return }
            // To a server that is still at work, "no error" would mean that it is done.
            if code != .noError || isOpaque(exchanges.at(owner - 1)) { exchanges.at(owner - 1).pointee.resetCode = code }
            streamAborted(owner - 1)
        case .refused(let stream, let owner, let fault, let isOpen):
            refuseStream(stream, owner, fault, isOpen: isOpen, connection, session)
        case .settings: break
        case .pong: finishDrain(connection, index, session)
        case .goAway: ledger.count(.http2GoAwaysReceivedDownstream)
        // Neither is a client's; a fault has ended the session.
        case .interim, .fault, .pause, .none: break
        }
    }

    /// A request's head has come, and been judged.
    private mutating func beginStream(
        _ stream: Int32, _ bytes: UnsafeRawBufferPointer, ends: Bool, _ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace
    ) {
        var asked: WireDestination?
        if let wire = session.pointee.wire {
            switch arrival(bytes, connection, wire) {
            case .refused(let fault): return refuseArrival(stream, fault, connection, index, session)
            case .tunnel(let port, let isHTTP):
                return beginStreamRelay(stream, port: port, ends: ends, isOpaque: wire == .weft && !isHTTP, connection, index, session)
            case .request(let destination): asked = destination
            }
        }
        guard let token = admitStream(stream, connection, index, session, isRelay: false) else { return }
        let number = token.index
        let exchange = exchanges.at(number)
        if let asked {
            exchange.pointee.port = asked.port
            exchange.pointee.wantsHTTP1 = asked.spoken == .http1
        }
        exchange.pointee.method = head.method
        exchange.pointee.hasBody = !ends
        exchange.pointee.requestPhase = ends ? .complete : .body
        exchange.pointee.keepsAlive = true
        exchange.pointee.expectsContinue = head.expectsContinue
        exchange.pointee.asksForUpgrade = head.asksForUpgrade
        exchange.pointee.isGRPC = head.isGRPC(bytes)
        exchange.pointee.started = now
        if exchange.pointee.isGRPC, let value = head.value(.grpcTimeout)?.of(bytes), let timeout = GRPC.timeoutNanoseconds(value),
            timeout < WorkerSizes.callNanosecondsMax
        {
            exchange.pointee.giveUpAt = now + timeout
        }
        if case .length(let length) = head.framing, length > limits.body.bodyBytesMax { return answer(number, .requestBody(.bodyTooLarge)) }
        if session.pointee.revokedUntil != 0 { return answer(number, .denied(.revoked)) }
        if isOverBudget(connection) { return answer(number, .bufferBudgetSpent) }
        setDeadline(exchange, number, milliseconds: limits.replyMilliseconds)
        passRequestHead(number, bytes, ends: ends)
    }

    /// A place for the stream's exchange, which joins its session; nil: its pod has too many, and the stream is reset.
    mutating func admitStream(
        _ stream: Int32, _ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace, isRelay: Bool
    ) -> Token? {
        let budget = pods.budgets.base + Int(connection.pointee.pod)
        guard Int(budget.pointee.streams) < share(of: limits.streamsPerPodMax, connection), streamExchanges < Limits.streamsPerWorkerMax,
            let token = exchanges.insert(Exchange(downstream: index, stream: stream, isRelay: isRelay))
        else {
            ledger.count(.limitPodStreams)
            ledger.count(.http2ResetsSentDownstream)
            session.pointee.codec.reset(stream, .refusedStream)
            return nil
        }
        joinSession(token.index, exchanges.at(token.index), session)
        return token
    }

    private mutating func takeContent(_ number: UInt32, _ stream: Int32, _ content: UnsafeRawBufferPointer, ends: Bool, _ connection: ConnectionPlace, _ session: SessionPlace) {
        let exchange = exchanges.at(number)
        let token = exchanges.token(at: number)
        exchange.pointee.requestContent &+= content.count
        guard exchange.pointee.requestContent <= limits.body.bodyBytesMax else { return answer(number, .requestBody(.bodyTooLarge)) }
        if exchange.pointee.reach != .connected, isOverBudget(connection) { return answer(number, .bufferBudgetSpent) }
        if ends { requestEnded(number) }
        passRequestContent(number, content, ends: ends)
        guard exchanges.find(token) != nil else { return }
        chargeHeld(exchange, connection)
        if requestRoom(exchange) > 0 {
            session.pointee.codec.consumed(stream, content.count)
            if exchange.pointee.isTunnel || !exchange.pointee.replyHasBegun && !ends { setDeadline(exchange, number, milliseconds: limits.stallMilliseconds) }
        } else {
            exchange.pointee.unconsumedRequest &+= Int32(truncatingIfNeeded: content.count)
        }
    }

    /// The client has said all: from here on the reply is waited for.
    private mutating func requestEnded(_ number: UInt32) {
        let exchange = exchanges.at(number)
        exchange.pointee.requestPhase = .complete
        if !exchange.pointee.replyHasBegun { setDeadline(exchange, number, milliseconds: limits.replyMilliseconds) }
    }

    /// A head that RFC 9113, 8 forbids, or that is too large. An open stream gets an answer, any other was reset.
    private mutating func refuseStream(
        _ stream: Int32, _ owner: UInt32, _ fault: HTTPFault, isOpen: Bool, _ connection: ConnectionPlace, _ session: SessionPlace
    ) {
        if owner != 0 {
            ledger.countRefusal(.requestBody(fault))
            return streamAborted(owner - 1)
        }
        ledger.countRefusal(.requestHead(fault))
        ledger.recordRefused(connection, status: UInt16(fault.status), tables, caller: callerAddress(of: connection, like: connection.pointee.address))
        if isOpen { session.pointee.codec.submitReply(stream, Reply(refusing: fault)) }
    }
}
