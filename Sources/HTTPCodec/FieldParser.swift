import Bytes

extension Head {
    /// Reads field lines up to and including the empty line. Returns where the body starts, or nil when more bytes are needed.
    mutating func parseFields(_ source: Source, from start: Int, limits: HeadLimits) throws(HTTPFault) -> Int? {
        var line = start
        while true {
            guard line < source.count else { return nil }
            let first = source[line]
            if first == Octet.carriageReturn {
                guard line &+ 1 < source.count else { return nil }
                guard source[line &+ 1] == Octet.lineFeed else { throw .bareCarriageReturn }
                return line &+ 2
            }
            guard fieldCount < limits.fieldsMax else { throw .tooManyFields }
            var field = HeadField()
            guard let next = try parseFieldLine(source, at: line, into: &field) else { return nil }
            let row = fieldCount
            fieldCount = row &+ 1
            if field.id != .other { try interpret(&field, row, source, limits) }
            fields[row] = field
            line = next
        }
    }

    /// What a known field means for framing, routing and the connection, parsed or decoded (of which those that HTTP/2 forbids do not get here).
    /// Faults of one field are found here; faults of their combination after the last field.
    mutating func interpret(
        _ field: inout HeadField, _ row: Int, _ source: Source, _ limits: HeadLimits
    ) throws(HTTPFault) {
        let start = Int(field.valueOffset), end = start &+ Int(field.valueCount)
        switch field.id {
        case .host:
            guard hostRow < 0 else { throw .repeatedHost }
            hostRow = row
        case .contentLength:
            guard contentLength == nil else { throw .repeatedContentLength }
            guard let length = parseDecimal(source.slice(start, end)) else { throw .badContentLength }
            contentLength = length
            // "007" means seven, but not to everyone: it is forwarded as "7".
            if field.valueCount > 1, source[start] == 0x30 { field.isPlain = false }
        case .transferEncoding:
            guard !hasTransferEncoding else { throw .repeatedTransferEncoding }
            hasTransferEncoding = true
            try readTransferEncoding(source, start, end)
        case .connection:
            try readConnectionOptions(source, start, end, limits)
        case .te where isHTTP2:
            guard tokenEquals(source.base + start, end &- start, "trailers") else { throw .connectionField }
            acceptsTrailers = true
        case .te:
            var list = ListReader(source, start, end)
            while let element = list.next() {
                if tokenEquals(source.base + element.start, element.end &- element.start, "trailers") { acceptsTrailers = true }
            }
        case .expect:
            // HTTP/1.0 knows no interim responses, so there the expectation is ignored (RFC 9110, 10.1.1).
            if minorVersion == 1, tokenEquals(source.base + start, end &- start, "100-continue") { expectsContinue = true }
        case .upgrade: upgradeRow = row
        case .xRequestID: requestIDRow = row; requestIDCount &+= 1
        case .traceparent: traceparentRow = row; traceparentCount &+= 1
        case .xForwardedFor: forwardedForRow = row
        case .xForwardedProto: forwardedProtoRow = row; forwardedProtoCount &+= 1
        case .keepAlive, .proxyConnection, .trailer, .http2Settings, .tracestate, .weftDestination, .cookie, .contentType, .grpcTimeout,
            .grpcStatus, .grpcMessage, .webSocketKey, .webSocketAccept, .forwardedClientCertificate, .weftAttempt, .requestTimeout, .other: break
        }
    }

    /// Transfer-Encoding must be `chunked` and nothing else (RFC 9112, 6.1): any second coding is another chance for two
    /// parsers to disagree.
    private func readTransferEncoding(_ source: Source, _ start: Int, _ end: Int) throws(HTTPFault) {
        var list = ListReader(source, start, end)
        var sawChunked = false, sawUnknown = false
        while let element = list.next() {
            guard element.isToken else { throw .badTransferEncoding }
            guard !sawChunked else { throw .chunkedNotLast }
            if tokenEquals(source.base + element.start, element.end &- element.start, "chunked") {
                sawChunked = true
            } else {
                sawUnknown = true
            }
        }
        if sawUnknown { throw .unknownTransferCoding }
        if !sawChunked { throw .badTransferEncoding }
    }

    private mutating func readConnectionOptions(
        _ source: Source, _ start: Int, _ end: Int, _ limits: HeadLimits
    ) throws(HTTPFault) {
        var list = ListReader(source, start, end)
        while let element = list.next() {
            connectionOptionCount &+= 1
            guard connectionOptionCount <= limits.connectionOptionsMax else { throw .badConnectionOption }
            let count = element.end &- element.start
            if count == 0 { continue }  // "a recipient MUST parse and ignore a reasonable number of empty list elements"
            guard element.isToken else { throw .badConnectionOption }
            let option = source.base + element.start
            if tokenEquals(option, count, "close") { saysClose = true }
            else if tokenEquals(option, count, "keep-alive") { saysKeepAlive = true }
            else if tokenEquals(option, count, "upgrade") { saysUpgrade = true }
            else { namesFields = true }
        }
    }

    /// Marks the fields that `Connection` names. Fields with a meaning for the proxy are not its to remove: naming Host or
    /// Content-Length there is an old way to make the next hop see another request.
    mutating func markFieldsForThisHop(_ source: Source) {
        var row = 0
        while row < fieldCount {
            let field = fields[row]
            row &+= 1
            guard field.id == .connection else { continue }
            var list = ListReader(source, Int(field.valueOffset), Int(field.valueOffset) &+ Int(field.valueCount))
            while let element = list.next() {
                var other = 0
                while other < fieldCount {
                    let candidate = fields[other].name
                    if fields[other].id == .other,
                        equalsIgnoringCase(source.slice(candidate.start, candidate.end), source.slice(element.start, element.end)) {
                        fields[other].isForThisHop = true
                    }
                    other &+= 1
                }
            }
        }
    }

    /// What the fields say together about connection and framing, the same for requests and responses.
    mutating func judgeFieldsTogether(_ source: Source) throws(HTTPFault) {
        if hasTransferEncoding {
            guard contentLength == nil else { throw .lengthAndTransferEncoding }
            guard minorVersion == 1 else { throw .transferEncodingInHTTP10 }
        }
        keepsAlive = minorVersion == 1 ? !saysClose : saysKeepAlive && !saysClose
        asksForUpgrade = saysUpgrade && upgradeRow >= 0 && minorVersion == 1
        if namesFields { markFieldsForThisHop(source) }
    }
}

/// Reads one field line. Returns where the next line starts, or nil when the line is incomplete.
@inline(__always)
func parseFieldLine(_ source: Source, at line: Int, into field: inout HeadField) throws(HTTPFault) -> Int? {
    let end = source.count
    let nameEnd = firstNotToken(in: source.base, from: line, to: end)
    guard nameEnd < end else { return nil }
    guard source[nameEnd] == Octet.colon, nameEnd > line else {
        guard let fault = faultInName(source, line, nameEnd) else { return nil }
        throw fault
    }
    var valueStart = nameEnd &+ 1
    while valueStart < end, Octet.isBlank(source[valueStart]) { valueStart &+= 1 }
    var index = firstControl(in: source.base, from: valueStart, to: end)
    while index < end, source[index] == Octet.tab { index = firstControl(in: source.base, from: index &+ 1, to: end) }
    guard index < end else { return nil }
    guard source[index] == Octet.carriageReturn else { throw faultOfControl(source[index]) }
    guard index &+ 1 < end else { return nil }
    guard source[index &+ 1] == Octet.lineFeed else { throw .bareCarriageReturn }
    var valueEnd = index
    while valueEnd > valueStart, Octet.isBlank(source[valueEnd &- 1]) { valueEnd &-= 1 }

    field.nameOffset = UInt16(truncatingIfNeeded: line)
    field.nameCount = UInt16(truncatingIfNeeded: nameEnd &- line)
    field.valueOffset = UInt16(truncatingIfNeeded: valueStart)
    field.valueCount = UInt16(truncatingIfNeeded: valueEnd &- valueStart)
    field.id = identify(source.base + line, nameEnd &- line)
    field.isPlain = valueStart &- nameEnd == 2 && valueEnd == index && source[nameEnd &+ 1] == Octet.space
    return index &+ 2
}

/// Why a field name did not end in a colon; nil when the bytes that would tell have not come.
private func faultInName(_ source: Source, _ line: Int, _ nameEnd: Int) -> HTTPFault? {
    let byte = source[nameEnd]
    switch byte {
    case Octet.colon: return .emptyFieldName
    case Octet.space, Octet.tab:
        if nameEnd == line { return .obsoleteFold }
        var index = nameEnd
        while index < source.count, Octet.isBlank(source[index]) { index &+= 1 }
        guard index < source.count else { return nil }
        return source[index] == Octet.colon ? .spaceBeforeColon : .badFieldName
    case Octet.carriageReturn:
        guard nameEnd &+ 1 < source.count else { return nil }
        return source[nameEnd &+ 1] == Octet.lineFeed ? .missingColon : .bareCarriageReturn
    case 0..<0x20, 0x7F: return faultOfControl(byte)
    default: return .badFieldName
    }
}

/// Walks over the elements of a comma-separated list (RFC 9110, 5.6.1), white space around them removed.
struct ListReader {
    private let source: Source
    private var index: Int
    private let end: Int
    private var isDone = false

    init(_ source: Source, _ start: Int, _ end: Int) {
        self.source = source
        index = start
        self.end = end
    }

    /// The next element; an empty list has one empty element. Nil after the last.
    mutating func next() -> (start: Int, end: Int, isToken: Bool)? {
        guard !isDone else { return nil }
        while index < end, Octet.isBlank(source[index]) { index &+= 1 }
        let start = index
        let comma = firstIndex(of: UInt8(ascii: ","), in: source.base, from: start, to: end)
        if comma == end { isDone = true }
        index = comma &+ 1
        var last = comma
        while last > start, Octet.isBlank(source[last &- 1]) { last &-= 1 }
        return (start, last, last > start && firstNotToken(in: source.base, from: start, to: last) == last)
    }
}
