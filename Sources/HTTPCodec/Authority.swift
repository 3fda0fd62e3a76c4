import Bytes

/// `host [":" port]` (RFC 9110, 7.2; RFC 3986, 3.2.2 and 3.2.3), taken apart.
struct Authority {
    var host: ByteSpan
    var port: UInt16?

    /// Reads exactly `start..<end`.
    ///
    /// Stricter than RFC 3986 in three places where servers disagree: no user information, no empty port, no comma in a
    /// name (two Host fields joined by a list-minded hop look like that).
    init(_ source: Source, _ start: Int, _ end: Int) throws(HTTPFault) {
        guard start < end else { throw .badHost }
        let hostEnd: Int
        if source[start] == UInt8(ascii: "[") {
            hostEnd = try Self.endOfAddressLiteral(source, start, end)
        } else {
            hostEnd = try Self.endOfName(source, start, end)
        }
        host = ByteSpan(start, hostEnd)
        guard hostEnd < end else { return }
        guard source[hostEnd] == Octet.colon, end &- hostEnd <= 6, let number = parseDecimal(source.slice(hostEnd &+ 1, end)),
            number > 0, let number = UInt16(exactly: number)
        else { throw .badHost }
        port = number
    }

    private static func endOfName(_ source: Source, _ start: Int, _ end: Int) throws(HTTPFault) -> Int {
        var index = firstNotPlainName(in: source.base, from: start, to: end)
        while index < end {
            let byte = source[index]
            if byte == Octet.colon { break }
            if byte == UInt8(ascii: "%") {
                guard index &+ 2 < end, hexDigitValue(source[index &+ 1]) != nil, hexDigitValue(source[index &+ 2]) != nil else {
                    throw .badHost
                }
            } else if !isNameCharacter(byte) {
                throw .badHost
            }
            index &+= 1
        }
        guard index > start else { throw .badHost }
        return index
    }

    /// An IPv6 address between brackets, by its alphabet; whether it is a well-formed one is routing's question.
    private static func endOfAddressLiteral(_ source: Source, _ start: Int, _ end: Int) throws(HTTPFault) -> Int {
        var index = start &+ 1
        while index < end, source[index] != UInt8(ascii: "]") {
            let byte = source[index]
            guard hexDigitValue(byte) != nil || byte == Octet.colon || byte == UInt8(ascii: ".") else { throw .badHost }
            index &+= 1
        }
        guard index < end, index &- start >= 3 else { throw .badHost }
        return index &+ 1
    }

    /// RFC 3986 `unreserved` and `sub-delims`, without the comma.
    @inline(__always) private static func isNameCharacter(_ byte: UInt8) -> Bool {
        let bits: UInt64 = byte < 64 ? 0x2BFF_6FD2_0000_0000 : 0x47FF_FFFE_87FF_FFFE
        return byte < 128 && (bits &>> UInt64(byte & 63)) & 1 == 1
    }
}
