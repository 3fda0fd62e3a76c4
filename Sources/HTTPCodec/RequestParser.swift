import Bytes

extension Head {
    /// Reads the head of a request from the start of `bytes`.
    ///
    /// - Parameter progress: remembered by the connection while a head is incomplete; reset when one is complete.
    /// - Returns: the bytes of the head; the body, or the next request, starts there. Nil when more bytes are needed: call
    ///   again with the same bytes and those that followed.
    /// - Throws: the first fault in the order of the bytes. The fault for a prefix is the fault for the whole.
    public mutating func parseRequest(
        _ bytes: UnsafeRawBufferPointer, limits: HeadLimits, progress: inout HeadProgress
    ) throws(HTTPFault) -> Int? {
        let source = Source(bytes, limit: limits.headBytesMax)
        let isFull = bytes.count >= limits.headBytesMax
        guard progress.isWorthParsing(source, isFull: isFull) else { return nil }
        reset()
        if let lines = try parseRequestLine(source, limits: limits),
            let end = try parseFields(source, from: lines, limits: limits) {
            try judgeRequest(source)
            byteCount = end
            progress = HeadProgress()
            return end
        }
        if isFull { throw .headTooLarge }
        progress.remember(source)
        return nil
    }

    /// Reads `method SP target SP version CRLF`. Returns where the fields start.
    @inline(__always)
    private mutating func parseRequestLine(_ source: Source, limits: HeadLimits) throws(HTTPFault) -> Int? {
        guard let start = try skipEmptyLine(source) else { return nil }

        let methodBound = min(source.count, start &+ limits.methodBytesMax &+ 1)
        let methodEnd = firstNotToken(in: source.base, from: start, to: methodBound)
        guard methodEnd &- start <= limits.methodBytesMax else { throw .methodTooLong }
        guard methodEnd < source.count else { return nil }
        guard source[methodEnd] == Octet.space, methodEnd > start else {
            throw faultInMethod(source[methodEnd], isFirst: methodEnd == start)
        }
        methodName = ByteSpan(start, methodEnd)
        method = try identifyMethod(source.base + start, methodEnd &- start)

        let targetStart = methodEnd &+ 1
        let targetBound = min(source.count, targetStart &+ limits.targetBytesMax &+ 1)
        let targetEnd = firstNotVisible(in: source.base, from: targetStart, to: targetBound)
        guard targetEnd &- targetStart <= limits.targetBytesMax else { throw .targetTooLong }
        guard targetEnd < source.count else { return nil }
        guard source[targetEnd] == Octet.space, targetEnd > targetStart else {
            guard let fault = faultAfterTarget(source, targetEnd) else { return nil }
            throw fault
        }
        target = ByteSpan(targetStart, targetEnd)
        try parseTarget(source, targetStart, targetEnd)

        return try parseVersion(source, at: targetEnd &+ 1)
    }

    /// One empty line before a request is forgiven: old clients send CRLF behind a body (RFC 9112, 2.2).
    @inline(__always)
    private func skipEmptyLine(_ source: Source) throws(HTTPFault) -> Int? {
        guard source.count > 0 else { return nil }
        guard source[0] == Octet.carriageReturn else { return 0 }
        guard source.count > 1 else { return nil }
        guard source[1] == Octet.lineFeed else { throw .bareCarriageReturn }
        guard source.count > 2 else { return nil }
        if source[2] == Octet.carriageReturn { throw .leadingWhitespace }
        return 2
    }

    private func faultInMethod(_ byte: UInt8, isFirst: Bool) -> HTTPFault {
        switch byte {
        case Octet.space, Octet.tab: isFirst ? .leadingWhitespace : .requestLineSpacing
        case 0..<0x20, 0x7F: faultOfControl(byte)
        default: .badMethod
        }
    }

    /// Why no single space stands behind a target of at least one byte; nil when that needs one byte more.
    private func faultAfterTarget(_ source: Source, _ end: Int) -> HTTPFault? {
        switch source[end] {
        case Octet.space, Octet.tab: return .requestLineSpacing
        case Octet.carriageReturn:
            guard end &+ 1 < source.count else { return nil }
            return source[end &+ 1] == Octet.lineFeed ? .badVersion : .bareCarriageReturn
        case 0..<0x20, 0x7F: return faultOfControl(source[end])
        default: return .badTarget
        }
    }

    /// Which form the target has, and whether that form fits the method (RFC 9112, 3.2).
    @inline(__always)
    private mutating func parseTarget(_ source: Source, _ start: Int, _ end: Int) throws(HTTPFault) {
        // A fragment is never sent; what a server makes of one that is sent differs.
        guard firstIndex(of: UInt8(ascii: "#"), in: source.base, from: start, to: end) == end else { throw .badTarget }
        if source[start] == UInt8(ascii: "/"), method != .connect {
            targetForm = .origin
            path = ByteSpan(start, end)
        } else {
            try parseOtherTarget(source, start, end)
        }
    }

    private mutating func parseOtherTarget(_ source: Source, _ start: Int, _ end: Int) throws(HTTPFault) {
        if method == .connect {
            let tunnel: Authority
            do { tunnel = try Authority(source, start, end) } catch { throw .badTarget }
            guard tunnel.port != nil else { throw .badTarget }
            targetForm = .authority
            adopt(tunnel, ByteSpan(start, end))
            return
        }
        if end &- start == 1, source[start] == UInt8(ascii: "*") {
            guard method == .options else { throw .badTarget }
            targetForm = .asterisk
            path = ByteSpan(start, end)
            return
        }
        let schemeEnd = firstIndex(of: Octet.colon, in: source.base, from: start, to: end)
        let scheme = source.base + start
        guard tokenEquals(scheme, schemeEnd &- start, "http") || tokenEquals(scheme, schemeEnd &- start, "https"),
            end &- schemeEnd > 3, source[schemeEnd &+ 1] == UInt8(ascii: "/"), source[schemeEnd &+ 2] == UInt8(ascii: "/")
        else { throw .badTarget }
        let authorityStart = schemeEnd &+ 3
        var authorityEnd = authorityStart
        while authorityEnd < end, source[authorityEnd] != UInt8(ascii: "/"), source[authorityEnd] != UInt8(ascii: "?") {
            authorityEnd &+= 1
        }
        targetForm = .absolute
        adopt(try Authority(source, authorityStart, authorityEnd), ByteSpan(authorityStart, authorityEnd))
        path = ByteSpan(authorityEnd, end)
    }

    private mutating func adopt(_ parts: Authority, _ whole: ByteSpan) {
        authority = whole
        host = parts.host
        port = parts.port
    }

    /// Reads the version and the line's end. Returns where the fields start.
    @inline(__always)
    private mutating func parseVersion(_ source: Source, at start: Int) throws(HTTPFault) -> Int? {
        if start &+ 10 <= source.count {
            let word = source.base.loadUnaligned(fromByteOffset: start, as: UInt64.self)
            if word == versionWord11, source[start &+ 8] == Octet.carriageReturn, source[start &+ 9] == Octet.lineFeed {
                return start &+ 10
            }
        }
        return try parseUnusualVersion(source, at: start)
    }

    private mutating func parseUnusualVersion(_ source: Source, at start: Int) throws(HTTPFault) -> Int? {
        let prefix: StaticString = "HTTP/"
        var index = start
        while index < start &+ 5 {
            guard index < source.count else { return nil }
            guard source[index] == prefix.utf8Start[index &- start] else {
                throw index == start && Octet.isBlank(source[index]) ? .requestLineSpacing : .badVersion
            }
            index &+= 1
        }
        guard start &+ 8 <= source.count else { return nil }
        let major = source[start &+ 5], minor = source[start &+ 7]
        guard source[start &+ 6] == UInt8(ascii: "."), major &- 0x30 < 10, minor &- 0x30 < 10 else { throw .badVersion }
        guard major == 0x31, minor <= 0x31 else { throw .unsupportedVersion }
        minorVersion = Int(minor &- 0x30)
        guard start &+ 8 < source.count else { return nil }
        switch source[start &+ 8] {
        case Octet.carriageReturn: break
        case Octet.lineFeed: throw .bareLineFeed
        case Octet.space, Octet.tab: throw .requestLineSpacing
        default: throw .badVersion
        }
        guard start &+ 9 < source.count else { return nil }
        guard source[start &+ 9] == Octet.lineFeed else { throw .bareCarriageReturn }
        return start &+ 10
    }

    /// What the parts of a request say together.
    @inline(__always)
    private mutating func judgeRequest(_ source: Source) throws(HTTPFault) {
        try judgeFieldsTogether(source)
        framing = hasTransferEncoding ? .chunked : contentLength.map { .length($0) } ?? .none
        if hostRow >= 0 {
            let value = fields[hostRow].value
            // Judged also where the target outranks it: the next server may not know that rule.
            let named = try Authority(source, value.start, value.end)
            if targetForm == .origin || targetForm == .asterisk { adopt(named, value) }
        } else if minorVersion == 1 {
            throw .missingHost
        }
    }
}

/// "HTTP/1.1" and "HTTP/1.0" as eight bytes in memory order.
let versionWord11: UInt64 = 0x312E_312F_5054_5448
let versionWord10: UInt64 = 0x302E_312F_5054_5448

/// Which method a token is. Throws for a known one in other letter case.
@inline(__always)
func identifyMethod(_ token: UnsafeRawPointer, _ count: Int) throws(HTTPFault) -> HTTPMethod {
    let method: HTTPMethod =
        switch count {
        case 3: tokenEquals(token, 3, "get") ? .get : tokenEquals(token, 3, "put") ? .put : .other
        case 4: tokenEquals(token, 4, "post") ? .post : tokenEquals(token, 4, "head") ? .head : .other
        case 5: tokenEquals(token, 5, "patch") ? .patch : tokenEquals(token, 5, "trace") ? .trace : .other
        case 6: tokenEquals(token, 6, "delete") ? .delete : .other
        case 7: tokenEquals(token, 7, "options") ? .options : tokenEquals(token, 7, "connect") ? .connect : .other
        default: .other
        }
    if method != .other {
        var index = 0
        while index < count {
            guard token.load(fromByteOffset: index, as: UInt8.self) & 0x20 == 0 else { throw .methodCase }
            index &+= 1
        }
    }
    return method
}
