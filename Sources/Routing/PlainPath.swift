import MeshModel

/// The path of a request, when it can mean one thing only.
///
/// The proxy forwards paths as they came, so a rule must not take for another path what the application takes for this one. Percent-escapes of
/// ordinary characters are decoded for the comparison (RFC 3986, 6.2.2.2). What servers read differently is not compared at all, and the
/// request is refused: empty and dot segments, escaped or not; a slash, backslash, percent sign or control character as an escape; a
/// backslash; path parameters (`;`); escapes that are none. Envoy rewrites some of these and passes the others on.
struct PlainPath {
    private let bytes: UnsafeRawBufferPointer
    /// Bytes once decoded.
    private let decodedCount: Int

    /// Nil when the path is ambiguous.
    /// - Parameter path: with its query, which is left out.
    init?(_ path: UnsafeRawBufferPointer, method: UnsafeRawBufferPointer) {
        let form = PathForm(path)
        guard form.traits.isSubset(of: .escape) else { return nil }
        guard !form.path.isEmpty else {
            // `http://host?query` asks for the root; CONNECT asks for no path.
            bytes = UnsafeRawBufferPointer(start: ("/" as StaticString).utf8Start, count: Self.isConnect(method) ? 0 : 1)
            decodedCount = bytes.count
            return
        }
        bytes = form.path
        decodedCount = form.decodedCount
    }

    /// Whether the path is what the term asks for.
    func holds(_ term: AccessTermView) -> Bool {
        if decodedCount == bytes.count { return AccessQuestion.compare(term, count: bytes.count) { bytes[$0] } }
        let wanted = term.text
        let skipped: Int
        switch term.comparison {
        case .any: return true
        case .exact:
            guard wanted.count == decodedCount else { return false }
            skipped = 0
        case .prefix:
            guard wanted.count <= decodedCount else { return false }
            skipped = 0
        case .suffix:
            guard wanted.count <= decodedCount else { return false }
            skipped = decodedCount - wanted.count
        }
        var source = 0, place = 0
        while place < skipped + wanted.count {
            var byte = bytes[source]
            source += 1
            if byte == UInt8(ascii: "%") {
                // It was looked at when the path was read.
                byte = PathForm.escaped(in: bytes, at: source) ?? 0
                source += 2
            }
            if place >= skipped, wanted[place - skipped] != byte { return false }
            place += 1
        }
        return true
    }

    private static func isConnect(_ method: UnsafeRawBufferPointer) -> Bool {
        let connect: StaticString = "CONNECT"
        guard method.count == 7 else { return false }
        for place in 0..<7 where method[place] != connect.utf8Start[place] { return false }
        return true
    }
}
