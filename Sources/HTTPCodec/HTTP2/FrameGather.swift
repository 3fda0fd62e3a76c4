import Bytes
import CNGHTTP2
import Glibc

/// Frames in pieces, for one `sendmsg`: headers and small frames in memory of its own, large content where it was received.
struct FrameGather {
    private static let piecesMax = 128
    private static let memoryBytes = 16 * 1024
    /// What one more frame may need.
    private static let piecesLeast = 8, bytesLeast = 4 * 1024

    let pieces: UnsafeMutablePointer<iovec>
    private let memory: UnsafeMutableRawPointer
    private(set) var count = 0
    private(set) var byteCount = 0
    /// Bytes of `memory` used, and those of them that are in a piece.
    private var used = 0, sealed = 0
    /// A session is gathering.
    var isTaken = false

    init() {
        pieces = .allocate(capacity: Self.piecesMax)
        memory = .allocate(byteCount: Self.memoryBytes, alignment: 16)
    }

    func tearDown() {
        pieces.deallocate()
        memory.deallocate()
    }

    var hasRoom: Bool { count <= Self.piecesMax - Self.piecesLeast && used <= Self.memoryBytes - Self.bytesLeast }

    /// The memory for the frames that follow.
    var writable: UnsafeMutableRawBufferPointer { UnsafeMutableRawBufferPointer(start: memory + used, count: Self.memoryBytes - used) }

    /// Content behind the first `written` bytes of what was `writable`. False when there are too many pieces.
    mutating func add(_ content: UnsafeRawPointer, _ bytes: Int, behind written: Int) -> Bool {
        guard count <= Self.piecesMax - 3 else { return false }
        seal(used + written)
        add(UnsafeMutableRawPointer(mutating: content), bytes)
        return true
    }

    /// `written` bytes of what was `writable` are in use.
    mutating func finish(_ written: Int) {
        used += written
        seal(used)
    }

    mutating func removeAll() {
        count = 0
        byteCount = 0
        used = 0
        sealed = 0
        isTaken = false
    }

    private mutating func seal(_ end: Int) {
        guard end > sealed else { return }
        add(memory + sealed, end - sealed)
        sealed = end
    }

    private mutating func add(_ base: UnsafeMutableRawPointer, _ bytes: Int) {
        pieces[count] = iovec(iov_base: base, iov_len: bytes)
        count += 1
        byteCount += bytes
    }
}

/// The gathers of a workspace: as many sessions may have lent content at once.
struct FrameGathers {
    private static let most = 16
    private let all: UnsafeMutablePointer<FrameGather>
    private var made = 0

    init() { all = .allocate(capacity: Self.most) }

    func tearDown() {
        for index in 0..<made { all[index].tearDown() }
        all.deallocate()
    }

    /// One that nobody has; nil: they are all taken.
    mutating func take() -> UnsafeMutablePointer<FrameGather>? {
        for index in 0..<made where !all[index].isTaken {
            all[index].isTaken = true
            return all + index
        }
        guard made < Self.most else { return nil }
        (all + made).initialize(to: FrameGather())
        all[made].isTaken = true
        made += 1
        return all + (made - 1)
    }
}

extension SessionState {
    /// As `append`, and `end` when `ends`; but large content of a stream on which nothing waits is gathered at once, with whatever else the
    /// session has to say. Only what no window lets out is copied.
    mutating func lend(_ record: UnsafeMutablePointer<StreamRecord>, _ content: UnsafeRawBufferPointer, ends: Bool) -> Int {
        guard content.count >= limits.lentBytesMin, record.pointee.hasSource, record.pointee.queue.count == 0,
            !record.pointee.endsBehindQueue, record.pointee.trailers == nil, let gather = beginGathering()
        else {
            let taken = append(record, content)
            if ends, taken == content.count { end(record) }
            return taken
        }
        let stream = record.pointee.id
        lentStream = stream
        lent = content
        if ends { record.pointee.endsBehindQueue = true }
        resume(record)
        workspace.pointee.out = ByteWriter(gather.pointee.writable)
        pullFrames(limits.framesGatheredMax)
        gather.pointee.finish(workspace.pointee.out.count)
        lentStream = 0
        // The record may be gone: its last frame is among those gathered.
        if lent.count > 0, let record = live(stream) {
            keep(record, lent)
            if ends { record.pointee.wantsRoom = false }
        }
        return content.count
    }

    private mutating func beginGathering() -> UnsafeMutablePointer<FrameGather>? {
        if gather == nil { gather = workspace.pointee.gathers.take() }
        guard let gather, gather.pointee.hasRoom else { return nil }
        return gather
    }

    /// A DATA frame of lent content: its header is written, the content stays where it is.
    mutating func sendLent(_ header: UnsafeRawPointer, _ count: Int) -> Int32 {
        guard let base = lent.baseAddress, let gather, workspace.pointee.out.remaining >= FrameHeader.byteCount,
            gather.pointee.add(base, count, behind: workspace.pointee.out.count + FrameHeader.byteCount)
        else { return NGHTTP2_ERR_WOULDBLOCK.rawValue }
        workspace.pointee.out.write(header, count: FrameHeader.byteCount)
        lent = UnsafeRawBufferPointer(rebasing: lent[count...])
        if count >= limits.cutDataBytes || lent.isEmpty { frames.earnDataSent(limits) }
        return 0
    }

    mutating func clearGathered() {
        gather?.pointee.removeAll()
        gather = nil
    }
}
