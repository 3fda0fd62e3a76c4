import Crypto
import Foundation
import SwiftASN1
import X509

/// A key and the certificate for it.
struct KeyedCertificate: Sendable {
    let key: Certificate.PrivateKey
    let certificate: Certificate
}

/// The three kinds of certificates that an authority makes (RFC 5280; X.509-SVID, section 4).
enum Minting {
    /// A root: signs issuing certificates only.
    static func root(trustDomain: String, number: Int, at now: Int64) throws -> KeyedCertificate {
        let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
        let name = try DistinguishedName {
            OrganizationName("Weft")
            CommonName("\(trustDomain) root \(number)")
        }
        let certificate = try Certificate(
            version: .v3, serialNumber: serial(), publicKey: key.publicKey, notValidBefore: date(now - AuthorityLimits.clockSkewSeconds),
            notValidAfter: date(now + AuthorityLimits.rootLifetimeSeconds), issuer: name, subject: name, signatureAlgorithm: .ecdsaWithSHA256,
            extensions: Certificate.Extensions {
                Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 1))
                Critical(KeyUsage(keyCertSign: true, cRLSign: true))
                SubjectKeyIdentifier(hash: key.publicKey)
                SubjectAlternativeNames([.uniformResourceIdentifier("spiffe://\(trustDomain)")])
            }, issuerPrivateKey: key)
        return KeyedCertificate(key: key, certificate: certificate)
    }

    /// An issuing certificate: signs leaves only (path length 0).
    static func issuer(trustDomain: String, number: Int, below root: KeyedCertificate, at now: Int64) throws -> KeyedCertificate {
        let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
        let end = min(date(now + AuthorityLimits.issuerLifetimeSeconds), root.certificate.notValidAfter)
        let certificate = try Certificate(
            version: .v3, serialNumber: serial(), publicKey: key.publicKey, notValidBefore: date(now - AuthorityLimits.clockSkewSeconds), notValidAfter: end,
            issuer: root.certificate.subject,
            subject: DistinguishedName {
                OrganizationName("Weft")
                CommonName("\(trustDomain) issuer \(number)")
            },
            signatureAlgorithm: .ecdsaWithSHA256,
            extensions: Certificate.Extensions {
                Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
                Critical(KeyUsage(keyCertSign: true, cRLSign: true))
                SubjectKeyIdentifier(hash: key.publicKey)
                AuthorityKeyIdentifier(keyIdentifier: try keyIdentifier(root.certificate))
                SubjectAlternativeNames([.uniformResourceIdentifier("spiffe://\(trustDomain)")])
            }, issuerPrivateKey: root.key)
        return KeyedCertificate(key: key, certificate: certificate)
    }

    /// A leaf. Its only name is the identity; the subject is empty, so the name is critical (RFC 5280, section 4.2.1.6).
    /// - Parameter dnsNames: further names, for the controller's own certificate alone.
    static func leaf(
        _ identity: SPIFFEIdentity, key: Certificate.PublicKey, below issuer: Issuer, notBefore: Int64, notAfter: Int64, dnsNames: [String] = []
    ) throws -> Certificate {
        try Certificate(
            version: .v3, serialNumber: serial(), publicKey: key, notValidBefore: date(notBefore), notValidAfter: date(notAfter), issuer: issuer.subject,
            subject: DistinguishedName(), signatureAlgorithm: .ecdsaWithSHA256,
            extensions: Certificate.Extensions {
                Critical(BasicConstraints.notCertificateAuthority)
                Critical(KeyUsage(digitalSignature: true))
                try ExtendedKeyUsage([.serverAuth, .clientAuth])
                Critical(SubjectAlternativeNames([.uniformResourceIdentifier(identity.description)] + dnsNames.map { .dnsName($0) }))
                AuthorityKeyIdentifier(keyIdentifier: issuer.keyIdentifier)
            }, issuerPrivateKey: issuer.key)
    }

    /// What signs leaves, with everything about it that every leaf repeats.
    struct Issuer: Sendable {
        let key: Certificate.PrivateKey
        let subject: DistinguishedName
        let keyIdentifier: ArraySlice<UInt8>
        let notAfter: Int64
        /// Behind each leaf in its chain.
        let pem: String
        /// Fingerprint of the root that vouches for it.
        let root: String

        init(_ keyed: KeyedCertificate, root: String) throws {
            key = keyed.key
            subject = keyed.certificate.subject
            keyIdentifier = try Minting.keyIdentifier(keyed.certificate)
            notAfter = Int64(keyed.certificate.notValidAfter.timeIntervalSince1970)
            pem = try keyed.certificate.pem()
            self.root = root
        }
    }

    /// 128 random bits; positive and never short, as DER's integers want it (RFC 5280, section 4.1.2.2).
    private static func serial() -> Certificate.SerialNumber {
        var generator = SystemRandomNumberGenerator()
        var bytes = (0..<AuthorityLimits.serialBytes).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        bytes[0] = bytes[0] & 0x7F | 0x40
        return Certificate.SerialNumber(bytes: bytes)
    }

    private static func keyIdentifier(_ certificate: Certificate) throws -> ArraySlice<UInt8> {
        try certificate.extensions.subjectKeyIdentifier?.keyIdentifier ?? SubjectKeyIdentifier(hash: certificate.publicKey).keyIdentifier
    }

    private static func date(_ seconds: Int64) -> Date { Date(timeIntervalSince1970: Double(seconds)) }
}
