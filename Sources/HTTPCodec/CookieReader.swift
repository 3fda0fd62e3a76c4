import Bytes

/// Finds cookies in what a client sends.
public enum CookieReader {
    /// The value of the first cookie of a name, case included, in the value of a Cookie field (RFC 6265, 4.2.1); without quotes around it.
    public static func value(of name: UnsafeRawBufferPointer, in field: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        guard let base = field.baseAddress, let wanted = name.baseAddress, !name.isEmpty else { return nil }
        var start = 0
        while start < field.count {
            while start < field.count, Octet.isBlank(field[start]) { start &+= 1 }
            let end = firstIndex(of: UInt8(ascii: ";"), in: base, from: start, to: field.count)
            let equals = firstIndex(of: UInt8(ascii: "="), in: base, from: start, to: end)
            if equals < end, equals &- start == name.count, isSame(base + start, wanted, name.count) {
                return unquoted(field, equals &+ 1, end)
            }
            start = end &+ 1
        }
        return nil
    }

    private static func isSame(_ left: UnsafeRawPointer, _ right: UnsafeRawPointer, _ count: Int) -> Bool {
        var index = 0
        while index < count {
            if left.load(fromByteOffset: index, as: UInt8.self) != right.load(fromByteOffset: index, as: UInt8.self) { return false }
            index &+= 1
        }
        return true
    }

    private static func unquoted(_ field: UnsafeRawBufferPointer, _ first: Int, _ last: Int) -> UnsafeRawBufferPointer {
        var start = first, end = last
        while end > start, Octet.isBlank(field[end &- 1]) { end &-= 1 }
        if end &- start >= 2, field[start] == UInt8(ascii: "\""), field[end &- 1] == UInt8(ascii: "\"") {
            start &+= 1
            end &-= 1
        }
        return UnsafeRawBufferPointer(rebasing: field[start..<end])
    }
}
