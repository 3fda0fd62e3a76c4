import Crypto
import SwiftASN1
import X509

/// A key pair of a node or a controller, made here, and the request to certify it. Workloads' keys are made in the proxy.
public struct NodeKeyPair: Sendable {
    private let key: Certificate.PrivateKey

    public init() { key = Certificate.PrivateKey(P256.Signing.PrivateKey()) }

    /// PKCS #8, for a file that only its owner may read.
    public var pem: String { get throws { try key.serializeAsPEM().pemString + "\n" } }

    var publicKey: Certificate.PublicKey { key.publicKey }

    /// A certification request in DER for one identity.
    public func request(for identity: SPIFFEIdentity) throws -> [UInt8] {
        let extensions = try Certificate.Extensions {
            Critical(SubjectAlternativeNames([.uniformResourceIdentifier(identity.description)]))
        }
        let request = try CertificateSigningRequest(
            version: .v1, subject: DistinguishedName(), privateKey: key,
            attributes: CertificateSigningRequest.Attributes([.init(ExtensionRequest(extensions: extensions))]), signatureAlgorithm: .ecdsaWithSHA256)
        var serializer = DER.Serializer()
        try serializer.serialize(request)
        return serializer.serializedBytes
    }
}

extension CertificateAuthority {
    /// A certificate for the controller's own HTTPS: its identity, and the name that nodes look for.
    public func issueOwn(_ pair: NodeKeyPair, at now: Int64) throws(Refusal) -> Issued {
        try issueOwn(key: pair.publicKey, dnsNames: [ControllerWire.serverName(trustDomain: settings.trustDomain)], at: now)
    }
}
