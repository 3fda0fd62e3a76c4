import Bytes

/// What the first bytes of a connection are.
public enum FirstBytes: Sendable, Equatable {
    /// An HTTP/1 request, well-formed or not: from here on faults are answered as HTTP.
    case http1
    /// The preface of an HTTP/2 connection (RFC 9113, 3.4), whole or begun beyond doubt.
    case http2
    /// A TLS record that begins a ClientHello (RFC 8446, 5.1).
    case tls
    /// A line of text that begins with a word and a space, as a request does, and with no method of HTTP (`EHLO name`): opaque TCP.
    case otherLine
    /// None of these: passes as opaque TCP.
    case opaque
    /// Could still be either; wait for more, but not for long.
    case undecided

    /// Bytes after which nothing stays undecided, but for a ClientHello whose name is wanted.
    public static let bytesMax = 2_048

    /// Judges the bytes that have come so far, from the first.
    ///
    /// A known method and a space is HTTP when its line speaks of HTTP (`GET key` is Redis), in whatever form. An unknown token must show
    /// ` HTTP/` in its first line, for many protocols begin with a word and a space (`EHLO name`, `USER name`).
    public init(judging bytes: UnsafeRawBufferPointer) {
        let source = Source(bytes, limit: Self.bytesMax)
        let isFull = bytes.count >= Self.bytesMax
        if source.count > 0, source[0] == 0x16 { self = Self.judgeRecord(source); return }
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
            self = Self.judgeRequestLine(source, from: end, isFull: isFull)
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

    /// A line that begins with a method is a request's as soon as `HTTP` is in it: it is judged, and refused, as one. Without, it is none when it
    /// is complete; while it is not, it may become either, unless it is as long as only a request's target makes it.
    private static func judgeRequestLine(_ source: Source, from start: Int, isFull: Bool) -> FirstBytes {
        var index = start
        while index < source.count, source[index] != Octet.lineFeed {
            if index &+ 4 <= source.count, equals(source.base + index, 4, "HTTP") || equals(source.base + index, 4, "http") { return .http1 }
            index &+= 1
        }
        return index < source.count ? .opaque : isFull ? .http1 : .undecided
    }

    /// A handshake record, version 3.x, of a length there can be, with a ClientHello in it: six bytes tell.
    private static func judgeRecord(_ source: Source) -> FirstBytes {
        if source.count > 1, source[1] != 3 { return .opaque }
        if source.count > 2, source[2] > 4 { return .opaque }
        if source.count > 4, !(1...16_384).contains(Int(source[3]) << 8 | Int(source[4])) { return .opaque }
        if source.count > 5 { return source[5] == 1 ? .tls : .opaque }
        return .undecided
    }

    /// Whether undecided bytes are what one of the known protocols begins with: hardly anybody else stops there, so the rest is late, not missing.
    public static func isKnownStart(_ bytes: UnsafeRawBufferPointer) -> Bool {
        let source = Source(bytes, limit: bytesMax)
        guard source.count > 0 else { return false }
        if source[0] == 0x16 { return true }
        return isStart(of: "GET ", source) || isStart(of: "PUT ", source) || isStart(of: "POST ", source) || isStart(of: "HEAD ", source)
            || isStart(of: "PATCH ", source) || isStart(of: "TRACE ", source) || isStart(of: "DELETE ", source) || isStart(of: "OPTIONS ", source)
            || isStart(of: "CONNECT ", source) || isStart(of: "PRI * HTTP/2.0", source)
    }

    private static func isStart(of word: StaticString, _ source: Source) -> Bool {
        var index = 0
        while index < source.count, index < word.utf8CodeUnitCount {
            if source[index] != word.utf8Start[index] { return false }
            index &+= 1
        }
        return true
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
        return index < source.count ? .otherLine : isFull ? .opaque : .undecided
    }
}

/// What the first bytes of a server are that speaks before its client has.
public enum ServerBytes: Sendable, Equatable {
    /// An HTTP/1 response: to a request that did not come in time.
    case http1
    /// The SETTINGS of an HTTP/2 server (RFC 9113, 3.4).
    case http2
    /// Any other protocol's greeting.
    case other

    /// Bytes that tell.
    public static let bytesMax = 9

    /// Judges the first bytes, of which there is at least one. Fewer than `bytesMax` are a greeting: neither HTTP is cut that short by a network.
    public init(judging bytes: UnsafeRawBufferPointer) {
        let source = Source(bytes, limit: Self.bytesMax)
        self = .other
        guard source.count == Self.bytesMax else { return }
        if equals(source.base, 7, "HTTP/1.") { self = .http1 }
        // A frame of six bytes per setting, type 4, no flags, stream 0.
        if source[0] == 0, source[1] == 0, source[2] % 6 == 0, source[3] == 4 {
            self = source[4] | source[5] | source[6] | source[7] | source[8] == 0 ? .http2 : .other
        }
    }
}
