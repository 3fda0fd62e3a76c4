import Bytes

/// What the first bytes of a connection are.
public enum FirstBytes: Sendable, Equatable {
    /// An HTTP/1 request, well-formed or not: from here on faults are answered as HTTP.
    case http1
    /// The preface of an HTTP/2 connection (RFC 9113, 3.4), whole or begun beyond doubt.
    case http2
    /// Neither: passes as opaque TCP.
    case opaque
    /// Could still be either; wait for more, but not for long.
    case undecided

    /// Bytes after which nothing stays undecided.
    public static let bytesMax = 2_048

    /// Judges the bytes that have come so far, from the first.
    ///
    /// A known method and a space is HTTP, unless the whole line came with it and speaks of no HTTP at all (`GET key` is Redis). An unknown
    /// token must show ` HTTP/` in its first line, for many protocols begin with a word and a space (`EHLO name`, `USER name`).
    public init(judging bytes: UnsafeRawBufferPointer) {
        let source = Source(bytes, limit: Self.bytesMax)
        let isFull = bytes.count >= Self.bytesMax
        // The empty line that old clients send behind a body cannot be the first thing on a connection; it is forgiven all the same.
        var start = 0
        if source.count > 0, source[0] == Octet.carriageReturn {
            guard source.count > 2 else { self = .undecided; return }
            guard source[1] == Octet.lineFeed else { self = .opaque; return }
            start = 2
        }
        let end = firstNotToken(in: source.base, from: start, to: min(source.count, start &+ 33))
        guard end &- start <= 32 else { self = .opaque; return }
        guard end < source.count else { self = isFull ? .opaque : .undecided; return }
        guard source[end] == Octet.space, end > start else { self = .opaque; return }
        if Self.isKnownMethod(source.base + start, end &- start) {
            self = Self.isLineWithoutHTTP(source, from: end) ? .opaque : .http1
            return
        }
        if equals(source.base + start, end &- start, "PRI") { self = Self.judgePreface(source, start); return }
        self = Self.judgeLine(source, from: end, isFull: isFull)
    }

    private static func isKnownMethod(_ token: UnsafeRawPointer, _ count: Int) -> Bool {
        switch count {
        case 3: equals(token, 3, "GET") || equals(token, 3, "PUT")
        case 4: equals(token, 4, "POST") || equals(token, 4, "HEAD")
        case 5: equals(token, 5, "PATCH") || equals(token, 5, "TRACE")
        case 6: equals(token, 6, "DELETE")
        case 7: equals(token, 7, "OPTIONS") || equals(token, 7, "CONNECT")
        default: false
        }
    }

    /// Whether the line is complete and `HTTP` is nowhere in it. Anything nearer to a request line is judged, and refused, as one.
    private static func isLineWithoutHTTP(_ source: Source, from start: Int) -> Bool {
        var index = start
        while index < source.count, source[index] != Octet.lineFeed {
            if index &+ 4 <= source.count, equals(source.base + index, 4, "HTTP") || equals(source.base + index, 4, "http") { return false }
            index &+= 1
        }
        return index < source.count
    }

    private static func judgePreface(_ source: Source, _ start: Int) -> FirstBytes {
        let preface: StaticString = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        var index = 0
        while index < preface.utf8CodeUnitCount, start &+ index < source.count {
            guard source[start &+ index] == preface.utf8Start[index] else { return .opaque }
            index &+= 1
        }
        // 14 bytes tell the version; nothing else begins like that.
        return index >= 14 ? .http2 : .undecided
    }

    private static func judgeLine(_ source: Source, from start: Int, isFull: Bool) -> FirstBytes {
        let marker: StaticString = " HTTP/"
        var index = start
        while index < source.count, source[index] != Octet.lineFeed {
            if source[index] == Octet.nul { return .opaque }
            if source[index] == Octet.space, index &+ 6 <= source.count, equals(source.base + index, 6, marker) { return .http1 }
            index &+= 1
        }
        return index < source.count || isFull ? .opaque : .undecided
    }
}
