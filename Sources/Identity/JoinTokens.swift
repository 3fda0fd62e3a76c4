import Crypto
import Foundation
import Glibc

/// Tokens with which a node proves, once, that an operator wants it.
///
/// `weft1.<id>.<secret>.<root fingerprint>[.<root fingerprint>…]`: the fingerprints let the node know its controller before it tells the secret. Of the secret only a
/// hash is stored, in `tokens/<id>.json`; spending it renames the file into `tokens/spent/`, which can succeed once.
public struct JoinTokens: Sendable {
    private let waiting: SecretDirectory
    private let spent: SecretDirectory

    private struct Record: Codable {
        var node: String
        /// SHA-256 of the secret, hex.
        var secret: String
        /// Unix seconds.
        var expires: Int64
        var made: Int64
    }

    /// What a node reads out of the text.
    public struct Text: Sendable, Equatable {
        public let id: String
        public let secret: String
        /// Of the roots, one of which the controller must show.
        public let fingerprints: [String]

        /// Nil when it is no token. White space around it does not matter.
        public init?(_ text: String) {
            let parts = text.trimmingCharacters(in: .whitespacesAndNewlines).split(separator: ".", omittingEmptySubsequences: false).map(String.init)
            guard parts.count >= 4, parts.count <= 3 + AuthorityLimits.rootsMax, parts[0] == "weft1", Self.isHex(parts[1], 16), Self.isHex(parts[2], 64),
                parts[3...].allSatisfy({ Self.isHex($0, 64) })
            else { return nil }
            (id, secret, fingerprints) = (parts[1], parts[2], Array(parts[3...]))
        }

        private static func isHex(_ text: String, _ count: Int) -> Bool {
            text.utf8.count == count && text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
        }
    }

    /// - Parameter directory: the controller's data directory, which exists.
    public init(directory: String) throws {
        waiting = try SecretDirectory(making: "\(directory)/tokens")
        spent = try SecretDirectory(making: "\(directory)/tokens/spent")
    }

    /// Makes a token for a node.
    /// - Parameter revokedAt: when the node was revoked, unix seconds: the token is younger than that.
    /// - Returns: the text, which exists nowhere else.
    public func make(node: String, bundle: TrustBundle, lifetimeSeconds: Int64, revokedAt: Int64? = nil, at now: Int64) throws -> String {
        forgetOld(at: now)
        let names = try FileManager.default.contentsOfDirectory(atPath: waiting.path)
        guard names.count < AuthorityLimits.tokensMax else {
            throw AuthorityFiles.Fault(description: "\(AuthorityLimits.tokensMax) tokens wait for their nodes; remove some from \(waiting.path)")
        }
        let id = Self.random(8), secret = Self.random(32)
        try waiting.write("\(id).json", Array(JSONEncoder().encode(Record(node: node, secret: Self.hash(secret), expires: now + lifetimeSeconds, made: max(now, (revokedAt ?? now - 1) + 1)))))
        return (["weft1", id, secret] + bundle.fingerprints).joined(separator: ".")
    }

    /// Says whether a token is good for a node, without spending it.
    /// - Parameter revokedAt: when the node was revoked, unix seconds; tokens made until then are void.
    public func check(id: String, secret: String, node: String, revokedAt: Int64? = nil, at now: Int64) throws(Refusal) {
        // The name becomes part of a path.
        guard id.utf8.count == 16, id.utf8.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }) else { throw .tokenUnknown }
        guard let record = Self.record(id, in: waiting) else {
            // Only who knows the secret learns that it was good once.
            if let record = Self.record(id, in: spent), Self.isEqual(record.secret, Self.hash(secret)) { throw .tokenUsed }
            throw .tokenUnknown
        }
        guard Self.isEqual(record.secret, Self.hash(secret)) else { throw .tokenUnknown }
        guard now < record.expires else { throw .tokenExpired }
        guard record.node == node else { throw .tokenOfOtherNode }
        // Certificates tell their time in whole seconds: one of this second could not be told from one that is taken back.
        if let revokedAt, record.made <= revokedAt || now <= revokedAt { throw .nodeRevoked }
    }

    /// Spends a token that was found good. Of two that try at once, one gets `tokenUsed`.
    public func spend(id: String) throws(Refusal) {
        guard rename("\(waiting.path)/\(id).json", "\(spent.path)/\(id).json") == 0 else { throw errno == ENOENT ? .tokenUsed : .authorityFailed }
        spent.sync()
        waiting.sync()
    }

    /// Records of tokens that nobody could use any more, spent or not, a day after they ended.
    private func forgetOld(at now: Int64) {
        for place in [waiting, spent] {
            for name in (try? FileManager.default.contentsOfDirectory(atPath: place.path)) ?? [] where name.hasSuffix(".json") {
                if let record = Self.record(String(name.dropLast(5)), in: place), record.expires + 86_400 < now { unlink("\(place.path)/\(name)") }
            }
        }
    }

    private static func record(_ id: String, in place: SecretDirectory) -> Record? {
        (try? place.read("\(id).json")).flatMap { $0 }.flatMap { try? JSONDecoder().decode(Record.self, from: Data($0)) }
    }

    private static func hash(_ secret: String) -> String { SHA256.hash(data: Array(secret.utf8)).hex }

    /// In a time that does not depend on where they differ.
    private static func isEqual(_ one: String, _ other: String) -> Bool {
        one.utf8.count == other.utf8.count && zip(one.utf8, other.utf8).reduce(UInt8(0)) { $0 | $1.0 ^ $1.1 } == 0
    }

    private static func random(_ bytes: Int) -> String {
        var generator = SystemRandomNumberGenerator()
        return (0..<bytes).map { _ in UInt8.random(in: .min ... .max, using: &generator) }.hex
    }
}
