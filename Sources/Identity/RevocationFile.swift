import Foundation
import SwiftASN1

/// Serial numbers out of certificate revocation lists (RFC 5280, 5.1) in PEM. The file is the operator's, so the lists' signatures are not
/// checked, nor their dates: what it names is revoked.
public enum RevocationFile {
    /// Why a file is no list of revocations.
    public enum Fault: Error, Equatable, CustomStringConvertible {
        case notText
        case noList
        case malformed

        public var description: String {
            switch self {
            case .notText: "it is no PEM text"
            case .noList: "it holds no “X509 CRL”"
            case .malformed: "a list in it is malformed"
            }
        }
    }

    /// Lower-case hexadecimal without leading zeros, sorted, each once.
    public static func serials(pem: Data) throws(Fault) -> [String] {
        guard let text = String(data: pem, encoding: .utf8), let documents = try? PEMDocument.parseMultiple(pemString: text) else { throw .notText }
        let lists = documents.filter { $0.discriminator == "X509 CRL" }
        guard !lists.isEmpty else { throw .noList }
        var serials: Set<String> = []
        for list in lists {
            guard let found = try? Self.serials(der: list.derBytes) else { throw .malformed }
            serials.formUnion(found)
        }
        return serials.sorted()
    }

    private static func serials(der: [UInt8]) throws -> [String] {
        guard let list = parts(try DER.parse(der))?.first, let fields = parts(list) else { throw Fault.malformed }
        var hasTime = false
        for field in fields {
            if field.identifier == .utcTime || field.identifier == .generalizedTime { hasTime = true }
            // Behind the dates stands one sequence at most: the certificates. Extensions have a tag of their own.
            guard hasTime, field.identifier == .sequence, let entries = parts(field) else { continue }
            return try entries.map { entry in
                guard let serial = parts(entry)?.first, serial.identifier == .integer, case .primitive(let bytes) = serial.content else { throw Fault.malformed }
                let digits = bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined().drop { $0 == "0" }
                guard !digits.isEmpty else { throw Fault.malformed }
                return String(digits)
            }
        }
        guard hasTime else { throw Fault.malformed }
        return []
    }

    private static func parts(_ node: ASN1Node) -> [ASN1Node]? {
        guard node.identifier == .sequence, case .constructed(let nodes) = node.content else { return nil }
        return Array(nodes)
    }
}
