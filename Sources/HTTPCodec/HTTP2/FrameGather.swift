import Bytes
import CNGHTTP2
import Glibc

/// Frames in pieces, for one `sendmsg`: headers and small frames in memory of its own, large content where it was received.
struct FrameGather {
    private static let piecesMax = 128
    private static let memoryBytes = 64 * 1024
    /// What one more frame may need.
    private static let piecesLeast = 8, bytesLeast = 4 * 1024

    let pieces: UnsafeMutablePointer<iovec>
    private let memory: UnsafeMutableRawPointer
    private(set) var count = 0
    private(set) var byteCount = 0
    /// Bytes of `memory` used, and those of them that are in no piece yet.
    private var used = 0, begun = 0

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

    /// So many bytes of what was `writable` are written now.
    private mutating func seal(_ written: Int) {
        let end = used + written
        guard end > begun else { return }
        add(memory + begun, end - begun)
        begun = end
    }

    private mutating func add(_ base: UnsafeMutableRawPointer, _ bytes: Int) {
        pieces[count] = iovec(iov_base: base, iov_len: bytes)
        count += 1
        byteCount += bytes
    }

    /// Content behind `written` bytes of what was `writable`. False when there are too many pieces.
    mutating func add(_ content: UnsafeRawPointer, _ bytes: Int, behind written: Int) -> Bool {
        guard count <= Self.piecesMax - 3 else { return false }
        seal(written)
        add(UnsafeMutableRawPointer(mutating: content), bytes)
        return true
    }

    mutating func finish(_ written: Int) {
        seal(written)
        used += written
    }

    mutating func removeAll() {
        count = 0
        byteCount = 0
        used = 0
        begun = 0
    }
}

extension SessionState {
    /// As `append`, and `end` when `ends`; but large content of a stream on which nothing waits is gathered at once, with whatever else the
    /// session has to say. Only what no window lets out is copied.
    mutating func lend(_ record: UnsafeMutablePointer<StreamRecord>, _ content: UnsafeRawBufferPointer, ends: Bool) -> Int {
        guard content.count >= limits.lentBytesMin, record.pointee.hasSource, record.pointee.queue.count == 0,
            !record.pointee.endsBehindQueue, record.pointee.trailers == nil, workspace.pointee.gather.hasRoom
        else {
            let taken = append(record, content)
            if ends { end(record) }
            return taken
        }
        let stream = record.pointee.id
        lentStream = stream
        lent = content
        if ends { record.pointee.endsBehindQueue = true }
        resume(record)
        workspace.pointee.out = ByteWriter(workspace.pointee.gather.writable)
        pullFrames()
        workspace.pointee.gather.finish(workspace.pointee.out.count)
        lentStream = 0
        // The record may be gone: its last frame is among those gathered.
        if lent.count > 0, let record = live(stream) {
            keep(record, lent)
            if ends { record.pointee.wantsRoom = false }
        }
        return content.count
    }

    /// A DATA frame of lent content: its header is written, the content stays where it is.
    mutating func sendLent(_ header: UnsafeRawPointer, _ count: Int) -> Int32 {
        guard let base = lent.baseAddress, workspace.pointee.out.remaining >= FrameHeader.byteCount else { return NGHTTP2_ERR_WOULDBLOCK.rawValue }
        guard workspace.pointee.gather.add(base, count, behind: workspace.pointee.out.count + FrameHeader.byteCount) else {
            return NGHTTP2_ERR_WOULDBLOCK.rawValue
        }
        workspace.pointee.out.write(header, count: FrameHeader.byteCount)
        lent = UnsafeRawBufferPointer(rebasing: lent[count...])
        frames.earnDataSent(limits)
        return 0
    }
}
