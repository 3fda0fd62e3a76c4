import Bytes
import HTTPCodec

/// What one stream of bytes became on its way through the codec, without sockets: what was judged and what was forwarded.
struct Crossing: Equatable {
    /// Whole messages, as the codec judged them.
    var judged: [StrictReader.Message] = []
    /// All that was written towards the other side, also of a message that was not finished.
    var forwarded: [UInt8] = []
    var fault: HTTPFault?
    /// Bytes taken from the input.
    var consumed = 0

    /// Requests, pipelined, arriving in pieces that end at `cuts`.
    static func ofRequests(_ wire: [UInt8], cuts: [Int], limits: HeadLimits = .standard) -> Crossing {
        var crossing = Crossing()
        var head = Head()
        var progress = HeadProgress()
        func takeHead(_ bytes: UnsafeRawBufferPointer, _ out: inout [UInt8], _ body: inout BodyCrossing?) throws(HTTPFault) -> Int? {
            guard let end = try head.parseRequest(bytes, limits: limits, progress: &progress) else { return nil }
            let path = head.path.isEmpty ? (head.method == .options ? "*" : "/") : characters(head.path.of(bytes))
            let target = head.targetForm == .authority ? characters(head.target.of(bytes)) : path.hasPrefix("?") ? "/" + path : path
            let host = head.authority.isEmpty ? "destination" : characters(head.authority.of(bytes))
            let message = StrictReader.Message(start: [characters(head.methodName.of(bytes)), target, host], body: [])
            body = try BodyCrossing(message, head.framing, writesChunks: head.framing == .chunked)
            let destination: StaticString = "destination"
            let peer: StaticString = "2001:db8:ffff:ffff:ffff:ffff:192.168.100.100"
            // Every other length of head also names the peer, closes and upgrades: all that can be added fits its bound.
            let addsMuch = end % 2 == 1
            let forwarding = RequestForwarding(
                peerAddress: UnsafeRawBufferPointer(start: peer.utf8Start, count: addsMuch ? peer.utf8CodeUnitCount : 0),
                destination: UnsafeRawBufferPointer(start: destination.utf8Start, count: destination.utf8CodeUnitCount),
                random: (.max, .max, .max), closesUpstream: addsMuch, keepsUpgrade: addsMuch)
            append(to: &out, upTo: RequestWriter.bytesMax(head, forwarding)) { RequestWriter.write(head, of: bytes, forwarding, to: &$0) }
            return end
        }
        var body: BodyCrossing?
        crossing.run(wire, cuts, &body, takeHead)
        return crossing
    }

    /// Responses to requests with one method, towards a downstream of one version.
    static func ofResponses(_ wire: [UInt8], answering method: HTTPMethod, minorVersion: Int, cuts: [Int], closes: Bool) -> Crossing {
        var crossing = Crossing()
        var head = Head()
        var progress = HeadProgress()
        func takeHead(_ bytes: UnsafeRawBufferPointer, _ out: inout [UInt8], _ body: inout BodyCrossing?) throws(HTTPFault) -> Int? {
            guard let end = try head.parseResponse(bytes, answering: method, limits: .standard, progress: &progress) else { return nil }
            let plan = head.responsePlan(minorVersion: minorVersion, keepsAlive: true)
            body = try BodyCrossing(StrictReader.Message(start: ["\(head.status)"], body: []), head.framing, writesChunks: plan.writesChunks)
            append(to: &out, upTo: ResponseWriter.bytesMax(head)) { ResponseWriter.write(head, of: bytes, plan, to: &$0) }
            return end
        }
        var body: BodyCrossing?
        crossing.run(wire, cuts, &body, takeHead)
        if closes, crossing.fault == nil, body != nil {
            do throws(HTTPFault) {
                try body!.relay.peerClosed()
                try crossing.move([], &body)
            } catch { crossing.fault = error }
        }
        return crossing
    }

    private mutating func run(
        _ wire: [UInt8], _ cuts: [Int], _ body: inout BodyCrossing?,
        _ takeHead: (UnsafeRawBufferPointer, inout [UInt8], inout BodyCrossing?) throws(HTTPFault) -> Int?
    ) {
        do throws(HTTPFault) {
            for end in cuts + [wire.count] {
                while true {
                    // Memory of exactly this size: a step beyond it is for the sanitizer to see.
                    let piece = Array(wire[consumed..<end])
                    if body != nil {
                        try move(piece, &body)
                        if body != nil { break }
                    } else {
                        var fault: HTTPFault?
                        let taken = piece.withUnsafeBytes { bytes -> Int? in
                            do throws(HTTPFault) { return try takeHead(bytes, &forwarded, &body) } catch { fault = error; return nil }
                        }
                        if let fault { throw fault }
                        guard let taken else { break }
                        consumed += taken
                        try move([], &body)
                    }
                }
            }
        } catch { fault = error }
    }

    private static func append(to out: inout [UInt8], upTo bytesMax: Int, _ body: (inout ByteWriter) -> Bool) {
        withUnsafeTemporaryAllocation(byteCount: bytesMax, alignment: 1) { memory in
            var writer = ByteWriter(memory)
            precondition(body(&writer), "a bound was too low")
            out += writer.written
        }
    }

    /// Moves what there is of a body; a finished one is judged and forgotten.
    private mutating func move(_ piece: [UInt8], _ body: inout BodyCrossing?) throws(HTTPFault) {
        var fault: HTTPFault?
        var taken = 0
        withUnsafeTemporaryAllocation(byteCount: piece.count + BodyRelay.roomMin(.standard), alignment: 1) { memory in
            var writer = ByteWriter(memory)
            piece.withUnsafeBytes { bytes in
                do throws(HTTPFault) { taken = try body!.move(bytes, to: &writer) } catch { fault = error }
            }
            forwarded += writer.written
        }
        consumed += taken
        if let fault { throw fault }
        if body!.relay.isComplete {
            judged.append(body!.message)
            body = nil
        }
    }
}

/// A body on its way, and beside it a second decoder that tells what it says.
private struct BodyCrossing {
    var message: StrictReader.Message
    var relay: BodyRelay
    private var witness: BodyDecoder

    init(_ message: StrictReader.Message, _ framing: BodyFraming, writesChunks: Bool) throws(HTTPFault) {
        self.message = message
        witness = try BodyDecoder(framing)
        relay = BodyRelay(witness, writesChunks: writesChunks)
    }

    mutating func move(_ bytes: UnsafeRawBufferPointer, to out: inout ByteWriter) throws(HTTPFault) -> Int {
        let step = try relay.move(bytes, to: &out)
        precondition(!step.needsRoom && !out.overflowed, "there was room")
        var seen = 0
        while seen < step.consumed {
            let piece = try witness.next(UnsafeRawBufferPointer(rebasing: bytes[seen..<step.consumed]))
            let payload = bytes[seen + piece.payload.lowerBound..<seen + piece.payload.upperBound]
            switch piece.event {
            case .content: message.body += payload
            case .trailer: if relay.writesChunks { message.trailers.append(characters(payload)) }
            case .starved, .complete: break
            }
            seen += piece.consumed
            if piece.consumed == 0 { break }
        }
        precondition(seen == step.consumed, "two decoders of the same bytes disagree")
        return step.consumed
    }
}

/// One character per byte.
private func characters(_ bytes: some Sequence<UInt8>) -> String { String(bytes.map { Character(UnicodeScalar($0)) }) }
