import COpenSSL
import Glibc

/// Whether a peer is who it must be. OpenSSL builds the chain; the name, the times and what is revoked are judged here.
enum Verification {
    /// In OpenSSL's place, for both sides (SSL_CTX_set_cert_verify_callback).
    static let callback: @convention(c) (OpaquePointer?, UnsafeMutableRawPointer?) -> Int32 = { store, _ in
        guard let store, let session = SessionRecord.of(copenssl_store_session(store)) else { return 0 }
        do throws(TLSFault) {
            session.pointee.peer = try peer(store, session)
            X509_STORE_CTX_set_error(store, X509_V_OK)
            return 1
        } catch {
            session.pointee.fault = error
            // Decides the alert that the peer gets.
            if let code = error.certificateError { X509_STORE_CTX_set_error(store, code) }
            return 0
        }
    }

    /// The peer of a full handshake; the caller owns one count of the record.
    private static func peer(_ store: OpaquePointer, _ session: UnsafeMutablePointer<SessionRecord>) throws(TLSFault) -> UnsafeMutablePointer<PeerRecord> {
        let workspace = session.pointee.workspace, now = session.pointee.now
        guard let leaf = X509_STORE_CTX_get0_cert(store) else { throw .noCertificate }
        var digest = VerifiedLeaves.Digest()
        var count: UInt32 = 0
        let hashed = withUnsafeMutableBytes(of: &digest) { X509_digest(leaf, workspace.pointee.sha256, $0.baseAddress?.assumingMemoryBound(to: UInt8.self), &count) }
        guard hashed == 1, count == 32 else { throw .outOfMemory }

        let rootsGeneration = session.pointee.credentials.record.pointee.rootsGeneration
        if rootsGeneration > workspace.pointee.leaves.rootsGeneration { workspace.pointee.leaves.removeAll(rootsGeneration: rootsGeneration) }
        // A handshake that began under older roots is not judged by what newer ones have said, nor the other way round.
        let mayRemember = rootsGeneration == workspace.pointee.leaves.rootsGeneration
        if mayRemember, let known = workspace.pointee.leaves.find(digest, wasServer: session.pointee.isClient) {
            if let fault = known.fault(at: now) { throw fault }
            try session.accept(known)
            workspace.pointee.leavesKnown &+= 1
            known.retain()
            return known
        }
        let peer = try verified(leaf, store, session)
        do throws(TLSFault) { try session.accept(peer) } catch {
            peer.release()
            throw error
        }
        workspace.pointee.leavesVerified &+= 1
        if mayRemember { workspace.pointee.leaves.remember(peer, digest, wasServer: session.pointee.isClient) }
        return peer
    }

    /// A leaf whose chain ends in one of the roots, with everything that can be said without knowing who was expected.
    private static func verified(
        _ leaf: OpaquePointer, _ store: OpaquePointer, _ session: UnsafeMutablePointer<SessionRecord>
    ) throws(TLSFault) -> UnsafeMutablePointer<PeerRecord> {
        try chain(store, now: session.pointee.now)
        var validFrom = Int64.min, validUntil = Int64.max
        for place in 0..<copenssl_chain_count(store) {
            guard let certificate = copenssl_chain_at(store, place) else { continue }
            let times = try times(of: certificate)
            validFrom = max(validFrom, times.begin)
            validUntil = min(validUntil, times.end)
            guard let revocations = session.pointee.workspace.pointee.revocations else { continue }
            if revocations.contains(serial: try serial(of: certificate)) { throw .revoked }
        }
        try usage(leaf)
        guard let name = WorkloadName(try uri(of: leaf)) else { throw .malformedName }
        guard same(name.trustDomain, session.pointee.credentials.trustDomain) else { throw .wrongTrustDomain }
        guard let peer = PeerRecord.make(name, serial: try serial(of: leaf), validFrom: validFrom, validUntil: validUntil) else { throw .malformedCertificate }
        return peer
    }

    private static func chain(_ store: OpaquePointer, now: Int64) throws(TLSFault) {
        X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(store), Int(now))
        X509_STORE_CTX_set_verify_cb(store, tolerateSkew)
        guard X509_verify_cert(store) != 1 else { return }
        defer { ERR_clear_error() }
        throw TLSFault(certificateError: X509_STORE_CTX_get_error(store))
    }

    /// When a certificate begins and ends. What is no time is told apart before anything is added to it.
    static func times(of certificate: OpaquePointer) throws(TLSFault) -> (begin: Int64, end: Int64) {
        let begin = copenssl_unix_seconds(X509_get0_notBefore(certificate)), end = copenssl_unix_seconds(X509_get0_notAfter(certificate))
        guard begin != .min, end != .min else { throw .malformedCertificate }
        return (begin, end)
    }

    /// The clocks of two nodes may differ by `TLSLimits.clockSkewSeconds`; every other objection of OpenSSL stands.
    private static let tolerateSkew: X509_STORE_CTX_verify_cb = { isGood, store in
        guard isGood == 0, let store, let certificate = X509_STORE_CTX_get_current_cert(store) else { return isGood }
        let now = Int64(X509_VERIFY_PARAM_get_time(X509_STORE_CTX_get0_param(store)))
        switch X509_STORE_CTX_get_error(store) {
        case X509_V_ERR_CERT_HAS_EXPIRED:
            let end = copenssl_unix_seconds(X509_get0_notAfter(certificate))
            return end != .min && now <= end + TLSLimits.clockSkewSeconds ? 1 : 0
        case X509_V_ERR_CERT_NOT_YET_VALID:
            let begin = copenssl_unix_seconds(X509_get0_notBefore(certificate))
            return begin != .min && now >= begin - TLSLimits.clockSkewSeconds ? 1 : 0
        default: return 0
        }
    }

    /// X509-SVID §4: a leaf signs no certificates, and if it says what its key is for, then for signing.
    private static func usage(_ leaf: OpaquePointer) throws(TLSFault) {
        guard X509_get_extension_flags(leaf) & UInt32(EXFLAG_CA) == 0 else { throw .badUsage }
        let usage = X509_get_key_usage(leaf)
        guard usage != .max else { return }
        guard usage & UInt32(KU_DIGITAL_SIGNATURE) != 0, usage & UInt32(KU_KEY_CERT_SIGN | KU_CRL_SIGN) == 0 else { throw .badUsage }
    }

    /// The only URI among a certificate's names, where it lies in the certificate.
    static func uri(of leaf: OpaquePointer) throws(TLSFault) -> UnsafeRawBufferPointer {
        let place = X509_get_ext_by_NID(leaf, NID_subject_alt_name, -1)
        guard place >= 0 else { throw .noName }
        guard X509_get_ext_by_NID(leaf, NID_subject_alt_name, place) < 0 else { throw .malformedCertificate }
        guard let bytes = X509_EXTENSION_get_data(X509_get_ext(leaf, place)) else { throw .malformedCertificate }
        return try SubjectNames.uri(in: UnsafeRawBufferPointer(start: ASN1_STRING_get0_data(bytes), count: Int(ASN1_STRING_length(bytes))))
    }

    private static func serial(of certificate: OpaquePointer) throws(TLSFault) -> UnsafeRawBufferPointer {
        guard let number = X509_get0_serialNumber(certificate), ASN1_STRING_type(number) == V_ASN1_INTEGER else { throw .malformedCertificate }
        let bytes = UnsafeRawBufferPointer(start: ASN1_STRING_get0_data(number), count: Int(ASN1_STRING_length(number)))
        let zeros = bytes.prefix { $0 == 0 }.count
        guard bytes.count > zeros, bytes.count - zeros <= TLSLimits.serialBytesMax else { throw .malformedCertificate }
        return UnsafeRawBufferPointer(rebasing: bytes[zeros...])
    }

    /// Whether peers that hold the same roots would accept our own chain.
    static func check(own certificates: borrowing CertificateChain, under roots: borrowing TrustRoots, now: Int64) throws(CredentialsFault) {
        guard let store = X509_STORE_CTX_new(), let others = copenssl_new_stack() else { throw .outOfMemory }
        defer {
            X509_STORE_CTX_free(store)
            copenssl_free_stack(others)
        }
        for place in 1..<max(1, certificates.count) { copenssl_push(others, certificates[place]) }
        guard X509_STORE_CTX_init(store, roots.store, certificates[0], others) == 1 else { throw .outOfMemory }
        do throws(TLSFault) {
            try chain(store, now: now)
            try usage(certificates[0])
        } catch {
            switch error {
            case .expired: throw .expired
            case .notYetValid: throw .notYetValid
            case .badUsage: throw .unusable
            case .outOfMemory: throw .outOfMemory
            default: throw .unknownAuthority
            }
        }
    }
}

extension UnsafeMutablePointer<SessionRecord> {
    /// What is asked of every peer, known or new: not revoked, and the one we wanted.
    func accept(_ peer: UnsafeMutablePointer<PeerRecord>) throws(TLSFault) {
        if pointee.workspace.isRevoked(peer.certificate) { throw .revoked }
        guard pointee.isClient else { return }
        guard same(peer.certificate.namespace, expectedNamespace), same(peer.certificate.serviceAccount, expectedServiceAccount)
        else { throw .wrongIdentity }
    }
}

extension TLSFault {
    init(certificateError code: Int32) {
        switch code {
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
            X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, X509_V_ERR_CERT_UNTRUSTED:
            self = .unknownAuthority
        case X509_V_ERR_CERT_SIGNATURE_FAILURE, X509_V_ERR_UNABLE_TO_DECRYPT_CERT_SIGNATURE, X509_V_ERR_UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY:
            self = .badSignature
        case X509_V_ERR_CERT_HAS_EXPIRED: self = .expired
        case X509_V_ERR_CERT_NOT_YET_VALID: self = .notYetValid
        case X509_V_ERR_INVALID_CA, X509_V_ERR_INVALID_PURPOSE, X509_V_ERR_PATH_LENGTH_EXCEEDED, X509_V_ERR_KEYUSAGE_NO_CERTSIGN,
            X509_V_ERR_EE_KEY_TOO_SMALL, X509_V_ERR_CA_KEY_TOO_SMALL, X509_V_ERR_CA_MD_TOO_WEAK:
            self = .badUsage
        case X509_V_ERR_OUT_OF_MEM: self = .outOfMemory
        default: self = .malformedCertificate
        }
    }

    /// The X.509 error whose alert tells the peer the same. Nil: OpenSSL's own stands.
    var certificateError: Int32? {
        switch self {
        case .expired: X509_V_ERR_CERT_HAS_EXPIRED
        case .notYetValid: X509_V_ERR_CERT_NOT_YET_VALID
        case .revoked: X509_V_ERR_CERT_REVOKED
        case .badUsage: X509_V_ERR_INVALID_PURPOSE
        case .outOfMemory: X509_V_ERR_OUT_OF_MEM
        case .wrongTrustDomain, .wrongIdentity, .severalNames, .noName, .malformedName, .malformedCertificate: X509_V_ERR_HOSTNAME_MISMATCH
        default: nil
        }
    }
}
