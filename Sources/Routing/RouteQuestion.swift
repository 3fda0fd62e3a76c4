import MeshModel

/// Memory for what a decision must rewrite before it can compare it. A worker has one.
public struct RouteScratch: ~Copyable {
    let path: UnsafeMutableRawBufferPointer
    let value: UnsafeMutableRawBufferPointer

    /// Twice `Limits.routedTextBytesMax`, of which only touched pages exist.
    public init() {
        path = .allocate(byteCount: Limits.routedTextBytesMax, alignment: 16)
        value = .allocate(byteCount: Limits.routedTextBytesMax, alignment: 16)
    }

    deinit {
        path.deallocate()
        value.deallocate()
    }
}

/// One request, as matches are asked about it.
struct RouteQuestion {
    let method: UnsafeRawBufferPointer
    /// In normal form, without the query.
    let path: UnsafeRawBufferPointer
    let query: UnsafeRawBufferPointer
    /// As it came.
    let authority: UnsafeRawBufferPointer
    /// Without port and final dot.
    let host: UnsafeRawBufferPointer
    /// The field that was asked for last: canaries ask for one header in match after match.
    private var known: (name: UnsafeRawBufferPointer, isHeader: Bool, value: UnsafeRawBufferPointer?)?

    /// Nil: a path longer than any head.
    init?(_ request: RouteRequest, _ scratch: borrowing RouteScratch) {
        method = request.method
        authority = request.host
        host = HostName.withoutPort(request.host)
        let form = PathForm(request.path)
        query = form.query
        if form.path.isEmpty {
            // `http://host?query` asks for the root.
            path = UnsafeRawBufferPointer(start: ("/" as StaticString).utf8Start, count: 1)
        } else if form.isNormal {
            path = form.path
        } else {
            guard form.path.count <= scratch.path.count else { return nil }
            let count = PathForm.normalise(form.path, into: scratch.path)
            path = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(scratch.path)[..<count])
        }
    }

    // MARK: Path

    func hasPath(_ match: RouteMatchView) -> Bool {
        switch match.path {
        case .any: return true
        case .exact: return Self.isSame(match.pathText, path)
        case .prefix:
            let prefix = match.pathText
            guard prefix.count <= path.count, prefix.count == path.count || path[prefix.count] == UInt8(ascii: "/") else { return false }
            return Self.isSame(prefix, UnsafeRawBufferPointer(rebasing: path[..<prefix.count]))
        case .expression: return match.pathExpression.matches(path)
        }
    }

    // MARK: Everything else

    /// Whether all of the match but its path holds.
    mutating func takes(_ match: RouteMatchView, _ scratch: borrowing RouteScratch, _ field: FieldLookup) -> Bool {
        let method = match.method
        if !method.isEmpty, !Self.isSame(method, self.method) { return false }
        if match.asksForHost, !hasHost(match) { return false }
        var place = 0
        while place < match.fieldCount {
            let pattern = match.field(at: place)
            guard let value = value(pattern.name, isHeader: place < match.headerCount, scratch, field), pattern.isExpression ? pattern.expression.matches(value) : Self.isSame(pattern.value, value) else { return false }
            place += 1
        }
        return true
    }

    /// The field's value: in the request, or in the scratch until the next field is asked for.
    private mutating func value(
        _ name: UnsafeRawBufferPointer, isHeader: Bool, _ scratch: borrowing RouteScratch, _ field: FieldLookup
    ) -> UnsafeRawBufferPointer? {
        // Equal names of one shard lie at one place.
        if let known, known.name.baseAddress == name.baseAddress, known.name.count == name.count, known.isHeader == isHeader { return known.value }
        let value = isHeader ? header(name, scratch, field) : parameter(name, scratch)
        known = (name, isHeader, value)
        return value
    }

    private func hasHost(_ match: RouteMatchView) -> Bool {
        let hostname = match.hostname
        guard match.isHostSuffix else { return ASCIIText.equal(hostname, host) }
        // At least one label in front of it.
        guard host.count > hostname.count else { return false }
        return ASCIIText.equal(hostname, UnsafeRawBufferPointer(rebasing: host[(host.count - hostname.count)...]))
    }

    /// The value of a header; of repeated ones the values with commas between them (RFC 9110, 5.3; without blanks, as Envoy joins them), of cookies with
    /// `; ` (RFC 9113, 8.2.3).
    private func header(_ name: UnsafeRawBufferPointer, _ scratch: borrowing RouteScratch, _ field: FieldLookup) -> UnsafeRawBufferPointer? {
        // In HTTP/2 `:authority` takes its place (RFC 9113, 8.3.1).
        if Self.isSame(name, "host") { return authority }
        var row = 0
        guard let first = field(name, &row) else { return nil }
        guard var value = field(name, &row) else { return first }
        var writer = ScratchWriter(scratch.value)
        guard writer.write(first) else { return nil }
        while true {
            guard writer.write(Self.isSame(name, "cookie") ? "; " : ","), writer.write(value) else { return nil }
            guard let next = field(name, &row) else { return writer.written }
            value = next
        }
    }

    private static func isSame(_ name: UnsafeRawBufferPointer, _ known: StaticString) -> Bool {
        isSame(name, UnsafeRawBufferPointer(start: known.utf8Start, count: known.utf8CodeUnitCount))
    }

    /// The value of the first query parameter with a name, both decoded as forms are (URL standard, 5.1): `+` is a blank, escapes are bytes.
    private func parameter(_ name: UnsafeRawBufferPointer, _ scratch: borrowing RouteScratch) -> UnsafeRawBufferPointer? {
        // Behind the question mark.
        var start = 1
        while start < query.count {
            var end = start
            var equals: Int?
            while end < query.count, query[end] != UInt8(ascii: "&") {
                if query[end] == UInt8(ascii: "="), equals == nil { equals = end }
                end += 1
            }
            let nameEnd = equals ?? end
            if Self.isDecoded(UnsafeRawBufferPointer(rebasing: query[start..<nameEnd]), name) {
                return Self.decoded(UnsafeRawBufferPointer(rebasing: query[min(nameEnd + 1, end)..<end]), scratch)
            }
            start = end + 1
        }
        return nil
    }

    /// Whether a text is another one, once decoded.
    private static func isDecoded(_ text: UnsafeRawBufferPointer, _ wanted: UnsafeRawBufferPointer) -> Bool {
        var source = 0, place = 0
        while source < text.count {
            let byte = decodedByte(text, &source)
            guard place < wanted.count, wanted[place] == byte else { return false }
            place += 1
        }
        return place == wanted.count
    }

    private static func decoded(_ text: UnsafeRawBufferPointer, _ scratch: borrowing RouteScratch) -> UnsafeRawBufferPointer? {
        guard text.contains(where: { $0 == UInt8(ascii: "%") || $0 == UInt8(ascii: "+") }) else { return text }
        guard text.count <= scratch.value.count else { return nil }
        var source = 0, count = 0
        while source < text.count {
            scratch.value[count] = decodedByte(text, &source)
            count += 1
        }
        return UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(scratch.value)[..<count])
    }

    private static func decodedByte(_ text: UnsafeRawBufferPointer, _ source: inout Int) -> UInt8 {
        let byte = text[source]
        source += 1
        if byte == UInt8(ascii: "+") { return UInt8(ascii: " ") }
        if byte == UInt8(ascii: "%"), let value = PathForm.escaped(in: text, at: source) {
            source += 2
            return value
        }
        return byte
    }

    static func isSame(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
        let count = left.count
        guard right.count == count, let left = left.baseAddress, let right = right.baseAddress else { return right.count == count }
        var place = 0
        while place + 8 <= count {
            if left.loadUnaligned(fromByteOffset: place, as: UInt64.self) != right.loadUnaligned(fromByteOffset: place, as: UInt64.self) { return false }
            place += 8
        }
        while place < count {
            if left.load(fromByteOffset: place, as: UInt8.self) != right.load(fromByteOffset: place, as: UInt8.self) { return false }
            place += 1
        }
        return true
    }
}

/// Puts texts one behind the other.
private struct ScratchWriter {
    private let memory: UnsafeMutableRawBufferPointer
    private var count = 0

    init(_ memory: UnsafeMutableRawBufferPointer) { self.memory = memory }

    /// False: there is no room.
    mutating func write(_ text: UnsafeRawBufferPointer) -> Bool {
        guard count + text.count <= memory.count else { return false }
        UnsafeMutableRawBufferPointer(rebasing: memory[count...]).copyMemory(from: text)
        count += text.count
        return true
    }

    mutating func write(_ text: StaticString) -> Bool { write(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)) }

    var written: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(memory)[..<count]) }
}
