import Bytes
import CNGHTTP2

/// Gathers the name-value pairs of one head for the library, which copies them, names in lower case, when they are submitted.
struct FieldGatherer {
    /// A head may have 96 fields; cookies are split into crumbs, and the proxy adds a dozen.
    private static let capacity = 256
    /// Values made here: `x-forwarded-for` joined, ids, numbers.
    private static let scratchBytes = 68 * 1024
    /// Bytes the library may pack a head into: the largest that can be gathered.
    static let blockBytesMax = 256 * 1024

    let rows: UnsafeMutablePointer<nghttp2_nv>
    private(set) var count = 0
    private let scratch: UnsafeMutableRawPointer
    private var scratchCount = 0
    /// Something did not fit.
    private(set) var overflowed = false

    init() {
        rows = .allocate(capacity: Self.capacity)
        scratch = .allocate(byteCount: Self.scratchBytes, alignment: 16)
    }

    func tearDown() {
        rows.deallocate()
        scratch.deallocate()
    }

    mutating func begin() {
        count = 0
        scratchCount = 0
        overflowed = false
    }

    @inline(__always)
    mutating func add(_ name: UnsafeRawPointer, _ nameCount: Int, _ value: UnsafeRawPointer, _ valueCount: Int, _ flags: UInt8 = 0) {
        guard count < Self.capacity else { overflowed = true; return }
        rows[count] = nghttp2_nv(
            name: UnsafeMutableRawPointer(mutating: name).assumingMemoryBound(to: UInt8.self),
            value: UnsafeMutableRawPointer(mutating: value).assumingMemoryBound(to: UInt8.self),
            namelen: nameCount, valuelen: valueCount, flags: flags)
        count &+= 1
    }

    /// A pair whose name is part of the program: the library need not copy that.
    @inline(__always) mutating func add(_ name: StaticString, _ value: UnsafeRawBufferPointer, isFresh: Bool = false) {
        let base = value.baseAddress ?? UnsafeRawPointer(name.utf8Start)
        let flags = UInt8(NGHTTP2_NV_FLAG_NO_COPY_NAME.rawValue) | (isFresh ? UInt8(NGHTTP2_NV_FLAG_NO_INDEX.rawValue) : 0)
        add(UnsafeRawPointer(name.utf8Start), name.utf8CodeUnitCount, base, value.count, flags)
    }

    @inline(__always) mutating func add(_ name: StaticString, _ value: StaticString) {
        add(
            UnsafeRawPointer(name.utf8Start), name.utf8CodeUnitCount, UnsafeRawPointer(value.utf8Start), value.utf8CodeUnitCount,
            UInt8(NGHTTP2_NV_FLAG_NO_COPY_NAME.rawValue) | UInt8(NGHTTP2_NV_FLAG_NO_COPY_VALUE.rawValue))
    }

    /// A pair whose value is written here and now.
    @inline(__always) mutating func add(_ name: StaticString, isFresh: Bool = false, writing write: (inout ByteWriter) -> Void) {
        var writer = ByteWriter(UnsafeMutableRawBufferPointer(start: scratch + scratchCount, count: Self.scratchBytes &- scratchCount))
        write(&writer)
        guard !writer.overflowed else { overflowed = true; return }
        scratchCount &+= writer.count
        add(name, writer.written, isFresh: isFresh)
    }

    /// The fields of a head that pass. `withheld` are those written anew or ending here.
    mutating func addFields(_ head: borrowing Head, _ base: UnsafeRawPointer, except withheld: FieldSet) {
        var row = 0
        while row < head.fieldCount {
            let field = head.fields[row]
            row &+= 1
            if field.isForThisHop || withheld.contains(field.id) { continue }
            let name = base + Int(field.nameOffset), value = base + Int(field.valueOffset), valueCount = Int(field.valueCount)
            if field.id == .cookie {
                addCookies(name, Int(field.nameCount), value, valueCount)
            } else if field.id == .contentLength, !field.isPlain, let length = head.contentLength {
                add("content-length") { $0.writeDecimal(UInt64(length)) }
            } else {
                add(name, Int(field.nameCount), value, valueCount, isFresh(field.id) ? UInt8(NGHTTP2_NV_FLAG_NO_INDEX.rawValue) : 0)
            }
        }
    }

    /// Another value with each request: in the peer's table it would only push out what comes again (RFC 7541, 4.4).
    @inline(__always) private func isFresh(_ id: KnownField) -> Bool {
        switch id {
        case .xRequestID, .traceparent, .tracestate, .grpcTimeout: true
        default: false
        }
    }

    /// Cookies as crumbs, each of which the peer's table can hold on its own (RFC 9113, 8.2.3).
    private mutating func addCookies(_ name: UnsafeRawPointer, _ nameCount: Int, _ value: UnsafeRawPointer, _ valueCount: Int) {
        var start = 0
        while count < Self.capacity / 2 {
            let semicolon = firstIndex(of: UInt8(ascii: ";"), in: value, from: start, to: valueCount)
            // Only what joins to the same bytes again: exactly one space, and a crumb without blanks on either side.
            guard semicolon &+ 2 < valueCount, semicolon > start, value.load(fromByteOffset: semicolon &+ 1, as: UInt8.self) == Octet.space,
                !Octet.isBlank(value.load(fromByteOffset: semicolon &+ 2, as: UInt8.self)),
                !Octet.isBlank(value.load(fromByteOffset: semicolon &- 1, as: UInt8.self))
            else { break }
            add(name, nameCount, value + start, semicolon &- start)
            start = semicolon &+ 2
        }
        add(name, nameCount, value + start, valueCount &- start)
    }
}

extension FieldGatherer {
    /// A request as HTTP/2 has it: what `RequestWriter.write` says in HTTP/1.1.
    mutating func gatherRequest(_ head: borrowing Head, _ base: UnsafeRawPointer, _ forwarding: RequestForwarding, isUpgrade: Bool) {
        begin()
        if isUpgrade {
            add(":method", "CONNECT")
            if head.isExtendedConnect {
                let name = head.fields[head.upgradeRow].value
                add(":protocol", UnsafeRawBufferPointer(start: base + name.start, count: Int(name.count)))
            } else {
                add(":protocol", "websocket")
            }
        } else {
            add(":method", UnsafeRawBufferPointer(start: base + head.methodName.start, count: Int(head.methodName.count)))
        }
        if head.method != .connect {
            if forwarding.isSecure { add(":scheme", "https") } else { add(":scheme", "http") }
            addPath(head, base)
        }
        if head.authority.isEmpty {
            if !forwarding.destination.isEmpty { add(":authority", forwarding.destination) }
        } else {
            add(":authority", UnsafeRawBufferPointer(start: base + head.authority.start, count: Int(head.authority.count)))
        }

        let kept = RequestWriter.keptFields(head, base)
        var withheld = FieldSet.perHop
        withheld.insert(.weftDestination)
        withheld.insert(.forwardedClientCertificate)
        if isUpgrade { withheld.insert(.webSocketKey); withheld.insert(.contentLength) }
        if !kept.requestID { withheld.insert(.xRequestID) }
        if !kept.trace { withheld.insert(.traceparent); withheld.insert(.tracestate) }
        if !kept.proto { withheld.insert(.xForwardedProto) }
        if !forwarding.peerAddress.isEmpty { withheld.insert(.xForwardedFor) }
        if head.minorVersion == 0 { withheld.insert(.expect) }
        if forwarding.millisecondsLeft > 0 { withheld.insert(forwarding.isCall ? .grpcTimeout : .requestTimeout) }
        addFields(head, base, except: withheld)

        if !forwarding.peerAddress.isEmpty {
            // A borrowed head cannot be captured; its rows can be read through their memory.
            let last = head.forwardedForRow, fields = head.fields.base
            add("x-forwarded-for") { out in
                var row = 0
                while row <= last {
                    let field = fields[row]
                    row &+= 1
                    guard field.id == .xForwardedFor, field.valueCount > 0 else { continue }
                    out.write(base + Int(field.valueOffset), count: Int(field.valueCount))
                    out.write(", ")
                }
                out.write(forwarding.peerAddress)
            }
        }
        if !kept.proto { if forwarding.isSecure { add("x-forwarded-proto", "https") } else { add("x-forwarded-proto", "http") } }
        if forwarding.millisecondsLeft > 0 { add(forwarding.isCall ? "grpc-timeout" : "x-request-timeout") { forwarding.writeTimeLeft(to: &$0) } }
        if !forwarding.weftDestination.isEmpty { add("x-weft-destination", forwarding.weftDestination) }
        if forwarding.isAnotherAttempt, !forwarding.weftDestination.isEmpty { add("x-weft-attempt", "2") }
        if !forwarding.clientCertificate.isEmpty { add("x-forwarded-client-cert", forwarding.clientCertificate) }
        if !kept.requestID, !forwarding.peerKnowsChance { add("x-request-id", isFresh: true) { writeRequestIDValue(forwarding.random, to: &$0) } }
        if !kept.trace, !forwarding.peerKnowsChance { add("traceparent", isFresh: true) { writeTraceparentValue(forwarding.random, to: &$0) } }
        if head.acceptsTrailers { add("te", "trailers") }
    }

    private mutating func addPath(_ head: borrowing Head, _ base: UnsafeRawPointer) {
        if head.path.isEmpty {
            if head.method == .options { add(":path", "*") } else { add(":path", "/") }
        } else if base.load(fromByteOffset: head.path.start, as: UInt8.self) == UInt8(ascii: "?") {
            let query = UnsafeRawBufferPointer(start: base + head.path.start, count: Int(head.path.count))
            add(":path") { $0.write("/"); $0.write(query) }
        } else {
            add(":path", UnsafeRawBufferPointer(start: base + head.path.start, count: Int(head.path.count)))
        }
    }

    /// A response as HTTP/2 has it: what `ResponseWriter.write` says in HTTP/1.1.
    mutating func gatherResponse(_ head: borrowing Head, _ base: UnsafeRawPointer, isUpgrade: Bool, wasRetried: Bool) {
        begin()
        // The handshake's success has another name here (RFC 8441, 5).
        let status = head.status == 101 && isUpgrade ? 200 : head.status
        addStatus(status)
        var withheld = FieldSet.perHop
        if head.status < 200 || head.status == 204 { withheld.insert(.contentLength) }
        if isUpgrade { withheld.insert(.webSocketAccept) }
        addFields(head, base, except: withheld)
        if wasRetried { add("x-weft-attempt", "2") }
    }

    /// The head of an answer of our own.
    mutating func gatherReply(_ reply: Reply) {
        begin()
        addStatus(reply.status)
        add("x-weft-reason") { reply.writeReason(to: &$0) }
        if let content = reply.content { add("content-type", content.type) } else if !reply.isEmpty { add("content-type", "text/plain") }
        add("content-length") { $0.writeDecimal(UInt64(reply.bodyBytes)) }
        for field in reply.fields {
            guard let name = field.name.baseAddress else { continue }
            add(name, field.name.count, field.value.baseAddress ?? name, field.value.count)
        }
        if let seconds = reply.retryAfterSeconds { add("retry-after") { $0.writeDecimal(UInt64(max(seconds, 0))) } }
    }

    /// The answer to a CONNECT that has been carried out: what follows is the tunnel's.
    mutating func gatherTunnelOpened() {
        begin()
        addStatus(200)
    }

    /// A gRPC status of our own: the only head of its stream, or its trailers.
    mutating func gatherReply(_ reply: GRPCReply, asTrailers: Bool) {
        begin()
        if !asTrailers {
            addStatus(200)
            add("content-type", "application/grpc")
        }
        reply.gather(&self)
    }

    mutating func addStatus(_ status: Int) {
        switch status {
        case 200: add(":status", "200")
        default: add(":status") { $0.writeDecimal(UInt64(status)) }
        }
    }

    /// Trailers: every field the head has.
    mutating func gatherTrailers(_ head: borrowing Head, _ base: UnsafeRawPointer) {
        begin()
        addFields(head, base, except: .perHop)
    }
}
