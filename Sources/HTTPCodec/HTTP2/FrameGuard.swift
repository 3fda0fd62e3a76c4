import Bytes

/// The header of a frame (RFC 9113, 4.1).
struct FrameHeader {
    static let byteCount = 9
    var length: Int
    var type: UInt8
    var flags: UInt8
    var stream: Int32

    @inline(__always) init(_ bytes: UnsafeRawPointer) {
        let head = UInt32(bigEndian: bytes.loadUnaligned(as: UInt32.self))
        length = Int(head &>> 8)
        type = UInt8(truncatingIfNeeded: head)
        flags = bytes.load(fromByteOffset: 4, as: UInt8.self)
        stream = Int32(bitPattern: UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 5, as: UInt32.self)) & 0x7FFF_FFFF)
    }

    @inline(__always) func has(_ flag: UInt8) -> Bool { flags & flag != 0 }
}

enum FrameType {
    static let data: UInt8 = 0, headers: UInt8 = 1, priority: UInt8 = 2, resetStream: UInt8 = 3, settings: UInt8 = 4
    static let pushPromise: UInt8 = 5, ping: UInt8 = 6, goAway: UInt8 = 7, windowUpdate: UInt8 = 8, continuation: UInt8 = 9
    static let priorityUpdate: UInt8 = 16
}

enum FrameFlag {
    static let endStream: UInt8 = 1, ack: UInt8 = 1, endHeaders: UInt8 = 4, padded: UInt8 = 8, priority: UInt8 = 0x20
}

/// What becomes of a frame.
enum FrameVerdict {
    /// The library gets it.
    case feed
    /// Nobody gets it.
    case drop
    /// Nobody gets it, and its stream is reset.
    case reset(HTTP2Code)
    /// The connection is given up.
    case fault(HTTP2Fault)
}

/// What a session remembers to judge frames before the library sees them: the library is lax where streams are gone, gives
/// up connections where a stream would do, and counts no floods.
struct FrameGuard {
    enum Ending: UInt32 { case ended, resetByPeer, resetByUs }

    private let isServer: Bool
    /// Bytes of the client's preface seen.
    var prefaceCount: Int
    var sawSettings = false
    /// The highest stream the peer has opened, and we have.
    private(set) var highestPeer: Int32 = 0
    private(set) var highestOwn: Int32 = 0
    /// A header block is open on this stream; 0 for none.
    var blockStream: Int32 = 0
    var blockFrames = 0
    var blockBytes = 0
    /// Our SETTINGS that the peer has not acknowledged.
    var settingsUnanswered = 0
    /// The last streams that ended, number and how, oldest overwritten: those before them are closed as well, but nobody knows why.
    private var endings = InlineArray<128, UInt32>(repeating: 0)
    private var endingCount = 0

    private var resets: FloodMeter
    private var controls: FloodMeter
    private var emptyData: FloodMeter
    private var tinyData: FloodMeter
    private var priorities: FloodMeter
    private var windowUpdates: FloodMeter
    private var refusedHeads: FloodMeter
    private var lateFrames: FloodMeter

    init(isServer: Bool, limits: HTTP2Limits, now: UInt64) {
        self.isServer = isServer
        prefaceCount = isServer ? 0 : Self.preface.utf8CodeUnitCount
        resets = FloodMeter(limits.resets, now: now)
        controls = FloodMeter(limits.controls, now: now)
        emptyData = FloodMeter(limits.emptyData, now: now)
        tinyData = FloodMeter(limits.tinyData, now: now)
        priorities = FloodMeter(limits.priorities, now: now)
        windowUpdates = FloodMeter(limits.windowUpdates, now: now)
        refusedHeads = FloodMeter(limits.refusedHeadKilobytes, now: now)
        lateFrames = FloodMeter(limits.lateFrames, now: now)
    }

    static var preface: StaticString { "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" }

    /// Whether a stream is one the peer opens.
    @inline(__always) func isPeers(_ stream: Int32) -> Bool { (stream & 1 == 1) == isServer }

    /// Nobody has opened this stream.
    @inline(__always) func isIdle(_ stream: Int32) -> Bool { stream > (isPeers(stream) ? highestPeer : highestOwn) }

    mutating func openedByPeer(_ stream: Int32, _ limits: HTTP2Limits) {
        highestPeer = stream
        priorities.earn(4, limits.priorities)
        windowUpdates.earn(4, limits.windowUpdates)
    }

    mutating func opened(_ stream: Int32) { highestOwn = stream }

    mutating func remember(_ stream: Int32, _ ending: Ending) {
        // A number is 31 bits, and its kind is known: 30 bits and two for how it ended.
        endings[endingCount & 127] = UInt32(bitPattern: stream &>> 1) &<< 2 | ending.rawValue
        endingCount &+= 1
    }

    /// How a stream that is gone ended; nil for one that is forgotten, or was never opened.
    func ending(of stream: Int32) -> Ending? {
        var index = endingCount
        let oldest = max(0, endingCount - 128)
        while index > oldest {
            index &-= 1
            let entry = endings[index & 127]
            if entry &>> 2 == UInt32(bitPattern: stream &>> 1) { return Ending(rawValue: entry & 3) }
        }
        return nil
    }

    // Floods.

    mutating func mayReset(_ limits: HTTP2Limits, _ now: UInt64) -> Bool { resets.take(limits.resets, now: now) }
    mutating func mayControl(_ limits: HTTP2Limits, _ now: UInt64, count: Int = 1) -> Bool {
        controls.take(limits.controls, now: now, count: Int32(truncatingIfNeeded: count))
    }
    mutating func mayPrioritise(_ limits: HTTP2Limits, _ now: UInt64) -> Bool { priorities.take(limits.priorities, now: now) }
    mutating func mayUpdateWindow(_ limits: HTTP2Limits, _ now: UInt64) -> Bool { windowUpdates.take(limits.windowUpdates, now: now) }

    mutating func mayContinueReset(_ limits: HTTP2Limits, _ now: UInt64) -> Bool { lateFrames.take(limits.lateFrames, now: now) }
    /// A head of so many decoded bytes was too large.
    mutating func mayRefuse(_ bytes: Int, _ limits: HTTP2Limits, _ now: UInt64) -> Bool {
        refusedHeads.take(limits.refusedHeadKilobytes, now: now, count: Int32(clamping: bytes / 1_024))
    }

    /// The peer has lately sent more of something than honest work explains. No fault yet; but its neighbours shall not wait for it.
    func isSuspect(_ limits: HTTP2Limits) -> Bool {
        resets.isLow(limits.resets) || controls.isLow(limits.controls) || emptyData.isLow(limits.emptyData) || tinyData.isLow(limits.tinyData)
            || priorities.isLow(limits.priorities) || windowUpdates.isLow(limits.windowUpdates) || refusedHeads.isLow(limits.refusedHeadKilobytes)
            || lateFrames.isLow(limits.lateFrames)
    }

    mutating func earnStream(_ limits: HTTP2Limits) {
        resets.earn(1, limits.resets)
        emptyData.earn(1, limits.emptyData)
    }
    /// Some gRPC peers measure the round trip with a PING for each DATA frame they get.
    mutating func earnDataSent(_ limits: HTTP2Limits) {
        windowUpdates.earn(4, limits.windowUpdates)
        controls.earn(1, limits.controls)
    }

    /// DATA of so many content bytes that does not end its stream.
    @inline(__always) mutating func faultOfData(_ bytes: Int, _ limits: HTTP2Limits, _ now: UInt64) -> HTTP2Fault? {
        if bytes > limits.tinyDataBytes { return nil }
        if bytes == 0 { return emptyData.take(limits.emptyData, now: now) ? nil : .emptyDataFlood }
        return tinyData.take(limits.tinyData, now: now) ? nil : .tinyDataFlood
    }
}
