import Bytes

/// What the proxy must know of gRPC over HTTP/2.
public enum GRPC {
    /// The status codes of gRPC.
    public enum Status: UInt8, Sendable, CaseIterable {
        case ok, cancelled, unknown, invalidArgument, deadlineExceeded, notFound, alreadyExists, permissionDenied
        case resourceExhausted, failedPrecondition, aborted, outOfRange, unimplemented, `internal`, unavailable, dataLoss, unauthenticated

        /// What a reply without `grpc-status` means, as the gRPC specification maps it ("HTTP to gRPC Status Code Mapping").
        public init(http status: Int) {
            self =
                switch status {
                case 400: .internal
                case 401: .unauthenticated
                case 403: .permissionDenied
                case 404: .unimplemented
                case 429, 502, 503, 504: .unavailable
                default: .unknown
                }
        }
    }

    /// Whether a content type is gRPC's: `application/grpc`, alone or followed by `+`, `;` and what they bring.
    public static func isContentType(_ value: UnsafeRawBufferPointer) -> Bool {
        guard let base = value.baseAddress, value.count >= 16 else { return false }
        let name = "application/grpc" as StaticString
        let start = UnsafeRawBufferPointer(start: base, count: 16)
        guard equalsIgnoringCase(start, UnsafeRawBufferPointer(start: name.utf8Start, count: 16)) else { return false }
        return value.count == 16 || value[16] == UInt8(ascii: "+") || value[16] == UInt8(ascii: ";")
    }

    /// The nanoseconds a `grpc-timeout` grants: one to eight digits and a unit. Nil for anything else.
    public static func timeoutNanoseconds(_ value: UnsafeRawBufferPointer) -> UInt64? {
        guard value.count >= 2, value.count <= 9, let unit = value.last else { return nil }
        guard let count = parseDecimal(UnsafeRawBufferPointer(rebasing: value[..<(value.count - 1)])) else { return nil }
        let nanoseconds: UInt64
        switch unit {
        case UInt8(ascii: "H"): nanoseconds = 3_600_000_000_000
        case UInt8(ascii: "M"): nanoseconds = 60_000_000_000
        case UInt8(ascii: "S"): nanoseconds = 1_000_000_000
        case UInt8(ascii: "m"): nanoseconds = 1_000_000
        case UInt8(ascii: "u"): nanoseconds = 1_000
        case UInt8(ascii: "n"): nanoseconds = 1
        default: return nil
        }
        // 99,999,999 hours are 11,415 years; in nanoseconds that overflows, and no clock here reaches it.
        let (product, overflow) = UInt64(count).multipliedReportingOverflow(by: nanoseconds)
        return overflow ? .max : product
    }
}

/// Counts the messages in one direction of a call, from whatever pieces its content comes in: before each stand a flag and its length, five
/// bytes ("Length-Prefixed-Message").
public struct GRPCMessages: Sendable {
    /// Messages whose last byte has come.
    public private(set) var count: UInt64 = 0
    /// Bytes of the current message that are to come; within a prefix, what of the length it has said.
    private var left: UInt32 = 0
    /// Bytes of the prefix that have come; 0: none of the next one.
    private var prefixCount: UInt8 = 0

    public init() {}

    /// The next piece of content.
    public mutating func pass(_ content: UnsafeRawBufferPointer) {
        var index = 0
        while index < content.count {
            if prefixCount == 0, left > 0 {
                let taken = min(Int(left), content.count &- index)
                left &-= UInt32(truncatingIfNeeded: taken)
                index &+= taken
            } else if prefixCount == 0, content.count &- index >= 5 {
                left = UInt32(bigEndian: content.loadUnaligned(fromByteOffset: index &+ 1, as: UInt32.self))
                index &+= 5
            } else {
                // The flag is shifted out again.
                left = left &<< 8 | UInt32(content[index])
                prefixCount = prefixCount == 4 ? 0 : prefixCount &+ 1
                index &+= 1
                if prefixCount != 0 { continue }
            }
            if left == 0 { count &+= 1 }
        }
    }
}

extension Head {
    /// Whether the message's content is gRPC's.
    public func isGRPC(_ bytes: UnsafeRawBufferPointer) -> Bool {
        value(.contentType).map { GRPC.isContentType($0.of(bytes)) } ?? false
    }

    /// `grpc-timeout` in nanoseconds, or nil without a valid one.
    public func grpcTimeout(_ bytes: UnsafeRawBufferPointer) -> UInt64? {
        value(.grpcTimeout).flatMap { GRPC.timeoutNanoseconds($0.of(bytes)) }
    }

    /// `grpc-status` of trailers or of a trailers-only response; nil without one. A code nobody knows is `.unknown`.
    public func grpcStatus(_ bytes: UnsafeRawBufferPointer) -> GRPC.Status? {
        guard let value = value(.grpcStatus) else { return nil }
        guard let code = parseDecimal(value.of(bytes)), code <= 16 else { return .unknown }
        return GRPC.Status(rawValue: UInt8(code))
    }
}

/// A gRPC status that the proxy gives itself: HTTP 200 without content, as gRPC clients expect ("Trailers-Only").
public struct GRPCReply {
    public var status: GRPC.Status
    /// The value of `x-weft-reason`, and of `grpc-message`.
    public var reason: StaticString
    /// The fault is the upstream's: the reason is written with `upstream-` before it.
    public var isUpstreams: Bool

    public init(status: GRPC.Status, reason: StaticString, isUpstreams: Bool = false) {
        self.status = status
        self.reason = reason
        self.isUpstreams = isUpstreams
    }

    /// The fields that end the stream.
    func gather(_ fields: inout FieldGatherer) {
        fields.add("grpc-status") { $0.writeDecimal(UInt64(status.rawValue)) }
        fields.add("grpc-message") { writeMessage(to: &$0) }
        fields.add("x-weft-reason") { out in
            if isUpstreams { out.write("upstream-") }
            out.write(reason)
        }
    }

    private func writeMessage(to out: inout ByteWriter) {
        if isUpstreams { out.write("upstream-") }
        writePercentEncoded(UnsafeRawBufferPointer(start: reason.utf8Start, count: reason.utf8CodeUnitCount), to: &out)
    }
}

/// Text as `grpc-message` carries it: bytes outside 0x20–0x7E, and the percent sign, as %XX.
func writePercentEncoded(_ bytes: UnsafeRawBufferPointer, to out: inout ByteWriter) {
    let digits: StaticString = "0123456789ABCDEF"
    for byte in bytes {
        if byte >= 0x20 && byte <= 0x7E && byte != UInt8(ascii: "%") {
            out.write(byte)
        } else {
            out.write(UInt8(ascii: "%"))
            out.write(digits.utf8Start[Int(byte >> 4)])
            out.write(digits.utf8Start[Int(byte & 15)])
        }
    }
}
