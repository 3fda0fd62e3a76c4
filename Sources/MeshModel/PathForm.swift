/// How the path of a request is read. One reading serves routes and access rules, so that both judge the same path.
public struct PathForm {
    /// The path as it came, without its query.
    public let path: UnsafeRawBufferPointer
    /// The query as it came, from its `?` on; empty without one.
    public let query: UnsafeRawBufferPointer
    public let traits: Traits
    /// Bytes of the path when every escape is one byte.
    public let decodedCount: Int

    /// What stands in a path that somebody might read otherwise.
    public struct Traits: OptionSet, Sendable {
        public let rawValue: UInt8
        @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

        /// A percent-escape.
        public static let escape = Traits(rawValue: 1)
        /// An escape of a slash, a backslash, a percent sign, a semicolon or a control character: decoded, it would be another path to many.
        public static let strangeEscape = Traits(rawValue: 2)
        /// A percent sign without two hexadecimal digits behind it.
        public static let brokenEscape = Traits(rawValue: 4)
        /// `.` or `..` between slashes, escaped or not.
        public static let dotSegment = Traits(rawValue: 8)
        /// Two slashes in a row.
        public static let emptySegment = Traits(rawValue: 16)
        /// A backslash, a semicolon or a control character.
        public static let strangeByte = Traits(rawValue: 32)
    }

    /// Reads a request's path, which ends before `?` or `#`.
    public init(_ text: UnsafeRawBufferPointer) {
        var traits = Traits()
        var count = 0
        var decoded = 0
        // Bytes of the segment so far, and how many of them are dots.
        var segment = 0, dots = 0
        var isFirst = true
        while count < text.count {
            var byte = text[count]
            if byte == UInt8(ascii: "?") || byte == UInt8(ascii: "#") { break }
            count += 1
            decoded += 1
            if byte == UInt8(ascii: "/") {
                // An empty segment stands between two slashes, never before the first.
                if !isFirst {
                    if segment == 0 { traits.insert(.emptySegment) } else if segment == dots && dots <= 2 { traits.insert(.dotSegment) }
                }
                (segment, dots, isFirst) = (0, 0, false)
                continue
            }
            var isEscape = false
            if byte == UInt8(ascii: "%") {
                if let value = Self.escaped(in: text, at: count) {
                    traits.insert(.escape)
                    (byte, isEscape) = (value, true)
                    count += 2
                    if byte == UInt8(ascii: "/") || byte == UInt8(ascii: "%") { traits.insert(.strangeEscape) }
                } else {
                    traits.insert(.brokenEscape)
                }
            }
            if byte == UInt8(ascii: "\\") || byte == UInt8(ascii: ";") || byte < 0x20 || byte == 0x7F {
                traits.insert(isEscape ? .strangeEscape : .strangeByte)
            }
            segment += 1
            if byte == UInt8(ascii: ".") { dots += 1 }
        }
        if segment > 0, segment == dots, dots <= 2 { traits.insert(.dotSegment) }
        path = UnsafeRawBufferPointer(rebasing: text[..<count])
        query = UnsafeRawBufferPointer(rebasing: text[count...])
        self.traits = traits
        decodedCount = decoded
    }

    /// The value of the two hexadecimal digits from `place` on; nil when they are none.
    @inlinable
    public static func escaped(in text: UnsafeRawBufferPointer, at place: Int) -> UInt8? {
        guard place + 1 < text.count, let high = digit(text[place]), let low = digit(text[place + 1]) else { return nil }
        return high << 4 | low
    }

    /// Whether the path is its own normal form but for the letter case of escapes that stay.
    @inlinable
    public var isNormal: Bool { traits.isDisjoint(with: [.escape, .dotSegment]) }

    /// Writes the normal form of a path (RFC 3986, 6.2.2): escapes of unreserved characters decoded, the digits of the others in upper case, dot
    /// segments removed. An escaped slash is no separator, and slashes in a row stay: both are the application's own affair, as they are for
    /// Envoy with Istio's defaults. It is never longer than the path.
    ///
    /// - Parameter target: room for as many bytes as the path has.
    /// - Returns: how many bytes were written.
    public static func normalise(_ path: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) -> Int {
        guard let first = path.first, first == UInt8(ascii: "/") else {
            target.copyMemory(from: path)
            return path.count
        }
        var count = 0, source = 0
        // Where the segment at hand begins, behind its slash.
        var start = 0
        // Where the last percent sign was written that begins no escape.
        var stray = -3
        while source < path.count {
            var byte = path[source]
            source += 1
            if byte == UInt8(ascii: "/") {
                if endSegment(target, &count, start) {
                    target[count] = byte
                    count += 1
                }
                (start, stray) = (count, -3)
                continue
            }
            if byte == UInt8(ascii: "%") {
                guard let value = escaped(in: path, at: source) else {
                    stray = count
                    target[count] = byte
                    count += 1
                    continue
                }
                source += 2
                // A digit that would make an escape of what is none stays escaped: what is normal stays as it is.
                let completes = digit(value) != nil && (count - stray == 1 || count - stray == 2 && digit(target[count - 1]) != nil)
                guard isUnreserved(value), !completes else {
                    target[count] = UInt8(ascii: "%")
                    target[count + 1] = upperDigit(value >> 4)
                    target[count + 2] = upperDigit(value & 15)
                    count += 3
                    continue
                }
                byte = value
            }
            target[count] = byte
            count += 1
        }
        _ = endSegment(target, &count, start)
        return count
    }

    /// Removes the segment that begins at `start` if it is a dot segment, and with `..` the one before it. True: it stays, and needs a slash behind it.
    private static func endSegment(_ target: UnsafeMutableRawBufferPointer, _ count: inout Int, _ start: Int) -> Bool {
        let length = count - start
        guard length == 1 || length == 2, start > 0, target[start] == UInt8(ascii: "."), target[count - 1] == UInt8(ascii: ".") else { return true }
        count = start
        guard length == 2, start > 1 else { return false }
        count = start - 1
        while target[count - 1] != UInt8(ascii: "/") { count -= 1 }
        return false
    }

    /// RFC 3986, 2.3.
    private static func isUnreserved(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"): true
        default: false
        }
    }

    private static func upperDigit(_ value: UInt8) -> UInt8 { value < 10 ? 0x30 + value : 0x37 + value }

    @inlinable
    static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x30...0x39: byte - 0x30
        case 0x41...0x46: byte - 0x41 + 10
        case 0x61...0x66: byte - 0x61 + 10
        default: nil
        }
    }
}

extension String {
    /// The normal form of a path, as requests' paths are compared.
    var normalPath: String {
        var text = self
        return text.withUTF8 { bytes in
            let path = UnsafeRawBufferPointer(bytes)
            let normal = [UInt8](unsafeUninitializedCapacity: max(1, path.count)) { target, count in
                count = PathForm.normalise(path, into: UnsafeMutableRawBufferPointer(target))
            }
            return String(decoding: normal, as: UTF8.self)
        }
    }
}
