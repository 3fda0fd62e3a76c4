import Bytes

/// The request methods with a meaning of their own (RFC 9110, 9; RFC 5789). Case-sensitive, as the RFC has it.
public enum HTTPMethod: UInt8, Sendable, CaseIterable {
    case get, head, post, put, delete, connect, options, trace, patch
    /// Any other token; passed on as it came.
    case other

    /// Whether a request without content should say so (RFC 9110, 8.6): some HTTP/1.1 servers answer 411 otherwise.
    @inlinable var expectsContent: Bool {
        switch self {
        case .post, .put, .patch: true
        case .get, .head, .delete, .connect, .options, .trace, .other: false
        }
    }

    /// Whether a request may be sent again after a connection broke (RFC 9110, 9.2.2).
    @inlinable public var isIdempotent: Bool {
        switch self {
        case .get, .head, .put, .delete, .options, .trace: true
        case .post, .connect, .patch, .other: false
        }
    }
}

/// What the request target is (RFC 9112, 3.2).
public enum TargetForm: UInt8, Sendable {
    /// `/path?query`
    case origin
    /// `http://host/path?query`; its authority outranks Host.
    case absolute
    /// `host:port`, with CONNECT only.
    case authority
    /// `*`, with OPTIONS only.
    case asterisk
}

/// How the end of a body is found (RFC 9112, 6.3).
public enum BodyFraming: Sendable, Equatable {
    /// There is no body.
    case none
    /// So many bytes. Zero is possible: `Content-Length: 0`.
    case length(Int)
    case chunked
    /// Responses only: everything until the connection closes.
    case untilClose

    /// Whether not a single body byte follows the head.
    @inlinable public var isEmpty: Bool {
        switch self {
        case .none, .length(0): true
        case .length, .chunked, .untilClose: false
        }
    }
}

/// What one connection remembers while a head arrives in pieces, so that a head fed byte by byte costs O(n), not O(n²):
/// a partial head is parsed again only when it has doubled, when its first line or itself has ended, or when a byte came that no
/// head may hold.
public struct HeadProgress: Sendable {
    /// Bytes looked at so far.
    @usableFromInline var scanned: UInt32 = 0
    /// A partial head shorter than this is not parsed again.
    @usableFromInline var parseAgainAt: UInt32 = 0
    /// A line's end has been looked at.
    @usableFromInline var sawLine = false

    @inlinable public init() {}
    /// Whether part of a head has been seen.
    @inlinable public var hasBegun: Bool { scanned > 0 }
}

/// The head of a request or a response: what it says, and where in the caller's bytes each part stands.
///
/// One `Head` serves a worker for its whole life; each parse overwrites it. It owns no bytes: everything is an offset into
/// the bytes that were parsed, and whoever reads a part gives those bytes again. It allocates its table when it is made, and
/// nothing afterwards.
public struct Head: ~Copyable {
    public internal(set) var fieldCount = 0
    var fields = FieldTable()

    /// Bytes of the head, its final empty line included.
    public internal(set) var byteCount = 0
    /// Decoded from HTTP/2 fields and laid out as HTTP/1.1 text.
    public internal(set) var isHTTP2 = false
    /// An extended CONNECT (RFC 8441), told as a GET that asks for an upgrade. It has no key: HTTP/2 needs none.
    public internal(set) var isExtendedConnect = false
    /// 1 for HTTP/1.1, 0 for HTTP/1.0.
    public internal(set) var minorVersion = 1

    // A request's.
    public internal(set) var method = HTTPMethod.get
    public internal(set) var methodName = ByteSpan()
    public internal(set) var targetForm = TargetForm.origin
    /// The request target as it came.
    public internal(set) var target = ByteSpan()
    /// The target's path and query: what an origin-form target says. Empty when an absolute form has neither, and for CONNECT.
    public internal(set) var path = ByteSpan()
    /// Host and port as the request names them: the absolute target's, else Host's. Empty in HTTP/1.0 without Host.
    public internal(set) var authority = ByteSpan()
    /// The authority without its port; an IPv6 literal keeps its brackets.
    public internal(set) var host = ByteSpan()
    /// The authority's port, or nil.
    public internal(set) var port: UInt16?
    /// `Expect: 100-continue`, in HTTP/1.1.
    public internal(set) var expectsContinue = false
    /// `TE` lists `trailers`.
    public internal(set) var acceptsTrailers = false

    // A response's.
    /// 0 for a request.
    public internal(set) var status = 0
    /// May be empty.
    public internal(set) var reasonPhrase = ByteSpan()

    // Both.
    /// How the body's end is found.
    public internal(set) var framing = BodyFraming.none
    /// Content-Length as the head says it, also where no body follows (a response to HEAD, 304); nil without one.
    public internal(set) var contentLength: Int?
    /// Whether the sender will keep the connection open after this message, as far as its head tells (RFC 9112, 9.3).
    public internal(set) var keepsAlive = true
    /// `Connection: upgrade` together with an `Upgrade` field. Removed from what is forwarded unless the proxy asks otherwise.
    public internal(set) var asksForUpgrade = false

    // Rows of the table, -1 without one; of repeated fields the last, and their number where it matters.
    var hostRow = -1
    var upgradeRow = -1
    var requestIDRow = -1
    var traceparentRow = -1
    var forwardedForRow = -1
    var forwardedProtoRow = -1
    var requestIDCount = 0
    var traceparentCount = 0
    var forwardedProtoCount = 0
    // Seen while the fields are read, judged after the last of them.
    var hasTransferEncoding = false
    var saysClose = false, saysKeepAlive = false, saysUpgrade = false
    var connectionOptionCount = 0
    /// `Connection` names something that may be a field.
    var namesFields = false

    public init() {}

    /// One field line, in the order they came.
    public func field(_ row: Int) -> HeadField {
        precondition(row >= 0 && row < fieldCount, "no such field in this head")
        return fields[row]
    }

    /// Whether the field a known name stands for is there, and its value: of repeated ones the last.
    public func value(_ known: KnownField) -> ByteSpan? {
        var row = fieldCount
        while row > 0 {
            row &-= 1
            let field = fields[row]
            if field.id == known { return field.value }
        }
        return nil
    }

    /// Whether this is an interim response: 1xx except 101. Another head follows it.
    public var isInterim: Bool { status >= 100 && status < 200 && status != 101 }

    mutating func reset() {
        fieldCount = 0
        byteCount = 0
        isHTTP2 = false
        isExtendedConnect = false
        minorVersion = 1
        method = .get
        methodName = ByteSpan()
        targetForm = .origin
        target = ByteSpan()
        path = ByteSpan()
        authority = ByteSpan()
        host = ByteSpan()
        port = nil
        expectsContinue = false
        acceptsTrailers = false
        status = 0
        reasonPhrase = ByteSpan()
        framing = .none
        contentLength = nil
        keepsAlive = true
        asksForUpgrade = false
        hostRow = -1
        upgradeRow = -1
        requestIDRow = -1
        traceparentRow = -1
        forwardedForRow = -1
        forwardedProtoRow = -1
        requestIDCount = 0
        traceparentCount = 0
        forwardedProtoCount = 0
        hasTransferEncoding = false
        saysClose = false
        saysKeepAlive = false
        saysUpgrade = false
        connectionOptionCount = 0
        namesFields = false
    }
}
