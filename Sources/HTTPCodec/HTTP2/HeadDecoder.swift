import Bytes

/// Takes decompressed fields one by one and lays them out as the text of an HTTP/1.1 head, judging each (RFC 9113, 8.2).
///
/// So the writers that forward a parsed head forward this one too, neighbours in one copy. Pseudo-header fields come first
/// and make the first line; cookie crumbs are joined at the end (8.2.3).
struct HeadDecoder {
    enum Kind { case request, response, trailers }
    static let textBytesMax = 65_535

    private let text: UnsafeMutableRawPointer
    private let pseudo: UnsafeMutableRawPointer
    private let cookies: UnsafeMutableRawPointer
    private var textCount = 0, pseudoCount = 0, cookieCount = 0
    /// The rows of the head that is being filled; set by `begin`.
    var rows: UnsafeMutablePointer<HeadField>?
    private(set) var rowCount = 0

    private(set) var kind = Kind.request
    /// A head has begun since `expect`.
    private(set) var hasBegun = false
    private(set) var fault: HTTPFault?
    /// Decoded bytes so far, 32 more per field.
    private(set) var listBytes = 0
    private var wroteFirstLine = false

    // Pseudo-header fields, in `pseudo` until the first line is written; places there, then in the text.
    private(set) var method = ByteSpan(), scheme = ByteSpan(), authority = ByteSpan(), path = ByteSpan()
    private(set) var upgrade = ByteSpan(), status = ByteSpan()
    private var seen: UInt8 = 0
    /// CONNECT with `:protocol`, laid out as GET.
    private(set) var isExtendedConnect = false

    init() {
        text = .allocate(byteCount: Self.textBytesMax + 1, alignment: 16)
        pseudo = .allocate(byteCount: Self.textBytesMax + 1, alignment: 16)
        cookies = .allocate(byteCount: Self.textBytesMax + 1, alignment: 16)
    }

    func tearDown() {
        text.deallocate()
        pseudo.deallocate()
        cookies.deallocate()
    }

    /// Before a header block is given to the library.
    mutating func expect(_ rows: UnsafeMutablePointer<HeadField>) {
        self.rows = rows
        hasBegun = false
    }

    mutating func begin(_ kind: Kind) {
        self.kind = kind
        hasBegun = true
        textCount = 0
        pseudoCount = 0
        cookieCount = 0
        rowCount = 0
        listBytes = 0
        fault = nil
        wroteFirstLine = kind == .trailers
        method = ByteSpan()
        scheme = ByteSpan()
        authority = ByteSpan()
        path = ByteSpan()
        upgrade = ByteSpan()
        status = ByteSpan()
        seen = 0
        isExtendedConnect = false
    }

    /// What has been laid out.
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: text, count: textCount) }
    var source: Source { Source(bytes, limit: .max) }
    func has(_ field: Pseudo) -> Bool { seen & field.rawValue != 0 }

    enum Pseudo: UInt8 { case method = 1, scheme = 2, authority = 4, path = 8, upgrade = 16, status = 32 }

    private mutating func refuse(_ fault: HTTPFault) { if self.fault == nil { self.fault = fault } }

    mutating func add(
        _ name: UnsafeRawPointer, _ nameCount: Int, _ value: UnsafeRawPointer, _ valueCount: Int, _ limits: HTTP2Limits
    ) {
        listBytes &+= nameCount &+ valueCount &+ 32
        guard fault == nil else { return }
        guard listBytes <= limits.headListBytesMax else { return refuse(.headTooLarge) }
        guard nameCount > 0 else { return refuse(.emptyFieldName) }
        if name.load(as: UInt8.self) == Octet.colon {
            addPseudo(name, nameCount, value, valueCount)
        } else {
            addField(name, nameCount, value, valueCount, limits)
        }
    }

    private mutating func addPseudo(_ name: UnsafeRawPointer, _ nameCount: Int, _ value: UnsafeRawPointer, _ valueCount: Int) {
        guard kind != .trailers, !wroteFirstLine else { return refuse(.badPseudoField) }
        let field: Pseudo? =
            switch nameCount {
            case 5: equals(name, 5, ":path") ? .path : nil
            case 7: equals(name, 7, ":method") ? .method : equals(name, 7, ":scheme") ? .scheme : equals(name, 7, ":status") ? .status : nil
            case 9: equals(name, 9, ":protocol") ? .upgrade : nil
            case 10: equals(name, 10, ":authority") ? .authority : nil
            default: nil
            }
        guard let field, (field == .status) == (kind == .response), !has(field) else { return refuse(.badPseudoField) }
        guard firstNotVisible(in: value, from: 0, to: valueCount) == valueCount else { return refuse(field == .path ? .badTarget : .badPseudoField) }
        seen |= field.rawValue
        // The list limit holds, so this fits: each field counts its name and 32 more.
        (pseudo + pseudoCount).copyMemory(from: value, byteCount: valueCount)
        let span = ByteSpan(pseudoCount, pseudoCount &+ valueCount)
        pseudoCount &+= valueCount
        switch field {
        case .method: method = span
        case .scheme: scheme = span
        case .authority: authority = span
        case .path: path = span
        case .upgrade: upgrade = span
        case .status: status = span
        }
    }

    private mutating func addField(
        _ name: UnsafeRawPointer, _ nameCount: Int, _ value: UnsafeRawPointer, _ valueCount: Int, _ limits: HTTP2Limits
    ) {
        if !wroteFirstLine { writeFirstLine() }
        guard firstNotToken(in: name, from: 0, to: nameCount) == nameCount else { return refuse(.badFieldName) }
        guard !hasUpperCase(name, nameCount) else { return refuse(.upperCaseFieldName) }
        var index = firstControl(in: value, from: 0, to: valueCount)
        while index < valueCount, value.load(fromByteOffset: index, as: UInt8.self) == Octet.tab {
            index = firstControl(in: value, from: index &+ 1, to: valueCount)
        }
        guard index == valueCount else { return refuse(faultOfControl(value.load(fromByteOffset: index, as: UInt8.self))) }
        if valueCount > 0, Octet.isBlank(value.load(as: UInt8.self)) || Octet.isBlank(value.load(fromByteOffset: valueCount &- 1, as: UInt8.self)) {
            return refuse(.blankAroundValue)
        }
        let id = identify(name, nameCount)
        switch id {
        case .connection, .keepAlive, .proxyConnection, .transferEncoding, .upgrade: return refuse(.connectionField)
        case .cookie: return addCookie(value, valueCount)
        default: append(name, nameCount, value, valueCount, id, limits.fieldsMax)
        }
    }

    private mutating func addCookie(_ value: UnsafeRawPointer, _ count: Int) {
        guard kind != .trailers else { return refuse(.forbiddenTrailer) }
        if cookieCount > 0 {
            (cookies + cookieCount).storeBytes(of: UInt8(ascii: ";"), as: UInt8.self)
            (cookies + cookieCount + 1).storeBytes(of: Octet.space, as: UInt8.self)
            cookieCount &+= 2
        }
        (cookies + cookieCount).copyMemory(from: value, byteCount: count)
        cookieCount &+= count
    }

    /// One line of the text, and its row.
    mutating func append(
        _ name: UnsafeRawPointer, _ nameCount: Int, _ value: UnsafeRawPointer, _ valueCount: Int, _ id: KnownField, _ fieldsMax: Int
    ) {
        guard rowCount < fieldsMax, let rows else { return refuse(.tooManyFields) }
        guard nameCount &+ valueCount &+ 4 <= Self.textBytesMax &- textCount else { return refuse(.headTooLarge) }
        let line = text + textCount
        line.copyMemory(from: name, byteCount: nameCount)
        (line + nameCount).storeBytes(of: 0x203A, as: UInt16.self)             // ": " in memory order
        (line + nameCount + 2).copyMemory(from: value, byteCount: valueCount)
        (line + nameCount + 2 + valueCount).storeBytes(of: 0x0A0D, as: UInt16.self)
        var field = HeadField()
        field.nameOffset = UInt16(truncatingIfNeeded: textCount)
        field.nameCount = UInt16(truncatingIfNeeded: nameCount)
        field.valueOffset = UInt16(truncatingIfNeeded: textCount &+ nameCount &+ 2)
        field.valueCount = UInt16(truncatingIfNeeded: valueCount)
        field.id = id
        field.isPlain = true
        rows[rowCount] = field
        rowCount &+= 1
        textCount &+= nameCount &+ valueCount &+ 4
    }

    /// A line whose name is part of the program.
    mutating func append(_ name: StaticString, _ value: UnsafeRawBufferPointer, _ id: KnownField) {
        let base = value.baseAddress ?? UnsafeRawPointer(name.utf8Start)
        append(UnsafeRawPointer(name.utf8Start), name.utf8CodeUnitCount, base, value.count, id, HeadLimits.fieldsCapacity)
    }

    /// Text outside any line. Empty, and no fault, when there is no room: it is only there to be read.
    mutating func append(_ phrase: StaticString) -> ByteSpan {
        let count = phrase.utf8CodeUnitCount
        guard count <= Self.textBytesMax &- textCount else { return ByteSpan() }
        (text + textCount).copyMemory(from: UnsafeRawPointer(phrase.utf8Start), byteCount: count)
        defer { textCount &+= count }
        return ByteSpan(textCount, textCount &+ count)
    }

    /// The last field has come.
    mutating func finish() {
        if !wroteFirstLine { writeFirstLine() }
        if cookieCount > 0 { append("cookie", UnsafeRawBufferPointer(start: cookies, count: cookieCount), .cookie) }
    }

    /// `GET /path` and the authority, or nothing for a response; then the spans point into the text.
    private mutating func writeFirstLine() {
        wroteFirstLine = true
        if kind == .request {
            // Extended CONNECT is a GET that asks for an upgrade, to all that look at it in HTTP/1.1's terms.
            if has(.upgrade), equals(pseudo + method.start, Int(method.count), "CONNECT") {
                isExtendedConnect = true
                let start = textCount
                text.copyMemory(from: UnsafeRawPointer(("GET" as StaticString).utf8Start), byteCount: 3)
                textCount = 3
                method = ByteSpan(start, textCount)
            } else {
                method = move(method)
            }
            (text + textCount).storeBytes(of: Octet.space, as: UInt8.self)
            textCount &+= 1
            path = move(path)
            authority = move(authority)
            upgrade = move(upgrade)
        } else {
            status = move(status)
        }
    }

    private mutating func move(_ span: ByteSpan) -> ByteSpan {
        (text + textCount).copyMemory(from: pseudo + span.start, byteCount: Int(span.count))
        defer { textCount &+= Int(span.count) }
        return ByteSpan(textCount, textCount &+ Int(span.count))
    }
}

/// Whether a run of token characters holds an upper-case letter.
@inline(__always) private func hasUpperCase(_ bytes: UnsafeRawPointer, _ count: Int) -> Bool {
    var index = 0
    while index < count {
        if bytes.load(fromByteOffset: index, as: UInt8.self) &- 0x41 < 26 { return true }
        index &+= 1
    }
    return false
}
