import COpenSSL
import Glibc

/// One TLS 1.3 connection over a non-blocking socket, mutual, between two workloads. Reads and writes the descriptor, never closes it.
public struct TLSSession: ~Copyable {
    let record: UnsafeMutablePointer<SessionRecord>

    /// A client's connection to the workload that `credentials` are of. Nil: out of memory.
    public init?(server credentials: TLSCredentials, descriptor: Int32, workspace: borrowing TLSWorkspace) {
        let none = UnsafeRawBufferPointer(start: nil, count: 0)
        guard let made = UnsafeMutablePointer<SessionRecord>.make(
            credentials, descriptor: descriptor, workspace: workspace.state, isClient: false, namespace: none, serviceAccount: none)
        else { return nil }
        record = made
    }

    /// A connection to the workload with that service account, and to no other. A ticket that does not fit counts as none. Nil: out of memory, or
    /// no workload can have such a name.
    public init?(
        client credentials: TLSCredentials, descriptor: Int32, expecting namespace: UnsafeRawBufferPointer, serviceAccount: UnsafeRawBufferPointer,
        ticket: borrowing TLSTicket?, workspace: borrowing TLSWorkspace
    ) {
        guard let made = UnsafeMutablePointer<SessionRecord>.make(
            credentials, descriptor: descriptor, workspace: workspace.state, isClient: true, namespace: namespace, serviceAccount: serviceAccount)
        else { return nil }
        record = made
        switch ticket {
        case .some(let ticket):
            let peer = ticket.peer.certificate
            // A copy: OpenSSL gives up a session whose connection has brought another ticket, and several connections may begin with this one.
            guard ticket.generation == credentials.generation, same(peer.namespace, namespace), same(peer.serviceAccount, serviceAccount),
                let copy = SSL_SESSION_dup(ticket.session)
            else { break }
            defer { SSL_SESSION_free(copy) }
            guard SSL_set_session(made.pointee.ssl, copy) == 1 else { break }
            ticket.peer.retain()
            made.pointee.offered = ticket.peer
        case .none: break
        }
    }

    deinit { record.destroy() }

    // MARK: The handshake

    /// Goes on with the handshake as far as the socket allows. `now`: unix seconds, by which certificates are judged.
    ///
    /// After `.done` the last flight still waits, to leave with the first bytes of this side: send some, or `flush()`.
    public mutating func handshake(now: Int64) -> TLSStep {
        if record.pointee.isDone { return .done }
        if let fault = record.pointee.fault { return .failed(fault) }
        record.pointee.now = now
        guard copenssl_held_send(&record.pointee.socket) == 0 else {
            record.pointee.fault = .reset
            return .failed(.reset)
        }
        if record.pointee.socket.held != nil { return .wantsWrite }
        record.pointee.socket.is_drained = 0
        record.pointee.socket.reads_left = TLSLimits.handshakeReadsMax
        let outlet = record.pointee.workspace.pointee.outlet
        record.pointee.socket.outlet = outlet
        let result = SSL_do_handshake(record.pointee.ssl)
        record.pointee.socket.outlet = nil
        if result == 1 {
            let step = settle(now)
            if step == .done, outlet.pointee.count <= TLSLimits.flightBytesMax, copenssl_outlet_hold(outlet, &record.pointee.socket) == 1 { return step }
            _ = copenssl_outlet_send(outlet, &record.pointee.socket)
            return step
        }
        _ = copenssl_outlet_send(outlet, &record.pointee.socket)
        defer { ERR_clear_error() }
        switch SSL_get_error(record.pointee.ssl, result) {
        case SSL_ERROR_WANT_READ: return record.pointee.socket.held == nil ? .wantsRead : .wantsWrite
        case SSL_ERROR_WANT_WRITE: return .wantsWrite
        case let kind:
            let fault = record.pointee.fault ?? classify(kind, inHandshake: true)
            record.pointee.fault = fault
            return .failed(fault)
        }
    }

    /// The cryptography has succeeded; now what only we can judge.
    private func settle(_ now: Int64) -> TLSStep {
        ERR_clear_error()
        record.pointee.isResumed = SSL_session_reused(record.pointee.ssl) == 1
        let fault: TLSFault?
        if let peer = record.currentPeer {
            fault = negotiated == nil ? .noCommonProtocol : record.pointee.isResumed ? refusal(of: peer, now) : nil
        } else {
            fault = .noCertificate
        }
        guard let fault else {
            record.pointee.isDone = true
            copenssl_forget_peer(record.pointee.ssl)
            return .done
        }
        record.pointee.fault = fault
        return .failed(fault)
    }

    private func refusal(of peer: UnsafeMutablePointer<PeerRecord>, _ now: Int64) -> TLSFault? {
        if let fault = peer.fault(at: now) { return fault }
        do throws(TLSFault) { try record.accept(peer) } catch { return error }
        return nil
    }

    private var negotiated: TLSProtocol? {
        var name: UnsafePointer<UInt8>?
        var count: UInt32 = 0
        SSL_get0_alpn_selected(record.pointee.ssl, &name, &count)
        return ProtocolChoice.named(UnsafeRawBufferPointer(start: name, count: Int(count)))
    }

    // MARK: What it has agreed on

    /// After `.done`.
    public var applicationProtocol: TLSProtocol { negotiated ?? .hbone }
    /// The session continues an earlier one; no certificate was sent.
    public var isResumed: Bool { record.pointee.isResumed }
    /// After `.done`. Its texts live as long as this session.
    public var peer: PeerCertificate {
        guard let peer = record.currentPeer else { preconditionFailure("a peer is known when the handshake is done") }
        return peer.certificate
    }
    /// The peer has refused our certificate as revoked (RFC 8446, 6.2: certificate_revoked). As a client we hear of it behind our own handshake.
    public var wasRefusedAsRevoked: Bool { record.pointee.fault == .peerAlert && record.pointee.alert == UInt8(SSL_AD_CERTIFICATE_REVOKED) }
    /// The alert (RFC 8446, 6) by which the peer has refused us, when that is the fault.
    public var peerAlert: UInt8 { record.pointee.alert }

    /// 24 bytes that both ends know and no other session has: of the two hellos, so no secret.
    public var sharedChance: (UInt64, UInt64, UInt64) {
        var words = InlineArray<6, UInt64>(repeating: 0)
        let ssl = record.pointee.ssl
        withUnsafeMutableBytes(of: &words) { room in
            let bytes = room.assumingMemoryBound(to: UInt8.self).baseAddress!
            SSL_get_client_random(ssl, bytes, 24)
            SSL_get_server_random(ssl, bytes + 24, 24)
        }
        return (words[0] ^ words[3], words[1] ^ words[4], words[2] ^ words[5])
    }

    /// Of the credentials it began with.
    public var identity: UInt32 { record.pointee.credentials.identity }
    public var generation: UInt64 { record.pointee.credentials.generation }
    /// When the own certificate it was begun with ends; unix seconds.
    public var ownNotAfter: Int64 { record.pointee.credentials.notAfter }
    /// When the first of the two leaves ends that it was begun with; unix seconds.
    public var endsAt: Int64 { min(ownNotAfter, peer.notAfter) }
    /// The own name; lives as long as this session.
    public var ownURI: UnsafeRawBufferPointer { record.pointee.credentials.uri }

    /// Why the peer of a live session would be refused today; nil: it would not.
    public func refusalToday(now: Int64) -> TLSFault? {
        guard let peer = record.currentPeer else { return nil }
        if let fault = peer.fault(at: now) { return fault }
        return record.pointee.workspace.isRevoked(peer.certificate) ? .revoked : nil
    }

    /// Client: the newest ticket, once. It comes with what the server sends first.
    public mutating func takeTicket() -> TLSTicket? {
        guard record.pointee.isDone, let session = record.pointee.ticket, let peer = record.currentPeer else { return nil }
        record.pointee.ticket = nil
        peer.retain()
        return TLSTicket(session: session, peer: peer, generation: record.pointee.credentials.generation)
    }
}
