import Bytes

/// How much of a body one step has moved.
public struct BodyProgress: Sendable, Equatable {
    /// Bytes of the input that are dealt with; the rest is fed again with what follows, or belongs to the next message.
    public var consumed: Int
    /// The body has ended, and its end has been written.
    public var isComplete: Bool
    /// The step stopped for lack of room in the output, not of input.
    public var needsRoom: Bool
}

/// Moves a body from one connection to the other: decodes what the peer sent and frames it anew for the receiver.
///
/// All content of one step travels as one chunk, so a peer's one-byte chunks do not become ours. The output must have room
/// for `roomMin(limits)` bytes now and then, or a trailer line could never pass.
public struct BodyRelay: Sendable {
    public private(set) var decoder: BodyDecoder
    /// The receiver gets chunks; otherwise plain content, and no trailers.
    public let writesChunks: Bool
    private var wroteLastChunk = false
    /// The body has ended, and its end has been written.
    public private(set) var isComplete = false

    public init(_ decoder: BodyDecoder, writesChunks: Bool) {
        self.decoder = decoder
        self.writesChunks = writesChunks
    }

    /// The room that lets every step make progress.
    public static func roomMin(_ limits: BodyLimits) -> Int { limits.trailerBytesMax + 64 }

    /// The peer has closed its side; what remains to be written (an until-close body's last chunk) comes with the next `move`.
    public mutating func peerClosed() throws(HTTPFault) { try decoder.peerClosed() }

    /// Content went past by another way: see `BodyDecoder.skip(_:)`.
    public mutating func skip(_ count: Int) { decoder.skip(count) }

    /// Moves as much as there is and fits. What does not fit is not consumed. On a fault, what was written stays valid as
    /// far as it goes, but the body can only be cut off.
    public mutating func move(
        _ bytes: UnsafeRawBufferPointer, to out: inout ByteWriter, limits: BodyLimits = .standard
    ) throws(HTTPFault) -> BodyProgress {
        var step = BodyProgress(consumed: 0, isComplete: isComplete, needsRoom: false)
        var chunk = OpenChunk(inputBytes: writesChunks ? bytes.count : 0)
        defer { chunk.close(&out) }
        while !step.isComplete {
            let room = out.remaining &- (writesChunks ? chunk.reserve : 0)
            guard room > 0 || !writesChunks && decoder.isComplete else { step.needsRoom = true; break }
            let end = step.consumed &+ min(bytes.count &- step.consumed, max(room, 0))
            let before = decoder
            let piece = try decoder.next(UnsafeRawBufferPointer(rebasing: bytes[step.consumed..<end]), limits: limits)
            switch piece.event {
            case .content:
                if writesChunks { chunk.grow(by: piece.payload.count, &out) }
                out.write(payload(of: piece, in: bytes, from: step.consumed))
            case .trailer where writesChunks:
                chunk.close(&out)
                guard out.remaining >= piece.payload.count &+ 7 else {
                    decoder = before
                    step.needsRoom = true
                    return step
                }
                writeLastChunkOnce(to: &out)
                out.write(payload(of: piece, in: bytes, from: step.consumed))
                out.write("\r\n")
            case .trailer: break
            case .starved:
                step.consumed &+= piece.consumed
                step.needsRoom = end < bytes.count
                return step
            case .complete:
                if writesChunks {
                    chunk.close(&out)
                    writeLastChunkOnce(to: &out)
                    out.write("\r\n")
                }
                isComplete = true
                step.isComplete = true
            }
            step.consumed &+= piece.consumed
        }
        return step
    }

    @inline(__always)
    private func payload(of piece: BodyPiece, in bytes: UnsafeRawBufferPointer, from start: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: bytes[start &+ piece.payload.lowerBound..<start &+ piece.payload.upperBound])
    }

    private mutating func writeLastChunkOnce(to out: inout ByteWriter) {
        if !wroteLastChunk { out.write("0\r\n") }     // trailer lines and an empty line follow (RFC 9112, 7.1)
        wroteLastChunk = true
    }
}

/// A chunk being gathered: its size is written into a gap when all its content is known.
private struct OpenChunk {
    /// Digits that hold any size this step can reach; leading zeros are part of the grammar (RFC 9112, 7.1).
    let digits: Int
    var gap = -1
    var count = 0

    init(inputBytes: Int) { digits = hexDigitCount(UInt64(max(inputBytes, 1))) }

    /// Bytes to keep free: the size line when none is written yet, the CRLF behind the data, and the last chunk's 5.
    var reserve: Int { (gap < 0 ? digits &+ 2 : 0) &+ 7 }

    @inline(__always) mutating func grow(by bytes: Int, _ out: inout ByteWriter) {
        if gap < 0 {
            gap = out.count
            _ = out.leaveGap(digits)
            out.write("\r\n")
        }
        count &+= bytes
    }

    @inline(__always) mutating func close(_ out: inout ByteWriter) {
        guard gap >= 0 else { return }
        out.patchHex(UInt64(count), at: gap, digits: digits)
        out.write("\r\n")
        gap = -1
        count = 0
    }
}
