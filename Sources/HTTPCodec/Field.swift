import Bytes

/// A run of bytes in a head, by its place: stays true when the head's bytes move to other memory.
public struct ByteSpan: Sendable, Equatable {
    public var offset: UInt16
    public var count: UInt16

    @inlinable @inline(__always) init(_ start: Int, _ end: Int) {
        offset = UInt16(truncatingIfNeeded: start)
        count = UInt16(truncatingIfNeeded: end &- start)
    }

    /// The empty run.
    @inlinable public init() { offset = 0; count = 0 }

    @inlinable public var isEmpty: Bool { count == 0 }
    @inlinable public var start: Int { Int(offset) }
    @inlinable public var end: Int { Int(offset) &+ Int(count) }

    /// The bytes themselves. `bytes` must be those that were parsed, wherever they are now.
    @inlinable public func of(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        precondition(end <= bytes.count, "this run belongs to other bytes")
        return UnsafeRawBufferPointer(rebasing: bytes[start..<end])
    }
}

/// The fields whose meaning the proxy itself must know.
public enum KnownField: UInt8, Sendable {
    case other
    // Framing, routing and the connection.
    case host, connection, contentLength, transferEncoding, keepAlive, proxyConnection, upgrade, te, trailer, expect, http2Settings
    // What the proxy adds or passes on.
    case xRequestID, traceparent, tracestate, xForwardedFor, xForwardedProto
    // What HTTP/2, gRPC and WebSocket need to be known.
    case cookie, contentType, grpcTimeout, grpcStatus, grpcMessage, webSocketKey, webSocketAccept
    /// Only one Weft proxy may tell another where a request goes (DESIGN §3); from anyone else it is removed.
    case weftDestination
    /// `x-forwarded-client-cert` (Envoy's): who called, as far as a proxy has proven it. What came is never believed.
    case forwardedClientCertificate
    /// One Weft proxy tells another that a request was tried before, or a reply in vain; from anyone else, and to anyone else, it is removed.
    case weftAttempt
    /// How long the caller waits; shortened at each hop.
    case requestTimeout
}

/// One field line: two runs of bytes, and what the parser found out about them.
public struct HeadField: Sendable {
    @usableFromInline var nameOffset: UInt16 = 0
    @usableFromInline var nameCount: UInt16 = 0
    @usableFromInline var valueOffset: UInt16 = 0
    @usableFromInline var valueCount: UInt16 = 0
    public internal(set) var id: KnownField = .other
    /// Named by `Connection`: meant for this hop alone.
    public internal(set) var isForThisHop = false
    /// Spelled `name: value CRLF`, no byte more: may be forwarded by copying the line.
    var isPlain = false

    @inlinable init() {}

    /// The name as the sender spelled it.
    @inlinable public var name: ByteSpan { ByteSpan(Int(nameOffset), Int(nameOffset) &+ Int(nameCount)) }
    /// The value without the white space around it.
    @inlinable public var value: ByteSpan { ByteSpan(Int(valueOffset), Int(valueOffset) &+ Int(valueCount)) }
    /// Behind the line's CRLF, when the line is plain.
    var plainLineEnd: Int { Int(valueOffset) &+ Int(valueCount) &+ 2 }
}

/// Which known field a name is. The name consists of token characters.
@inline(__always)
func identify(_ name: UnsafeRawPointer, _ count: Int) -> KnownField {
    switch count {
    case 2: tokenEquals(name, 2, "te") ? .te : .other
    case 4: tokenEquals(name, 4, "host") ? .host : .other
    case 6: tokenEquals(name, 6, "expect") ? .expect : tokenEquals(name, 6, "cookie") ? .cookie : .other
    case 7: tokenEquals(name, 7, "upgrade") ? .upgrade : tokenEquals(name, 7, "trailer") ? .trailer : .other
    case 10:
        tokenEquals(name, 10, "connection") ? .connection
            : tokenEquals(name, 10, "keep-alive") ? .keepAlive : tokenEquals(name, 10, "tracestate") ? .tracestate : .other
    case 11: tokenEquals(name, 11, "traceparent") ? .traceparent : tokenEquals(name, 11, "grpc-status") ? .grpcStatus : .other
    case 12:
        tokenEquals(name, 12, "content-type") ? .contentType
            : tokenEquals(name, 12, "x-request-id") ? .xRequestID
            : tokenEquals(name, 12, "grpc-timeout") ? .grpcTimeout : tokenEquals(name, 12, "grpc-message") ? .grpcMessage : .other
    case 14:
        tokenEquals(name, 14, "content-length") ? .contentLength : tokenEquals(name, 14, "http2-settings") ? .http2Settings
            : tokenEquals(name, 14, "x-weft-attempt") ? .weftAttempt : .other
    case 15: tokenEquals(name, 15, "x-forwarded-for") ? .xForwardedFor : .other
    case 16: tokenEquals(name, 16, "proxy-connection") ? .proxyConnection : .other
    case 17:
        tokenEquals(name, 17, "transfer-encoding") ? .transferEncoding
            : tokenEquals(name, 17, "x-forwarded-proto") ? .xForwardedProto
            : tokenEquals(name, 17, "sec-websocket-key") ? .webSocketKey
            : tokenEquals(name, 17, "x-request-timeout") ? .requestTimeout : .other
    case 18: tokenEquals(name, 18, "x-weft-destination") ? .weftDestination : .other
    case 20: tokenEquals(name, 20, "sec-websocket-accept") ? .webSocketAccept : .other
    case 23: tokenEquals(name, 23, "x-forwarded-client-cert") ? .forwardedClientCertificate : .other
    default: .other
    }
}
