import Bytes
import CNGHTTP2
import Glibc

/// One HTTP/2 connection without its socket (RFC 9113): bytes in, events out; calls in, bytes out.
///
/// The library (nghttp2) compresses heads, keeps windows and orders what is sent; frames are judged before it sees them
/// (`FrameGuard`), heads are judged when it has decompressed them (`HeadDecoder`). A stream number that is gone is harmless
/// in every call.
public struct HTTP2Session: ~Copyable {
    public enum Role: Sendable { case server, client }

    let state: UnsafeMutablePointer<SessionState>

    /// Begins a connection; our SETTINGS, and a client's preface, wait to be written. Nil: the process has no memory for one more.
    /// - Parameters:
    ///   - workspace: must outlive the session.
    ///   - now: nanoseconds of the worker's clock.
    public init?(_ role: Role, _ workspace: borrowing HTTP2Workspace, now: UInt64) {
        let shared = workspace.state
        let state = UnsafeMutablePointer<SessionState>.allocate(capacity: 1)
        state.initialize(to: SessionState(shared, isServer: role == .server, now: now))
        shared.pointee.memory.pointee.beginSession()
        var made: OpaquePointer?
        let failed = role == .server
            ? nghttp2_session_server_new3(&made, shared.pointee.callbacks, state, shared.pointee.options, &shared.pointee.library)
            : nghttp2_session_client_new3(&made, shared.pointee.callbacks, state, shared.pointee.options, &shared.pointee.library)
        guard failed == 0, let library = made else {
            state.deinitialize(count: 1)
            state.deallocate()
            return nil
        }
        self.state = state
        state.pointee.library = library
        state.pointee.pages = shared.pointee.memory.pointee.madePages
        state.pointee.begin()
    }

    deinit {
        nghttp2_session_del(state.pointee.library)
        state.pointee.tearDown()
        state.deinitialize(count: 1)
        state.deallocate()
    }

    // MARK: Receiving

    /// One step over the bytes that came; `.none` when all of them are dealt with. Content events point into `bytes`.
    public mutating func next(_ bytes: inout UnsafeRawBufferPointer, head: inout Head, now: UInt64) -> HTTP2Event {
        state.pointee.next(&bytes, &head, now: now)
    }

    /// Events wait that no bytes brought: streams that ended while frames were written, or that stalled.
    public var hasEvents: Bool { state.pointee.closedFirst != nil || state.pointee.failure != nil && !state.pointee.hasToldFailure }

    /// The peer has lately sent more of something that serves nobody than honest work explains.
    public var isSuspect: Bool { state.pointee.frames.isSuspect(state.pointee.limits) }

    // MARK: Sending

    /// Opens a stream with a request parsed from HTTP/1.1 or decoded from HTTP/2. An upgrade that is kept
    /// (`RequestForwarding.keepsUpgrade`) goes out as extended CONNECT, if it is to WebSocket or came as one.
    /// - Returns: the stream's number.
    public mutating func submitRequest(
        _ head: borrowing Head, of bytes: UnsafeRawBufferPointer, _ forwarding: RequestForwarding, ends: Bool, owner: UInt32
    ) throws(HTTP2Refusal) -> Int32 {
        guard !isDraining else { throw .draining }
        guard canOpenStream else { throw .noMoreStreams }
        guard let base = bytes.baseAddress else { throw .headTooLarge }
        let isUpgrade = head.asksForUpgrade && forwarding.keepsUpgrade
        let accept = isUpgrade && !head.isExtendedConnect ? head.webSocketAccept(bytes) : nil
        if isUpgrade, !allowsExtendedConnect || accept == nil && !head.isExtendedConnect { throw .extendedConnectUnknown }
        state.pointee.workspace.pointee.gatherer.gatherRequest(head, base, forwarding, isUpgrade: isUpgrade)
        let record = try state.pointee.submitRequest(ends: ends && !isUpgrade && head.method != .connect, owner: owner)
        record.pointee.answersHead = head.method == .head
        record.pointee.isConnect = head.method == .connect
        record.pointee.isUpgrade = isUpgrade
        record.pointee.accept = accept
        return record.pointee.id
    }

    /// Submits a response, final or interim, parsed from HTTP/1.1 or decoded from HTTP/2. An interim one never ends the stream.
    public mutating func submitResponse(_ stream: Int32, _ head: borrowing Head, of bytes: UnsafeRawBufferPointer, ends: Bool, wasRetried: Bool = false) {
        guard let record = state.pointee.live(stream), let base = bytes.baseAddress else { return }
        let isInterim = head.isInterim
        if record.pointee.isConnect || record.pointee.isUpgrade, head.status == 101 || head.status / 100 == 2 { record.pointee.isTunnel = true }
        state.pointee.workspace.pointee.gatherer.gatherResponse(head, base, isUpgrade: record.pointee.isUpgrade, wasRetried: wasRetried)
        state.pointee.submitHead(record, ends: ends && !isInterim, isInterim: isInterim)
    }

    /// Submits the trailers a head holds, behind what is queued; they end our side of the stream.
    public mutating func submitTrailers(_ stream: Int32, _ head: borrowing Head, of bytes: UnsafeRawBufferPointer) {
        guard let record = state.pointee.live(stream) else { return }
        guard let base = bytes.baseAddress, head.fieldCount > 0 else { return state.pointee.end(record) }
        state.pointee.workspace.pointee.gatherer.gatherTrailers(head, base)
        state.pointee.submitTrailers(record)
    }

    /// Submits an answer of our own, whole.
    public mutating func submitReply(_ stream: Int32, _ reply: Reply) {
        guard let record = state.pointee.live(stream), !record.pointee.sentHead else { return }
        state.pointee.workspace.pointee.gatherer.gatherReply(reply)
        let hasBody = !reply.isEmpty && !reply.answersHead && !record.pointee.answersHead
        state.pointee.submitHead(record, ends: !hasBody, isInterim: false)
        guard hasBody else { return }
        withUnsafeTemporaryAllocation(byteCount: max(128, reply.bodyBytes), alignment: 1) { memory in
            var body = ByteWriter(memory)
            reply.writeBody(to: &body)
            _ = state.pointee.append(record, body.written)
        }
        state.pointee.end(record)
    }

    /// Agrees to a CONNECT (RFC 9113, 8.5): from here on the stream's content is the tunnel's.
    public mutating func submitTunnelOpened(_ stream: Int32) {
        guard let record = state.pointee.live(stream), !record.pointee.sentHead else { return }
        record.pointee.isTunnel = true
        state.pointee.workspace.pointee.gatherer.gatherTunnelOpened()
        state.pointee.submitHead(record, ends: false, isInterim: false)
    }

    /// Submits a gRPC status of our own: as the whole answer, or as trailers when a response has begun.
    public mutating func submitReply(_ stream: Int32, _ reply: GRPCReply) {
        guard let record = state.pointee.live(stream) else { return }
        state.pointee.workspace.pointee.gatherer.gatherReply(reply, asTrailers: record.pointee.sentHead)
        if record.pointee.sentHead {
            state.pointee.submitTrailers(record)
        } else {
            state.pointee.submitHead(record, ends: true, isInterim: false)
        }
    }

    /// Queues content: all of it, unless the queue would exceed `HTTP2Limits.queueBytesHardMax`. Who gives only while `room`
    /// is above 0 never gets there. When room has run out, `nextWritable` names the owner once there is some again.
    /// - Returns: bytes taken; 0 for a stream that is gone or has ended.
    public mutating func append(_ stream: Int32, _ content: UnsafeRawBufferPointer) -> Int {
        guard let record = state.pointee.live(stream) else { return 0 }
        return state.pointee.append(record, content)
    }

    /// As `append`, and `end` when `ends`, without a copy of large content where possible: it is gathered, with whatever else the session
    /// has to say, and must stay where it is until the caller has sent what is `gathered`, before anything else is written.
    /// - Returns: bytes taken.
    public mutating func lend(_ stream: Int32, _ content: UnsafeRawBufferPointer, ends: Bool) -> Int {
        guard let record = state.pointee.live(stream) else { return 0 }
        return state.pointee.lend(record, content, ends: ends)
    }

    /// What `lend` has gathered: the pieces of one send, and how many bytes they are; nil: nothing.
    public var gathered: (pieces: UnsafeMutableBufferPointer<iovec>, byteCount: Int)? {
        guard let gather = state.pointee.gather, gather.pointee.count > 0 else { return nil }
        return (UnsafeMutableBufferPointer(start: gather.pointee.pieces, count: gather.pointee.count), gather.pointee.byteCount)
    }

    /// What was gathered has been sent.
    public mutating func clearGathered() { state.pointee.clearGathered() }

    /// Bytes the stream should be given now; 0 asks to wait for `nextWritable`.
    public func room(_ stream: Int32) -> Int {
        guard let record = state.pointee.live(stream) else { return 0 }
        return state.pointee.room(record)
    }

    /// Bytes that wait on one stream.
    public func waitingBytes(_ stream: Int32) -> Int { state.pointee.live(stream)?.pointee.queue.count ?? 0 }

    /// Bytes that wait on all streams: for the memory account of the pod.
    public var queuedBytes: Int { state.pointee.queuedBytes }

    /// Ends our side of the stream behind what is queued. Of a stream whose client still sends then, nothing more is told; it
    /// ends by itself, or by `check`.
    public mutating func end(_ stream: Int32) {
        guard let record = state.pointee.live(stream) else { return }
        state.pointee.end(record)
    }

    /// Ends our side of a tunnel behind what is queued, as a FIN does: the peer's side goes on.
    public mutating func endHalf(_ stream: Int32) {
        guard let record = state.pointee.live(stream) else { return }
        record.pointee.isTunnel = true
        state.pointee.end(record)
    }

    /// Ends the stream at once; what is queued is dropped, and nothing more is told of it.
    public mutating func reset(_ stream: Int32, _ code: HTTP2Code) {
        guard let record = state.pointee.live(stream) else { return }
        state.pointee.reset(record, code)
    }

    /// Names who is told of the stream; 0 for nobody.
    public mutating func setOwner(_ stream: Int32, _ owner: UInt32) {
        guard let record = state.pointee.live(stream) else { return }
        record.pointee.owner = owner
        if owner == 0 { record.pointee.wantsRoom = false }
    }

    /// Who is told of the stream; 0 for nobody, and for a stream that is gone.
    public func owner(_ stream: Int32) -> UInt32 { state.pointee.live(stream)?.pointee.owner ?? 0 }

    /// Content has moved on: its sender may send as much again.
    public mutating func consumed(_ stream: Int32, _ count: Int) {
        guard let record = state.pointee.live(stream), count > 0 else { return }
        let settled = min(count, record.pointee.held)
        state.pointee.settle(record, settled)
        nghttp2_session_consume_stream(state.pointee.library, stream, settled)
    }

    /// The next owner that was short of room and has it again; nil when there is none.
    public mutating func nextWritable() -> UInt32? {
        while let record = state.pointee.takeWritable() {
            if record.pointee.owner != 0 { return record.pointee.owner }
        }
        return nil
    }

    /// Writes frames.
    /// - Parameter framesMax: how many, about: the library may tell a few more with one of them.
    /// - Returns: bytes written. Fewer than fit: all is said for now, no window is open, or there were enough; `wantsWrite` and `wasCutShort` tell which.
    public mutating func write(into memory: UnsafeMutableRawBufferPointer, framesMax: Int = .max) -> Int {
        state.pointee.write(into: memory, framesMax: framesMax)
    }

    /// The last call of `write` stopped because it had written as many frames as it might.
    public var wasCutShort: Bool { state.pointee.workspace.pointee.framesLeft <= 0 }

    /// Writes frames onto the end of a queue, at most `bytes`.
    public mutating func write(to queue: inout ByteQueue, upTo bytes: Int) -> Int {
        let wanted = min(bytes, queue.room)
        guard wanted > 0, queue.reserve(wanted) else { return 0 }
        let written = state.pointee.write(into: UnsafeMutableRawBufferPointer(rebasing: queue.writable[..<wanted]), framesMax: .max)
        queue.commit(written)
        return written
    }

    /// Whether there are frames to write.
    public var wantsWrite: Bool { state.pointee.wantsWrite }
}
