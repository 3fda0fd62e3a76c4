import COpenSSL
import Glibc
import Synchronization

/// A workload's own certificate and key with the roots its peers are judged by: what a session is begun with. Made on the control thread, used by all
/// workers, never changed. A handle, counted by hand, for letters carry it.
public struct TLSCredentials: @unchecked Sendable {
    struct Record: ~Copyable {
        let references = Atomic<Int>(1)
        let server: OpaquePointer
        let client: OpaquePointer
        let identity: UInt32
        let generation: UInt64
        let rootsGeneration: UInt64
        let notBefore: Int64
        let notAfter: Int64
        let uri: UnsafeMutableRawBufferPointer
        let trustDomainCount: Int

        deinit {
            SSL_CTX_free(server)
            SSL_CTX_free(client)
            uri.deallocate()
        }
    }

    let record: UnsafeMutablePointer<Record>

    public func retain() { record.pointee.references.wrappingAdd(1, ordering: .relaxed) }
    public func release() {
        guard record.pointee.references.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue == 0 else { return }
        record.deinitialize(count: 1)
        record.deallocate()
    }

    /// The number of the identity, the same over all rotations.
    public var identity: UInt32 { record.pointee.identity }
    /// Grows with every change of certificate or roots, over all identities.
    public var generation: UInt64 { record.pointee.generation }
    /// Of the roots its peers are judged by.
    public var rootsGeneration: UInt64 { record.pointee.rootsGeneration }
    /// When the own leaf begins and ends, unix seconds.
    public var notBefore: Int64 { record.pointee.notBefore }
    public var notAfter: Int64 { record.pointee.notAfter }
    /// The own name; lives as long as the credentials.
    public var uri: UnsafeRawBufferPointer { UnsafeRawBufferPointer(record.pointee.uri) }
    public var trustDomain: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: uri[9..<(9 + record.pointee.trustDomainCount)]) }

    /// Puts leaf (first in `chain`, PEM), intermediates, key and roots together.
    ///
    /// The leaf must be `uri`'s, fit the key, hold now and be accepted under the roots: what peers would refuse is refused here, where somebody is told.
    public init(
        identity: UInt32, generation: UInt64, uri: [UInt8], chain: [UInt8], key: borrowing KeyPair, roots: borrowing TrustRoots, now: Int64
    ) throws(CredentialsFault) {
        defer { ERR_clear_error() }
        let certificates = try CertificateChain(pem: chain, countMax: Int(TLSLimits.intermediatesMax) + 1)
        let leaf = certificates[0]
        guard X509_check_private_key(leaf, key.key) == 1 else { throw .keyMismatch }
        guard uri.withUnsafeBytes({ WorkloadName($0) != nil }) else { throw .malformedName }
        let trustDomainCount = uri.withUnsafeBytes { WorkloadName($0)?.trustDomain.count ?? 0 }
        guard uri[9..<(9 + trustDomainCount)].elementsEqual(roots.trustDomain) else { throw .wrongName }
        var matches = false
        do throws(TLSFault) {
            let found = try Verification.uri(of: leaf)
            matches = uri.withUnsafeBytes { same($0, found) }
        } catch { throw .malformedName }
        guard matches else { throw .wrongName }
        let begin: Int64, end: Int64
        do throws(TLSFault) { (begin, end) = try Verification.times(of: leaf) } catch { throw .malformedChain }
        guard now <= end + TLSLimits.clockSkewSeconds else { throw .expired }
        guard now >= begin - TLSLimits.clockSkewSeconds else { throw .notYetValid }
        try Verification.check(own: certificates, under: roots, now: now)

        guard let server = SSL_CTX_new(TLS_server_method()) else { throw .outOfMemory }
        guard let client = SSL_CTX_new(TLS_client_method()) else {
            SSL_CTX_free(server)
            throw .outOfMemory
        }
        do throws(CredentialsFault) {
            try Self.configure(server, certificates, key, roots)
            try Self.configure(client, certificates, key, roots)
            try Self.serve(server, generation)
            try Self.call(client)
        } catch {
            SSL_CTX_free(server)
            SSL_CTX_free(client)
            throw error
        }
        let name = UnsafeMutableRawBufferPointer.allocate(byteCount: uri.count, alignment: 8)
        name.copyBytes(from: uri)
        record = .allocate(capacity: 1)
        record.initialize(to: Record(
            server: server, client: client, identity: identity, generation: generation, rootsGeneration: roots.generation, notBefore: begin, notAfter: end,
            uri: name, trustDomainCount: trustDomainCount))
    }

    // MARK: OpenSSL's contexts

    /// AES-128 first where the processor has it; the others for peers that insist.
    private static let ciphersWithAES = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
    private static let ciphersWithout = "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"
    /// X25519 is sent in the ClientHello; P-256 costs a peer without it one more round.
    private static let groups = "X25519:P-256"
    private static let signatures =
        "ECDSA+SHA256:ed25519:ECDSA+SHA384:ECDSA+SHA512:rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:rsa_pss_pss_sha256:RSA+SHA256"

    private static func configure(
        _ context: OpaquePointer, _ certificates: borrowing CertificateChain, _ key: borrowing KeyPair, _ roots: borrowing TrustRoots
    ) throws(CredentialsFault) {
        guard copenssl_ctx_only_tls13(context) == 1,
            SSL_CTX_set_ciphersuites(context, copenssl_has_aes() == 1 ? ciphersWithAES : ciphersWithout) == 1,
            copenssl_ctx_set_groups(context, groups) == 1, copenssl_ctx_set_signatures(context, signatures) == 1,
            copenssl_ctx_set_store(context, roots.store) == 1
        else { throw .outOfMemory }
        copenssl_ctx_set_options(context)
        _ = copenssl_ctx_set_mode(context, Int(copenssl_mode))
        copenssl_ctx_read_ahead(context)
        copenssl_ctx_set_max_chain(context, TLSLimits.chainBytesMax)
        SSL_CTX_set_verify_depth(context, TLSLimits.intermediatesMax + 1)
        SSL_CTX_set_verify(context, Int32(copenssl_verify_mutual), nil)
        SSL_CTX_set_cert_verify_callback(context, Verification.callback, nil)
        SSL_CTX_set_timeout(context, TLSLimits.ticketSeconds)
        guard SSL_CTX_use_certificate(context, certificates[0]) == 1, SSL_CTX_use_PrivateKey(context, key.key) == 1 else { throw .unusable }
        for place in 1..<max(1, certificates.count) {
            guard copenssl_ctx_add_chain(context, certificates[place]) == 1 else { throw .outOfMemory }
        }
    }

    /// Tickets are sealed under keys that this context has drawn for itself and keeps in the secure heap: they end with the certificate or with the
    /// roots, and no other identity's context opens them.
    private static func serve(_ context: OpaquePointer, _ generation: UInt64) throws(CredentialsFault) {
        _ = copenssl_ctx_set_cache_mode(context, Int(copenssl_cache_none))
        guard SSL_CTX_set_num_tickets(context, 1) == 1 else { throw .outOfMemory }
        let named = withUnsafeBytes(of: generation) { SSL_CTX_set_session_id_context(context, $0.baseAddress, UInt32($0.count)) }
        guard named == 1, SSL_CTX_set_session_ticket_cb(context, Tickets.sealing, Tickets.opened, nil) == 1 else { throw .outOfMemory }
        SSL_CTX_set_alpn_select_cb(context, ProtocolChoice.callback, nil)
    }

    private static func call(_ context: OpaquePointer) throws(CredentialsFault) {
        _ = copenssl_ctx_set_cache_mode(context, Int(copenssl_cache_callback_only))
        SSL_CTX_sess_set_new_cb(context, Tickets.received)
        let offer = ProtocolChoice.offer
        guard SSL_CTX_set_alpn_protos(context, offer.utf8Start, UInt32(offer.utf8CodeUnitCount)) == 0 else { throw .outOfMemory }
    }
}
