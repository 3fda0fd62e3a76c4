import Crypto
import SwiftASN1
import X509
import _CryptoExtras

/// A certification request (RFC 2986) that has been looked at from all sides. What an authority takes from it is the key and nothing else.
public struct SigningRequest: Sendable {
    let publicKey: Certificate.PublicKey
    /// The one name that it asks for.
    public let identity: SPIFFEIdentity
    public let keyKind: KeyKind

    /// Keys that certificates are given for.
    public enum KeyKind: String, Sendable, Codable {
        case p256 = "P-256"
        case p384 = "P-384"
        case ed25519 = "Ed25519"
        case rsa = "RSA"
    }

    /// Reads and checks a request.
    /// - Parameter der: DER, as it came from whoever asks.
    public init(der: [UInt8]) throws(Refusal) {
        guard der.count <= AuthorityLimits.requestBytesMax else { throw .requestTooLarge }
        let request = try Self.parse(der)
        keyKind = try Self.kind(of: request.publicKey)
        guard request.signatureAlgorithm != .sha1WithRSAEncryption, request.publicKey.isValidSignature(request.signature, for: request) else {
            throw .badSignature
        }
        identity = try Self.onlyName(request)
        publicKey = request.publicKey
    }

    private static func parse(_ der: [UInt8]) throws(Refusal) -> CertificateSigningRequest {
        do {
            return try CertificateSigningRequest(derEncoded: der)
        } catch is ASN1Error {
            throw .malformedRequest
        } catch {
            // The structure is right, the key is none that this library would use: RSA of fewer than 2,048 bits, another curve.
            throw .unsupportedKey
        }
    }

    private static func kind(of key: Certificate.PublicKey) throws(Refusal) -> KeyKind {
        if P256.Signing.PublicKey(key) != nil { return .p256 }
        if P384.Signing.PublicKey(key) != nil { return .p384 }
        if Curve25519.Signing.PublicKey(key) != nil { return .ed25519 }
        if let rsa = _RSA.Signing.PublicKey(key), (AuthorityLimits.rsaBitsMin...AuthorityLimits.rsaBitsMax).contains(rsa.keySizeInBits) { return .rsa }
        throw .unsupportedKey
    }

    private static func onlyName(_ request: CertificateSigningRequest) throws(Refusal) -> SPIFFEIdentity {
        let names: SubjectAlternativeNames?
        do {
            let extensions = try request.attributes.extensionRequest?.extensions ?? Certificate.Extensions()
            if case .isCertificateAuthority = try extensions.basicConstraints { throw Refusal.asksForAuthority }
            names = try extensions.subjectAlternativeNames
        } catch let refusal as Refusal {
            throw refusal
        } catch {
            throw .malformedRequest
        }
        guard let names, !names.isEmpty else { throw .noName }
        guard names.count == 1 else { throw .severalNames }
        guard case .uniformResourceIdentifier(let uri) = names[names.startIndex], let identity = SPIFFEIdentity(uri) else { throw .notAnIdentity }
        return identity
    }
}
