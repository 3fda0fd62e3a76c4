import Bytes

/// What shall be changed about one head, gathered before it is changed. Serves a worker for its whole life.
///
/// The texts stay where they are: whoever adds them keeps them until `Head.amend` has been called.
public struct HeadEdits: ~Copyable {
    /// What becomes of the fields of one name.
    public enum Kind: UInt8, Sendable {
        /// One line with this value in place of all there are.
        case set
        /// The value behind what is there, with a comma between them (Gateway API, HTTPHeaderFilter); a line of its own for `set-cookie`.
        case add
        case remove
    }

    struct Row {
        var kind: Kind
        var name: UnsafeRawBufferPointer
        var value: UnsafeRawBufferPointer
    }

    /// The lists of a filter have 16 entries each, a rule and its backend one filter each for a message; CORS and a session bring a dozen.
    public static let rowsMax = 128

    let rows: UnsafeMutablePointer<Row>
    private(set) var count = 0
    /// A request's path with its query; nil: as it came.
    public var path: UnsafeRawBufferPointer?
    /// Whom a request names as its host; nil: as it came.
    public var authority: UnsafeRawBufferPointer?
    /// More than `rowsMax` were asked for.
    private(set) var overflowed = false

    public init() {
        rows = .allocate(capacity: Self.rowsMax)
    }

    deinit { rows.deallocate() }

    /// Nothing is to be changed.
    public var isEmpty: Bool { count == 0 && path == nil && authority == nil && !overflowed }

    /// Starts anew.
    public mutating func removeAll() {
        count = 0
        path = nil
        authority = nil
        overflowed = false
    }

    /// Notes one change; they are made in the order in which they were noted.
    public mutating func append(_ kind: Kind, _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer = .init(start: nil, count: 0)) {
        guard count < Self.rowsMax else { overflowed = true; return }
        rows[count] = Row(kind: kind, name: name, value: value)
        count += 1
    }

    /// The same for a name that is part of the program.
    public mutating func append(_ kind: Kind, _ name: StaticString, _ value: UnsafeRawBufferPointer) {
        append(kind, UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount), value)
    }

    /// Whether a route may change fields of this name. Not those that frame a message, that end at this hop, or by which Weft's proxies trust
    /// one another; Host has a way of its own.
    public static func mayChange(_ name: UnsafeRawBufferPointer) -> Bool {
        guard let base = name.baseAddress, !name.isEmpty, firstNotToken(in: base, from: 0, to: name.count) == name.count else { return false }
        switch identify(base, name.count) {
        case .host, .connection, .contentLength, .transferEncoding, .keepAlive, .proxyConnection, .upgrade, .te, .trailer, .expect, .http2Settings,
            .webSocketKey, .webSocketAccept, .weftDestination, .weftAttempt, .forwardedClientCertificate:
            return false
        case .xRequestID, .traceparent, .tracestate, .xForwardedFor, .xForwardedProto, .cookie, .contentType, .grpcTimeout, .grpcStatus, .grpcMessage,
            .requestTimeout:
            return true
        // The name that a session's token has unless its route gives it another is for whoever has the session.
        case .other: return name.count < 7 || !tokenEquals(base, 7, "x-weft-") || tokenEquals(base, name.count, "x-weft-session")
        }
    }
}

extension Head {
    /// Makes the changes. The head then refers to the bytes that are returned, which stand in `memory`, and says nothing of `bytes`.
    ///
    /// How the message is framed and what its connection shall be stays as it was judged.
    /// - Returns: nil when the changed head has more fields or bytes than any may have; it is then of no use.
    public mutating func amend(
        _ edits: borrowing HeadEdits, of bytes: UnsafeRawBufferPointer, into memory: UnsafeMutableRawBufferPointer
    ) -> UnsafeRawBufferPointer? {
        precondition(byteCount <= bytes.count, "these are not the bytes the head was parsed from")
        guard !edits.overflowed, let source = bytes.baseAddress, let start = memory.baseAddress, byteCount <= memory.count else { return nil }
        start.copyMemory(from: source, byteCount: byteCount)
        var writer = ByteWriter(UnsafeMutableRawBufferPointer(rebasing: memory[byteCount..<min(memory.count, HeadLimits.offsetsMax)]))
        let base = UnsafeRawPointer(start)
        var place = 0
        while place < edits.count {
            let row = edits.rows[place]
            place &+= 1
            guard HeadEdits.mayChange(row.name), isFieldValue(row.value) else { continue }
            switch row.kind {
            case .set: guard set(row, base, &writer) else { return nil }
            case .add: guard add(row, base, &writer) else { return nil }
            case .remove: remove(row.name, base, from: 0)
            }
        }
        if let path = edits.path { replacePath(path, &writer) }
        if let authority = edits.authority { replaceAuthority(authority, base, &writer) }
        guard !writer.overflowed else { return nil }
        findKnownRows()
        byteCount &+= writer.count
        return UnsafeRawBufferPointer(start: base, count: byteCount)
    }

    /// The first row of the name, from `row` on, that is forwarded; `fieldCount` without one.
    private func firstRow(_ name: UnsafeRawBufferPointer, _ base: UnsafeRawPointer, from first: Int) -> Int {
        var row = first
        while row < fieldCount {
            let field = fields[row]
            if Int(field.nameCount) == name.count, !field.isForThisHop,
                equalsIgnoringCase(UnsafeRawBufferPointer(start: base + Int(field.nameOffset), count: name.count), name)
            {
                return row
            }
            row &+= 1
        }
        return row
    }

    private mutating func set(_ edit: HeadEdits.Row, _ base: UnsafeRawPointer, _ writer: inout ByteWriter) -> Bool {
        let row = firstRow(edit.name, base, from: 0)
        guard row < fieldCount else { return appendField(edit, &writer) }
        remove(edit.name, base, from: row &+ 1)
        let value = written(&writer) { $0.write(edit.value) }
        giveValue(value, to: row)
        return true
    }

    private mutating func add(_ edit: HeadEdits.Row, _ base: UnsafeRawPointer, _ writer: inout ByteWriter) -> Bool {
        var row = fieldCount
        if !isSetCookie(edit.name) {
            var next = firstRow(edit.name, base, from: 0)
            while next < fieldCount {
                row = next
                next = firstRow(edit.name, base, from: next &+ 1)
            }
        }
        guard row < fieldCount else { return appendField(edit, &writer) }
        let old = fields[row]
        let value = written(&writer) { out in
            out.write(base + Int(old.valueOffset), count: Int(old.valueCount))
            // Cookies are no list of this sort (RFC 6265, 4.2.1).
            if old.id == .cookie { out.write("; ") } else if old.valueCount > 0 { out.write(",") }
            out.write(edit.value)
        }
        giveValue(value, to: row)
        return true
    }

    private func isSetCookie(_ name: UnsafeRawBufferPointer) -> Bool { name.count == 10 && tokenEquals(name.baseAddress!, 10, "set-cookie") }

    /// Takes out the rows of a name. A row that follows a gap is written by itself: what stands before it in the bytes does not go out.
    private mutating func remove(_ name: UnsafeRawBufferPointer, _ base: UnsafeRawPointer, from first: Int) {
        var row = firstRow(name, base, from: first)
        guard row < fieldCount else { return }
        var kept = row, next = row, followsGap = true
        while row < fieldCount {
            if row == next {
                next = firstRow(name, base, from: row &+ 1)
                followsGap = true
            } else {
                var field = fields[row]
                if followsGap { field.isPlain = false }
                followsGap = false
                fields[kept] = field
                kept &+= 1
            }
            row &+= 1
        }
        fieldCount = kept
    }

    private mutating func appendField(_ edit: HeadEdits.Row, _ writer: inout ByteWriter) -> Bool {
        guard fieldCount < HeadLimits.fieldsCapacity &+ HeadLimits.fieldsAddedMax else { return false }
        // As a line: then the head's bytes are as many as its text at least.
        let name = written(&writer) { $0.write(edit.name) }
        writer.write(": ")
        let value = written(&writer) { $0.write(edit.value) }
        writer.write("\r\n")
        var field = HeadField()
        field.nameOffset = name.offset
        field.nameCount = name.count
        field.id = identify(edit.name.baseAddress!, edit.name.count)
        fields[fieldCount] = field
        fieldCount &+= 1
        giveValue(value, to: fieldCount &- 1)
        return true
    }

    /// A row whose value stands elsewhere is no neighbour of any other: not plain, it ends every run.
    private func giveValue(_ value: ByteSpan, to row: Int) {
        var field = fields[row]
        field.valueOffset = value.offset
        field.valueCount = value.count
        field.isPlain = false
        fields[row] = field
    }

    /// Where a text stands that is written now.
    private func written(_ writer: inout ByteWriter, _ write: (inout ByteWriter) -> Void) -> ByteSpan {
        let start = byteCount &+ writer.count
        write(&writer)
        return ByteSpan(start, byteCount &+ writer.count)
    }

    private mutating func replacePath(_ text: UnsafeRawBufferPointer, _ writer: inout ByteWriter) {
        path = written(&writer) { $0.write(text) }
        target = path
        // Method and target are neighbours no more: written one by one, in origin form.
        targetForm = .absolute
    }

    private mutating func replaceAuthority(_ text: UnsafeRawBufferPointer, _ base: UnsafeRawPointer, _ writer: inout ByteWriter) {
        authority = written(&writer) { $0.write(text) }
        host = authority
        port = nil
    }

    /// What the parser has noted of rows, once they have moved.
    private mutating func findKnownRows() {
        (hostRow, upgradeRow, requestIDRow, traceparentRow, forwardedForRow, forwardedProtoRow) = (-1, -1, -1, -1, -1, -1)
        (requestIDCount, traceparentCount, forwardedProtoCount) = (0, 0, 0)
        var row = 0
        while row < fieldCount {
            switch fields[row].id {
            case .host: hostRow = row
            case .upgrade: upgradeRow = row
            case .xRequestID: requestIDRow = row; requestIDCount &+= 1
            case .traceparent: traceparentRow = row; traceparentCount &+= 1
            case .xForwardedFor: forwardedForRow = row
            case .xForwardedProto: forwardedProtoRow = row; forwardedProtoCount &+= 1
            default: break
            }
            row &+= 1
        }
    }
}

/// Whether bytes may be a field's value (RFC 9110, 5.5), without blanks around it.
func isFieldValue(_ value: UnsafeRawBufferPointer) -> Bool {
    guard let base = value.baseAddress, value.count > 0 else { return true }
    var index = firstControl(in: base, from: 0, to: value.count)
    while index < value.count, value[index] == Octet.tab { index = firstControl(in: base, from: index &+ 1, to: value.count) }
    return index == value.count && !Octet.isBlank(value[0]) && !Octet.isBlank(value[value.count &- 1])
}
