import Crypto
import Foundation
import Glibc
@testable import Identity
import SwiftASN1
import Testing
import X509
import _CryptoExtras

/// Goes away with its last user.
final class Place: Sendable {
    let path = "/tmp/weft-identity-\(UUID().uuidString.prefix(13))"
    init() { mkdir(path, 0o700) }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// Permission bits of a file or directory below.
    func mode(_ name: String) -> mode_t? {
        var status = stat()
        return lstat("\(path)/\(name)", &status) == 0 ? status.st_mode & 0o777 : nil
    }

    func lines(_ name: String) -> [String] {
        ((try? String(contentsOfFile: "\(path)/\(name)", encoding: .utf8)) ?? "").split(separator: "\n").map(String.init)
    }

    func audit(_ directory: String = "ca") -> [AuditLog.Entry] {
        lines("\(directory)/audit.log").compactMap { try? JSONDecoder().decode(AuditLog.Entry.self, from: Data($0.utf8)) }
    }
}

/// A day in the life of an authority, long after 1970.
let noon: Int64 = 1_800_000_000
let web = SPIFFEIdentity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "web")!

/// Requests as others might write them.
enum Requests {
    static func der(
        _ key: Certificate.PrivateKey = .init(P256.Signing.PrivateKey()), names: [GeneralName]? = [.uniformResourceIdentifier(web.description)],
        extra: [Certificate.Extension] = [], subject: DistinguishedName = DistinguishedName(), isAskingForExtensions: Bool = true,
        algorithm: Certificate.SignatureAlgorithm? = nil
    ) throws -> [UInt8] {
        var extensions = try Certificate.Extensions(extra)
        if let names { try extensions.append(Certificate.Extension(SubjectAlternativeNames(names), critical: false)) }
        let wish = try CertificateSigningRequest.Attribute(ExtensionRequest(extensions: extensions))
        let attributes = CertificateSigningRequest.Attributes(isAskingForExtensions ? [wish] : [])
        let request =
            if let algorithm {
                try CertificateSigningRequest(version: .v1, subject: subject, privateKey: key, attributes: attributes, signatureAlgorithm: algorithm)
            } else {
                try CertificateSigningRequest(version: .v1, subject: subject, privateKey: key, attributes: attributes, signatureAlgorithm: Self.usual(key))
            }
        return try bytes(request)
    }

    static func bytes(_ request: CertificateSigningRequest) throws -> [UInt8] {
        var serializer = DER.Serializer()
        try serializer.serialize(request)
        return serializer.serializedBytes
    }

    private static func usual(_ key: Certificate.PrivateKey) -> Certificate.SignatureAlgorithm {
        switch "\(key)" {
        case "P384.PrivateKey": .ecdsaWithSHA384
        case "P521.PrivateKey": .ecdsaWithSHA512
        case let text where text.hasPrefix("RSA"): .sha256WithRSAEncryption
        case "Ed25519.PrivateKey": .ed25519
        default: .ecdsaWithSHA256
        }
    }
}

extension CertificateAuthority {
    static func fresh(
        _ place: Place, lifetime: Int64 = 86_400, nodeLifetime: Int64 = 86_400, overlap: Int64? = nil, at now: Int64 = noon
    ) throws -> CertificateAuthority {
        let settings = Settings(trustDomain: "cluster.local", workloadLifetimeSeconds: lifetime, nodeLifetimeSeconds: nodeLifetime, overlapSeconds: overlap)
        return try CertificateAuthority(directory: "\(place.path)/ca", settings: settings, now: now)
    }
}

/// Judges a chain as a peer would, with the library's own verifier; the critical name is the identity check's.
func isTrusted(_ chain: String, by bundle: TrustBundle, at now: Int64) async throws -> Bool {
    let links = try PEMChain(chain).certificates
    var verifier = Verifier(rootCertificates: CertificateStore(try PEMChain(bundle.roots).certificates)) {
        RFC5280Policy(fixedValidationTime: Date(timeIntervalSince1970: Double(now)))
        NamesAreOurs()
    }
    let result = await verifier.validate(leaf: links[0], intermediates: CertificateStore(links.dropFirst()))
    if case .validCertificate = result { return true }
    return false
}

private struct NamesAreOurs: VerifierPolicy {
    let verifyingCriticalExtensions: [ASN1ObjectIdentifier] = [.X509ExtensionID.subjectAlternativeName, .X509ExtensionID.keyUsage]
    mutating func chainMeetsPolicyRequirements(chain: UnverifiedCertificateChain) async -> PolicyEvaluationResult { .meetsPolicy }
}
