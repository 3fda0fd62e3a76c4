import Bytes

/// One step of a body: which of the bytes just fed are dealt with, and what they are.
public struct BodyPiece: Sendable {
    public enum Event: Sendable, Equatable {
        /// `payload` is content, perhaps none; feed what follows.
        case content
        /// `payload` is one trailer field line without its CRLF.
        case trailer
        /// Nothing more can be said without more bytes.
        case starved
        /// The body has ended; what follows `consumed` belongs to the next message.
        case complete
    }
    public var event: Event
    /// Bytes of the input that are dealt with. Those behind must be fed again, with what follows them.
    public var consumed: Int
    /// Where in the input the content or the trailer line stands.
    public var payload: Range<Int>
}

/// Finds content in the bytes of a body, whatever its framing.
///
/// Only content and judged trailer lines come out: no byte of the peer's chunk framing is ever forwarded, so the next hop
/// cannot read it otherwise than we did. 24 bytes, one per direction of an exchange.
///
///     length ──last byte──▶ complete
///     chunkSize ─▶ (chunkExtension) ─▶ chunkSizeEnd ─▶ chunkData ─▶ chunkDataEnd ─▶ chunkDataLineFeed ─▶ chunkSize
///                                       └──size 0──▶ trailers ──empty line──▶ complete
///     untilClose ──peerClosed()──▶ complete
public struct BodyDecoder: Sendable {
    enum State: UInt8, Sendable {
        /// `remaining` content bytes to come.
        case length
        /// Reading hexadecimal digits into `remaining`; `digits` of them so far.
        case chunkSize
        /// Behind the digits, dropping bytes up to CR; `sectionBytes` of them so far.
        case chunkExtension
        /// CR of the size line seen; only LF may follow.
        case chunkSizeEnd
        /// `remaining` bytes of the chunk to come.
        case chunkData
        /// Behind the data; only CR may follow.
        case chunkDataEnd
        /// CR behind the data seen; only LF may follow.
        case chunkDataLineFeed
        /// Behind the last chunk; `sectionBytes` and `trailerFields` so far.
        case trailers
        case untilClose
        case complete
    }

    var state: State
    /// Stops before the trailer section, which is then taken whole.
    let keepsTrailers: Bool
    var digits: UInt8 = 0
    var sectionBytes: UInt16 = 0
    var trailerFields: UInt16 = 0
    /// Bytes to come: of the body for a length, of the chunk for chunked.
    var remaining: Int
    /// Content bytes seen or announced so far, held against `BodyLimits.bodyBytesMax`.
    var total = 0

    /// - Parameter keepsTrailers: `next` stops, `.starved`, at the trailer section (`isAtTrailers`), for `takeTrailers` to take it
    ///   whole: towards a stream, where trailers are fields of one frame.
    /// - Throws: `.bodyTooLarge` when the length announced already exceeds the limit, so that nothing is forwarded in vain.
    public init(_ framing: BodyFraming, keepsTrailers: Bool = false, limits: BodyLimits = .standard) throws(HTTPFault) {
        self.keepsTrailers = keepsTrailers
        remaining = 0
        switch framing {
        case .none, .length(0): state = .complete
        case .length(let length):
            guard length <= limits.bodyBytesMax else { throw .bodyTooLarge }
            state = .length
            remaining = length
        case .chunked: state = .chunkSize
        case .untilClose: state = .untilClose
        }
    }

    /// A decoder of no body at all.
    public init() { state = .complete; remaining = 0; keepsTrailers = false }

    /// All content has come; the trailer section, perhaps an empty one, is next.
    public var isAtTrailers: Bool { state == .trailers }

    /// Takes the trailer section from the start of `bytes` into a head (fields only), the judgement the same as line by line.
    /// - Returns: the bytes of the section, and the body is complete; nil when more are needed: call again with these and what
    ///   follows them.
    public mutating func takeTrailers(_ bytes: UnsafeRawBufferPointer, into head: inout Head, limits: BodyLimits = .standard) throws(HTTPFault) -> Int? {
        precondition(state == .trailers, "the trailers are not next")
        let source = Source(bytes, limit: limits.trailerBytesMax)
        guard let end = try head.parseTrailers(source, limits: limits) else {
            if bytes.count >= limits.trailerBytesMax { throw .trailersTooLarge }
            return nil
        }
        state = .complete
        return end
    }

    public var isComplete: Bool { state == .complete }

    /// Content bytes that are announced and have not come yet; nil when nobody knows. For splicing: pass them by any other
    /// way and report them with `skip(_:)`.
    public var announced: Int? {
        switch state {
        case .length: remaining
        case .complete: 0
        case .chunkSize, .chunkExtension, .chunkSizeEnd, .chunkData, .chunkDataEnd, .chunkDataLineFeed, .trailers, .untilClose: nil
        }
    }

    /// Tells that `count` content bytes of a length-framed body went past without being fed.
    public mutating func skip(_ count: Int) {
        precondition(state == .length && count >= 0 && count <= remaining, "more bytes went past than were announced")
        remaining -= count
        if remaining == 0 { state = .complete }
    }

    /// The peer has closed its side. That ends an until-close body; it cuts any other short.
    public mutating func peerClosed() throws(HTTPFault) {
        switch state {
        case .untilClose, .complete: state = .complete
        case .length, .chunkSize, .chunkExtension, .chunkSizeEnd, .chunkData, .chunkDataEnd, .chunkDataLineFeed, .trailers:
            throw .bodyCutShort
        }
    }

    /// Looks at the start of `bytes`: framing is consumed, and the step ends with the first run of content, at a trailer
    /// line, at the body's end, or at the end of the bytes.
    public mutating func next(_ bytes: UnsafeRawBufferPointer, limits: BodyLimits = .standard) throws(HTTPFault) -> BodyPiece {
        let source = Source(bytes, limit: .max)
        switch state {
        case .complete: return BodyPiece(event: .complete, consumed: 0, payload: 0..<0)
        case .length:
            let count = min(remaining, source.count)
            remaining &-= count
            if remaining == 0 { state = .complete }
            return content(0, count)
        case .untilClose:
            total = try grown(by: source.count, limits)
            return content(0, source.count)
        case .chunkSize, .chunkExtension, .chunkSizeEnd, .chunkData, .chunkDataEnd, .chunkDataLineFeed, .trailers:
            return try nextOfChunked(source, limits)
        }
    }

    @inline(__always) func content(_ start: Int, _ end: Int) -> BodyPiece {
        BodyPiece(event: start == end ? .starved : .content, consumed: end, payload: start..<end)
    }

    /// The total with `count` more bytes.
    func grown(by count: Int, _ limits: BodyLimits) throws(HTTPFault) -> Int {
        guard count <= limits.bodyBytesMax &- total else { throw .bodyTooLarge }
        return total &+ count
    }
}
