import Bytes

extension Head {
    /// Reads the head of a response from the start of `bytes`.
    ///
    /// Its faults are the upstream's: the downstream gets 502 for them, whatever `HTTPFault.status` says about requests.
    /// - Parameters:
    ///   - method: of the request that is answered; HEAD is answered without a body.
    ///   - mayUpgrade: whether the forwarded request asked for an upgrade; otherwise 101 is a fault.
    ///   - progress: remembered by the connection while a head is incomplete; reset when one is complete.
    /// - Returns: the bytes of the head, or nil when more are needed. After an interim response (`isInterim`) another head follows.
    public mutating func parseResponse(
        _ bytes: UnsafeRawBufferPointer, answering method: HTTPMethod, mayUpgrade: Bool = false, limits: HeadLimits,
        progress: inout HeadProgress
    ) throws(HTTPFault) -> Int? {
        let source = Source(bytes, limit: limits.headBytesMax)
        let isFull = bytes.count >= limits.headBytesMax
        guard progress.isWorthParsing(source, isFull: isFull) else { return nil }
        reset()
        if let lines = try parseStatusLine(source), let end = try parseFields(source, from: lines, limits: limits) {
            if status == 101, !mayUpgrade { throw .unexpectedUpgrade }
            try judgeResponse(source, answering: method)
            byteCount = end
            progress = HeadProgress()
            return end
        }
        if isFull { throw .headTooLarge }
        progress.remember(source)
        return nil
    }

    /// Reads `version SP status [SP reason] CRLF`. The space before an absent reason may be missing: common, and harmless.
    @inline(__always)
    private mutating func parseStatusLine(_ source: Source) throws(HTTPFault) -> Int? {
        guard source.count >= 8 else { return try awaitVersion(source) }
        let version = source.base.loadUnaligned(fromByteOffset: 0, as: UInt64.self)
        if version == versionWord10 { minorVersion = 0 } else if version != versionWord11 { throw faultInVersion(source) }
        guard source.count >= 13 else { return nil }
        let hundreds = source[9] &- 0x30, tens = source[10] &- 0x30, ones = source[11] &- 0x30
        guard source[8] == Octet.space, hundreds < 10, hundreds > 0, tens < 10, ones < 10 else { throw .badStatusLine }
        status = Int(hundreds) &* 100 &+ Int(tens) &* 10 &+ Int(ones)
        var index = 12
        if source[12] == Octet.space {
            index = firstControl(in: source.base, from: 13, to: source.count)
            while index < source.count, source[index] == Octet.tab {
                index = firstControl(in: source.base, from: index &+ 1, to: source.count)
            }
            guard index < source.count else { return nil }
            reasonPhrase = ByteSpan(13, index)
        }
        guard source[index] == Octet.carriageReturn else {
            throw source[index] < 0x20 || source[index] == 0x7F ? faultOfControl(source[index]) : .badStatusLine
        }
        guard index &+ 1 < source.count else { return nil }
        guard source[index &+ 1] == Octet.lineFeed else { throw .bareCarriageReturn }
        return index &+ 2
    }

    private func awaitVersion(_ source: Source) throws(HTTPFault) -> Int? {
        let prefix: StaticString = "HTTP/"
        var index = 0
        while index < min(5, source.count) {
            if source[index] != prefix.utf8Start[index] { throw .badVersion }
            index &+= 1
        }
        return nil
    }

    private func faultInVersion(_ source: Source) -> HTTPFault {
        equals(source.base, 5, "HTTP/") && source[5] &- 0x30 < 10 && source[6] == UInt8(ascii: ".") && source[7] &- 0x30 < 10
            ? .unsupportedVersion : .badVersion
    }

    /// How the body's end is found (RFC 9112, 6.3), in that section's order.
    @inline(__always)
    private mutating func judgeResponse(_ source: Source, answering method: HTTPMethod) throws(HTTPFault) {
        try judgeFieldsTogether(source)
        if method == .head || status == 304 {
            framing = .none
        } else if status < 200 || status == 204 {
            framing = .none
            // Such a response has no body, yet its sender announces one and may well send it: never reuse that connection.
            if hasTransferEncoding || contentLength ?? 0 != 0 { keepsAlive = false }
        } else if hasTransferEncoding {
            framing = .chunked
        } else if let contentLength {
            framing = .length(contentLength)
        } else {
            framing = .untilClose
            keepsAlive = false
        }
    }
}
