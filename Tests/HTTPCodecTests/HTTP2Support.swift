import Bytes
import Glibc
import HTTPCodec

/// An event as plain values, so that it outlives the bytes it points into.
enum Told: Equatable {
    case head(Int32, ParsedHead, ends: Bool)
    case interim(Int32, ParsedHead)
    case trailers(Int32, ParsedHead)
    case data(Int32, String, ends: Bool)
    case ended(Int32)
    case reset(Int32, HTTP2Code, wasProcessed: Bool)
    case refused(Int32, HTTPFault, isOpen: Bool)
    case settings, pong
    case goAway(HTTP2Code)
    case fault(HTTP2Fault)
}

/// One end of a connection: a session, what it was told and what it wrote.
final class End {
    // Properties go in this order, and the session must go first.
    var session: HTTP2Session
    let workspace: HTTP2Workspace
    var head = Head()
    var now: UInt64 = 1_000_000_000
    var told: [Told] = []
    /// Bytes of content that are taken by the receiver the moment they come.
    var consumes = true
    /// Called with each head as it is decoded, and its bytes.
    var onHead: ((inout HTTP2Session, Int32, borrowing Head, UnsafeRawBufferPointer, Bool) -> Void)?

    init(_ role: HTTP2Session.Role, limits: HTTP2Limits = .standard) {
        workspace = HTTP2Workspace(limits: limits)
        guard let made = HTTP2Session(role, workspace, now: now) else { fatalError("no memory for a session") }
        session = made
    }

    /// Feeds bytes in memory of exactly their size.
    func receive(_ bytes: some Collection<UInt8>) {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
        defer { memory.deallocate() }
        memory.copyBytes(from: bytes)
        var rest = UnsafeRawBufferPointer(memory)
        while true {
            let event = session.next(&rest, head: &head, now: now)
            switch event {
            case .none:
                precondition(rest.isEmpty, "none means that all is dealt with")
                return
            case .pause: precondition(!rest.isEmpty, "a pause is in the middle of something")
            case .head(let stream, _, let text, let ends):
                told.append(.head(stream, ParsedHead(head, text), ends: ends))
                if session.owner(stream) == 0 { session.setOwner(stream, UInt32(stream)) }
                onHead?(&session, stream, head, text, ends)
            case .interim(let stream, _, let text):
                told.append(.interim(stream, ParsedHead(head, text)))
                onHead?(&session, stream, head, text, false)
            case .trailers(let stream, _, let text):
                told.append(.trailers(stream, ParsedHead(head, text)))
                onHead?(&session, stream, head, text, true)
            case .data(let stream, _, let content, let ends):
                told.append(.data(stream, text(content), ends: ends))
                if consumes { session.consumed(stream, content.count) }
            case .ended(let stream, _): told.append(.ended(stream))
            case .reset(let stream, _, let code, let wasProcessed): told.append(.reset(stream, code, wasProcessed: wasProcessed))
            case .refused(let stream, _, let fault, let isOpen): told.append(.refused(stream, fault, isOpen: isOpen))
            case .settings: told.append(.settings)
            case .pong: told.append(.pong)
            case .goAway(let code): told.append(.goAway(code))
            case .fault(let fault): told.append(.fault(fault))
            }
        }
    }

    /// Everything there is to write, in pieces of `piece` bytes.
    func written(piece: Int = 16_384) -> [UInt8] {
        var bytes: [UInt8] = []
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: piece, alignment: 16)
        defer { memory.deallocate() }
        while true {
            let count = session.write(into: memory)
            bytes += memory[..<count]
            if count == 0 { return bytes }
        }
    }

    func room(_ stream: Int32) -> Int { session.room(stream) }
    func check() { _ = session.check(now: now) }
    var openStreams: Int { session.openStreams }
    var isSuspect: Bool { session.isSuspect }
    var hasEvents: Bool { session.hasEvents }
    var pingSentAt: UInt64? { session.pingSentAt }
    var canOpenStream: Bool { session.canOpenStream }
    var allowsExtendedConnect: Bool { session.allowsExtendedConnect }
    func nextWritable() -> UInt32? { session.nextWritable() }

    /// What was told since the last time, without SETTINGS.
    func news() -> [Told] {
        defer { told.removeAll() }
        return told.filter { $0 != .settings }
    }

    func request(_ wire: String, ends: Bool = true, owner: UInt32 = 7, keepsUpgrade: Bool = false) throws -> Int32 {
        var parsed = Head()
        var progress = HeadProgress()
        let bytes = Array(wire.utf8)
        return try bytes.withUnsafeBytes { bytes in
            guard try parsed.parseRequest(bytes, limits: .standard, progress: &progress) != nil else { throw Unexpected("incomplete") }
            return try session.submitRequest(parsed, of: bytes, RequestForwarding(random: (1, 2, 3), keepsUpgrade: keepsUpgrade), ends: ends, owner: owner)
        }
    }

    func respond(_ stream: Int32, _ wire: String, answering method: HTTPMethod = .get, ends: Bool = false, mayUpgrade: Bool = false) throws {
        var parsed = Head()
        var progress = HeadProgress()
        let bytes = Array(wire.utf8)
        try bytes.withUnsafeBytes { bytes in
            guard try parsed.parseResponse(bytes, answering: method, mayUpgrade: mayUpgrade, limits: .standard, progress: &progress) != nil else {
                throw Unexpected("incomplete")
            }
            session.submitResponse(stream, parsed, of: bytes, ends: ends)
        }
    }

    @discardableResult func append(_ stream: Int32, _ content: String) -> Int {
        let bytes = Array(content.utf8)
        return bytes.withUnsafeBytes { session.append(stream, $0) }
    }

    /// Lends content, and returns the frames that were gathered with it.
    func lend(_ stream: Int32, _ content: String, ends: Bool) -> [UInt8] {
        let bytes = Array(content.utf8)
        return bytes.withUnsafeBytes { content in
            _ = session.lend(stream, content, ends: ends)
            var sent: [UInt8] = []
            if let gathered = session.gathered { for piece in gathered.pieces { sent += UnsafeRawBufferPointer(start: piece.iov_base, count: piece.iov_len) } }
            session.clearGathered()
            return sent
        }
    }

    /// Trailers, given as field lines of a head.
    func trail(_ stream: Int32, _ lines: String) throws {
        var parsed = Head()
        var progress = HeadProgress()
        let bytes = Array(("HTTP/1.1 200 OK\r\n" + lines + "\r\n").utf8)
        try bytes.withUnsafeBytes { bytes in
            _ = try parsed.parseResponse(bytes, answering: .head, limits: .standard, progress: &progress)
            session.submitTrailers(stream, parsed, of: bytes)
        }
    }
}

/// A client and a server joined in memory.
final class Joined {
    let client: End
    let server: End

    init(limits: HTTP2Limits = .standard) {
        client = End(.client, limits: limits)
        server = End(.server, limits: limits)
        settle()
        client.told.removeAll()
        server.told.removeAll()
    }

    /// Passes bytes both ways until neither side has any.
    func settle() {
        while true {
            let up = client.written(), down = server.written()
            if up.isEmpty && down.isEmpty { return }
            server.receive(up)
            client.receive(down)
        }
    }
}

extension ParsedHead {
    func value(_ name: String) -> String? {
        fields.first { $0.lowercased().hasPrefix(name + ": ") }.map { String($0.dropFirst(name.count + 2)) }
    }
}

/// A frame by hand.
func frame(_ type: UInt8, _ flags: UInt8, _ stream: UInt32, _ payload: [UInt8] = []) -> [UInt8] {
    let count = payload.count
    return [UInt8(count >> 16 & 255), UInt8(count >> 8 & 255), UInt8(count & 255), type, flags]
        + [UInt8(stream >> 24), UInt8(stream >> 16 & 255), UInt8(stream >> 8 & 255), UInt8(stream & 255)] + payload
}

/// Fields as a header block of literals that nobody indexes (RFC 7541, 6.2.2).
func block(_ fields: [(String, String)]) -> [UInt8] {
    func string(_ text: String) -> [UInt8] {
        let bytes = Array(text.utf8)
        guard bytes.count >= 127 else { return [UInt8(bytes.count)] + bytes }
        var rest = bytes.count - 127, length: [UInt8] = [127]
        while rest >= 128 { length.append(UInt8(rest & 127) | 128); rest >>= 7 }
        return length + [UInt8(rest)] + bytes
    }
    return fields.flatMap { [0] + string($0.0) + string($0.1) }
}

/// HEADERS of one frame.
func headers(_ stream: UInt32, _ fields: [(String, String)], ends: Bool = true) -> [UInt8] {
    frame(1, ends ? 5 : 4, stream, block(fields))
}

let plainRequest = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")]
let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

/// A server that has shaken hands with a client that is played by hand.
func shakenServer(limits: HTTP2Limits = .standard) -> End {
    let server = End(.server, limits: limits)
    server.receive(preface + frame(4, 0, 0) + frame(4, 1, 0))
    _ = server.written()
    _ = server.news()
    return server
}

/// The frames of what was written: type, flags, stream, payload.
func frames(_ bytes: [UInt8]) -> [(type: UInt8, flags: UInt8, stream: UInt32, payload: [UInt8])] {
    var found: [(UInt8, UInt8, UInt32, [UInt8])] = [], rest = bytes[...]
    while rest.count >= 9 {
        let start = rest.startIndex
        let count = Int(rest[start]) << 16 | Int(rest[start + 1]) << 8 | Int(rest[start + 2])
        let stream = (0..<4).reduce(UInt32(0)) { $0 << 8 | UInt32(rest[start + 5 + $1]) }
        found.append((rest[start + 3], rest[start + 4], stream, Array(rest[(start + 9)..<(start + 9 + count)])))
        rest = rest[(start + 9 + count)...]
    }
    precondition(rest.isEmpty, "only whole frames are written")
    return found
}

/// RST_STREAM and GOAWAY among frames, in words.
func endings(_ bytes: [UInt8]) -> [String] {
    frames(bytes).compactMap { frame in
        func code(_ offset: Int) -> HTTP2Code { HTTP2Code(wire: (0..<4).reduce(UInt32(0)) { $0 << 8 | UInt32(frame.payload[offset + $1]) }) }
        switch frame.type {
        case 3: return "reset \(frame.stream) \(code(0))"
        case 7: return "goaway \(code(4))"
        default: return nil
        }
    }
}
