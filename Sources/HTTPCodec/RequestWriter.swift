import Bytes

/// What a forwarded request says beyond what came.
///
/// The texts are the caller's memory and are read only while the request is written.
public struct RequestForwarding {
    /// The downstream peer's address as text, appended to `x-forwarded-for`. Empty: the field passes as it came, for the
    /// proxy on the caller's side has already named it.
    public var peerAddress: UnsafeRawBufferPointer
    /// Host for a request that names none (HTTP/1.0): the destination it was sent to, as `address:port`.
    public var destination: UnsafeRawBufferPointer
    /// `x-forwarded-proto` for a request without a believable one.
    public var isSecure: Bool
    /// Chance for a new `x-request-id` and `traceparent`; the trace takes the request id's 128 bits, so that one finds the other.
    public var random: (UInt64, UInt64, UInt64)
    /// To the proxy at the other end, which knows that chance and makes from it what is missing: neither field is sent.
    public var peerKnowsChance = false
    /// The upstream is told that the connection ends with this exchange.
    public var closesUpstream: Bool
    /// `Upgrade` is forwarded, and `parseResponse(mayUpgrade:)` must be told so. Never for `h2c`: its tunnel would carry
    /// requests that nobody judged.
    public var keepsUpgrade: Bool
    /// The proxy at the other end is told that this is not the first attempt.
    public var isAnotherAttempt = false
    /// What is left of the caller's patience: `grpc-timeout` of a call, else `x-request-timeout`. 0: nothing is known, and what came passes.
    public var millisecondsLeft: UInt64 = 0
    public var isCall = false
    /// `x-weft-destination` for the proxy at the other end: `port;protocol`. Empty: none. Any that came is withheld.
    public var weftDestination = UnsafeRawBufferPointer(start: nil, count: 0)
    /// `x-forwarded-client-cert` for the application: who called, as the handshake has proven it. Empty: none. Any that came is withheld.
    public var clientCertificate = UnsafeRawBufferPointer(start: nil, count: 0)

    public init(
        peerAddress: UnsafeRawBufferPointer = .init(start: nil, count: 0),
        destination: UnsafeRawBufferPointer = .init(start: nil, count: 0), isSecure: Bool = false,
        random: (UInt64, UInt64, UInt64), closesUpstream: Bool = false, keepsUpgrade: Bool = false
    ) {
        self.peerAddress = peerAddress
        self.destination = destination
        self.isSecure = isSecure
        self.random = random
        self.closesUpstream = closesUpstream
        self.keepsUpgrade = keepsUpgrade
    }

    /// `grpc-timeout` has eight digits at most: 27 hours in milliseconds, beyond that it is told in seconds.
    func writeTimeLeft(to out: inout ByteWriter) {
        if isCall {
            let isLong = millisecondsLeft > 99_999_999
            out.writeDecimal(isLong ? min(millisecondsLeft / 1_000, 99_999_999) : millisecondsLeft)
            out.write(isLong ? "S" : "m")
        } else {
            out.writeDecimal(min(millisecondsLeft, 999_999_999))
            out.write("ms")
        }
    }
}

/// Writes the head of a request towards the upstream, always as HTTP/1.1.
public enum RequestWriter {
    /// What `write` adds at most: Host 8, the four fields it may create 21 + 26 + 52 + 70, `te` 13, `connection` 31,
    /// `transfer-encoding` 28, `content-length` 38, `sec-websocket-key` 45, a slash, the version 11, the names of the two
    /// fields between proxies and towards the application 22 + 27, the time that is left 42; rounded up.
    static let additionMax = 512

    /// Bytes that `write` may need, for `ByteQueue.write(upTo:)`.
    public static func bytesMax(_ head: borrowing Head, _ forwarding: RequestForwarding) -> Int {
        // A line `name:value` gains a space.
        head.byteCount + head.fieldCount + forwarding.peerAddress.count + forwarding.destination.count + forwarding.weftDestination.count
            + forwarding.clientCertificate.count + additionMax
    }

    /// Writes request line and fields, up to and including the empty line.
    ///
    /// `bytes` are those the head was parsed from. Fields for one hop end here; Host, Content-Length and Transfer-Encoding
    /// are written from what was judged, not from what came.
    /// - Returns: false when `out` is too small; what it then holds is no request.
    public static func write(
        _ head: borrowing Head, of bytes: UnsafeRawBufferPointer, _ forwarding: RequestForwarding, to out: inout ByteWriter
    ) -> Bool {
        precondition(head.byteCount <= bytes.count, "these are not the bytes the head was parsed from")
        guard let base = bytes.baseAddress else { return false }
        writeRequestLine(head, base, to: &out)
        writeHost(head, base, forwarding, to: &out)

        var withheld = FieldSet.perHop
        let (keepsRequestID, keepsTrace, keepsProto) = keptFields(head, base)
        withheld.insert(.weftDestination)
        withheld.insert(.forwardedClientCertificate)
        if !keepsRequestID { withheld.insert(.xRequestID) }
        // A trace state without the trace it belongs to means nothing (W3C Trace Context, 3.3).
        if !keepsTrace { withheld.insert(.traceparent); withheld.insert(.tracestate) }
        if !keepsProto { withheld.insert(.xForwardedProto) }
        if !forwarding.peerAddress.isEmpty { withheld.insert(.xForwardedFor) }
        if head.minorVersion == 0 { withheld.insert(.expect) }
        if forwarding.millisecondsLeft > 0 { withheld.insert(forwarding.isCall ? .grpcTimeout : .requestTimeout) }
        writeFields(head, base, except: withheld, to: &out)

        if !forwarding.peerAddress.isEmpty { writeForwardedFor(head, base, forwarding.peerAddress, to: &out) }
        if !keepsProto {
            if forwarding.isSecure { out.write("x-forwarded-proto: https\r\n") } else { out.write("x-forwarded-proto: http\r\n") }
        }
        if forwarding.millisecondsLeft > 0 {
            out.write(forwarding.isCall ? "grpc-timeout: " : "x-request-timeout: ")
            forwarding.writeTimeLeft(to: &out)
            out.write("\r\n")
        }
        writeField("x-weft-destination: ", forwarding.weftDestination, to: &out)
        writeField("x-forwarded-client-cert: ", forwarding.clientCertificate, to: &out)
        if !keepsRequestID { writeRequestID(forwarding.random, to: &out) }
        if !keepsTrace { writeTraceparent(forwarding.random, to: &out) }
        if case .chunked = head.framing { out.write("transfer-encoding: chunked\r\n") }
        if head.isHTTP2, head.framing == .none, head.method.expectsContent { out.write("content-length: 0\r\n") }
        let upgrades = forwarding.keepsUpgrade && head.asksForUpgrade
        if upgrades {
            writeUpgrade(head, base, to: &out)
            if head.isExtendedConnect, head.isWebSocketUpgrade(bytes) { writeWebSocketKey(forwarding.random, to: &out) }
        }
        if head.acceptsTrailers { out.write("te: trailers\r\n") }
        writeConnection(closes: forwarding.closesUpstream, te: head.acceptsTrailers, upgrades: upgrades, to: &out)
        out.write("\r\n")
        return !out.overflowed
    }

    /// Which of the fields that every request gets are good as they came.
    @inline(__always)
    static func keptFields(_ head: borrowing Head, _ base: UnsafeRawPointer) -> (requestID: Bool, trace: Bool, proto: Bool) {
        (
            head.requestIDCount == 1 && head.fields[head.requestIDRow].valueCount > 0,
            head.traceparentCount == 1 && isTraceparent(base, head.fields[head.traceparentRow].value),
            head.forwardedProtoCount == 1 && isProtocolName(base, head.fields[head.forwardedProtoRow].value)
        )
    }

    @inline(__always)
    private static func writeRequestLine(_ head: borrowing Head, _ base: UnsafeRawPointer, to out: inout ByteWriter) {
        if head.targetForm == .origin {
            // Method, space and target stand there as they must stand here.
            out.write(base + head.methodName.start, count: head.target.end &- head.methodName.start)
        } else {
            out.write(base + head.methodName.start, count: Int(head.methodName.count) &+ 1)
            writeTarget(head, base, to: &out)
        }
        out.write(" HTTP/1.1\r\n")
    }

    /// A target in absolute form is forwarded in origin form: the upstream is an origin server (RFC 9112, 3.2.1).
    private static func writeTarget(_ head: borrowing Head, _ base: UnsafeRawPointer, to out: inout ByteWriter) {
        switch head.targetForm {
        case .origin, .asterisk, .authority:
            out.write(base + head.target.start, count: Int(head.target.count))
        case .absolute:
            if head.path.isEmpty {
                // RFC 9112, 3.2.4: OPTIONS for a whole server.
                if head.method == .options { out.write("*") } else { out.write("/") }
            } else {
                if base.load(fromByteOffset: head.path.start, as: UInt8.self) != UInt8(ascii: "/") { out.write("/") }
                out.write(base + head.path.start, count: Int(head.path.count))
            }
        }
    }

    @inline(__always)
    private static func writeHost(
        _ head: borrowing Head, _ base: UnsafeRawPointer, _ forwarding: RequestForwarding, to out: inout ByteWriter
    ) {
        out.write("host: ")
        if head.authority.isEmpty {
            out.write(forwarding.destination)
        } else {
            out.write(base + head.authority.start, count: Int(head.authority.count))
        }
        out.write("\r\n")
    }

    @inline(__always) private static func writeField(_ name: StaticString, _ value: UnsafeRawBufferPointer, to out: inout ByteWriter) {
        guard !value.isEmpty else { return }
        out.write(name)
        out.write(value)
        out.write("\r\n")
    }

    private static func writeForwardedFor(
        _ head: borrowing Head, _ base: UnsafeRawPointer, _ address: UnsafeRawBufferPointer, to out: inout ByteWriter
    ) {
        out.write("x-forwarded-for: ")
        if head.forwardedForRow >= 0 {
            var row = 0
            while row <= head.forwardedForRow {
                let field = head.fields[row]
                row &+= 1
                guard field.id == .xForwardedFor, field.valueCount > 0 else { continue }
                out.write(base + Int(field.valueOffset), count: Int(field.valueCount))
                out.write(", ")
            }
        }
        out.write(address)
        out.write("\r\n")
    }

    private static func writeUpgrade(_ head: borrowing Head, _ base: UnsafeRawPointer, to out: inout ByteWriter) {
        let value = head.fields[head.upgradeRow].value
        out.write("upgrade: ")
        out.write(base + value.start, count: Int(value.count))
        out.write("\r\n")
    }

    /// The key of a handshake that the caller's protocol does not have. It only has to be new; the request id's chance, turned
    /// about, is.
    private static func writeWebSocketKey(_ random: (UInt64, UInt64, UInt64), to out: inout ByteWriter) {
        out.write("sec-websocket-key: ")
        withUnsafeBytes(of: webSocketKeyWords(random)) { writeBase64($0, to: &out) }
        out.write("\r\n")
    }

    @inline(__always)
    private static func writeConnection(closes: Bool, te: Bool, upgrades: Bool, to out: inout ByteWriter) {
        guard closes || te || upgrades else { return }
        out.write("connection: ")
        if closes { out.write("close") }
        if te { if closes { out.write(", te") } else { out.write("te") } }
        if upgrades { if closes || te { out.write(", upgrade") } else { out.write("upgrade") } }
        out.write("\r\n")
    }
}
