/// A name of this mesh: a workload's, a node's or the controller's.
///
/// Reading is strict (SPIFFE-ID, sections 2.1 to 2.4): no port, no user, no query, no fragment, no escape, no empty part, and no path
/// but the three that Weft gives out. Two texts name the same party only when they are equal byte by byte.
public struct SPIFFEIdentity: Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
    /// Lower-case letters, digits, `.`, `-` and `_`.
    public let trustDomain: String
    public let party: Party

    /// Who is named.
    public enum Party: Hashable, Sendable {
        /// `/ns/<namespace>/sa/<service account>`
        case workload(namespace: String, serviceAccount: String)
        /// `/node/<name>`: an agent towards its controller.
        case node(name: String)
        /// `/controller`
        case controller
    }

    /// Bytes of the longest identity (SPIFFE-ID, section 2.3).
    public static let bytesMax = 2_048

    /// The identity of the pods of a service account; nil when a part cannot stand in one.
    public init?(trustDomain: String, namespace: String, serviceAccount: String) {
        self.init(trustDomain, .workload(namespace: namespace, serviceAccount: serviceAccount))
    }

    /// The identity of a node; nil when its name cannot stand in one.
    public init?(trustDomain: String, node: String) { self.init(trustDomain, .node(name: node)) }

    /// The identity of the controller.
    public init?(controllerOf trustDomain: String) { self.init(trustDomain, .controller) }

    private init?(_ trustDomain: String, _ party: Party) {
        let parts: [String] =
            switch party {
            case .workload(let namespace, let serviceAccount): [namespace, serviceAccount]
            case .node(let name): [name]
            case .controller: []
            }
        guard Self.isTrustDomain(trustDomain), parts.allSatisfy({ Self.isSegment($0.utf8[...]) }) else { return nil }
        (self.trustDomain, self.party) = (trustDomain, party)
        guard description.utf8.count <= Self.bytesMax else { return nil }
    }

    /// Reads `spiffe://…`; nil for anything that Weft gives to nobody.
    public init?(_ text: String) {
        let bytes = text.utf8
        let scheme = "spiffe://".utf8
        guard bytes.count <= Self.bytesMax, bytes.starts(with: scheme) else { return nil }
        let rest = bytes.dropFirst(scheme.count).split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        guard rest.dropFirst().allSatisfy(Self.isSegment), let first = rest.first, let trustDomain = String(first) else { return nil }
        let path = rest.dropFirst().compactMap { String($0) }
        let party: Party
        switch (path.count, path.first) {
        case (4, "ns") where path[2] == "sa": party = .workload(namespace: path[1], serviceAccount: path[3])
        case (2, "node"): party = .node(name: path[1])
        case (1, "controller"): party = .controller
        default: return nil
        }
        self.init(trustDomain, party)
    }

    /// The URI, as it stands in certificates.
    public var description: String {
        switch party {
        case .workload(let namespace, let serviceAccount): "spiffe://\(trustDomain)/ns/\(namespace)/sa/\(serviceAccount)"
        case .node(let name): "spiffe://\(trustDomain)/node/\(name)"
        case .controller: "spiffe://\(trustDomain)/controller"
        }
    }

    public static func < (one: Self, other: Self) -> Bool { one.description < other.description }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let identity = Self(text) else { throw DecodingError.dataCorruptedError(in: container, debugDescription: "“\(text)” is no identity") }
        self = identity
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }

    /// SPIFFE-ID, section 2.1: at most 255 bytes, lower case.
    public static func isTrustDomain(_ text: String) -> Bool {
        (1...255).contains(text.utf8.count)
            && text.utf8.allSatisfy { isLower($0) || isDigit($0) || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "_") }
    }

    /// SPIFFE-ID, section 2.2: letters, digits, `.`, `-`, `_`; not empty, and neither `.` nor `..`.
    private static func isSegment(_ bytes: Substring.UTF8View) -> Bool {
        guard !bytes.isEmpty, !bytes.elementsEqual(".".utf8), !bytes.elementsEqual("..".utf8) else { return false }
        return bytes.allSatisfy {
            isLower($0) || (0x41...0x5A).contains($0) || isDigit($0) || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "_")
        }
    }

    private static func isLower(_ byte: UInt8) -> Bool { (0x61...0x7A).contains(byte) }
    private static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }
}
