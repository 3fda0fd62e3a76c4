import Bytes

/// An origin as browsers name it: `scheme://host`, with its port where that is not the scheme's own (RFC 6454, 6.2).
public struct Origin {
    let scheme: UnsafeRawBufferPointer
    let host: UnsafeRawBufferPointer
    let port: UInt16

    /// Nil for `null` and for whatever else is no origin; also for a scheme other than `http` and `https` without a port.
    public init?(_ text: UnsafeRawBufferPointer) {
        guard let base = text.baseAddress else { return nil }
        let schemeEnd = firstIndex(of: Octet.colon, in: base, from: 0, to: text.count)
        guard schemeEnd > 0, schemeEnd + 3 < text.count, text[schemeEnd + 1] == UInt8(ascii: "/"), text[schemeEnd + 2] == UInt8(ascii: "/") else { return nil }
        scheme = UnsafeRawBufferPointer(rebasing: text[..<schemeEnd])
        let start = schemeEnd + 3
        var end = text.count
        if text[start] == UInt8(ascii: "[") {
            end = firstIndex(of: UInt8(ascii: "]"), in: base, from: start, to: text.count) + 1
        } else {
            end = firstIndex(of: Octet.colon, in: base, from: start, to: text.count)
        }
        guard end > start, end <= text.count else { return nil }
        host = UnsafeRawBufferPointer(rebasing: text[start..<end])
        guard host.allSatisfy(Self.isOfHost) else { return nil }
        if end == text.count {
            guard let usual = Self.usualPort(scheme) else { return nil }
            port = usual
        } else {
            guard text[end] == Octet.colon, let number = parseDecimal(UnsafeRawBufferPointer(rebasing: text[(end + 1)...])),
                let number = UInt16(exactly: number)
            else { return nil }
            port = number
        }
    }

    /// Whether a pattern takes this origin: `*`, or an origin whose host may begin with `*`, which stands for anything to its left (GEP-1767).
    public func matches(_ pattern: UnsafeRawBufferPointer) -> Bool {
        if pattern.count == 1, pattern[0] == Self.asterisk { return true }
        guard let wanted = Origin(pattern), wanted.port == port, equalsIgnoringCase(wanted.scheme, scheme) else { return false }
        guard wanted.host[0] == Self.asterisk else { return equalsIgnoringCase(wanted.host, host) }
        let suffix = UnsafeRawBufferPointer(rebasing: wanted.host[1...])
        return host.count > suffix.count && equalsIgnoringCase(UnsafeRawBufferPointer(rebasing: host[(host.count - suffix.count)...]), suffix)
    }

    /// Letters, digits, `-`, `.` and `_`, an address's `[`, `:` and `]`, and a pattern's `*`: no path or user passes for a part of a name.
    private static func isOfHost(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F, 0x5B, 0x3A, 0x5D, asterisk: true
        default: false
        }
    }

    private static var asterisk: UInt8 { UInt8(ascii: "*") }

    private static func usualPort(_ scheme: UnsafeRawBufferPointer) -> UInt16? {
        guard let base = scheme.baseAddress else { return nil }
        return tokenEquals(base, scheme.count, "http") ? 80 : tokenEquals(base, scheme.count, "https") ? 443 : nil
    }
}
