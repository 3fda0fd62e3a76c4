/// What one step of a session found out. Streams are named by number and by the owner that `setOwner` gave them, 0 for none.
public enum HTTP2Event {
    /// All bytes are dealt with.
    case none
    /// Many frames told nothing, and bytes are left: whoever has others to serve may look at the clock before the next call.
    case pause
    /// A request, or the final response, is in the head given to `next`. `bytes` are its text and belong to the workspace:
    /// valid until the next call on any session of it.
    case head(stream: Int32, owner: UInt32, bytes: UnsafeRawBufferPointer, ends: Bool)
    /// An interim response (1xx) is in the head.
    case interim(stream: Int32, owner: UInt32, bytes: UnsafeRawBufferPointer)
    /// Trailers are in the head (fields only); the peer's side of the stream has ended.
    case trailers(stream: Int32, owner: UInt32, bytes: UnsafeRawBufferPointer)
    /// Content, in the very bytes given to `next`; may be empty when it ends.
    case data(stream: Int32, owner: UInt32, UnsafeRawBufferPointer, ends: Bool)
    /// The peer's side of the stream ended without content.
    case ended(stream: Int32, owner: UInt32)
    /// The stream is gone before both its sides had ended: reset by the peer, by us for a fault of the peer, or left
    /// unprocessed by a GOAWAY. Not processed: safe to send again, whatever the method (RFC 9113, 8.7).
    case reset(stream: Int32, owner: UInt32, HTTP2Code, wasProcessed: Bool)
    /// A head or trailers that RFC 9113, 8 or a limit forbids. While open, the stream waits for an answer (431, 414 and the
    /// like); otherwise it has been reset.
    case refused(stream: Int32, owner: UInt32, HTTPFault, isOpen: Bool)
    /// The peer's SETTINGS came.
    case settings
    /// The peer answered our PING.
    case pong
    /// The peer takes no new streams; those it will not process come as `.reset`.
    case goAway(HTTP2Code)
    /// The connection is given up: write what is queued (a GOAWAY), then close. All its streams are gone with it.
    case fault(HTTP2Fault)
}
