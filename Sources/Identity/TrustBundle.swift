import Crypto
import Foundation
import SwiftASN1
import X509

/// The root certificates in force for one trust domain. Grows by a root before that root signs anything, shrinks when nothing that a root
/// signed is alive.
public struct TrustBundle: Sendable, Equatable, Codable {
    public var trustDomain: String
    /// Grows with every change.
    public var generation: UInt64
    /// PEM, one certificate behind the other.
    public var roots: String

    public init(trustDomain: String, generation: UInt64, roots: String) {
        (self.trustDomain, self.generation, self.roots) = (trustDomain, generation, roots)
    }

    /// SHA-256 over the DER of each root, in hex: what a join token carries.
    public var fingerprints: [String] { (try? PEMChain(roots).fingerprints) ?? [] }

    /// Those roots whose fingerprint is among the given, as PEM; nil when none is.
    public func only(fingerprints: [String]) -> String? {
        guard let certificates = try? PEMChain(roots).certificates else { return nil }
        let chosen = certificates.filter { certificate in (try? Fingerprint.of(certificate)).map(fingerprints.contains) ?? false }
        return chosen.isEmpty ? nil : chosen.compactMap { try? $0.pem() }.joined()
    }

    /// The certificates of several texts, each once; nil when there is none that can be read.
    public static func union(_ texts: [String]) -> String? {
        var seen: Set<String> = []
        var roots = ""
        for chain in texts.compactMap({ try? PEMChain($0) }) {
            for certificate in chain.certificates {
                guard let fingerprint = try? Fingerprint.of(certificate), seen.insert(fingerprint).inserted, let pem = try? certificate.pem() else { continue }
                roots += pem
            }
        }
        return roots.isEmpty ? nil : roots
    }

    /// Whether a chain (PEM, leaf first) ends below one of these roots. Looks at signatures alone, not at times.
    public func vouches(forChain chain: String) -> Bool {
        guard let links = try? PEMChain(chain).certificates, let last = links.last, let roots = try? PEMChain(roots).certificates else { return false }
        let isLinked = zip(links, links.dropFirst()).allSatisfy { $1.publicKey.isValidSignature($0.signature, for: $0) }
        return isLinked && roots.contains { $0.publicKey.isValidSignature(last.signature, for: last) }
    }
}

/// Certificates as PEM text, read.
public struct PEMChain: Sendable {
    let certificates: [Certificate]

    /// Why a text is no chain.
    public enum Fault: Error, Sendable, Equatable {
        case tooLarge, notPEM, empty
    }

    /// Reads every `CERTIFICATE` block (RFC 7468); other blocks do not belong here and are refused.
    public init(_ text: String) throws(Fault) {
        guard text.utf8.count <= AuthorityLimits.bundleBytesMax else { throw .tooLarge }
        do {
            certificates = try PEMDocument.parseMultiple(pemString: text).map { try Certificate(pemDocument: $0) }
        } catch {
            throw .notPEM
        }
        guard !certificates.isEmpty else { throw .empty }
    }

    /// SHA-256 over the DER of each certificate, in hex.
    public var fingerprints: [String] { certificates.compactMap { try? Fingerprint.of($0) } }

    /// DER of each certificate.
    public var der: [[UInt8]] { certificates.compactMap { try? $0.derBytes() } }

    /// What the first certificate says: the leaf of a chain.
    public var leaf: Leaf? { certificates.first.map(Leaf.init) }

    /// What Weft asks a leaf.
    public struct Leaf: Sendable, Equatable {
        /// Nil unless it has exactly one name, which is an identity.
        public let identity: SPIFFEIdentity?
        /// Unix seconds.
        public let notBefore: Int64, notAfter: Int64
        /// Hex.
        public let serial: String

        init(_ certificate: Certificate) {
            notBefore = Int64(certificate.notValidBefore.timeIntervalSince1970.rounded(.down))
            notAfter = Int64(certificate.notValidAfter.timeIntervalSince1970.rounded(.down))
            serial = certificate.serialNumber.hex
            identity = certificate.onlyIdentity
        }
    }
}

enum Fingerprint {
    static func of(_ certificate: Certificate) throws -> String { SHA256.hash(data: try certificate.derBytes()).hex }
}

extension Certificate {
    func derBytes() throws -> [UInt8] {
        var serializer = DER.Serializer()
        try serializer.serialize(self)
        return serializer.serializedBytes
    }

    func pem() throws -> String { try serializeAsPEM().pemString + "\n" }

    /// The one name, if it is one and an identity.
    var onlyIdentity: SPIFFEIdentity? {
        guard let names = try? extensions.subjectAlternativeNames, names.count == 1,
            case .uniformResourceIdentifier(let uri) = names[names.startIndex]
        else { return nil }
        return SPIFFEIdentity(uri)
    }
}

extension Certificate.SerialNumber {
    var hex: String { bytes.hex }
}

extension Sequence<UInt8> {
    var hex: String {
        var text = ""
        for byte in self { text += (byte < 16 ? "0" : "") + String(byte, radix: 16) }
        return text
    }
}
