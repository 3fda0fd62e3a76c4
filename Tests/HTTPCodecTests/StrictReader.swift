/// A reader of forwarded bytes that shares nothing with the codec: no table, no SWAR, no state machine. It plays the next
/// server at its strictest: whatever is not plainly one message after the other makes it throw.
struct StrictReader {
    struct Message: Equatable, CustomStringConvertible {
        /// Method, target and Host of a request; the status of a response.
        var start: [String]
        var body: [UInt8]
        var trailers: [String] = []
        var description: String { "\(start) \(body.count) bytes: \(String(decoding: body, as: UTF8.self).debugDescription) \(trailers)" }
    }

    struct Refusal: Error, CustomStringConvertible {
        var description: String
        init(_ description: String) { self.description = description }
    }

    private let bytes: [UInt8]
    private var index = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// Whether all bytes have been read.
    var isAtEnd: Bool { index == bytes.count }

    /// The next whole request, or nil when the bytes end before it does.
    mutating func nextRequest() throws -> Message? {
        guard let lines = try head() else { return nil }
        let parts = lines[0].split(separator: " ", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 3, parts[2] == "HTTP/1.1", !parts[0].isEmpty, !parts[1].isEmpty else { throw Refusal("request line \(lines[0])") }
        let fields = try self.fields(lines.dropFirst())
        let hosts = fields.filter { $0.0 == "host" }
        guard hosts.count == 1 else { throw Refusal("\(hosts.count) Host fields") }
        try refuseHopByHop(fields)
        guard let body = try body(fields, withoutLength: 0) else { return nil }
        return Message(start: [parts[0], parts[1], hosts[0].1], body: body.0, trailers: body.1)
    }

    /// The next whole response to a request with the given method.
    mutating func nextResponse(answering method: String, untilClose: Bool) throws -> Message? {
        guard let lines = try head() else { return nil }
        let parts = lines[0].split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0] == "HTTP/1.1", parts[1].count == 3, let status = Int(parts[1]) else { throw Refusal("status line \(lines[0])") }
        let fields = try self.fields(lines.dropFirst())
        try refuseHopByHop(fields)
        if status < 200 || status == 204 || status == 304 || method == "HEAD" { return Message(start: [String(parts[1])], body: []) }
        guard let body = try body(fields, withoutLength: untilClose ? bytes.count - index : nil) else { return nil }
        return Message(start: [String(parts[1])], body: body.0, trailers: body.1)
    }

    /// The lines of a head; each must end in CRLF and hold neither CR, LF nor NUL.
    private mutating func head() throws -> [String]? {
        var lines: [String] = []
        var at = index
        while let line = try line(&at) {
            if line.isEmpty {
                guard !lines.isEmpty else { throw Refusal("an empty line before a message") }
                index = at
                return lines
            }
            lines.append(line)
        }
        return nil
    }

    private func line(_ at: inout Int) throws -> String? {
        var end = at
        while end < bytes.count, bytes[end] != 10 { end += 1 }
        guard end < bytes.count else { return nil }
        guard end > at, bytes[end - 1] == 13 else { throw Refusal("a line without CR") }
        let content = bytes[at..<(end - 1)]
        guard !content.contains(where: { $0 < 32 && $0 != 9 || $0 == 127 }) else { throw Refusal("a control character") }
        at = end + 1
        return String(content.map { Character(UnicodeScalar($0)) })
    }

    private func fields(_ lines: ArraySlice<String>) throws -> [(String, String)] {
        try lines.map { line in
            guard let colon = line.firstIndex(of: ":") else { throw Refusal("no colon in \(line)") }
            let name = String(line[..<colon])
            let token = Set("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
            guard !name.isEmpty, name.allSatisfy(token.contains) else { throw Refusal("field name \(name)") }
            var value = line[line.index(after: colon)...]
            while value.first == " " || value.first == "\t" { value.removeFirst() }
            while value.last == " " || value.last == "\t" { value.removeLast() }
            return (name.lowercased(), String(value))
        }
    }

    private func refuseHopByHop(_ fields: [(String, String)]) throws {
        let banned = ["keep-alive", "proxy-connection", "http2-settings", "x-weft-destination", "x-forwarded-client-cert"]
        if let field = fields.first(where: { banned.contains($0.0) }) { throw Refusal("\(field.0) crossed a hop") }
        let allowed: Set = ["close", "te", "upgrade", "keep-alive"]
        for field in fields where field.0 == "connection" {
            for option in field.1.split(separator: ",") where !allowed.contains(option.filter { $0 != " " }) { throw Refusal("connection: \(field.1)") }
        }
    }

    private mutating func body(_ fields: [(String, String)], withoutLength: Int?) throws -> ([UInt8], [String])? {
        let lengths = fields.filter { $0.0 == "content-length" }.map(\.1), codings = fields.filter { $0.0 == "transfer-encoding" }.map(\.1)
        guard lengths.count + codings.count <= 1 else { throw Refusal("framed twice: \(lengths) \(codings)") }
        if let coding = codings.first {
            guard coding == "chunked" else { throw Refusal("transfer-encoding \(coding)") }
            return try chunks()
        }
        let length: Int
        if let text = lengths.first {
            guard text == "0" || text.first != "0", text.allSatisfy(\.isNumber), let number = Int(text) else { throw Refusal("content-length \(text)") }
            length = number
        } else {
            guard let withoutLength else { throw Refusal("a body without an end") }
            length = withoutLength
        }
        guard length <= bytes.count - index else { return nil }
        defer { index += length }
        return (Array(bytes[index..<index + length]), [])
    }

    private mutating func chunks() throws -> ([UInt8], [String])? {
        var at = index
        var content: [UInt8] = [], trailers: [String] = []
        while true {
            guard let line = try line(&at) else { return nil }
            guard !line.isEmpty, line.allSatisfy({ $0.isASCII && $0.isHexDigit }), let size = Int(line, radix: 16) else { throw Refusal("chunk size \(line)") }
            if size == 0 { break }
            guard size + 2 <= bytes.count - at else { return nil }
            content += bytes[at..<at + size]
            guard bytes[at + size] == 13, bytes[at + size + 1] == 10 else { throw Refusal("no CRLF behind a chunk") }
            at += size + 2
        }
        while true {
            guard let line = try line(&at) else { return nil }
            if line.isEmpty { break }
            let name = try fields([line])[0].0
            guard !["content-length", "transfer-encoding", "host", "connection", "trailer", "te"].contains(name) else { throw Refusal("trailer \(name)") }
            trailers.append(line)
        }
        index = at
        return (content, trailers)
    }
}
