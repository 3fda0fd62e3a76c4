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
            ledger.count(fault == .revoked ? .tlsSessionsRevoked : .tlsSessionsExpired)
            return reset(connection, index)
        }
        // What still goes on when our own certificate has ended, and clocks are no excuse, was told long ago.
        if today > secure.pointee.tls.ownNotAfter + TLSLimits.clockSkewSeconds {
            ledger.count(.tlsSessionsExpired)
            return reset(connection, index)
        }
        let isReplaced = !identities.isCurrent(secure.pointee.tls.identity, generation: secure.pointee.tls.generation)
        let ends = min(secure.pointee.tls.ownNotAfter, secure.pointee.tls.peer.notAfter)
        // One that was begun within the tolerated skew has nothing better to go to.
        let isOver = today >= ends && secure.pointee.began < ends
        guard isReplaced || isOver, secureDrains < Self.drainsPerWalk || today >= ends - Self.urgentSeconds,
            sessions.at(connection.pointee.session).pointee.drain == .none
        else { return }
        secureDrains += 1
        ledger.count(isReplaced ? .tlsSessionsReplaced : .tlsSessionsExpired)
        drainSession(connection, index)
    }
}
