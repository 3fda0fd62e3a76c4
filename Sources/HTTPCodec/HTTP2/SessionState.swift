import Bytes
import CNGHTTP2

/// The state of a session at an address that stays: the library's callbacks write here what happened.
struct SessionState: ~Copyable {
    let workspace: UnsafeMutablePointer<WorkspaceState>
    let isServer: Bool
    var library: OpaquePointer!
    /// What it has beside the pieces of its worker's memory, and whether that was given back since frames were last written.
    var pages: SessionPages.Lease?
    var rests = false

    // Receiving.
    var frames: FrameGuard
    /// A control frame or header block that has not come whole.
    var partial = ByteQueue(capacityMax: 512 * 1024)
    /// The DATA frame being passed: bytes of it to come, padding included.
    var dataLeft = 0
    var dataStream: Int32 = 0
    var dataEnds = false
    /// Bytes of `partial` that are frames of an open header block, behind which the current frame begins.
    var blockHeld = 0
    /// When the first bytes of the header block came that is not whole yet; 0: there is none.
    var blockSince: UInt64 = 0
    /// The block's HEADERS frame said END_STREAM.
    var blockEnds = false
    /// The current frame's header has been judged.
    var hasJudgedHeader = false
    var lastReceived: UInt64

    // What the library said during one call of it.
    var sawFrame = false
    var chunk = UnsafeRawBufferPointer(start: nil, count: 0)
    var refusedByLibrary: Int32 = 0

    /// The stream whose frame the library is given: it may be closed meanwhile, and is still needed.
    var feeding: UnsafeMutablePointer<StreamRecord>?

    // Streams.
    var table = StreamTable()
    var records: UnsafeMutablePointer<StreamRecord>?
    var closedFirst: UnsafeMutablePointer<StreamRecord>?
    var closedLast: UnsafeMutablePointer<StreamRecord>?
    var writableFirst: UnsafeMutablePointer<StreamRecord>?
    var writableLast: UnsafeMutablePointer<StreamRecord>?
    /// Streams that are open: in the table and not resetting.
    var openStreams = 0
    var queuedBytes = 0
    var heldBytes = 0
    /// The most that any stream's window has gained.
    var windowGainedMax = 0
    /// Bytes of the connection's window that are not given back while too much is held.
    var owedBytes = 0

    // Sending.
    /// What the library has handed out and did not fit.
    var pending = UnsafeRawBufferPointer(start: nil, count: 0)
    /// Content that `lend` passes at the moment, and its stream; 0: none.
    var lent = UnsafeRawBufferPointer(start: nil, count: 0)
    var lentStream: Int32 = 0
    var gather: UnsafeMutablePointer<FrameGather>?

    // The connection.
    var failure: HTTP2Fault?
    /// The peer has not been told of the failure yet.
    var owesGoAway = false
    /// `next` has told of the failure.
    var hasToldFailure = false
    /// The library may only be deleted.
    var isLibraryDead = false
    var hasHeardSettings = false
    var sentGoAway = false, gotGoAway = false
    var pingSentAt: UInt64?

    init(_ workspace: UnsafeMutablePointer<WorkspaceState>, isServer: Bool, now: UInt64) {
        self.workspace = workspace
        self.isServer = isServer
        frames = FrameGuard(isServer: isServer, limits: workspace.pointee.limits, now: now)
        lastReceived = now
    }

    var limits: HTTP2Limits { workspace.pointee.limits }

    // MARK: Records

    mutating func addRecord(_ id: Int32) -> UnsafeMutablePointer<StreamRecord> {
        let record = workspace.pointee.memory.pointee.allocate(MemoryLayout<StreamRecord>.stride)
            .bindMemory(to: StreamRecord.self, capacity: 1)
        record.initialize(to: StreamRecord(id))
        record.pointee.next = records
        records?.pointee.previous = record
        records = record
        table.insert(record, &workspace.pointee.memory.pointee)
        openStreams &+= 1
        return record
    }

    /// Forgets a stream. Nobody may hold its record any more.
    mutating func free(_ record: UnsafeMutablePointer<StreamRecord>) {
        if record.pointee.isInWritable { removeWritable(record) }
        dropQueue(record)
        settle(record, record.pointee.held)
        if let previous = record.pointee.previous { previous.pointee.next = record.pointee.next } else { records = record.pointee.next }
        record.pointee.next?.pointee.previous = record.pointee.previous
        workspace.pointee.memory.pointee.release(UnsafeMutableRawPointer(record))
    }

    mutating func dropQueue(_ record: UnsafeMutablePointer<StreamRecord>) {
        queuedBytes &-= record.pointee.queue.count
        record.pointee.queue.removeAll(&workspace.pointee.memory.pointee)
        if let trailers = record.pointee.trailers {
            workspace.pointee.memory.pointee.release(trailers)
            record.pointee.trailers = nil
        }
    }

    /// A live stream, or nil: one that is gone, or about to be, is nobody's business.
    @inline(__always) func live(_ id: Int32) -> UnsafeMutablePointer<StreamRecord>? {
        guard let record = table[id], !record.pointee.isResetting else { return nil }
        return record
    }

    /// Queues RST_STREAM. The stream is told no more; its record goes when the frame is written.
    mutating func reset(_ record: UnsafeMutablePointer<StreamRecord>, _ code: HTTP2Code) {
        guard !record.pointee.isResetting, !record.pointee.isClosed else { return }
        record.pointee.isResetting = true
        openStreams &-= 1
        dropQueue(record)
        record.pointee.wantsRoom = false
        frames.remember(record.pointee.id, .resetByUs)
        nghttp2_submit_rst_stream(library, UInt8(NGHTTP2_FLAG_NONE.rawValue), record.pointee.id, code.rawValue)
    }

    // MARK: Windows

    /// Content has come: the connection's window is given back at once, unless too much is held already.
    mutating func received(_ count: Int) {
        if heldBytes <= limits.heldBytesMax { nghttp2_session_consume_connection(library, count) } else { owedBytes &+= count }
    }

    /// Held content has moved on.
    mutating func settle(_ record: UnsafeMutablePointer<StreamRecord>, _ count: Int) {
        record.pointee.held &-= count
        heldBytes &-= count
        if owedBytes > 0, heldBytes <= limits.heldBytesMax {
            nghttp2_session_consume_connection(library, owedBytes)
            owedBytes = 0
        }
    }

    // MARK: Lists

    mutating func addClosed(_ record: UnsafeMutablePointer<StreamRecord>) {
        if record.pointee.isInWritable { removeWritable(record) }
        record.pointee.nextTold = nil
        if let last = closedLast { last.pointee.nextTold = record } else { closedFirst = record }
        closedLast = record
    }

    mutating func takeClosed() -> UnsafeMutablePointer<StreamRecord>? {
        guard let record = closedFirst else { return nil }
        closedFirst = record.pointee.nextTold
        if closedFirst == nil { closedLast = nil }
        return record
    }

    mutating func addWritable(_ record: UnsafeMutablePointer<StreamRecord>) {
        guard !record.pointee.isInWritable else { return }
        record.pointee.isInWritable = true
        record.pointee.nextTold = nil
        if let last = writableLast { last.pointee.nextTold = record } else { writableFirst = record }
        writableLast = record
    }

    mutating func takeWritable() -> UnsafeMutablePointer<StreamRecord>? {
        guard let record = writableFirst else { return nil }
        writableFirst = record.pointee.nextTold
        if writableFirst == nil { writableLast = nil }
        record.pointee.isInWritable = false
        return record
    }

    /// Rare: a stream ends between being named writable and being asked for.
    private mutating func removeWritable(_ record: UnsafeMutablePointer<StreamRecord>) {
        var before: UnsafeMutablePointer<StreamRecord>?
        var each = writableFirst
        while let current = each, current != record {
            before = current
            each = current.pointee.nextTold
        }
        guard each != nil else { return }
        if let before { before.pointee.nextTold = record.pointee.nextTold } else { writableFirst = record.pointee.nextTold }
        if writableLast == record { writableLast = before }
        record.pointee.isInWritable = false
    }

    // MARK: What the library calls

    mutating func headBegins(_ id: Int32) {
        let kind: HeadDecoder.Kind
        if let record = table[id] {
            kind = record.pointee.sawHead ? .trailers : .response
        } else {
            guard isServer else { return }
            kind = .request
        }
        workspace.pointee.decoder.begin(kind)
    }

    /// The library has forgotten a stream: both sides ended, RST_STREAM came or went, or GOAWAY left it out.
    mutating func streamClosed(_ id: Int32, _ code: HTTP2Code) {
        guard let record = table[id] else { return }
        table.remove(id)
        if !record.pointee.isResetting { openStreams &-= 1 }
        let isClean = record.pointee.peerEnded && record.pointee.sentEnd
        if !record.pointee.isResetting { frames.remember(id, isClean ? .ended : .resetByPeer) }
        if isClean, !record.pointee.wasRefused { frames.earnStream(limits) }
        record.pointee.closeCode = code
        if record == feeding {
            record.pointee.isClosed = true
            return
        }
        bury(record, isClean: isClean)
    }

    /// A stream the library has forgotten is told to its owner, if it did not end well and there is one, and forgotten here.
    mutating func bury(_ record: UnsafeMutablePointer<StreamRecord>, isClean: Bool) {
        let isKnown = record.pointee.isResetting && !record.pointee.tellsReset || isClean
        if isKnown || record.pointee.owner == 0 { free(record); return }
        record.pointee.isClosed = true
        dropQueue(record)
        addClosed(record)
    }
}
