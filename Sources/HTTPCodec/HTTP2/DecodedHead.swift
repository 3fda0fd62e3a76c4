import Bytes

extension Head {
    /// Takes over a decoded request: what its fields say, and whether RFC 9113, 8.3.1 allows them together.
    mutating func adoptRequest(_ decoder: inout HeadDecoder, ends: Bool, limits: HeadLimits) throws(HTTPFault) {
        try adoptText(&decoder)
        let source = decoder.source
        guard decoder.has(.method), !decoder.method.isEmpty else { throw .badPseudoField }
        guard Int(decoder.method.count) <= limits.methodBytesMax else { throw .methodTooLong }
        methodName = decoder.method
        guard firstNotToken(in: source.base, from: methodName.start, to: methodName.end) == methodName.end else { throw .badMethod }
        method = try identifyMethod(source.base + methodName.start, Int(methodName.count))
        isExtendedConnect = decoder.isExtendedConnect
        // `:protocol` belongs to CONNECT alone (RFC 8441, 4).
        guard isExtendedConnect == decoder.has(.upgrade) else { throw .badPseudoField }
        try judgeDecodedFields(source)
        if method == .connect {
            try adoptTunnel(decoder)
        } else {
            guard decoder.has(.scheme), !decoder.scheme.isEmpty, decoder.has(.path) else { throw .badPseudoField }
            try adoptPath(decoder, source, limits)
        }
        try adoptAuthority(decoder, source)
        if isExtendedConnect {
            guard decoder.has(.authority), !decoder.upgrade.isEmpty, !ends else { throw .badPseudoField }
            upgradeRow = fieldCount
            decoder.append("upgrade", decoder.upgrade.of(decoder.bytes), .upgrade)
            fieldCount = decoder.rowCount
            if let fault = decoder.fault { throw fault }
            asksForUpgrade = true
        }
        framing = isExtendedConnect || method == .connect ? .none : decodedFraming(ends: ends)
        if ends, contentLength ?? 0 != 0 { throw .lengthMismatch }
        byteCount = decoder.bytes.count
    }

    /// Takes over a decoded response.
    /// - Parameters:
    ///   - answersHead: the request was HEAD, whose answer tells a length it does not send.
    ///   - mayOpenTunnel: the request was CONNECT, plain or extended.
    mutating func adoptResponse(_ decoder: inout HeadDecoder, ends: Bool, answersHead: Bool, mayOpenTunnel: Bool) throws(HTTPFault) {
        try adoptText(&decoder)
        let source = decoder.source, digits = decoder.status
        guard digits.count == 3, let number = parseDecimal(source.slice(digits.start, digits.end)), number >= 100, number < 600 else {
            throw .badPseudoField
        }
        status = number
        // HTTP/2 has no phrase; HTTP/1.1 clients were seen to want one.
        reasonPhrase = decoder.append(HTTPCodec.reasonPhrase(number))
        // 101 has no meaning here, and an interim response ends nothing (RFC 9113, 8.1, 8.6).
        guard number != 101, number >= 200 || !ends else { throw .badStatusLine }
        try judgeDecodedFields(source)
        if number < 200 || number == 204 || number == 304 || answersHead || mayOpenTunnel && number < 300 {
            framing = .none
        } else {
            // Without a length HTTP/1.1 would wait for the connection's end.
            framing = ends ? .length(0) : decodedFraming(ends: false)
            if ends, contentLength ?? 0 != 0 { throw .lengthMismatch }
        }
        byteCount = decoder.bytes.count
    }

    /// The success of an extended CONNECT, told as the 101 that the HTTP/1.1 client's upgrade waits for.
    mutating func becomeUpgraded(_ decoder: inout HeadDecoder, _ accept: WebSocketAccept) throws(HTTPFault) {
        status = 101
        reasonPhrase = decoder.append(HTTPCodec.reasonPhrase(101))
        upgradeRow = fieldCount
        decoder.append("upgrade", UnsafeRawBufferPointer(start: ("websocket" as StaticString).utf8Start, count: 9), .upgrade)
        withUnsafeTemporaryAllocation(byteCount: WebSocketAccept.byteCount, alignment: 1) { memory in
            var value = ByteWriter(memory)
            accept.write(to: &value)
            decoder.append("sec-websocket-accept", value.written, .webSocketAccept)
        }
        if let fault = decoder.fault { throw fault }
        fieldCount = decoder.rowCount
        asksForUpgrade = true
        byteCount = decoder.bytes.count
    }

    /// Takes over decoded trailers: fields and nothing else.
    mutating func adoptTrailers(_ decoder: inout HeadDecoder, limits: BodyLimits) throws(HTTPFault) {
        try adoptText(&decoder)
        guard fieldCount <= limits.trailerFieldsMax, decoder.bytes.count <= limits.trailerBytesMax else { throw .trailersTooLarge }
        var row = 0, kept = 0
        while row < fieldCount {
            let field = fields[row]
            row &+= 1
            switch BodyDecoder.trailerRule(field.id) {
            case .forward: keep(field, &kept, from: row &- 1)
            case .drop: break
            case .refuse: throw .forbiddenTrailer
            }
        }
        fieldCount = kept
        byteCount = decoder.bytes.count
    }

    private mutating func adoptText(_ decoder: inout HeadDecoder) throws(HTTPFault) {
        reset()
        decoder.finish()
        isHTTP2 = true
        fieldCount = decoder.rowCount
        if let fault = decoder.fault { throw fault }
    }

    private func decodedFraming(ends: Bool) -> BodyFraming {
        if ends { return contentLength == nil ? .none : .length(0) }
        return contentLength.map { .length($0) } ?? .chunked
    }

    /// CONNECT names where to, and nothing else (RFC 9113, 8.5).
    private mutating func adoptTunnel(_ decoder: borrowing HeadDecoder) throws(HTTPFault) {
        guard !decoder.has(.scheme), !decoder.has(.path), decoder.has(.authority) else { throw .badPseudoField }
        targetForm = .authority
        target = decoder.authority
    }

    private mutating func adoptPath(_ decoder: borrowing HeadDecoder, _ source: Source, _ limits: HeadLimits) throws(HTTPFault) {
        target = decoder.path
        path = target
        guard !target.isEmpty else { throw .badTarget }
        guard Int(target.count) <= limits.targetBytesMax else { throw .targetTooLong }
        guard firstIndex(of: UInt8(ascii: "#"), in: source.base, from: target.start, to: target.end) == target.end else { throw .badTarget }
        if source[target.start] == UInt8(ascii: "/") { return }
        guard method == .options, target.count == 1, source[target.start] == UInt8(ascii: "*") else { throw .badTarget }
        targetForm = .asterisk
    }

    /// `:authority`, or Host without it; both must agree (RFC 9113, 8.3.1).
    private mutating func adoptAuthority(_ decoder: borrowing HeadDecoder, _ source: Source) throws(HTTPFault) {
        var named: Authority?
        if decoder.has(.authority), !decoder.authority.isEmpty {
            authority = decoder.authority
            named = try Authority(source, authority.start, authority.end)
        }
        if hostRow >= 0 {
            let value = fields[hostRow].value
            let host = try Authority(source, value.start, value.end)
            if named != nil {
                guard equalsIgnoringCase(source.slice(value.start, value.end), source.slice(authority.start, authority.end)) else {
                    throw .authorityMismatch
                }
            } else if method != .connect {
                authority = value
                named = host
            }
        }
        guard let named else {
            if method == .connect { throw .badPseudoField }
            return
        }
        if method == .connect, named.port == nil { throw .badTarget }
        host = named.host
        port = named.port
    }

    /// What known fields mean: the same as in a parsed head.
    private mutating func judgeDecodedFields(_ source: Source) throws(HTTPFault) {
        var row = 0
        while row < fieldCount {
            var field = fields[row]
            if field.id != .other {
                try interpret(&field, row, source, .standard)
                fields[row] = field
            }
            row &+= 1
        }
    }
}
