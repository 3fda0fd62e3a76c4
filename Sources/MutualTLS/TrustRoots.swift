import COpenSSL

/// A trust domain and the root certificates in force in it, at one generation.
public struct TrustRoots: ~Copyable {
    let store: OpaquePointer
    public let trustDomain: [UInt8]
    public let generation: UInt64
    /// Certificates in it.
    public let count: Int

    /// Reads PEM certificates, one after the other. What stands between them is passed over; what is broken in one throws.
    public init(pem: [UInt8], trustDomain: [UInt8], generation: UInt64) throws(CredentialsFault) {
        guard trustDomain.withUnsafeBytes({ WorkloadName.isTrustDomain($0) }) else { throw .malformedTrustDomain }
        guard let store = X509_STORE_new() else { throw .outOfMemory }
        let certificates: CertificateChain
        do throws(CredentialsFault) {
            certificates = try CertificateChain(pem: pem, countMax: TLSLimits.rootsMax)
        } catch {
            X509_STORE_free(store)
            throw error == .malformedChain ? .malformedRoots : error
        }
        for place in 0..<certificates.count { X509_STORE_add_cert(store, certificates[place]) }
        // What the operator trusts ends a chain, whether or not it has signed itself.
        X509_STORE_set_flags(store, UInt(X509_V_FLAG_PARTIAL_CHAIN))
        X509_STORE_set_depth(store, TLSLimits.intermediatesMax + 1)
        self.store = store
        self.trustDomain = trustDomain
        self.generation = generation
        count = certificates.count
    }

    deinit { X509_STORE_free(store) }
}

/// Certificates read from PEM, in their order.
struct CertificateChain: ~Copyable {
    private var certificates: [OpaquePointer] = []

    var count: Int { certificates.count }
    subscript(place: Int) -> OpaquePointer { certificates[place] }

    /// At least one certificate, at most `countMax`, and nothing that begins like one and is none.
    init(pem: [UInt8], countMax: Int) throws(CredentialsFault) {
        guard !pem.isEmpty, pem.count <= TLSLimits.chainTextBytesMax else { throw .malformedChain }
        defer { ERR_clear_error() }
        certificates = pem.withUnsafeBytes { Self.read($0, countMax: countMax) }
        guard certificates.count <= countMax else { throw .malformedChain }
        let last = ERR_peek_last_error()
        guard !certificates.isEmpty, last == 0 || copenssl_reason(last) == PEM_R_NO_START_LINE else { throw .malformedChain }
    }

    /// As many as there are, or one more than allowed.
    private static func read(_ pem: UnsafeRawBufferPointer, countMax: Int) -> [OpaquePointer] {
        var certificates: [OpaquePointer] = []
        guard let bio = BIO_new_mem_buf(pem.baseAddress, Int32(pem.count)) else { return [] }
        defer { BIO_free(bio) }
        while certificates.count <= countMax, let certificate = PEM_read_bio_X509(bio, nil, nil, nil) { certificates.append(certificate) }
        return certificates
    }

    deinit { for certificate in certificates { X509_free(certificate) } }
}
