import Foundation

/// The status as JSON: keys sorted, so that two of them can be compared line by line.
public enum StatusJSON {
    /// The whole status, indented, with a line end behind it.
    public static func encode(_ status: some Encodable) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return Array(try encoder.encode(status)) + [UInt8(ascii: "\n")]
    }

    /// Reads what `encode` wrote, also by a newer agent: unknown names are skipped.
    public static func decode(_ bytes: [UInt8]) throws -> Status {
        try JSONDecoder().decode(Status.self, from: Data(bytes))
    }
}
