import EventLoop
import HTTPCodec
import Telemetry
import Upstream

// A session towards a server: what its frames mean for the exchanges that have streams on it, and how it ends.
extension Worker {
    /// What the server says becomes the replies of the exchanges.
    mutating func replyEvent(_ event: HTTP2Event, _ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace) {
        switch event {
        case .head(_, let owner, let bytes, let ends):
            guard owner != 0 else { return }
            if exchanges.at(owner - 1).pointee.isRelay { return connectAnswered(owner - 1, bytes, ends: ends) }
            takeReplyHead(owner - 1, bytes, ends: ends)
        case .interim(_, let owner, let bytes):
            if owner != 0, !exchanges.at(owner - 1).pointee.isRelay, admitsInterim(owner - 1) { passInterimHead(owner - 1, bytes) }
        case .data(let stream, let owner, let content, let ends):
            guard owner != 0 else { return session.pointee.codec.consumed(stream, content.count) }
            if exchanges.at(owner - 1).pointee.isRelay { return streamSpoke(owner - 1, content, ends: ends) }
            takeReplyContent(owner - 1, stream, content, ends: ends, session)
        case .ended(_, let owner):
            guard owner != 0 else { return }
            if exchanges.at(owner - 1).pointee.isRelay { return streamSpoke(owner - 1, UnsafeRawBufferPointer(start: nil, count: 0), ends: true) }
            exchanges.at(owner - 1).pointee.upstreamIsOver = true
            _ = passReplyContent(owner - 1, UnsafeRawBufferPointer(start: nil, count: 0), ends: true)
        case .trailers(_, let owner, let bytes):
            guard owner != 0 else { return }
            // Behind a tunnel fields mean nothing, but that it ends.
            if exchanges.at(owner - 1).pointee.isRelay { return streamSpoke(owner - 1, UnsafeRawBufferPointer(start: nil, count: 0), ends: true) }
            exchanges.at(owner - 1).pointee.upstreamIsOver = true
            passReplyTrailers(owner - 1, bytes)
        case .reset(_, let owner, let code, let wasProcessed):
            ledger.count(.http2ResetsReceivedUpstream)
            guard owner != 0 else { return }
            if exchanges.at(owner - 1).pointee.isRelay { return connectStreamGone(owner - 1, code, wasProcessed: wasProcessed) }
            // A reply that breaks off is no whole one, whatever its server calls it.
            exchanges.at(owner - 1).pointee.resetCode = code == .noError ? .internalError : code
            streamWasReset(owner - 1, wasProcessed: wasProcessed)
        case .refused(_, let owner, let fault, _):
            guard owner != 0 else { return }
            if exchanges.at(owner - 1).pointee.isRelay { return connectStreamGone(owner - 1, .protocolError, wasProcessed: true) }
            exchanges.at(owner - 1).pointee.upstreamIsOver = true
            exchanges.at(owner - 1).pointee.requestIsEnded = true
            replyWasRefused(owner - 1, fault)
        case .settings:
            let place = connection.pointee.session
            keepTicket(connection)
            if sessionTable.isOpening(place) {
                deadlines.set(index, at: after(milliseconds: sessionTickMilliseconds))
                sessionOpened(place)
            } else {
                sessionTable.allow(place, streamsMax: session.pointee.codec.peerMaxStreams)
            }
        case .goAway:
            ledger.count(.http2GoAwaysReceivedUpstream)
            ledger.count(.http2RetiredGoAway)
            if sessionTable.retire(connection.pointee.session) { again(connection, index) }
        case .pong, .fault, .pause, .none: break
        }
    }

    /// Counts one more interim head. False when that was one too many, and the exchange has failed.
    mutating func admitsInterim(_ number: UInt32) -> Bool {
        let exchange = exchanges.at(number)
        exchange.pointee.interimReplies += 1
        if exchange.pointee.interimReplies <= limits.interimRepliesMax { return true }
        fail(number, .malformedReply)
        return false
    }

    private mutating func takeReplyHead(_ number: UInt32, _ bytes: UnsafeRawBufferPointer, ends: Bool) {
        let exchange = exchanges.at(number)
        exchange.pointee.upstreamIsOver = ends
        // The other node's proxy could not reach its application: nobody has seen the request. A call is told so with a status of gRPC's.
        if exchange.pointee.account.isBehindPeer, exchange.pointee.heldHeadCount > 0, head.status == 503 || ends && exchange.pointee.isGRPC,
            saysNotConnected(bytes)
        {
            return fail(number, .refusedBehindPeer)
        }
        if retriesInstead(number, bytes, isWhole: ends) { return }
        letGo(exchange)
        _ = passReplyHead(number, bytes, ends: ends)
    }

    private mutating func takeReplyContent(
        _ number: UInt32, _ stream: Int32, _ content: UnsafeRawBufferPointer, ends: Bool, _ session: SessionPlace
    ) {
        let exchange = exchanges.at(number)
        exchange.pointee.upstreamIsOver = ends
        guard passReplyContent(number, content, ends: ends) else { return }
        if replyRoom(exchange) > 0 {
            session.pointee.codec.consumed(stream, content.count)
        } else {
            exchange.pointee.unconsumedReply &+= Int32(truncatingIfNeeded: content.count)
        }
    }

    /// The stream is gone.
    private mutating func streamWasReset(_ number: UInt32, wasProcessed: Bool) {
        let exchange = exchanges.at(number)
        exchange.pointee.upstreamIsOver = true
        if !wasProcessed && !exchange.pointee.replyHasBegun { return fail(number, .refusedStream) }
        fail(number, .streamReset)
    }

    // MARK: Turns and ticks

    /// Behind each turn: free streams go to those who wait; a session that takes none any more closes with its last one.
    mutating func settleUpstreamSession(_ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace) {
        charge(connection)
        let place = connection.pointee.session
        if sessionTable.hasWaiters(place) {
            serveWaiters(place)
            openAnother(place, session)
        }
        // A tunnel that has ended may still have to say what it was given.
        guard session.pointee.codec.isDraining, session.pointee.exchangeCount == 0, session.pointee.codec.openStreams == 0,
            !session.pointee.codec.wantsWrite, connection.pointee.output.isEmpty
        else { return }
        dropSession(connection, index, .retired)
    }

    /// The tick of a session: while it opens, the time it has for that.
    mutating func upstreamSessionExpired(_ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace) {
        if !session.pointee.codec.hasHeardSettings { return dropSession(connection, index, .failed(.settingsTimeout)) }
        deadlines.set(index, at: after(milliseconds: sessionTickMilliseconds))
        if hasOutlivedCertificates(connection) {
            ledger.count(.http2RetiredCredentials)
            return dropSession(connection, index, .failed(.endedBeforeReply(peerMayHaveSeen: .body, reused: true)))
        }
        if !isTrusted(connection) { retireSession(connection, index, session) }
        if headIsOverdue(index, session) { return sessionFailed(connection, index, session, .headTimeout) }
        if session.pointee.blockedSince != 0, isPast(session.pointee.blockedSince, milliseconds: limits.stallMilliseconds) {
            return dropSession(connection, index, .failed(.endedBeforeReply(peerMayHaveSeen: .body, reused: true)))
        }
        if session.pointee.exchangeCount == 0 && session.pointee.codec.openStreams == 0 {
            guard isPast(session.pointee.idleSince, milliseconds: limits.sessionRestMilliseconds) else { return session.pointee.codec.shrink() }
            return retireIdle(connection, index, session)
        }
        if let sent = session.pointee.codec.pingSentAt {
            guard !isPast(sent, milliseconds: limits.pingAnswerMilliseconds) else {
                ledger.count(.http2PingsUnanswered)
                ledger.count(.http2RetiredUnanswered)
                return dropSession(connection, index, .failed(.endedBeforeReply(peerMayHaveSeen: .body, reused: true)))
            }
        } else if isPast(session.pointee.codec.lastReceived, milliseconds: limits.serverPingMilliseconds) {
            session.pointee.codec.ping(now: now)
        }
        _ = session.pointee.codec.check(now: now)
        if session.pointee.codec.wantsWrite || session.pointee.codec.hasEvents { again(connection, index) }
    }

    /// Nobody has needed it for a while: it says so and closes.
    private mutating func retireIdle(_ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace) {
        ledger.count(.http2RetiredIdle)
        retireSession(connection, index, session)
    }

    /// The session takes no more streams, says so, and closes behind its last.
    mutating func retireSession(_ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace) {
        guard !session.pointee.codec.isDraining else { return }
        ledger.count(.http2GoAwaysSentUpstream)
        _ = sessionTable.retire(connection.pointee.session)
        session.pointee.codec.beginDrain()
        again(connection, index)
    }

    // MARK: The end

    /// The server has closed the connection, or it broke.
    mutating func upstreamSessionEnded(_ connection: ConnectionPlace, _ index: UInt32) {
        let session = sessions.at(connection.pointee.session)
        if connection.pointee.secure != nobody, secures.at(connection.pointee.secure).pointee.tls.wasRefusedAsRevoked {
            return dropSession(connection, index, .failed(.callerRevoked))
        }
        if !session.pointee.codec.hasHeardSettings, session.pointee.target.wire != .secure {
            return dropSession(connection, index, .notSpoken(hasAnswered: false))
        }
        if !session.pointee.codec.isDraining { ledger.count(.http2RetiredPeerClosed) }
        drop(connection, index)
    }

    /// The server has broken the protocol, or never spoken it. What we have to say about it goes out if it can at once.
    mutating func upstreamSessionFailed(_ connection: ConnectionPlace, _ index: UInt32, _ fault: HTTP2Fault) {
        let session = sessions.at(connection.pointee.session)
        if !session.pointee.codec.hasHeardSettings { return dropSession(connection, index, .notSpoken(hasAnswered: true)) }
        ledger.count(.http2RetiredFault)
        ledger.count(.http2GoAwaysSentUpstream)
        let count = session.pointee.codec.write(into: writeMemory)
        if connection.pointee.output.isEmpty { _ = write(UnsafeRawBufferPointer(rebasing: writeMemory[..<count]), to: connection) }
        dropSession(connection, index, .failed(.endedBeforeReply(peerMayHaveSeen: .body, reused: true)))
    }

    /// The connection of the session is being closed. As with a client's (`endSession`), its exchanges end a few at a time; until the last one has,
    /// both keep their places, though nothing moves on them.
    mutating func forgetUpstreamSession(_ connection: ConnectionPlace, _ index: UInt32) {
        let place = connection.pointee.session
        guard endUpstreamSession(place) else { return }
        connection.pointee.session = nobody
        ledger.lower(.http2SessionsOpenUpstream)
    }

    /// Each of its exchanges fails by itself; those who waited for it look elsewhere, at once.
    /// - Returns: false when there are more than may fail in one turn.
    mutating func endUpstreamSession(_ place: UInt32) -> Bool {
        let session = sessions.at(place)
        if !session.pointee.isEnding {
            session.pointee.isEnding = true
            let ending = session.pointee.ending
            sessionTable.giveUp(place, now: now)
            if case .notSpoken(let hasAnswered) = ending { noteNotSpoken(session, hasAnswered: hasAnswered) }
            while let number = sessionTable.takeStranded(by: place) { strand(number, ending, isDeclared: session.pointee.isDeclared) }
        }
        var ended = 0
        let begun = monotonicNow()
        while session.pointee.firstExchange != nobody {
            guard mayEndMore(ended, since: begun) else { return false }
            streamWasLost(session.pointee.firstExchange, session)
            ended += 1
        }
        sessionTable.remove(place, now: now)
        sessions.remove(at: place)
        return true
    }

    private mutating func noteNotSpoken(_ session: SessionPlace, hasAnswered: Bool) {
        ledger.count(.http2NotSpoken)
        guard !session.pointee.isDeclared else { return }
        let target = session.pointee.target
        http1Memory.remember(high: target.address.high, low: target.address.low, port: target.port, hasAnswered: hasAnswered, now: now)
    }

    private mutating func streamWasLost(_ number: UInt32, _ session: SessionPlace) {
        let exchange = exchanges.at(number)
        if exchange.pointee.isRelay {
            if case .failed(.callerRevoked) = session.pointee.ending, exchange.pointee.reach == .connecting { return fail(number, .callerRevoked) }
            return connectStreamGone(number, .connectError, wasProcessed: true)
        }
        exchange.pointee.upstreamIsOver = true
        if exchange.pointee.replyHasBegun { return fail(number, .endedInReply) }
        switch session.pointee.ending {
        case .notSpoken: fail(number, .notHTTP2)
        case .failed(let failure):
            // Its request was sent: a server that has not said a word may have read it all the same.
            letGo(exchange)
            fail(number, failure)
        case .retired, nil: fail(number, .endedBeforeReply(peerMayHaveSeen: exchange.pointee.seen, reused: true))
        }
    }

    /// The exchange waited for this session, and there is no other.
    private mutating func strand(_ number: UInt32, _ ending: SessionEnding?, isDeclared: Bool) {
        let exchange = exchanges.at(number)
        let connection = connections.at(exchange.pointee.downstream)
        switch ending {
        case .notSpoken where !isDeclared || exchange.pointee.asksForUpgrade:
            // Nothing of it was sent. An upgrade is HTTP/1.1's own, whatever else the port speaks.
            settlePending(number, exchange, connection)
            exchange.pointee.wantsStream = false
            sendAsHTTP1(number, exchange, connection, .held, mayReuse: true)
        case .notSpoken: fail(number, .notHTTP2)
        case .failed(let failure): if !fallsBack(number, exchange, connection, after: failure) { fail(number, failure) }
        case .retired, nil: fail(number, .refusedStream)
        }
    }
}
