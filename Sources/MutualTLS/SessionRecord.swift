import COpenSSL
import Glibc

/// What one session has beside OpenSSL's object, at a fixed place: OpenSSL's callbacks and the BIO point here. Behind it lie the expected names.
struct SessionRecord {
    /// First: the BIO knows this part.
    var socket: copenssl_socket
    var ssl: OpaquePointer
    let workspace: UnsafeMutablePointer<TLSWorkspace.State>
    let credentials: TLSCredentials
    /// Whom this handshake's certificate proves.
    var peer: UnsafeMutablePointer<PeerRecord>?
    /// Whom a ticket names; counts when OpenSSL has resumed its session.
    var offered: UnsafeMutablePointer<PeerRecord>?
    /// Client: the newest ticket that has come.
    var ticket: OpaquePointer?
    /// Of the step under way, unix seconds.
    var now: Int64 = 0
    var fault: TLSFault?
    var alert: UInt8 = 0
    let isClient: Bool
    var isDone = false
    var isResumed = false
    let expectedNamespaceCount: UInt8
    let expectedServiceAccountCount: UInt8

    static func of(_ ssl: OpaquePointer?) -> UnsafeMutablePointer<SessionRecord>? {
        guard let ssl else { return nil }
        return copenssl_owner(ssl)?.assumingMemoryBound(to: SessionRecord.self)
    }
}

extension UnsafeMutablePointer<SessionRecord> {
    private var texts: UnsafeRawPointer { UnsafeRawPointer(self) + MemoryLayout<SessionRecord>.stride }
    private var namespaceCount: Int { Int(pointee.expectedNamespaceCount) }

    /// The peer that the handshake has settled on.
    var currentPeer: UnsafeMutablePointer<PeerRecord>? { SSL_session_reused(pointee.ssl) == 1 ? pointee.offered : pointee.peer }

    static func make(
        _ credentials: TLSCredentials, descriptor: Int32, workspace: UnsafeMutablePointer<TLSWorkspace.State>, isClient: Bool,
        namespace: UnsafeRawBufferPointer, serviceAccount: UnsafeRawBufferPointer
    ) -> UnsafeMutablePointer<SessionRecord>? {
        guard namespace.count <= WorkloadName.namespaceBytesMax, serviceAccount.count <= WorkloadName.serviceAccountBytesMax else { return nil }
        guard let ssl = SSL_new(isClient ? credentials.record.pointee.client : credentials.record.pointee.server) else { return nil }
        let head = MemoryLayout<SessionRecord>.stride
        let memory = UnsafeMutableRawPointer.allocate(byteCount: head + namespace.count + serviceAccount.count, alignment: 8)
        UnsafeMutableRawBufferPointer(start: memory + head, count: namespace.count).copyMemory(from: namespace)
        UnsafeMutableRawBufferPointer(start: memory + head + namespace.count, count: serviceAccount.count).copyMemory(from: serviceAccount)
        let record = memory.bindMemory(to: SessionRecord.self, capacity: 1)
        credentials.retain()
        record.initialize(to: SessionRecord(
            socket: copenssl_socket(descriptor: descriptor, error: 0, is_drained: 0, has_ended: 0, reads_left: 0, outlet: nil, held: nil), ssl: ssl,
            workspace: workspace, credentials: credentials, isClient: isClient, expectedNamespaceCount: UInt8(namespace.count),
            expectedServiceAccountCount: UInt8(serviceAccount.count)))
        guard let bio = copenssl_socket_bio(&record.pointee.socket) else {
            record.destroy()
            return nil
        }
        SSL_set_bio(ssl, bio, bio)
        copenssl_set_owner(ssl, record)
        if isClient { SSL_set_connect_state(ssl) } else { SSL_set_accept_state(ssl) }
        return record
    }

    func destroy() {
        // A session that ends without close_notify would take its ticket with it; whether the stream was cut off is known from the bytes inside.
        SSL_set_shutdown(pointee.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN)
        SSL_free(pointee.ssl)
        free(pointee.socket.held)
        pointee.peer?.release()
        pointee.offered?.release()
        if let ticket = pointee.ticket { SSL_SESSION_free(ticket) }
        pointee.credentials.release()
        UnsafeMutableRawPointer(self).deallocate()
    }

    var expectedNamespace: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: texts, count: namespaceCount) }
    var expectedServiceAccount: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: texts + namespaceCount, count: Int(pointee.expectedServiceAccountCount))
    }
}
