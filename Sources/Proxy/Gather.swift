import Bytes
import HTTPCodec

// Bodies from one connection's bytes to the other's, for requests and replies alike.
extension Worker {
    /// Puts the body bytes that came with a head behind the rewritten head in `writer`, so that both leave in one send.
    ///
    /// Small ones are copied. Of large ones in the receive buffer, the head is copied before them instead, into the room that the
    /// original head leaves (interim heads before it only make that larger).
    /// - Returns: the message, and how many of `bytes` are dealt with, the head's own included.
    func gather(
        _ body: inout BodyFlow, _ writer: inout ByteWriter, _ bytes: UnsafeRawBufferPointer, _ headCount: Int, isInInput: Bool, _ limits: BodyLimits
    ) throws(HTTPFault) -> (message: UnsafeRawBufferPointer, consumed: Int) {
        let rest = UnsafeRawBufferPointer(rebasing: bytes[headCount...])
        switch body {
        case .reframed(var relay):
            let progress = try relay.move(rest, to: &writer, limits: limits)
            body = .reframed(relay)
            return (writer.written, headCount + progress.consumed)
        case .verbatim(var decoder):
            let piece = try decoder.next(rest, limits: limits)
            body = .verbatim(decoder)
            let content = UnsafeRawBufferPointer(rebasing: rest[piece.payload])
            let headBytes = writer.written
            if content.count <= WorkerSizes.inlineBodyBytes || isInInput || headBytes.count > WorkerSizes.headroomBytes + headCount {
                writer.write(content)
                return (writer.written, headCount + piece.consumed)
            }
            let start = UnsafeMutableRawPointer(mutating: content.baseAddress!) - headBytes.count
            start.copyMemory(from: headBytes.baseAddress!, byteCount: headBytes.count)
            return (UnsafeRawBufferPointer(start: start, count: headBytes.count + content.count), headCount + piece.consumed)
        }
    }

    /// One step of a body: the bytes to send next, which stand in `bytes` or in the worker's write memory.
    /// - Returns: what to send, how many of `bytes` are dealt with, and whether a further step is needed for the same bytes.
    func step(
        _ body: inout BodyFlow, _ bytes: UnsafeRawBufferPointer, _ limits: BodyLimits
    ) throws(HTTPFault) -> (content: UnsafeRawBufferPointer, consumed: Int, hasMore: Bool) {
        switch body {
        case .verbatim(var decoder):
            let piece = try decoder.next(bytes, limits: limits)
            body = .verbatim(decoder)
            return (UnsafeRawBufferPointer(rebasing: bytes[piece.payload]), piece.consumed, false)
        case .reframed(var relay):
            var writer = ByteWriter(writeMemory)
            let progress = try relay.move(bytes, to: &writer, limits: limits)
            body = .reframed(relay)
            return (writer.written, progress.consumed, progress.needsRoom)
        }
    }
}
