import Crypto
import Foundation
import Glibc
import SwiftASN1
import X509

/// An authority's directory.
///
///     state.json             which root and which issuing certificate are for what
///     roots/<n>.crt, .key    one root each; the key is read only to sign an issuing certificate
///     issuer/<n>.crt, .key   what signs leaves
///     audit.log              see AuditLog
///     lock                   held while anything above changes
struct AuthorityFiles: Sendable {
    let directory: SecretDirectory
    private let roots: SecretDirectory
    private let issuers: SecretDirectory

    init(at path: String) {
        directory = SecretDirectory(at: path)
        roots = SecretDirectory(at: "\(path)/roots")
        issuers = SecretDirectory(at: "\(path)/issuer")
    }

    /// Why the files make no authority.
    struct Fault: Error, CustomStringConvertible {
        let description: String
    }

    /// Makes a complete authority in a directory beside and renames it to its place: there is a whole one or none. One that somebody else made
    /// meanwhile is left as it is.
    /// - Returns: whether this one was made here.
    static func create(at path: String, trustDomain: String, longestLifetimeSeconds: Int64, now: Int64) throws -> Bool {
        let fresh = "\(path).\(UUID().uuidString.prefix(8)).new"
        let files = AuthorityFiles(at: fresh)
        _ = try SecretDirectory(making: fresh)
        defer { try? FileManager.default.removeItem(atPath: fresh) }
        for part in [files.roots, files.issuers] { _ = try SecretDirectory(making: part.path) }
        let root = try files.makeRoot(1, trustDomain: trustDomain, now: now)
        _ = try files.makeIssuer(1, below: 1, trustDomain: trustDomain, now: now)
        try files.save(
            AuthorityState(
                trustDomain: trustDomain,
                roots: [.init(number: 1, phase: .active, since: now, notAfter: root.seconds)], issuer: 1, longestLifetimeSeconds: longestLifetimeSeconds))
        try AuditLog("\(fresh)/audit.log").append(.init(at: now, .authorityCreated, asker: "authority", root: root.fingerprint))
        guard rename(fresh, path) == 0 else {
            let code = errno
            if code == ENOTEMPTY || code == EEXIST { return false }
            throw SecretDirectory.Fault(step: "cannot make", path: path, code: code)
        }
        SecretDirectory(at: (path as NSString).deletingLastPathComponent).sync()
        return true
    }

    func load() throws -> AuthorityState {
        guard let bytes = try directory.read("state.json") else { throw Fault(description: "\(directory.path) holds no authority") }
        return try JSONDecoder().decode(AuthorityState.self, from: Data(bytes))
    }

    func save(_ state: AuthorityState) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        try directory.write("state.json", Array(encoder.encode(state)))
    }

    /// Changes whenever `save` was called, by whatever process: each one is a new file.
    var stamp: UInt64? {
        var status = stat()
        guard stat("\(directory.path)/state.json", &status) == 0 else { return nil }
        return UInt64(status.st_ino) << 32 ^ UInt64(bitPattern: Int64(status.st_ctim.tv_sec)) << 30 ^ UInt64(status.st_ctim.tv_nsec)
    }

    struct Made {
        let fingerprint: String
        let seconds: Int64
    }

    func makeRoot(_ number: Int, trustDomain: String, now: Int64) throws -> Made {
        let root = try Minting.root(trustDomain: trustDomain, number: number, at: now)
        try write(root, number, in: roots)
        return Made(fingerprint: try Fingerprint.of(root.certificate), seconds: Int64(root.certificate.notValidAfter.timeIntervalSince1970))
    }

    /// The only use of a root's key.
    func makeIssuer(_ number: Int, below root: Int, trustDomain: String, now: Int64) throws -> KeyedCertificate {
        let issuer = try Minting.issuer(trustDomain: trustDomain, number: number, below: try keyed(root, in: roots), at: now)
        try write(issuer, number, in: issuers)
        return issuer
    }

    func issuer(_ number: Int) throws -> KeyedCertificate { try keyed(number, in: issuers) }

    func rootCertificate(_ number: Int) throws -> Certificate { try certificate(number, in: roots) }

    var nextIssuerNumber: Int { (issuerNumbers.max() ?? 0) + 1 }

    /// All issuing certificates there ever were.
    var issuerCertificates: [Certificate] { issuerNumbers.compactMap { try? certificate($0, in: issuers) } }

    private var issuerNumbers: [Int] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: issuers.path)) ?? []
        return names.filter { $0.hasSuffix(".crt") }.compactMap { Int($0.dropLast(4)) }.sorted()
    }

    /// Keys that sign no more. A root's certificate stays, for whoever reads the audit log.
    func forgetRootKey(_ number: Int) { unlink("\(roots.path)/\(number).key") }
    func forgetIssuerKeys(except number: Int) {
        for other in 1..<max(1, nextIssuerNumber) where other != number { unlink("\(issuers.path)/\(other).key") }
    }

    private func write(_ keyed: KeyedCertificate, _ number: Int, in part: SecretDirectory) throws {
        try part.write("\(number).key", try keyed.key.serializeAsPEM().pemString + "\n")
        try part.write("\(number).crt", try keyed.certificate.pem())
    }

    private func keyed(_ number: Int, in part: SecretDirectory) throws -> KeyedCertificate {
        guard let bytes = try part.read("\(number).key") else { throw Fault(description: "\(part.path)/\(number).key is missing") }
        let key = try Certificate.PrivateKey(pemEncoded: String(decoding: bytes, as: UTF8.self))
        let certificate = try certificate(number, in: part)
        guard key.publicKey == certificate.publicKey else { throw Fault(description: "\(part.path)/\(number).key does not belong to its certificate") }
        return KeyedCertificate(key: key, certificate: certificate)
    }

    private func certificate(_ number: Int, in part: SecretDirectory) throws -> Certificate {
        guard let bytes = try part.read("\(number).crt") else { throw Fault(description: "\(part.path)/\(number).crt is missing") }
        return try Certificate(pemEncoded: String(decoding: bytes, as: UTF8.self))
    }
}
