import EventLoop
import HTTPCodec
import MutualTLS
import Telemetry

// How long a handshake is good for. Certificates end, are replaced and are revoked while sessions that began with them go on; those that clients
// have opened are looked at here, those towards endpoints in SecureSession.
extension Worker {
    /// Sessions looked at between two looks at epoll.
    private static let looksPerTurn = 64
    /// Sessions told in one walk to go elsewhere, for each costs a handshake; but none is left for the end of what it began with.
    private static let drainsPerWalk = 4, urgentSeconds: Int64 = 30

    /// From now on every session is looked at once.
    mutating func beginSecureWalk() {
        secureWalk = 0
        secureDrains = 0
    }

    /// The same because of new revocations: who is only to go elsewhere hears of it in the next walk.
    mutating func beginRevocationWalk() {
        secureWalk = 0
        secureDrains = Self.drainsPerWalk
    }

    /// The walk has not seen all of them.
    var isWalkingSecure: Bool { secureWalk < secures.highWater }

    mutating func walkSecure() {
        let end = min(secures.highWater, secureWalk + UInt32(Self.looksPerTurn))
        let today = unixNow
        while secureWalk < end {
            let place = secureWalk
            secureWalk += 1
            if secures.isOccupied(place) { judge(secures.at(place), today) }
        }
    }

    private mutating func judge(_ secure: SecurePlace, _ today: Int64) {
        let index = secure.pointee.connection
        let connection = connections.at(index)
        guard secure.pointee.isServer, !secure.pointee.isUnderWay, connection.pointee.stage == .multiplexing else { return }
        if let fault = secure.pointee.tls.refusalToday(now: today) {
            if fault == .revoked { return turnAway(connection, index) }
            ledger.count(.tlsSessionsExpired)
            return reset(connection, index)
        }
        // What still goes on when a certificate has ended that it began with, and clocks are no excuse, was told long ago.
        if hasOutlivedCertificates(connection) {
            ledger.count(.tlsSessionsExpired)
            return reset(connection, index)
        }
        let isReplaced = !identities.isCurrent(secure.pointee.tls.identity, generation: secure.pointee.tls.generation)
        let ends = secure.pointee.tls.endsAt
        // One that was begun within the tolerated skew has nothing better to go to.
        let isOver = today >= ends && secure.pointee.began < ends
        guard isReplaced || isOver, secureDrains < Self.drainsPerWalk || today >= ends - Self.urgentSeconds,
            sessions.at(connection.pointee.session).pointee.drain == .none
        else { return }
        secureDrains += 1
        ledger.count(isReplaced ? .tlsSessionsReplaced : .tlsSessionsExpired)
        drainSession(connection, index)
    }

    // MARK: Revoked

    /// The client is revoked. Whatever it has asked for, and still asks for, gets an answer that says so, until the client knows that the session
    /// ends; a connection that merely broke would look like a fault of the server's, and be tried again.
    private mutating func turnAway(_ connection: ConnectionPlace, _ index: UInt32) {
        let session = sessions.at(connection.pointee.session)
        guard session.pointee.revokedUntil == 0 else { return again(connection, index) }
        ledger.count(.tlsSessionsRevoked)
        noteRevoked(connection)
        session.pointee.revokedUntil = after(milliseconds: limits.revokedMilliseconds)
        drainSession(connection, index)
        deadlines.set(index, at: session.pointee.revokedUntil)
        again(connection, index)
    }

    /// One turn of a session whose client is revoked.
    /// - Returns: false when its time is over, and it too.
    mutating func endRevoked(_ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace) -> Bool {
        guard now < session.pointee.revokedUntil else {
            // What came too late for an answer is named as not processed; who does not even take that is reset.
            session.pointee.codec.finishDrain()
            if connection.pointee.output.isEmpty { closeSession(connection, index, session) }
            if connection.pointee.stage == .multiplexing || connection.pointee.stage == .flushing { reset(connection, index) }
            return false
        }
        var ended = 0
        let begun = monotonicNow()
        while session.pointee.firstExchange != nobody {
            guard mayEndMore(ended, since: begun) else {
                again(connection, index)
                break
            }
            ledger.count(.accessEnded)
            answer(session.pointee.firstExchange, .denied(.revoked))
            ended += 1
        }
        return true
    }
}
