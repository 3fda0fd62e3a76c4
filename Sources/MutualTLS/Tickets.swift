import COpenSSL
import Glibc

/// A server's word that its session may be taken up again (RFC 8446, 4.6.1), bound to our identity at one generation and to the peer that gave it.
public struct TLSTicket: ~Copyable {
    let session: OpaquePointer
    let peer: UnsafeMutablePointer<PeerRecord>
    let generation: UInt64

    deinit {
        SSL_SESSION_free(session)
        peer.release()
    }
}

/// OpenSSL's three questions about tickets.
///
/// What a server seals into a ticket beside OpenSSL's own state: `{i64 validFrom, i64 validUntil, u8 serialCount, serial, uri}`, native byte order,
/// for only the context that wrote it opens it. So a resumed peer is judged again by time and revocation without parsing its certificate.
enum Tickets {
    private static let fixedBytes = 17

    /// Server: a ticket is about to be sealed.
    static let sealing: SSL_CTX_generate_session_ticket_fn = { ssl, _ in
        guard let session = SessionRecord.of(ssl), let peer = session.currentPeer else { return 0 }
        let certificate = peer.certificate
        let count = fixedBytes + certificate.serial.count + certificate.uri.count
        return withUnsafeTemporaryAllocation(byteCount: count, alignment: 8) { room in
            room.storeBytes(of: peer.pointee.validFrom, toByteOffset: 0, as: Int64.self)
            room.storeBytes(of: peer.pointee.validUntil, toByteOffset: 8, as: Int64.self)
            room[16] = UInt8(certificate.serial.count)
            UnsafeMutableRawBufferPointer(rebasing: room[fixedBytes...]).copyMemory(from: certificate.serial)
            UnsafeMutableRawBufferPointer(rebasing: room[(fixedBytes + certificate.serial.count)...]).copyMemory(from: certificate.uri)
            let own = SSL_get_session(ssl)
            return SSL_SESSION_set1_ticket_appdata(own, room.baseAddress, count) == 1 ? copenssl_forget_certificate(own) : 0
        }
    }

    /// Server: a client has shown a ticket. Whatever speaks against it leads to a full handshake, which then says why.
    static let opened: SSL_CTX_decrypt_session_ticket_fn = { ssl, ticket, _, _, status, _ in
        guard status == SSL_TICKET_SUCCESS || status == SSL_TICKET_SUCCESS_RENEW, let session = SessionRecord.of(ssl) else { return SSL_TICKET_RETURN_IGNORE_RENEW }
        var data: UnsafeMutableRawPointer?
        var count = 0
        guard SSL_SESSION_get0_ticket_appdata(ticket, &data, &count) == 1, let data, count > fixedBytes else { return SSL_TICKET_RETURN_IGNORE_RENEW }
        let bytes = UnsafeRawBufferPointer(start: data, count: count)
        let serialCount = Int(bytes[16])
        guard count > fixedBytes + serialCount, let name = WorkloadName(UnsafeRawBufferPointer(rebasing: bytes[(fixedBytes + serialCount)...])),
            let peer = PeerRecord.make(
                name, serial: UnsafeRawBufferPointer(rebasing: bytes[fixedBytes..<(fixedBytes + serialCount)]),
                validFrom: bytes.loadUnaligned(fromByteOffset: 0, as: Int64.self), validUntil: bytes.loadUnaligned(fromByteOffset: 8, as: Int64.self))
        else { return SSL_TICKET_RETURN_IGNORE_RENEW }
        // Stricter than for a certificate: no skew. A full handshake costs little once.
        guard session.pointee.now <= peer.pointee.validUntil, !session.pointee.workspace.isRevoked(peer.certificate) else {
            peer.release()
            return SSL_TICKET_RETURN_IGNORE_RENEW
        }
        session.pointee.offered?.release()
        session.pointee.offered = peer
        return SSL_TICKET_RETURN_USE_RENEW
    }

    /// Client: a ticket has come. Returns 0: OpenSSL's own session is not kept, but a copy without the server's chain.
    static let received: @convention(c) (OpaquePointer?, OpaquePointer?) -> Int32 = { ssl, ticket in
        guard let session = SessionRecord.of(ssl), let alone = copenssl_session_alone(ticket) else { return 0 }
        if let older = session.pointee.ticket { SSL_SESSION_free(older) }
        session.pointee.ticket = alone
        return 0
    }
}
