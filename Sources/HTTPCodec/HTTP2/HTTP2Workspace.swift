import Bytes
import CNGHTTP2

/// What the sessions of one worker share: memory, the library's callbacks and options, and the room to decode one head and
/// to gather one. Must outlive its sessions.
public struct HTTP2Workspace: ~Copyable {
    let state: UnsafeMutablePointer<WorkspaceState>

    public init(limits: HTTP2Limits = .standard) {
        limits.check()
        state = .allocate(capacity: 1)
        state.initialize(to: WorkspaceState(limits))
        state.pointee.library = libraryMemory(state.pointee.memory)
    }

    deinit {
        state.pointee.tearDown()
        state.deinitialize(count: 1)
        state.deallocate()
    }
}

struct WorkspaceState {
    let limits: HTTP2Limits
    let memory: UnsafeMutablePointer<FrameMemory>
    var library = nghttp2_mem()
    let callbacks: OpaquePointer
    let options: OpaquePointer
    /// The head being decoded.
    var decoder: HeadDecoder
    /// Name-value pairs being submitted, and the values that are made for them.
    var gatherer: FieldGatherer
    /// For frames whose content stays where it is.
    var gathers = FrameGathers()
    /// Where `write` puts frames, while it runs.
    var out = ByteWriter(UnsafeMutableRawBufferPointer(start: nil, count: 0))
    /// How many more frames may be written, while it runs.
    var framesLeft = 0
    /// `now` of the call that runs.
    var now: UInt64 = 0

    init(_ limits: HTTP2Limits) {
        self.limits = limits
        memory = .allocate(capacity: 1)
        memory.initialize(to: FrameMemory())
        var made: OpaquePointer?
        guard nghttp2_session_callbacks_new(&made) == 0, let callbacks = made else { preconditionFailure("no memory for callbacks") }
        self.callbacks = callbacks
        registerCallbacks(callbacks)
        made = nil
        guard nghttp2_option_new(&made) == 0, let options = made else { preconditionFailure("no memory for options") }
        self.options = options
        // Windows are given back when bytes have moved on; heads are judged by `HeadDecoder`, with the rest of HTTP.
        nghttp2_option_set_no_auto_window_update(options, 1)
        nghttp2_option_set_no_http_messaging(options, 1)
        nghttp2_option_set_no_closed_streams(options, 1)
        nghttp2_option_set_max_send_header_block_length(options, FieldGatherer.blockBytesMax)
        nghttp2_option_set_peer_max_concurrent_streams(options, 100)
        // Resets and CONTINUATION frames are counted by `FrameGuard`, which knows of honest work. The library's own bounds are lower: it would end
        // a session whose client cancels 33 calls a second, and refuse a head in nine frames.
        nghttp2_option_set_stream_reset_rate_limit(options, .max, .max)
        nghttp2_option_set_max_continuations(options, limits.continuationsMax)
        decoder = HeadDecoder()
        gatherer = FieldGatherer()
    }

    mutating func tearDown() {
        nghttp2_session_callbacks_del(callbacks)
        nghttp2_option_del(options)
        decoder.tearDown()
        gatherer.tearDown()
        gathers.tearDown()
        memory.pointee.tearDown()
        memory.deallocate()
    }
}

@inline(__always) private func sessionState(_ user: UnsafeMutableRawPointer?) -> UnsafeMutablePointer<SessionState> {
    user!.assumingMemoryBound(to: SessionState.self)
}

/// Every callback only writes down what happened; `SessionState` acts on it when the library has returned.
private func registerCallbacks(_ callbacks: OpaquePointer) {
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks) { _, frame, user in
        sessionState(user).pointee.headBegins(frame!.pointee.hd.stream_id)
        return 0
    }
    nghttp2_session_callbacks_set_on_header_callback(callbacks) { _, _, name, nameCount, value, valueCount, _, user in
        let workspace = sessionState(user).pointee.workspace
        workspace.pointee.decoder.add(
            UnsafeRawPointer(name!), nameCount, UnsafeRawPointer(value!), valueCount, workspace.pointee.limits)
        return 0
    }
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks) { _, frame, user in
        if frame!.pointee.hd.type != UInt8(NGHTTP2_DATA.rawValue) { sessionState(user).pointee.sawFrame = true }
        return 0
    }
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks) { _, _, _, bytes, count, user in
        sessionState(user).pointee.chunk = UnsafeRawBufferPointer(start: bytes, count: count)
        return 0
    }
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks) { _, frame, code, user in
        sessionState(user).pointee.refusedByLibrary = code
        return 0
    }
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks) { _, id, code, user in
        sessionState(user).pointee.streamClosed(id, HTTP2Code(wire: code))
        return 0
    }
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks) { _, frame, user in
        sessionState(user).pointee.frameSent(frame!)
        return 0
    }
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks) { _, frame, _, user in
        sessionState(user).pointee.frameNotSent(frame!)
        return 0
    }
    nghttp2_session_callbacks_set_send_data_callback(callbacks) { _, frame, header, count, source, user in
        sessionState(user).pointee.sendData(frame!, UnsafeRawPointer(header!), count, streamRecord(source))
    }
    nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks) { _, _, stream, _, _, frameMax, user in
        sessionState(user).pointee.dataLengthMax(stream, Int(frameMax))
    }
}

@inline(__always) func streamRecord(_ source: UnsafeMutablePointer<nghttp2_data_source>?) -> UnsafeMutablePointer<StreamRecord> {
    source!.pointee.ptr.assumingMemoryBound(to: StreamRecord.self)
}

/// The data source of every stream.
let readStream: nghttp2_data_source_read_callback = { _, _, _, count, flags, source, user in
    let session = sessionState(user)
    return session.pointee.readStream(streamRecord(source), count, flags!)
}
