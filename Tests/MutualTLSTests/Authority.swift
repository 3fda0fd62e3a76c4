import COpenSSL
import Glibc
@testable import MutualTLS

/// The library of this test process; every test goes through here first.
let library: Result<TLSLibrary.Protection, CredentialsFault> = {
    do throws(CredentialsFault) { return .success(try TLSLibrary.begin()) } catch { return .failure(error) }
}()

/// 2027-01-15T08:00:00Z: certificates and handshakes of the tests happen then, whatever the clock says.
let testNow: Int64 = 1_800_000_000

/// DER by hand, so that it can also be wrong.
enum DER {
    static func element(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
        if content.count < 0x80 { return [tag, UInt8(content.count)] + content }
        if content.count < 0x100 { return [tag, 0x81, UInt8(content.count)] + content }
        return [tag, 0x82, UInt8(content.count >> 8), UInt8(content.count & 0xFF)] + content
    }
    static func uri(_ text: String) -> [UInt8] { element(0x86, Array(text.utf8)) }
    static func dns(_ text: String) -> [UInt8] { element(0x82, Array(text.utf8)) }
    static func names(_ names: [UInt8]...) -> [UInt8] { element(0x30, names.flatMap { $0 }) }
}

/// What a certificate shall say; each test changes what it is about.
struct Wanted {
    var names: [[UInt8]] = []
    var notBefore = testNow - 3_600
    var notAfter = testNow + 86_400
    var serial: [UInt8] = [0x4d, 0x01]
    var isAuthority = false
    /// The bits of keyUsage's one byte: 0x80 digitalSignature, 0x06 keyCertSign and cRLSign. Nil: the extension is absent.
    var keyUsage: UInt8? = 0x80
    /// Object identifiers' last bytes below id-kp: 1 server, 2 client.
    var purposes: [UInt8] = [1, 2]
    var subject: String?

    static func workload(_ uri: String) -> Wanted { Wanted(names: [DER.names(DER.uri(uri))]) }
    static func authority(_ name: String) -> Wanted {
        Wanted(notBefore: testNow - 86_400, notAfter: testNow + 864_000, isAuthority: true, keyUsage: 0x06, purposes: [], subject: name)
    }
}

enum Mint {
    static func der(_ certificate: OpaquePointer) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: Int(i2d_X509(certificate, nil)))
        bytes.withUnsafeMutableBufferPointer { var place: UnsafeMutablePointer<UInt8>? = $0.baseAddress; i2d_X509(certificate, &place) }
        return bytes
    }

    static func pem(_ certificate: OpaquePointer) -> [UInt8] {
        let base64 = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        var text = Array("-----BEGIN CERTIFICATE-----\n".utf8)
        let bytes = der(certificate)
        for start in stride(from: 0, to: bytes.count, by: 48) {
            let line = bytes[start..<min(start + 48, bytes.count)]
            for place in stride(from: line.startIndex, to: line.endIndex, by: 3) {
                let a = line[place], b = place + 1 < line.endIndex ? line[place + 1] : 0, c = place + 2 < line.endIndex ? line[place + 2] : 0
                text += [base64[Int(a >> 2)], base64[Int(a & 3) << 4 | Int(b >> 4)]]
                text.append(place + 1 < line.endIndex ? base64[Int(b & 15) << 2 | Int(c >> 6)] : UInt8(ascii: "="))
                text.append(place + 2 < line.endIndex ? base64[Int(c & 63)] : UInt8(ascii: "="))
            }
            text.append(UInt8(ascii: "\n"))
        }
        return text + Array("-----END CERTIFICATE-----\n".utf8)
    }

    static func make(_ wanted: Wanted, key: borrowing KeyPair, issuer: OpaquePointer?, signer: borrowing KeyPair) -> OpaquePointer {
        let certificate = X509_new()!
        X509_set_version(certificate, 2)
        let serial = wanted.serial.withUnsafeBufferPointer { BN_bin2bn($0.baseAddress, Int32($0.count), nil) }
        BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(certificate))
        BN_free(serial)
        ASN1_TIME_set(X509_getm_notBefore(certificate), Int(wanted.notBefore))
        ASN1_TIME_set(X509_getm_notAfter(certificate), Int(wanted.notAfter))
        X509_set_pubkey(certificate, key.key)
        if let subject = wanted.subject {
            X509_NAME_add_entry_by_NID(X509_get_subject_name(certificate), NID_commonName, MBSTRING_ASC, subject, -1, -1, 0)
        }
        X509_set_issuer_name(certificate, issuer.map { X509_get_subject_name($0) } ?? X509_get_subject_name(certificate))
        add(certificate, NID_basic_constraints, isCritical: true, wanted.isAuthority ? [0x30, 3, 1, 1, 0xFF] : [0x30, 0])
        if let usage = wanted.keyUsage { add(certificate, NID_key_usage, isCritical: true, [3, 2, UInt8(usage.trailingZeroBitCount), usage]) }
        if !wanted.purposes.isEmpty {
            add(certificate, NID_ext_key_usage, isCritical: false, DER.element(0x30, wanted.purposes.flatMap { DER.element(6, [0x2B, 6, 1, 5, 5, 7, 3, $0]) }))
        }
        for names in wanted.names { add(certificate, NID_subject_alt_name, isCritical: true, names) }
        let digest = EVP_PKEY_is_a(signer.key, "ED25519") == 1 ? nil : EVP_sha256()
        precondition(X509_sign(certificate, signer.key, digest) > 0, "the test's authority cannot sign")
        return certificate
    }

    private static func add(_ certificate: OpaquePointer, _ kind: Int32, isCritical: Bool, _ bytes: [UInt8]) {
        let text = ASN1_OCTET_STRING_new()
        ASN1_OCTET_STRING_set(text, bytes, Int32(bytes.count))
        let made = X509_EXTENSION_create_by_NID(nil, kind, isCritical ? 1 : 0, text)
        X509_add_ext(certificate, made, -1)
        X509_EXTENSION_free(made)
        ASN1_OCTET_STRING_free(text)
    }

    /// A new key of another kind than the default, "RSA" or "ED25519", as PEM: what a peer or a file may have.
    static func pemKey(_ kind: String) -> [UInt8] {
        let context = EVP_PKEY_CTX_new_id(kind == "RSA" ? EVP_PKEY_RSA : EVP_PKEY_ED25519, nil)
        defer { EVP_PKEY_CTX_free(context) }
        var key: OpaquePointer?
        EVP_PKEY_keygen_init(context)
        EVP_PKEY_keygen(context, &key)
        defer { EVP_PKEY_free(key) }
        let bio = BIO_new(BIO_s_mem())
        defer { BIO_free(bio) }
        PEM_write_bio_PrivateKey(bio, key, nil, nil, 0, nil, nil)
        var text = [UInt8](repeating: 0, count: 16_384)
        let count = BIO_read(bio, &text, Int32(text.count))
        return Array(text.prefix(Int(count)))
    }
}

/// A root and an intermediate that sign for one test.
final class Authority {
    let rootKey: KeyPair
    let root: OpaquePointer
    let key: KeyPair
    let intermediate: OpaquePointer

    init(_ name: String = "root", intermediate wanted: Wanted = .authority("intermediate")) throws {
        _ = try library.get()
        rootKey = try KeyPair.generate()
        root = Mint.make(.authority(name), key: rootKey, issuer: nil, signer: rootKey)
        key = try KeyPair.generate()
        intermediate = Mint.make(wanted, key: key, issuer: root, signer: rootKey)
    }

    deinit {
        X509_free(root)
        X509_free(intermediate)
    }

    func roots(_ generation: UInt64 = 1, trustDomain: String = "cluster.local", and other: Authority? = nil) throws -> TrustRoots {
        try TrustRoots(pem: Mint.pem(root) + (other.map { Mint.pem($0.root) } ?? []), trustDomain: Array(trustDomain.utf8), generation: generation)
    }

    /// Leaf and intermediate, PEM.
    func chain(_ wanted: Wanted, key leafKey: borrowing KeyPair) -> [UInt8] {
        let leaf = Mint.make(wanted, key: leafKey, issuer: intermediate, signer: key)
        defer { X509_free(leaf) }
        return Mint.pem(leaf) + Mint.pem(intermediate)
    }

    /// Credentials as a proxy would have them.
    func credentials(_ uri: String, identity: UInt32 = 1, generation: UInt64 = 1, roots: borrowing TrustRoots, change: (inout Wanted) -> Void = { _ in }) throws -> TLSCredentials {
        let leafKey = try KeyPair.generate()
        var wanted = Wanted.workload(uri)
        change(&wanted)
        return try TLSCredentials(
            identity: identity, generation: generation, uri: Array(uri.utf8), chain: chain(wanted, key: leafKey), key: leafKey, roots: roots, now: testNow)
    }
}
