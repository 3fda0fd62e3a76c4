import Bytes
import HTTPCodec

/// A head as plain values, so that two parses can be compared.
struct ParsedHead: Equatable, CustomStringConvertible {
    var byteCount: Int
    var method: String
    var target: String
    var path: String
    var authority: String
    var port: UInt16?
    var status: Int
    var minorVersion: Int
    var framing: BodyFraming
    var keepsAlive: Bool
    var fields: [String]

    init(_ head: borrowing Head, _ bytes: UnsafeRawBufferPointer) {
        byteCount = head.byteCount
        method = text(head.methodName.of(bytes))
        target = text(head.target.of(bytes))
        path = text(head.path.of(bytes))
        authority = text(head.authority.of(bytes))
        port = head.port
        status = head.status
        minorVersion = head.minorVersion
        framing = head.framing
        keepsAlive = head.keepsAlive
        fields = []
        for row in 0..<head.fieldCount {
            let field = head.field(row)
            fields.append("\(text(field.name.of(bytes))): \(text(field.value.of(bytes)))")
        }
    }

    var description: String { "\(method) \(target) \(status) \(framing) keep=\(keepsAlive) \(fields)" }
}

enum HeadOutcome: Equatable {
    case incomplete
    case parsed(ParsedHead)
    case refused(HTTPFault)
}

enum Side { case request, response }

func text(_ bytes: some Sequence<UInt8>) -> String { String(decoding: Array(bytes), as: UTF8.self) }

/// One parse of one stretch of bytes. They are copied to memory of exactly their size, so that a sanitizer sees any step beyond.
func parse(
    _ bytes: some Collection<UInt8>, _ side: Side = .request, answering method: HTTPMethod = .get, limits: HeadLimits = .standard,
    progress: inout HeadProgress
) -> HeadOutcome {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
    defer { memory.deallocate() }
    memory.copyBytes(from: bytes)
    let view = UnsafeRawBufferPointer(memory)
    var head = Head()
    do {
        let end = switch side {
        case .request: try head.parseRequest(view, limits: limits, progress: &progress)
        case .response: try head.parseResponse(view, answering: method, limits: limits, progress: &progress)
        }
        guard let end else { return .incomplete }
        precondition(end == head.byteCount)
        return .parsed(ParsedHead(head, view))
    } catch {
        return .refused(error)
    }
}

func parse(_ bytes: some Collection<UInt8>, _ side: Side = .request, answering method: HTTPMethod = .get, limits: HeadLimits = .standard) -> HeadOutcome {
    var progress = HeadProgress()
    return parse(bytes, side, answering: method, limits: limits, progress: &progress)
}

func parse(_ text: String, _ side: Side = .request, answering method: HTTPMethod = .get, limits: HeadLimits = .standard) -> HeadOutcome {
    parse(Array(text.utf8), side, answering: method, limits: limits)
}

/// The head alone, or a failure of the test's own.
func parsed(_ text: String, _ side: Side = .request, answering method: HTTPMethod = .get) throws -> ParsedHead {
    switch parse(text, side, answering: method) {
    case .parsed(let head): return head
    case .refused(let fault): throw Unexpected("refused: \(fault)")
    case .incomplete: throw Unexpected("incomplete")
    }
}

struct Unexpected: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

/// What is forwarded for a request or a response.
func forwarded(
    _ wire: String, peer: String = "", destination: String = "", random: (UInt64, UInt64, UInt64) = (1, 2, 3), isSecure: Bool = false,
    closesUpstream: Bool = false, keepsUpgrade: Bool = false
) throws -> String {
    var head = Head()
    var progress = HeadProgress()
    let bytes = Array(wire.utf8), peer = Array(peer.utf8), destination = Array(destination.utf8)
    return try bytes.withUnsafeBytes { bytes in
        guard try head.parseRequest(bytes, limits: .standard, progress: &progress) != nil else { throw Unexpected("incomplete") }
        return try peer.withUnsafeBytes { peer in
            try destination.withUnsafeBytes { destination in
                let forwarding = RequestForwarding(
                    peerAddress: peer, destination: destination, isSecure: isSecure, random: random, closesUpstream: closesUpstream,
                    keepsUpgrade: keepsUpgrade)
                return try written(upTo: RequestWriter.bytesMax(head, forwarding)) {
                    RequestWriter.write(head, of: bytes, forwarding, to: &$0)
                }
            }
        }
    }
}

func forwardedResponse(
    _ wire: String, answering method: HTTPMethod = .get, minorVersion: Int = 1, keepsAlive: Bool = true, mayUpgrade: Bool = false
) throws -> String {
    var head = Head()
    var progress = HeadProgress()
    let bytes = Array(wire.utf8)
    return try bytes.withUnsafeBytes { bytes in
        guard try head.parseResponse(bytes, answering: method, mayUpgrade: mayUpgrade, limits: .standard, progress: &progress) != nil
        else { throw Unexpected("incomplete") }
        let plan = head.responsePlan(minorVersion: minorVersion, keepsAlive: keepsAlive)
        return try written(upTo: ResponseWriter.bytesMax(head)) { ResponseWriter.write(head, of: bytes, plan, to: &$0) }
    }
}

func written(upTo bytesMax: Int, _ write: (inout ByteWriter) throws -> Bool) throws -> String {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytesMax, alignment: 1)
    defer { memory.deallocate() }
    var writer = ByteWriter(memory)
    guard try write(&writer) else { throw Unexpected("\(bytesMax) bytes were said to be enough") }
    return text(writer.written)
}

/// A generator whose whole future is its seed (SplitMix64).
struct SeededRandom: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }
}
