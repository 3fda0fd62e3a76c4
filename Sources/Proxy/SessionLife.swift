import Bytes
import EventLoop
import HTTPCodec

// The end of a client's session: at rest for too long, silent in the middle of something, or because the proxy ends.
extension Worker {
    /// Behind each turn: a session that takes no more streams closes when its last one is done and its last frame is with the kernel.
    mutating func settleSession(_ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace) {
        if session.pointee.endedAt != 0, session.pointee.exchangeCount == 0, !session.pointee.codec.wantsWrite, connection.pointee.output.isEmpty {
            return drop(connection, index)
        }
        guard session.pointee.codec.isDraining, session.pointee.drain != .announced, session.pointee.exchangeCount == 0,
            session.pointee.codec.openStreams == 0, !session.pointee.codec.wantsWrite, connection.pointee.output.isEmpty
        else { return }
        closeSession(connection, index, session)
    }

    /// Tells the client that the connection ends, in two steps, so that no request crosses the word (RFC 9113, 6.8): first that it shall open
    /// no more streams, then, a round trip later, which was the last one.
    mutating func drainSession(_ connection: ConnectionPlace, _ index: UInt32) {
        let session = sessions.at(connection.pointee.session)
        guard session.pointee.drain == .none else { return }
        session.pointee.drain = .announced
        session.pointee.codec.beginDrain()
        session.pointee.codec.ping(now: now)
        ledger.count(.http2GoAwaysSentDownstream)
        deadlines.set(index, at: after(milliseconds: limits.drainStepMilliseconds))
        again(connection, index)
    }

    /// What the client has sent until it knew of the drain has come.
    mutating func finishDrain(_ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace) {
        guard session.pointee.drain == .announced else { return }
        session.pointee.drain = .finished
        session.pointee.codec.finishDrain()
        ledger.count(.http2GoAwaysSentDownstream)
        again(connection, index)
    }

    /// The tick of a session. One deadline serves all that time may decide about it: none of it needs to be exact, and no request touches it.
    mutating func sessionExpired(_ connection: ConnectionPlace, _ index: UInt32) {
        let session = sessions.at(connection.pointee.session)
        if !session.pointee.isServer { return upstreamSessionExpired(connection, index, session) }
        if session.pointee.endedAt != 0 {
            guard !isPast(session.pointee.endedAt, milliseconds: limits.halfClosedMilliseconds) else { return drop(connection, index) }
            return deadlines.set(index, at: session.pointee.endedAt + UInt64(limits.halfClosedMilliseconds) * 1_000_000)
        }
        // Its turn, which follows, looks whether its time is over.
        if session.pointee.revokedUntil != 0 { return deadlines.set(index, at: session.pointee.revokedUntil) }
        deadlines.set(index, at: after(milliseconds: sessionTickMilliseconds))
        if session.pointee.blockedSince != 0, isPast(session.pointee.blockedSince, milliseconds: limits.stallMilliseconds) {
            // Nothing can be told to a client that does not read.
            ledger.count(.limitBodyTimeout)
            return reset(connection, index)
        }
        if !session.pointee.codec.hasHeardSettings {
            // Until then no stream can have been opened, so it is as old as its rest.
            guard isPast(session.pointee.idleSince, milliseconds: limits.headMilliseconds) else {
                return deadlines.set(index, at: session.pointee.idleSince + UInt64(limits.headMilliseconds) * 1_000_000)
            }
            session.pointee.codec.fail(.settingsTimeout)
            return sessionFailed(connection, index, session, .settingsTimeout)
        }
        if headIsOverdue(index, session) { return sessionFailed(connection, index, session, .headTimeout) }
        if session.pointee.codec.openStreams > 0 && session.pointee.codec.check(now: now) { again(connection, index) }
        if session.pointee.drain == .announced { return finishDrain(connection, index, session) }
        if session.pointee.exchangeCount == 0 && session.pointee.codec.openStreams == 0 {
            guard isPast(session.pointee.idleSince, milliseconds: limits.idleMilliseconds) else { return session.pointee.codec.shrink() }
            ledger.count(.limitIdleTimeout)
            drainSession(connection, index)
            return finishDrain(connection, index, session)
        }
        if let sent = session.pointee.codec.pingSentAt {
            guard !isPast(sent, milliseconds: limits.pingAnswerMilliseconds) else {
                ledger.count(.http2PingsUnanswered)
                return reset(connection, index)
            }
        } else if isPast(session.pointee.codec.lastReceived, milliseconds: limits.pingMilliseconds) {
            session.pointee.codec.ping(now: now)
        }
        if session.pointee.codec.wantsWrite || session.pointee.codec.hasEvents { again(connection, index) }
    }

    /// Whether the peer has had its time for the header block that it has begun; until then the tick comes no later than that ends.
    ///
    /// On a connection whose peer says nothing more, nothing else would be due for minutes, and a PING could not be answered within the block.
    mutating func headIsOverdue(_ index: UInt32, _ session: SessionPlace) -> Bool {
        guard let begun = session.pointee.codec.headBegunAt else { return false }
        guard !isPast(begun, milliseconds: limits.headMilliseconds) else {
            session.pointee.codec.fail(.headTimeout)
            ledger.count(.limitHeadTimeout)
            return true
        }
        deadlines.set(index, at: min(begun + UInt64(limits.headMilliseconds) * 1_000_000, after(milliseconds: sessionTickMilliseconds)))
        return false
    }

    func isPast(_ since: Nanoseconds, milliseconds: Int) -> Bool { now >= since + UInt64(milliseconds) * 1_000_000 }

    /// Often enough for the shortest of the limits that it watches.
    var sessionTickMilliseconds: Int {
        min(limits.sessionTickMilliseconds, limits.headMilliseconds, limits.idleMilliseconds, limits.stallMilliseconds, limits.pingMilliseconds, limits.pingAnswerMilliseconds)
    }
}
