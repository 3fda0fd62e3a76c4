import Bytes
import CNGHTTP2

extension SessionState {
    /// Queues SETTINGS, and opens the connection's window.
    mutating func begin() {
        var settings = InlineArray<5, nghttp2_settings_entry>(repeating: nghttp2_settings_entry())
        var count = 0
        func set(_ id: nghttp2_settings_id, _ value: Int) {
            settings[count] = nghttp2_settings_entry(settings_id: Int32(id.rawValue), value: UInt32(value))
            count += 1
        }
        set(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, limits.streamWindowBytes)
        set(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, limits.headListBytesMax)
        if isServer {
            set(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits.streamsMax)
            set(NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1)
        } else {
            set(NGHTTP2_SETTINGS_ENABLE_PUSH, 0)
        }
        let library = self.library
        withUnsafeBytes(of: &settings) { bytes in
            let rows = bytes.baseAddress!.assumingMemoryBound(to: nghttp2_settings_entry.self)
            _ = nghttp2_submit_settings(library, UInt8(NGHTTP2_FLAG_NONE.rawValue), rows, count)
        }
        frames.settingsUnanswered = 1
        nghttp2_session_set_local_window_size(library, UInt8(NGHTTP2_FLAG_NONE.rawValue), 0, Int32(limits.connectionWindowBytes))
    }

    /// The library is deleted; every record goes.
    mutating func tearDown() {
        clearGathered()
        clearGathered()
        while let record = records {
            records = record.pointee.next
            dropQueue(record)
            workspace.pointee.memory.pointee.release(UnsafeMutableRawPointer(record))
        }
        table.tearDown(&workspace.pointee.memory.pointee)
    }

    /// Gives up to `most` streams up, the library's part of them included, as if their peer had reset them: that is the one way to have the library
    /// forget a stream without a word to anybody.
    /// - Returns: whether none is left that could be given up like that.
    ///
    /// By pointer: the library's callbacks change this very state while it is fed, and what is asked afterwards must be read again.
    static func dismantle(_ state: UnsafeMutablePointer<SessionState>, _ most: Int) -> Bool {
        guard state.pointee.isServer, !state.pointee.isLibraryDead else { return true }
        state.pointee.endFrame()
        var rest = most
        while let record = state.pointee.records {
            if let told = state.pointee.takeClosed() { state.pointee.free(told); continue }
            guard rest > 0 else { return false }
            rest &-= 1
            let id = UInt32(bitPattern: record.pointee.id)
            var frame = InlineArray<13, UInt8>(repeating: 0)
            frame[2] = 4
            frame[3] = FrameType.resetStream
            for index in 0..<4 { frame[5 &+ index] = UInt8(truncatingIfNeeded: id &>> (24 &- 8 &* UInt32(index))) }
            withUnsafeBytes(of: &frame) { state.pointee.feed($0.baseAddress!, 13) }
            // A library that has ended the connection of its own accord listens no more.
            guard state.pointee.closedFirst != nil || state.pointee.records != record, !state.pointee.isLibraryDead else { return true }
        }
        return true
    }

    /// Ends the DATA frame that the library is in the middle of.
    private mutating func endFrame() {
        let nothing = InlineArray<256, UInt8>(repeating: 0)
        while dataLeft > 0, !isLibraryDead {
            let count = min(dataLeft, 256)
            dataLeft &-= count
            withUnsafeBytes(of: nothing) { feed($0.baseAddress!, count) }
        }
    }

    /// Resets streams on which bytes have waited too long for a window; their owners are told when the frames are written.
    /// And tells clients to stop that still send long after the answer (RFC 9113, 8.1).
    mutating func resetOverdue(now: UInt64) -> Bool {
        var found = false
        var each = records
        while let record = each {
            each = record.pointee.next
            if record.pointee.answeredAt != 0, now > record.pointee.answeredAt, now &- record.pointee.answeredAt >= limits.answeredNanosecondsMax {
                reset(record, .noError)
                continue
            }
            let since = record.pointee.waitsSince
            guard since > 0, now > since, now &- since > limits.stallNanosecondsMax, !record.pointee.isResetting, !record.pointee.isClosed else { continue }
            record.pointee.tellsReset = true
            reset(record, .cancel)
            found = true
        }
        return found
    }
}

extension HTTP2Session {
    /// Tells a client that streams will soon be refused (RFC 9113, 6.8); a server is told at once that no more will come.
    public mutating func beginDrain() {
        guard state.pointee.failure == nil, !state.pointee.sentGoAway else { return }
        if state.pointee.isServer { nghttp2_submit_shutdown_notice(state.pointee.library) } else { finishDrain() }
    }

    /// Names the last stream that will be served; a round trip after `beginDrain`, so that none on its way is lost.
    public mutating func finishDrain() {
        guard state.pointee.failure == nil, !state.pointee.sentGoAway else { return }
        state.pointee.sentGoAway = true
        let last = nghttp2_session_get_last_proc_stream_id(state.pointee.library)
        nghttp2_submit_goaway(state.pointee.library, UInt8(NGHTTP2_FLAG_NONE.rawValue), last, HTTP2Code.noError.rawValue, nil, 0)
    }

    /// Gives up the connection: write what is queued, then close.
    public mutating func fail(_ fault: HTTP2Fault) {
        state.pointee.fail(fault)
        state.pointee.hasToldFailure = true
    }

    /// Gives up to `most` streams up, of a session that is about to go: what there is of two thousand takes a millisecond to give back. Nothing is told
    /// of them, and nothing but this may be asked of the session any more.
    /// - Returns: whether all are gone that can be given up one by one.
    public mutating func dismantle(upTo most: Int) -> Bool { SessionState.dismantle(state, most) }

    /// Why the connection was given up; nil while it was not.
    public var failure: HTTP2Fault? { state.pointee.failure }

    /// Asks the peer for a sign of life; its answer comes as `.pong`.
    public mutating func ping(now: UInt64) {
        guard state.pointee.failure == nil, state.pointee.pingSentAt == nil else { return }
        state.pointee.pingSentAt = now
        nghttp2_submit_ping(state.pointee.library, UInt8(NGHTTP2_FLAG_NONE.rawValue), nil)
    }

    /// When the PING was queued that is not answered yet; nil without one.
    public var pingSentAt: UInt64? { state.pointee.pingSentAt }

    /// Resets streams on which bytes wait longer than `HTTP2Limits.stallNanosecondsMax` for a window, and those that were
    /// answered `HTTP2Limits.answeredNanosecondsMax` ago and whose request still has not ended. Write afterwards.
    /// - Returns: whether owners have to be told: write, then ask `next`.
    public mutating func check(now: UInt64) -> Bool { state.pointee.resetOverdue(now: now) }

    /// Gives buffers back: for a connection at rest.
    public mutating func shrink() {
        state.pointee.partial.releaseIfEmpty()
        state.pointee.table.releaseIfEmpty(&state.pointee.workspace.pointee.memory.pointee)
        // With nothing to say, the library keeps nothing in its buffer.
        guard !state.pointee.rests, let pages = state.pointee.pages, state.pointee.pending.isEmpty, !wantsWrite else { return }
        state.pointee.workspace.pointee.memory.pointee.rest(pages)
        state.pointee.rests = true
    }

    /// GOAWAY was sent or came, or the connection failed: no new stream may be opened.
    public var isDraining: Bool { state.pointee.sentGoAway || state.pointee.gotGoAway || state.pointee.failure != nil }

    /// Streams that are open.
    public var openStreams: Int { state.pointee.openStreams }

    /// Streams we may have open at once; 100 until the peer's SETTINGS have come (RFC 9113, 6.5.2).
    public var peerMaxStreams: Int {
        guard state.pointee.hasHeardSettings else { return 100 }
        return Int(nghttp2_session_get_remote_settings(state.pointee.library, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS))
    }

    /// Whether `submitRequest` finds room for one more stream.
    public var canOpenStream: Bool {
        !state.pointee.isServer && !isDraining && openStreams < peerMaxStreams
            && nghttp2_session_get_next_stream_id(state.pointee.library) < UInt32(Int32.max)
    }

    /// The peer takes extended CONNECT (RFC 8441).
    public var allowsExtendedConnect: Bool {
        nghttp2_session_get_remote_settings(state.pointee.library, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 1
    }

    /// The peer's SETTINGS have come.
    public var hasHeardSettings: Bool { state.pointee.hasHeardSettings }

    /// When the header block began that the peer has not ended yet; nil: none is open.
    public var headBegunAt: UInt64? { state.pointee.blockSince == 0 ? nil : state.pointee.blockSince }

    /// `now` of the last call of `next` with bytes.
    public var lastReceived: UInt64 { state.pointee.lastReceived }
}
