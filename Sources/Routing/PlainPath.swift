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
        var count = 0
        var decoded = 0
        // Bytes of the segment so far, and how many of them are dots.
        var segment = 0, dots = 0
        var isFirst = true
        while count < path.count {
            var byte = path[count]
            if byte == UInt8(ascii: "?") || byte == UInt8(ascii: "#") { break }
            count += 1
            if byte == UInt8(ascii: "/") {
                // An empty segment stands between two slashes, never before the first.
                if !isFirst && (segment == 0 || segment == dots && dots <= 2) { return nil }
                (segment, dots, isFirst) = (0, 0, false)
                decoded += 1
                continue
            }
            if byte == UInt8(ascii: "%") {
                guard count + 1 < path.count, let high = Self.digit(path[count]), let low = Self.digit(path[count + 1]) else { return nil }
                byte = high << 4 | low
                count += 2
                if byte == UInt8(ascii: "/") || byte == UInt8(ascii: "%") { return nil }
            }
            if byte == UInt8(ascii: "\\") || byte == UInt8(ascii: ";") || byte < 0x20 || byte == 0x7F { return nil }
            segment += 1
            if byte == UInt8(ascii: ".") { dots += 1 }
            decoded += 1
        }
        if segment > 0, segment == dots, dots <= 2 { return nil }
        guard count > 0 else {
            // `http://host?query` asks for the root; CONNECT asks for no path.
            bytes = UnsafeRawBufferPointer(start: ("/" as StaticString).utf8Start, count: Self.isConnect(method) ? 0 : 1)
            decodedCount = bytes.count
            return
        }
        bytes = UnsafeRawBufferPointer(rebasing: path[..<count])
        decodedCount = decoded
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
                // Both were looked at when the path was read.
                byte = (Self.digit(bytes[source]) ?? 0) << 4 | (Self.digit(bytes[source + 1]) ?? 0)
                source += 2
            }
            if place >= skipped, wanted[place - skipped] != byte { return false }
            place += 1
        }
        return true
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x30...0x39: byte - 0x30
        case 0x41...0x46: byte - 0x41 + 10
        case 0x61...0x66: byte - 0x61 + 10
        default: nil
        }
    }

    private static func isConnect(_ method: UnsafeRawBufferPointer) -> Bool {
        let connect: StaticString = "CONNECT"
        guard method.count == 7 else { return false }
        for place in 0..<7 where method[place] != connect.utf8Start[place] { return false }
        return true
    }
}
