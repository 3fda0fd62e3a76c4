import Bytes

extension BodyDecoder {
    /// The chunked coding (RFC 9112, 7.1), without the leniencies of its "robustness": no white space around the size, CRLF
    /// and nothing else at each line's end.
    mutating func nextOfChunked(_ source: Source, _ limits: BodyLimits) throws(HTTPFault) -> BodyPiece {
        var index = 0
        while index < source.count {
            let byte = source[index]
            switch state {
            case .chunkSize:
                if let digit = hexDigitValue(byte) {
                    // 15 digits are below 2^60: no overflow, also when totals are added up.
                    guard digits < 15 else { throw .chunkSizeTooLarge }
                    digits &+= 1
                    remaining = remaining &<< 4 | Int(digit)
                } else {
                    guard digits > 0 else { throw byte == Octet.lineFeed ? .bareLineFeed : .badChunkSize }
                    switch byte {
                    case Octet.carriageReturn: state = .chunkSizeEnd
                    case UInt8(ascii: ";"): state = .chunkExtension
                    case Octet.lineFeed: throw .bareLineFeed
                    default: throw .badChunkSize
                    }
                }
            case .chunkExtension:
                if byte == Octet.carriageReturn {
                    state = .chunkSizeEnd
                } else {
                    guard byte != Octet.lineFeed else { throw .bareLineFeed }
                    guard byte >= 0x20 && byte != 0x7F || byte == Octet.tab else { throw .badChunkExtension }
                    guard sectionBytes < limits.extensionBytesMax else { throw .chunkExtensionTooLong }
                    sectionBytes &+= 1
                }
            case .chunkSizeEnd:
                guard byte == Octet.lineFeed else { throw .badChunkEnd }
                digits = 0
                sectionBytes = 0
                total = try grown(by: remaining, limits)
                state = remaining == 0 ? .trailers : .chunkData
                if remaining == 0, keepsTrailers { return BodyPiece(event: .starved, consumed: index &+ 1, payload: 0..<0) }
            case .chunkData:
                let end = index &+ min(remaining, source.count &- index)
                remaining &-= end &- index
                if remaining == 0 { state = .chunkDataEnd }
                return content(index, end)
            case .chunkDataEnd:
                guard byte == Octet.carriageReturn else { throw .badChunkEnd }
                state = .chunkDataLineFeed
            case .chunkDataLineFeed:
                guard byte == Octet.lineFeed else { throw .badChunkEnd }
                state = .chunkSize
            case .trailers:
                if keepsTrailers { return BodyPiece(event: .starved, consumed: index, payload: 0..<0) }
                return try nextTrailer(source, at: index, limits)
            case .length, .untilClose, .complete:
                preconditionFailure("a chunked body stays chunked")
            }
            index &+= 1
        }
        return BodyPiece(event: .starved, consumed: index, payload: index..<index)
    }

    /// One whole line of the trailer section; a partial one stays with the caller, whose buffer holds `trailerBytesMax`.
    private mutating func nextTrailer(_ source: Source, at start: Int, _ limits: BodyLimits) throws(HTTPFault) -> BodyPiece {
        let allowed = limits.trailerBytesMax &- Int(sectionBytes)
        var line = start
        while true {
            if source[line] == Octet.carriageReturn {
                guard line &+ 1 < source.count else { break }
                guard source[line &+ 1] == Octet.lineFeed else { throw .bareCarriageReturn }
                guard line &+ 2 &- start <= allowed else { throw .trailersTooLarge }
                state = .complete
                return BodyPiece(event: .complete, consumed: line &+ 2, payload: line..<line)
            }
            guard trailerFields < limits.trailerFieldsMax else { throw .trailersTooLarge }
            var field = HeadField()
            let window = Source(source.slice(line, source.count), limit: allowed &- (line &- start))
            guard let length = try parseFieldLine(window, at: 0, into: &field) else {
                if window.count < source.count &- line || window.count == allowed { throw .trailersTooLarge }
                break
            }
            trailerFields &+= 1
            switch Self.trailerRule(field.id) {
            case .forward:
                sectionBytes = UInt16(truncatingIfNeeded: Int(sectionBytes) &+ (line &- start) &+ length)
                return BodyPiece(event: .trailer, consumed: line &+ length, payload: line..<(line &+ length &- 2))
            case .drop: line &+= length
            case .refuse: throw .forbiddenTrailer
            }
            guard line < source.count else { break }
        }
        sectionBytes = UInt16(truncatingIfNeeded: Int(sectionBytes) &+ (line &- start))
        return BodyPiece(event: .starved, consumed: line, payload: line..<line)
    }

    enum TrailerRule { case forward, drop, refuse }

    /// A receiver that merges trailers into the head must not learn there what the head itself may not say (RFC 9110, 6.5.1).
    static func trailerRule(_ id: KnownField) -> TrailerRule {
        switch id {
        case .other, .contentType, .grpcStatus, .grpcMessage, .grpcTimeout, .cookie, .webSocketKey, .webSocketAccept: .forward
        case .xRequestID, .traceparent, .tracestate, .xForwardedFor, .xForwardedProto, .weftDestination, .forwardedClientCertificate, .weftAttempt,
            .requestTimeout: .drop
        case .host, .connection, .contentLength, .transferEncoding, .keepAlive, .proxyConnection, .upgrade, .te, .trailer,
            .expect, .http2Settings: .refuse
        }
    }
}
