import Bytes
import CNGHTTP2

extension SessionState {
    /// The library asks how long a DATA frame may be: as long as what is left of the memory being written to, unless its content stays where it is.
    func dataLengthMax(_ stream: Int32, _ frameMax: Int) -> Int {
        min(frameMax, 16_384, stream == lentStream ? .max : max(workspace.pointee.out.remaining &- FrameHeader.byteCount, 1))
    }

    /// The library asks for content of a stream.
    mutating func readStream(
        _ record: UnsafeMutablePointer<StreamRecord>, _ room: Int, _ flags: UnsafeMutablePointer<UInt32>
    ) -> Int {
        let waiting = record.pointee.id == lentStream ? lent.count : record.pointee.queue.count
        let count = min(room, waiting)
        if count > 0, workspace.pointee.out.remaining < 10 || workspace.pointee.framesLeft <= 0 { return Int(NGHTTP2_ERR_PAUSE.rawValue) }
        let isLast = count == waiting
        if count == 0 && !record.pointee.endsBehindQueue && record.pointee.trailers == nil {
            record.pointee.isDeferred = true
            return Int(NGHTTP2_ERR_DEFERRED.rawValue)
        }
        flags.pointee |= NGHTTP2_DATA_FLAG_NO_COPY.rawValue
        if isLast, let trailers = record.pointee.trailers {
            flags.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue | NGHTTP2_DATA_FLAG_NO_END_STREAM.rawValue
            let id = record.pointee.id, library = self.library
            PendingTrailers.read(trailers) { rows, count in _ = nghttp2_submit_trailer(library, id, rows, count) }
            workspace.pointee.memory.pointee.release(trailers)
            record.pointee.trailers = nil
        } else if isLast, record.pointee.endsBehindQueue {
            flags.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue
        }
        return count
    }

    /// The library has decided on a DATA frame: its header and content go straight to the memory being written to.
    mutating func sendData(
        _ frame: UnsafePointer<nghttp2_frame>, _ header: UnsafeRawPointer, _ count: Int, _ record: UnsafeMutablePointer<StreamRecord>
    ) -> Int32 {
        if record.pointee.id == lentStream { return sendLent(header, count) }
        // The frame was decided on earlier, found no room, and its stream was reset since: the library gives it up.
        guard record.pointee.queue.count >= count else { return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue }
        guard workspace.pointee.out.remaining >= 9 &+ count else { return NGHTTP2_ERR_WOULDBLOCK.rawValue }
        workspace.pointee.out.write(header, count: 9)
        guard let target = workspace.pointee.out.leave(count) else { return NGHTTP2_ERR_WOULDBLOCK.rawValue }
        record.pointee.queue.take(count, to: target, &workspace.pointee.memory.pointee)
        queuedBytes &-= count
        if count >= limits.cutDataBytes || record.pointee.queue.count == 0 { frames.earnDataSent(limits) }
        record.pointee.waitsSince = record.pointee.queue.count > 0 ? workspace.pointee.now : 0
        if record.pointee.wantsRoom, record.pointee.queue.count <= limits.queueBytesMax / 2 {
            record.pointee.wantsRoom = false
            addWritable(record)
        }
        return 0
    }

    mutating func frameSent(_ frame: UnsafePointer<nghttp2_frame>) {
        let header = frame.pointee.hd
        workspace.pointee.framesLeft &-= 1
        switch UInt32(header.type) {
        case NGHTTP2_DATA.rawValue, NGHTTP2_HEADERS.rawValue:
            guard let record = table[header.stream_id] else { return }
            if UInt32(header.type) == NGHTTP2_HEADERS.rawValue, record.pointee.headsWaiting > 0 { record.pointee.headsWaiting &-= 1 }
            if let code = record.pointee.resetBehindQueue, !record.pointee.hasWaiting { return reset(record, code) }
            guard header.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0 else { return }
            record.pointee.sentEnd = true
            record.pointee.waitsSince = 0
            if isServer, !record.pointee.peerEnded, !record.pointee.isTunnel { record.pointee.answeredAt = max(workspace.pointee.now, 1) }
        case NGHTTP2_GOAWAY.rawValue:
            // The library ended the connection for something nobody here has seen: a block of a stream that is no more.
            guard frame.pointee.goaway.error_code != HTTP2Code.noError.rawValue else { return }
            owesGoAway = false
            if failure == nil { failure = .compression }
        default: break
        }
    }

    /// A request that cannot be sent any more, for GOAWAY came first. The library tells of its stream only if it had opened it.
    mutating func frameNotSent(_ frame: UnsafePointer<nghttp2_frame>) {
        workspace.pointee.framesLeft &-= 1
        guard UInt32(frame.pointee.hd.type) == NGHTTP2_HEADERS.rawValue, !isServer, frame.pointee.headers.cat == NGHTTP2_HCAT_REQUEST else { return }
        streamClosed(frame.pointee.hd.stream_id, .refusedStream)
    }

    /// Fills `out` with frames.
    mutating func write(into memory: UnsafeMutableRawBufferPointer, framesMax: Int) -> Int {
        workspace.pointee.out = ByteWriter(memory)
        pullFrames(framesMax)
        return workspace.pointee.out.count
    }

    /// Of what waits when a connection is given up, so many frames still go out before GOAWAY: our SETTINGS, if they are among them, come first.
    private static let lastFramesMax = 16

    /// Lets the library hand out frames until there is no room, nothing to say, or as many are written as may be.
    mutating func pullFrames(_ framesMax: Int) {
        rests = false
        workspace.pointee.framesLeft = failure == nil ? framesMax : owesGoAway ? Self.lastFramesMax : 0
        writePending()
        defer { writeGoAway() }
        while pending.isEmpty, !isLibraryDead, workspace.pointee.framesLeft > 0 {
            var bytes: UnsafePointer<UInt8>?
            let count = nghttp2_session_mem_send(library, &bytes)
            guard count > 0 else {
                if count < 0 { die(.internalError) }
                break
            }
            pending = UnsafeRawBufferPointer(start: bytes, count: count)
            writePending()
        }
    }

    private mutating func writeGoAway() {
        guard owesGoAway, let failure, pending.isEmpty, workspace.pointee.out.remaining >= FrameHeader.byteCount + 8 else { return }
        owesGoAway = false
        var frame = InlineArray<17, UInt8>(repeating: 0)
        frame[2] = 8
        frame[3] = FrameType.goAway
        let last = UInt32(bitPattern: nghttp2_session_get_last_proc_stream_id(library)), code = failure.code.rawValue
        for index in 0..<4 {
            frame[9 &+ index] = UInt8(truncatingIfNeeded: last &>> (24 &- 8 &* UInt32(index)))
            frame[13 &+ index] = UInt8(truncatingIfNeeded: code &>> (24 &- 8 &* UInt32(index)))
        }
        withUnsafeBytes(of: &frame) { workspace.pointee.out.write($0.baseAddress!, count: 17) }
    }

    private mutating func writePending() {
        let count = min(pending.count, workspace.pointee.out.remaining)
        guard count > 0, let base = pending.baseAddress else { return }
        workspace.pointee.out.write(base, count: count)
        pending = UnsafeRawBufferPointer(start: base + count, count: pending.count &- count)
    }

    var wantsWrite: Bool {
        if !pending.isEmpty || owesGoAway { return true }
        if isLibraryDead || failure != nil { return false }
        // Once a client has said GOAWAY and has no stream left, the library wants no more; its PING is owed an answer all the same.
        return nghttp2_session_want_write(library) != 0 || isServer && nghttp2_session_get_outbound_queue_size(library) > 0
    }

    // MARK: Content

    /// What the stream would like to have at most: its share while much waits, all it may have otherwise.
    private var queueShare: Int { max(min(limits.queueBytesMax, limits.queueBytesPerSession &- queuedBytes), limits.queueBytesMin) }

    func room(_ record: UnsafeMutablePointer<StreamRecord>) -> Int {
        if record.pointee.endsBehindQueue || record.pointee.trailers != nil || record.pointee.isClosed { return 0 }
        let room = max(queueShare &- record.pointee.queue.count, 0)
        if room == 0 { record.pointee.wantsRoom = true }
        return room
    }

    mutating func append(_ record: UnsafeMutablePointer<StreamRecord>, _ content: UnsafeRawBufferPointer) -> Int {
        if record.pointee.endsBehindQueue || record.pointee.trailers != nil { return 0 }
        let count = min(content.count, limits.queueBytesHardMax &- record.pointee.queue.count)
        guard count > 0 else { return 0 }
        keep(record, UnsafeRawBufferPointer(rebasing: content[..<count]))
        resume(record)
        return count
    }

    /// Copies content behind what the stream has waiting.
    mutating func keep(_ record: UnsafeMutablePointer<StreamRecord>, _ content: UnsafeRawBufferPointer) {
        if record.pointee.queue.count &+ content.count >= queueShare { record.pointee.wantsRoom = true }
        if record.pointee.queue.count == 0 { record.pointee.waitsSince = workspace.pointee.now }
        record.pointee.queue.append(content, &workspace.pointee.memory.pointee)
        queuedBytes &+= content.count
    }

    mutating func resume(_ record: UnsafeMutablePointer<StreamRecord>) {
        guard record.pointee.isDeferred else { return }
        record.pointee.isDeferred = false
        nghttp2_session_resume_data(library, record.pointee.id)
    }

    mutating func end(_ record: UnsafeMutablePointer<StreamRecord>) {
        guard !record.pointee.endsBehindQueue, record.pointee.trailers == nil else { return }
        record.pointee.endsBehindQueue = true
        record.pointee.wantsRoom = false
        resume(record)
    }

    // MARK: Heads

    /// The gathered fields as a request on a new stream.
    mutating func submitRequest(
        ends: Bool, owner: UInt32
    ) throws(HTTP2Refusal) -> UnsafeMutablePointer<StreamRecord> {
        let fields = workspace.pointee.gatherer
        guard !fields.overflowed else { throw .headTooLarge }
        let id = nghttp2_session_get_next_stream_id(library)
        guard id < UInt32(Int32.max) else { throw .noMoreStreams }
        let record = addRecord(Int32(id))
        record.pointee.owner = owner
        let submitted: Int32
        if ends {
            submitted = nghttp2_submit_request(library, nil, fields.rows, fields.count, nil, nil)
        } else {
            var provider = nghttp2_data_provider(source: nghttp2_data_source(ptr: record), read_callback: HTTPCodec.readStream)
            record.pointee.hasSource = true
            submitted = nghttp2_submit_request(library, nil, fields.rows, fields.count, &provider, nil)
        }
        precondition(submitted == record.pointee.id, "the library numbers streams as it said it would")
        if ends { record.pointee.endsBehindQueue = true }
        frames.opened(Int32(id))
        return record
    }

    /// The gathered fields as a head on a stream that is there.
    mutating func submitHead(_ record: UnsafeMutablePointer<StreamRecord>, ends: Bool, isInterim: Bool) {
        let fields = workspace.pointee.gatherer
        guard !fields.overflowed, !record.pointee.endsBehindQueue else { return failStream(record) }
        let flags = UInt8(ends ? NGHTTP2_FLAG_END_STREAM.rawValue : NGHTTP2_FLAG_NONE.rawValue)
        if isInterim || ends {
            guard nghttp2_submit_headers(library, flags, record.pointee.id, nil, fields.rows, fields.count, nil) == 0 else { return failStream(record) }
        } else {
            var provider = nghttp2_data_provider(source: nghttp2_data_source(ptr: record), read_callback: HTTPCodec.readStream)
            record.pointee.hasSource = true
            guard nghttp2_submit_response(library, record.pointee.id, fields.rows, fields.count, &provider) == 0 else { return failStream(record) }
        }
        record.pointee.headsWaiting &+= 1
        if !isInterim { record.pointee.sentHead = true }
        if ends { record.pointee.endsBehindQueue = true }
    }

    /// The gathered fields as trailers, behind what is queued.
    mutating func submitTrailers(_ record: UnsafeMutablePointer<StreamRecord>) {
        let fields = workspace.pointee.gatherer
        guard !fields.overflowed else { return failStream(record) }
        guard fields.count > 0 else { return end(record) }
        guard record.pointee.trailers == nil, !record.pointee.endsBehindQueue else { return }
        record.pointee.trailers = PendingTrailers.store(fields, &workspace.pointee.memory.pointee)
        record.pointee.wantsRoom = false
        resume(record)
    }

    /// What we owe the peer cannot be said.
    private mutating func failStream(_ record: UnsafeMutablePointer<StreamRecord>) { reset(record, .internalError) }
}

/// Trailers in memory of their own, until the content before them is written.
enum PendingTrailers {
    static func store(_ fields: FieldGatherer, _ memory: inout FrameMemory) -> UnsafeMutableRawPointer {
        var bytes = 8 + fields.count * MemoryLayout<nghttp2_nv>.stride
        for row in 0..<fields.count { bytes += fields.rows[row].namelen + fields.rows[row].valuelen }
        let stored = memory.allocate(bytes)
        stored.storeBytes(of: fields.count, as: Int.self)
        let rows = (stored + 8).bindMemory(to: nghttp2_nv.self, capacity: fields.count)
        var text = UnsafeMutableRawPointer(rows + fields.count).assumingMemoryBound(to: UInt8.self)
        for row in 0..<fields.count {
            var pair = fields.rows[row]
            text.update(from: pair.name, count: pair.namelen)
            pair.name = text
            text += pair.namelen
            text.update(from: pair.value, count: pair.valuelen)
            pair.value = text
            text += pair.valuelen
            pair.flags = 0
            (rows + row).initialize(to: pair)
        }
        return stored
    }

    static func read(_ stored: UnsafeMutableRawPointer, _ body: (UnsafePointer<nghttp2_nv>, Int) -> Void) {
        let count = stored.load(as: Int.self)
        body(UnsafePointer((stored + 8).assumingMemoryBound(to: nghttp2_nv.self)), count)
    }
}
