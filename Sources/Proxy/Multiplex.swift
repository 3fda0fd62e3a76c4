import EventLoop
import Glibc
import HTTPCodec
import Telemetry
import Upstream

// Step 6 of the journey where the upstream speaks HTTP/2: the request gets a stream of a session that is there, or waits for one.
extension Worker {
    /// Sends the request on a session towards its target, or lets it wait for one.
    mutating func requestStream(_ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace, _ message: Message) {
        let target = exchange.pointee.target, pod = connection.pointee.pod, isDeclared = exchange.pointee.isDeclaredHTTP2
        let key = poolKey(target, callingPod: pod)
        if let session = sessionTable.take(key) {
            submit(number, exchange, session, message)
        } else {
            awaitStream(number, exchange, connection, key)
        }
        if sessionTable.wantsOpening(key, now: now) { openSession(target, pod: pod, key, isDeclared: isDeclared) }
    }

    mutating func awaitStream(_ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace, _ key: PoolKey) {
        let budget = pods.budgets.base + Int(connection.pointee.pod)
        guard Int(budget.pointee.pendingRequests) < share(of: limits.pendingRequestsPerPodMax, connection) else { return answer(number, .pendingBudgetSpent) }
        exchange.pointee.seen = .nothing
        guard exchange.pointee.service?.beginPending(max: exchange.pointee.pendingMax) != false else { return answer(number, .overflow(.pending)) }
        countPending(1, exchange, connection)
        exchange.pointee.reach = .session
        sessionTable.wait(number, for: key, first: exchange.pointee.refusals > 0)
        if exchange.pointee.isRelay { deadlines.set(exchange.pointee.downstream, at: after(milliseconds: limits.connectMilliseconds * 2)) }
    }

    /// Puts what is held of the request on a stream of the session, which the table has taken for it.
    private mutating func submit(_ number: UInt32, _ exchange: ExchangePlace, _ place: UInt32, _ message: Message) {
        let session = sessions.at(place)
        if exchange.pointee.isRelay { return submitConnect(number, exchange, place, session) }
        if session.pointee.isForeign { return leadOverBridge(number, exchange, place, message) }
        if exchange.pointee.asksForUpgrade, !session.pointee.codec.hasHeardSettings {
            // Whether the server takes it on a stream, only its SETTINGS tell (RFC 8441, 3).
            let key = sessionTable.key(of: place)
            leaveStream(of: place)
            return awaitStream(number, exchange, connections.at(exchange.pointee.downstream), key)
        }
        let bytes = takeUp(exchange, message)
        let content = heldContent(exchange)
        let isEnded = exchange.pointee.requestIsEnded && exchange.pointee.heldTrailersAt == 0
        var stream: Int32 = 0
        var refusal: HTTP2Refusal?
        // Once an attempt has been made, all further ones must show the same.
        let shared = exchange.pointee.chanceIsShown ? nil : session.pointee.chance
        forwarding(exchange, peerKnowsChance: shared != nil) { forwarding in
            do throws(HTTP2Refusal) {
                stream = try session.pointee.codec.submitRequest(
                    head, of: bytes, forwarding, ends: isEnded && content.isEmpty, owner: number + 1)
            } catch {
                refusal = error
            }
        }
        if let refusal { return notSubmitted(number, exchange, place, refusal) }
        if let shared { exchange.pointee.chance = shared.of(stream) }
        exchange.pointee.chanceIsShown = true
        let index = session.pointee.connection
        joinUpstream(number, exchange, session, stream)
        if exchange.pointee.asksForUpgrade || exchange.pointee.method == .connect {
            // The head has not ended the stream, even if nothing follows it. An HTTP/1 client's side ends with its connection's.
            if exchange.pointee.downstreamStream == 0 {
                exchange.pointee.requestIsEnded = false
            } else if isEnded && content.isEmpty {
                session.pointee.codec.end(stream)
            }
        }
        exchange.pointee.reach = .connected
        exchange.pointee.seen = exchange.pointee.hasBody ? .body : .head
        exchange.pointee.requestBytes &+= UInt64(head.byteCount)
        if !content.isEmpty {
            guard session.pointee.codec.append(stream, content) == content.count else { return answer(number, .bufferBudgetSpent) }
            if isEnded { session.pointee.codec.end(stream) }
        }
        if let trailers = takeUpTrailers(exchange) { session.pointee.codec.submitTrailers(stream, head, of: trailers) }
        keepIfInBlock(exchange)
        // A call may last for hours from here on, if its client did not say how long.
        if exchange.pointee.isGRPC { setDeadline(exchange, number, milliseconds: limits.replyMilliseconds) }
        again(connections.at(index), index)
    }

    /// The exchange has a stream of the session.
    mutating func joinUpstream(_ number: UInt32, _ exchange: ExchangePlace, _ session: SessionPlace, _ stream: Int32) {
        exchange.pointee.upstream = session.pointee.connection
        exchange.pointee.upstreamStream = stream
        let first = session.pointee.firstExchange
        exchange.pointee.nextOfUpstream = first
        exchange.pointee.previousOfUpstream = nobody
        if first != nobody { exchanges.at(first).pointee.previousOfUpstream = number }
        session.pointee.firstExchange = number
        session.pointee.exchangeCount += 1
        ledger.count(.http2StreamsUpstream)
        ledger.raise(.http2StreamsOpenUpstream)
    }

    /// The proxy at the other end knows no requests, or not this one: it gets a connection of its own, led through a CONNECT stream.
    private mutating func leadOverBridge(_ number: UInt32, _ exchange: ExchangePlace, _ place: UInt32, _ message: Message) {
        leaveStream(of: place)
        exchange.pointee.target.wire = .bridged
        sendAsContent(number, exchange, connections.at(exchange.pointee.downstream), message, mayReuse: true)
    }

    /// The session has no stream for it after all.
    mutating func notSubmitted(_ number: UInt32, _ exchange: ExchangePlace, _ place: UInt32, _ refusal: HTTP2Refusal) {
        let connection = connections.at(exchange.pointee.downstream)
        switch refusal {
        case .headTooLarge:
            leaveStream(of: place)
            answer(number, .requestHead(.headTooLarge))
        case .extendedConnectUnknown:
            // The upgrade is HTTP/1.1's own where the server knows no other.
            leaveStream(of: place)
            exchange.pointee.wantsStream = false
            if exchange.pointee.target.wire == .secure { exchange.pointee.target.wire = .bridged }
            sendAsHTTP1(number, exchange, connection, .held, mayReuse: true)
        case .noMoreStreams, .draining:
            if refusal == .draining { _ = sessionTable.retire(place) }
            let key = sessionTable.key(of: place)
            leaveStream(of: place)
            awaitStream(number, exchange, connection, key)
            // What still counts there is on its way out; the session looks for those who wait at the end of each turn.
            let index = sessions.at(place).pointee.connection
            if index != nobody { again(connections.at(index), index) }
        }
    }

    /// The exchange needs its stream no more: it has the whole reply, or shall not get it.
    mutating func releaseStream(_ exchange: ExchangePlace) {
        let index = exchange.pointee.upstream
        let upstream = connections.at(index)
        let place = upstream.pointee.session
        let session = sessions.at(place)
        let stream = exchange.pointee.upstreamStream
        if !exchange.pointee.upstreamIsOver || !exchange.pointee.requestIsEnded {
            session.pointee.codec.reset(stream, exchange.pointee.resetCode)
            ledger.count(.http2ResetsSentUpstream)
            again(upstream, index)
        } else {
            session.pointee.codec.setOwner(stream, 0)
        }
        let next = exchange.pointee.nextOfUpstream, previous = exchange.pointee.previousOfUpstream
        if next != nobody { exchanges.at(next).pointee.previousOfUpstream = previous }
        if previous != nobody { exchanges.at(previous).pointee.nextOfUpstream = next } else { session.pointee.firstExchange = next }
        session.pointee.exchangeCount -= 1
        exchange.pointee.upstream = nobody
        exchange.pointee.upstreamStream = 0
        exchange.pointee.unconsumedReply = 0
        ledger.lower(.http2StreamsOpenUpstream)
        leaveStream(of: place)
    }

    private mutating func leaveStream(of place: UInt32) {
        let session = sessions.at(place)
        switch sessionTable.streamEnded(place) {
        case .busy: guard sessionTable.hasWaiters(place) else { return }
        case .resting:
            session.pointee.idleSince = now
            return
        case .finished: break
        }
        let index = session.pointee.connection
        if index != nobody { again(connections.at(index), index) }
    }

    /// Those who wait get the streams that are free.
    mutating func serveWaiters(_ place: UInt32) {
        while sessions.at(place).pointee.codec.canOpenStream, let number = sessionTable.serveWaiter(with: place) {
            let exchange = exchanges.at(number)
            settlePending(number, exchange, connections.at(exchange.pointee.downstream))
            submit(number, exchange, place, .held)
            guard exchanges.isOccupied(number) else { continue }
            // It waits again: not before the session's next turn is there more to say.
            if exchange.pointee.reach == .session { return }
            if exchange.pointee.reach == .connected { requestMayContinue(number) }
        }
    }
}
