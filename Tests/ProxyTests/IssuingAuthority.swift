import COpenSSL
import Glibc

/// Stands where the agent's authority stands: certifies what the proxy asks for. One key, no intermediate.
final class IssuingAuthority {
    private let key: OpaquePointer
    private let root: OpaquePointer
    private var serial = 1

    init(_ name: String) {
        key = copenssl_generate_p256()
        root = X509_new()
        X509_set_version(root, 2)
        X509_set_pubkey(root, key)
        X509_NAME_add_entry_by_NID(X509_get_subject_name(root), NID_commonName, MBSTRING_ASC, name, -1, -1, 0)
        X509_set_issuer_name(root, X509_get_subject_name(root))
        finish(root, from: -3_600, to: 864_000, [(NID_basic_constraints, "critical,CA:TRUE"), (NID_key_usage, "critical,keyCertSign,cRLSign")])
    }

    deinit {
        X509_free(root)
        EVP_PKEY_free(key)
    }

    var rootPEM: [UInt8] { pem { PEM_write_bio_X509($0, root) } }

    /// A certificate for the key of a request; its name is `uri`, whatever was asked for. `from` and `to`: seconds from now.
    func certify(_ request: [UInt8], as uri: String, from: Int = -60, to: Int = 86_400) -> [UInt8] {
        let parsed = request.withUnsafeBytes { raw in
            var place = raw.baseAddress?.assumingMemoryBound(to: UInt8.self)
            return d2i_X509_REQ(nil, &place, raw.count)
        }
        defer { X509_REQ_free(parsed) }
        return certify(X509_REQ_get0_pubkey(parsed), as: uri, from: from, to: to)
    }

    /// A key of somebody else's, and its certificate, PEM.
    func identity(_ uri: String) -> (chain: [UInt8], key: [UInt8]) {
        let other: OpaquePointer = copenssl_generate_p256()
        defer { EVP_PKEY_free(other) }
        return (certify(other, as: uri, from: -60, to: 86_400), pem { PEM_write_bio_PrivateKey($0, other, nil, nil, 0, nil, nil) })
    }

    private func certify(_ publicKey: OpaquePointer?, as uri: String, from: Int, to: Int) -> [UInt8] {
        let leaf: OpaquePointer = X509_new()
        defer { X509_free(leaf) }
        X509_set_version(leaf, 2)
        serial += 1
        ASN1_INTEGER_set(X509_get_serialNumber(leaf), serial)
        X509_set_pubkey(leaf, publicKey)
        X509_set_issuer_name(leaf, X509_get_subject_name(root))
        finish(leaf, from: from, to: to, [
            (NID_basic_constraints, "critical,CA:FALSE"), (NID_key_usage, "critical,digitalSignature"), (NID_ext_key_usage, "serverAuth,clientAuth"),
            (NID_subject_alt_name, "critical,URI:\(uri)"),
        ])
        return pem { PEM_write_bio_X509($0, leaf) }
    }

    private func finish(_ certificate: OpaquePointer, from: Int, to: Int, _ extensions: [(Int32, String)]) {
        X509_gmtime_adj(X509_getm_notBefore(certificate), from)
        X509_gmtime_adj(X509_getm_notAfter(certificate), to)
        for (kind, text) in extensions {
            let made = X509V3_EXT_conf_nid(nil, nil, kind, text)
            X509_add_ext(certificate, made, -1)
            X509_EXTENSION_free(made)
        }
        precondition(X509_sign(certificate, key, EVP_sha256()) > 0, "the test's authority cannot sign")
    }

    private func pem(_ write: (OpaquePointer?) -> Int32) -> [UInt8] {
        let bio = BIO_new(BIO_s_mem())
        defer { BIO_free(bio) }
        _ = write(bio)
        var text = [UInt8](repeating: 0, count: 8_192)
        let count = BIO_read(bio, &text, Int32(text.count))
        return Array(text.prefix(Int(max(0, count))))
    }
}
