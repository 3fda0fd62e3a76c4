import EventLoop
import Glibc
import HTTPCodec
import MeshModel
import MutualTLS
import Routing
import Telemetry
import Upstream

// Step 6 of the journey where the endpoint is guarded by another node's proxy: the session towards it begins with mutual TLS, as the calling pod and
// expecting the endpoint's own identity, and lasts no longer than what both have shown.
extension Worker {
    /// Connected to another node's proxy: both show who they are.
    mutating func secureSession(_ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace) {
        let target = session.pointee.target
        guard let workload = tables.workload(at: target.address), Self.expectation(workload) == target.expected else {
            // The address is another workload's by now.
            return dropSession(connection, index, .failed(.connect(errno: EHOSTUNREACH)))
        }
        guard let credentials = identity(of: session.pointee.pod, like: target.address)?.credentials else {
            return dropSession(connection, index, .failed(.noIdentity))
        }
        let descriptor = connection.pointee.descriptor
        let tls = tickets.withTicket(sessionTable.key(of: connection.pointee.session), generation: credentials.generation) { ticket in
            TLSSession(
                client: credentials, descriptor: descriptor, expecting: workload.namespace, serviceAccount: workload.serviceAccount, ticket: ticket,
                workspace: identities.workspace)
        }
        guard let tls else { return dropSession(connection, index, .failed(.noSocket(errno: ENOMEM))) }
        beginSecuring(connection, index, tls)
    }

    /// Each has believed the other. Requests go out with our SETTINGS: whoever agreed to the protocol speaks it.
    mutating func upstreamSecured(_ connection: ConnectionPlace, _ index: UInt32) {
        let place = connection.pointee.session
        let session = sessions.at(place)
        let target = session.pointee.target
        session.pointee.isForeign = secures.at(connection.pointee.secure).pointee.tls.applicationProtocol == .hbone
        wireMemory.remember(high: target.address.high, low: target.address.low, isForeign: session.pointee.isForeign, now: now)
        if !session.pointee.isForeign { session.pointee.chance = SharedChance(secures.at(connection.pointee.secure).pointee.tls.sharedChance) }
        connection.pointee.stage = .multiplexing
        deadlines.set(index, at: after(milliseconds: limits.connectMilliseconds))
        sessionOpened(place)
        serveSession(connection, index)
    }

    /// The other end's first words bring a ticket for the next session.
    mutating func keepTicket(_ connection: ConnectionPlace) {
        guard connection.pointee.secure != nobody else { return }
        let secure = secures.at(connection.pointee.secure)
        guard let ticket = secure.pointee.tls.takeTicket() else { return }
        tickets.keep(ticket, for: sessionTable.key(of: connection.pointee.session), generation: secure.pointee.tls.generation)
    }

    /// One of the two has not believed the other, or the connection broke before either could.
    mutating func upstreamNotSecured(_ connection: ConnectionPlace, _ index: UInt32, _ fault: TLSFault) {
        let isRevoked = connection.pointee.secure != nobody && secures.at(connection.pointee.secure).pointee.tls.wasRefusedAsRevoked
        dropSession(connection, index, .failed(isRevoked ? .callerRevoked : .notSecured))
    }

    /// Identities, roots or revocations have changed: who waited for a certificate goes on, sessions that began with another one take no more
    /// streams and close behind their last.
    mutating func identitiesChanged() {
        var place: UInt32 = 0
        while place < sessions.highWater {
            if sessions.isOccupied(place), !sessions.at(place).pointee.isServer, sessions.at(place).pointee.target.wire == .secure { renew(place) }
            place += 1
        }
    }

    private mutating func renew(_ place: UInt32) {
        let session = sessions.at(place)
        let index = session.pointee.connection
        guard index != nobody else {
            guard session.pointee.awaitsIdentity, identity(of: session.pointee.pod, like: session.pointee.target.address)?.credentials != nil else { return }
            session.pointee.awaitsIdentity = false
            return findSocket(sessions.token(at: place))
        }
        let connection = connections.at(index)
        guard connection.pointee.stage == .multiplexing, connection.pointee.secure != nobody else { return }
        let secure = secures.at(connection.pointee.secure)
        if secure.pointee.tls.refusalToday(now: unixNow) == .revoked {
            return dropSession(connection, index, .failed(.endedBeforeReply(peerMayHaveSeen: .body, reused: true)))
        }
        guard !session.pointee.codec.isDraining, !identities.isCurrent(secure.pointee.tls.identity, generation: secure.pointee.tls.generation) else { return }
        ledger.count(.http2RetiredCredentials)
        retireSession(connection, index, session)
    }

    /// Whether a certificate that the session began with has ended, and clocks are no excuse. Until then what cannot move to another session stays
    /// on a retired one: opaque connections, tunnels, long calls.
    func hasOutlivedCertificates(_ connection: ConnectionPlace) -> Bool {
        connection.pointee.secure != nobody && unixNow > secures.at(connection.pointee.secure).pointee.tls.endsAt + TLSLimits.clockSkewSeconds
    }

    /// Whether the other end of a session would be believed today; true of one that has shown nothing.
    func isTrusted(_ connection: ConnectionPlace) -> Bool {
        connection.pointee.secure == nobody || secures.at(connection.pointee.secure).pointee.tls.refusalToday(now: unixNow) == nil
    }
}
