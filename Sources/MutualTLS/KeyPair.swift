import COpenSSL

/// The library as this process uses it.
public enum TLSLibrary {
    /// How private keys are kept.
    public enum Protection: Equatable, Sendable {
        /// In memory of memfd_secret(2): no other process, root's included, and no dump reads it.
        case secret
        /// Locked, and left out of core files: a kernel without memfd_secret, or one told not to offer it.
        case locked
    }

    /// Call before any other call of this module, and of OpenSSL; a second call gets the first one's answer. Throws the errno of what the kernel
    /// does not give.
    public static func begin() throws(CredentialsFault) -> Protection {
        guard begun >= 0 else { throw .noKeyMemory(-begun) }
        return begun == 1 ? .secret : .locked
    }
    private static let begun = copenssl_begin(TLSLimits.secretBytes, TLSLimits.secretPieceBytes)

    /// Bytes of keys held now.
    public static var secretBytes: Int { copenssl_secret_bytes() }
}

/// A private key and its public half. The private one lies in the secure heap and never leaves this process but in key memory.
public struct KeyPair: ~Copyable {
    let key: OpaquePointer

    private init(adopting key: OpaquePointer) { self.key = key }
    deinit { EVP_PKEY_free(key) }

    /// A new one, on P-256: about 20 µs.
    public static func generate() throws(CredentialsFault) -> KeyPair {
        guard let key = copenssl_generate_p256() else { throw .outOfMemory }
        return KeyPair(adopting: key)
    }

    /// From key memory that a proxy has filled. The descriptor stays the caller's.
    public static func load(from memory: Int32) throws(CredentialsFault) -> KeyPair {
        guard let mapped = copenssl_key_map(memory) else { throw .malformedKey }
        defer { copenssl_key_unmap(mapped) }
        defer { ERR_clear_error() }
        guard let key = copenssl_key_load(mapped) else { throw .malformedKey }
        return KeyPair(adopting: key)
    }

    /// From a PEM file: EC, Ed25519 or RSA, not encrypted. The descriptor stays the caller's.
    public static func read(file: Int32) throws(CredentialsFault) -> KeyPair {
        defer { ERR_clear_error() }
        guard let key = copenssl_key_read(file, TLSLimits.keyFileBytesMax) else { throw .malformedKey }
        return KeyPair(adopting: key)
    }

    /// Writes the private key into memory of its own, for whoever keeps it over a restart. The descriptor is the caller's.
    public func store() throws(CredentialsFault) -> Int32 {
        let memory = copenssl_key_memory()
        guard memory >= 0 else { throw .noKeyMemory(-memory) }
        guard let mapped = copenssl_key_map(memory) else {
            copenssl_close(memory)
            throw .noKeyMemory(0)
        }
        let stored = copenssl_key_store(key, mapped)
        copenssl_key_unmap(mapped)
        guard stored == 1 else {
            copenssl_close(memory)
            throw .outOfMemory
        }
        return memory
    }

    /// A certificate request (PKCS#10, RFC 2986) for one name, DER. Its subject is empty: the name is the URI.
    public func request(for uri: [UInt8]) throws(CredentialsFault) -> [UInt8] {
        defer { ERR_clear_error() }
        guard uri.withUnsafeBytes({ WorkloadName($0) != nil }) else { throw .malformedName }
        guard let request = X509_REQ_new() else { throw .outOfMemory }
        defer { X509_REQ_free(request) }
        guard X509_REQ_set_pubkey(request, key) == 1, uri.withUnsafeBytes({ copenssl_request_name(request, $0.baseAddress, Int32($0.count)) }) == 1
        else { throw .outOfMemory }
        // Ed25519 hashes by itself (RFC 8410, 3).
        let digest = EVP_PKEY_is_a(key, "ED25519") == 1 ? nil : EVP_sha256()
        guard X509_REQ_sign(request, key, digest) > 0 else { throw .unusable }
        let count = i2d_X509_REQ(request, nil)
        guard count > 0 else { throw .outOfMemory }
        return [UInt8](unsafeUninitializedCapacity: Int(count)) { room, written in
            var place: UnsafeMutablePointer<UInt8>? = room.baseAddress
            written = Int(i2d_X509_REQ(request, &place))
        }
    }
}
