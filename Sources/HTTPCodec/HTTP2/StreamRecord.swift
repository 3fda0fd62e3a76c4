import Bytes

/// What a session remembers of one stream, beside what the library does.
///
///     live ──both sides ended──▶ freed           live ──reset()──▶ resetting ──RST_STREAM written──▶ freed
///       └──RST_STREAM came, GOAWAY, stream error──▶ closed, in the list of events ──told by `next`──▶ freed
struct StreamRecord {
    let id: Int32
    var owner: UInt32 = 0

    // The session's list of all its records.
    var previous: UnsafeMutablePointer<StreamRecord>?
    var next: UnsafeMutablePointer<StreamRecord>?
    // The list of closed or of writable records; a record is in one of them at most.
    var nextTold: UnsafeMutablePointer<StreamRecord>?

    // Receiving.
    /// The request, or the final response, has come.
    var sawHead = false
    /// The head was refused with an answer; no honest work.
    var wasRefused = false
    /// END_STREAM has come.
    var peerEnded = false
    /// Content bytes that Content-Length still promises; -1 without one.
    var bytesPromised = -1
    /// Content bytes received and not taken yet.
    var held = 0
    /// What the peer has added to its window, WINDOW_UPDATE by WINDOW_UPDATE.
    var windowGained = 0

    // Sending.
    var queue = StreamQueue()
    /// Trailers that wait behind the queue, as `PendingTrailers` wrote them.
    var trailers: UnsafeMutableRawPointer?
    /// A data source is attached: DATA may be sent.
    var hasSource = false
    /// The library has put the data source aside until there is more.
    var isDeferred = false
    /// `end` was called, or a head that ends was submitted.
    var endsBehindQueue = false
    /// The final response's head is submitted (server).
    var sentHead = false
    /// END_STREAM has been written.
    var sentEnd = false
    /// When END_STREAM was written although the client had not ended; 0 otherwise. What it still sends is dropped.
    var answeredAt: UInt64 = 0
    /// There was no room when it was asked for, or none left by what was appended.
    var wantsRoom = false
    var isInWritable = false
    /// When bytes began to wait without one of them leaving; 0 while none waits.
    var waitsSince: UInt64 = 0

    // What the exchange is.
    var answersHead = false
    var isConnect = false
    /// Extended CONNECT: 101 goes out as 200 (server), 200 comes in as 101 (client, when an HTTP/1.1 upgrade was submitted).
    var isUpgrade = false
    /// CONNECT, plain or extended, has been agreed to: each side ends by itself.
    var isTunnel = false
    var isGRPC = false
    /// The answer to the upgrade's key: 28 characters, valid when `hasAccept`.
    var accept: WebSocketAccept?

    // Ending.
    /// We have queued RST_STREAM: nothing of this stream is told any more.
    var isResetting = false
    /// Heads that the library has and has not written.
    var headsWaiting: UInt8 = 0
    /// With what code it is reset as soon as nothing of it waits; nil: it is not.
    var resetBehindQueue: HTTP2Code?
    /// Its owner does not know of the reset yet.
    var tellsReset = false
    /// The stream is gone; it waits to be told.
    var isClosed = false
    var closeCode = HTTP2Code.noError

    init(_ id: Int32) { self.id = id }

    /// Something of it is still to be written.
    var hasWaiting: Bool { headsWaiting > 0 || queue.count > 0 }
}

/// Bytes that wait on a stream, in blocks of 4 KiB: a stream at rest holds none.
struct StreamQueue {
    private struct Block {
        var next: UnsafeMutableRawPointer?
        var start: Int32 = 0
        var end: Int32 = 0
    }
    private static let headerBytes = 16
    private static let contentBytes = FrameMemory.pieceBytesMax - headerBytes

    private var first: UnsafeMutableRawPointer?
    private var last: UnsafeMutableRawPointer?
    private(set) var count = 0

    @inline(__always) private static func block(_ memory: UnsafeMutableRawPointer) -> UnsafeMutablePointer<Block> {
        memory.assumingMemoryBound(to: Block.self)
    }

    mutating func append(_ bytes: UnsafeRawBufferPointer, _ memory: inout FrameMemory) {
        guard var source = bytes.baseAddress else { return }
        var rest = bytes.count
        while rest > 0 {
            let block: UnsafeMutableRawPointer
            if let last, Int(Self.block(last).pointee.end) < Self.contentBytes {
                block = last
            } else {
                block = memory.allocate(Self.headerBytes + Self.contentBytes)
                Self.block(block).initialize(to: Block())
                if let last { Self.block(last).pointee.next = block } else { first = block }
                last = block
            }
            let end = Int(Self.block(block).pointee.end)
            let taken = min(rest, Self.contentBytes &- end)
            (block + Self.headerBytes + end).copyMemory(from: source, byteCount: taken)
            Self.block(block).pointee.end = Int32(truncatingIfNeeded: end &+ taken)
            source += taken
            rest &-= taken
            count &+= taken
        }
    }

    /// Moves the `count` oldest bytes to `target`.
    mutating func take(_ wanted: Int, to target: UnsafeMutableRawPointer, _ memory: inout FrameMemory) {
        precondition(wanted <= count, "more bytes taken than wait")
        var target = target, rest = wanted
        while rest > 0, let block = first {
            let start = Int(Self.block(block).pointee.start), end = Int(Self.block(block).pointee.end)
            let taken = min(rest, end &- start)
            target.copyMemory(from: block + Self.headerBytes + start, byteCount: taken)
            target += taken
            rest &-= taken
            if start &+ taken == end {
                first = Self.block(block).pointee.next
                if first == nil { last = nil }
                memory.release(block)
            } else {
                Self.block(block).pointee.start = Int32(truncatingIfNeeded: start &+ taken)
            }
        }
        count &-= wanted
    }

    mutating func removeAll(_ memory: inout FrameMemory) {
        while let block = first {
            first = Self.block(block).pointee.next
            memory.release(block)
        }
        last = nil
        count = 0
    }
}

/// The records of a session by stream number: open addressing, at most half full.
struct StreamTable {
    private var slots: UnsafeMutablePointer<UnsafeMutablePointer<StreamRecord>?>?
    private var mask = -1
    private(set) var count = 0

    /// Numbers come in sequence: scattered, so that they do not form one long run that every removal walks over.
    @inline(__always) private func place(_ id: Int32) -> Int { Int((UInt32(bitPattern: id) &* 0x9E37_79B1) &>> 12) & mask }

    @inline(__always) subscript(_ id: Int32) -> UnsafeMutablePointer<StreamRecord>? {
        guard let slots else { return nil }
        var index = place(id)
        while let record = slots[index] {
            if record.pointee.id == id { return record }
            index = (index &+ 1) & mask
        }
        return nil
    }

    mutating func insert(_ record: UnsafeMutablePointer<StreamRecord>, _ memory: inout FrameMemory) {
        if 2 &* (count &+ 1) > mask &+ 1 { grow(&memory) }
        place(record)
        count &+= 1
    }

    private func place(_ record: UnsafeMutablePointer<StreamRecord>) {
        guard let slots else { preconditionFailure("the table was just grown") }
        var index = place(record.pointee.id)
        while slots[index] != nil { index = (index &+ 1) & mask }
        slots[index] = record
    }

    mutating func remove(_ id: Int32) {
        guard let slots else { return }
        var index = place(id)
        while let record = slots[index], record.pointee.id != id { index = (index &+ 1) & mask }
        guard slots[index] != nil else { return }
        slots[index] = nil
        count &-= 1
        // Those that were pushed past the gap move back into it.
        var follower = (index &+ 1) & mask
        while let record = slots[follower] {
            let wanted = place(record.pointee.id)
            if (follower &- wanted) & mask >= (follower &- index) & mask {
                slots[index] = record
                slots[follower] = nil
                index = follower
            }
            follower = (follower &+ 1) & mask
        }
    }

    private mutating func grow(_ memory: inout FrameMemory) {
        let old = slots, oldCapacity = mask &+ 1
        let capacity = max(8, oldCapacity &* 2)
        let bytes = capacity &* MemoryLayout<UnsafeMutablePointer<StreamRecord>?>.stride
        let fresh = memory.allocate(bytes).bindMemory(to: UnsafeMutablePointer<StreamRecord>?.self, capacity: capacity)
        fresh.initialize(repeating: nil, count: capacity)
        slots = fresh
        mask = capacity &- 1
        guard let old else { return }
        for index in 0..<oldCapacity { if let record = old[index] { place(record) } }
        memory.release(UnsafeMutableRawPointer(old))
    }

    mutating func tearDown(_ memory: inout FrameMemory) {
        count = 0
        releaseIfEmpty(&memory)
    }

    /// Gives the memory back when no stream is left.
    mutating func releaseIfEmpty(_ memory: inout FrameMemory) {
        guard count == 0, let held = slots else { return }
        memory.release(UnsafeMutableRawPointer(held))
        slots = nil
        mask = -1
    }
}
