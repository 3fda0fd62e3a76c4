/// How much of everything one HTTP/2 connection may have. Checked against each other once, when made.
public struct HTTP2Limits: Sendable, Equatable {
    /// Streams a client may have open at once, as SETTINGS_MAX_CONCURRENT_STREAMS tells it.
    public var streamsMax = 2_048
    /// Bytes of one decoded head, counted as RFC 9113, 10.5.1 has it (32 more per field); more is answered 431.
    public var headListBytesMax = 64 * 1024
    /// Fields of one head; more is answered 431.
    public var fieldsMax = HeadLimits.fieldsCapacity
    /// Decoded bytes of one head at which it is no mistake any more: the connection ends. What is that large decoded and fits into
    /// `headBlockBytesMax` on the wire names entries of the table over and over.
    public var headBombBytes = 256 * 1024
    /// Bytes of one header block on the wire, all its frames together.
    public var headBlockBytesMax = 96 * 1024
    /// CONTINUATION frames of one header block.
    public var continuationsMax = 32
    /// Bytes a peer may send on one stream before its receiver has taken them.
    public var streamWindowBytes = 256 * 1024
    /// Bytes a peer may send on all streams before we have read them.
    public var connectionWindowBytes = 1024 * 1024
    /// Bytes of one connection that were received and not taken yet, above which its window is no longer given back on receipt.
    public var heldBytesMax = 16 * 1024 * 1024
    /// Bytes that wait on one stream for the peer's window, above which `room` is 0.
    public var queueBytesMax = 64 * 1024
    /// Bytes `append` never lets a stream's queue exceed: what was let in with room left, and what the other side's window and
    /// one read had on the way by then.
    public var queueBytesHardMax: Int { queueBytesMax + streamWindowBytes + 64 * 1024 }
    /// Content of fewer bytes is copied: two more pieces of one send cost what copying 1 KiB does.
    public var lentBytesMin = 1024
    /// Frames that leave together with lent content, which waits for none behind them: each costs up to two microseconds.
    public var framesGatheredMax = 256
    /// Bytes that wait on all streams of one connection, above which each stream may only hold `queueBytesMin`.
    public var queueBytesPerSession = 4 * 1024 * 1024
    /// Bytes any stream may have waiting, so that none starves behind the others.
    public var queueBytesMin = 4 * 1024
    /// Nanoseconds that bytes may wait on one stream for a window the peer does not open.
    public var stallNanosecondsMax: UInt64 = 300_000_000_000

    /// Nanoseconds a client may still end a request that is already answered, before it is told to stop with NO_ERROR.
    public var answeredNanosecondsMax: UInt64 = 100_000_000

    // Allowances refill with time, and with the honest work that explains the frames (`FloodMeter`).
    /// Streams reset by the peer, or by us for its faults.
    public var resets = Allowance(burst: 1_000, perSecond: 100)
    /// Decoded KiB of heads that were refused for being too large: it is their decoding that costs.
    public var refusedHeadKilobytes = Allowance(burst: 8_192, perSecond: 1_024)
    /// Heads, and DATA frames of at most `tinyDataBytes`, on streams that we have reset: each may have its end on the way, whatever their number.
    public var lateFrames = Allowance(burst: 4_096, perSecond: 200)
    /// SETTINGS, PING and frames of unknown type, beyond one per DATA frame sent.
    public var controls = Allowance(burst: 1_000, perSecond: 200)
    /// DATA frames without a byte that do not end their stream.
    public var emptyData = Allowance(burst: 500, perSecond: 100)
    /// DATA frames of at most `tinyDataBytes` bytes that do not end their stream.
    public var tinyData = Allowance(burst: 50_000, perSecond: 20_000)
    /// Below a gRPC message's own prefix of 5 bytes, so that no frame with a whole message is one.
    public var tinyDataBytes = 4
    /// PRIORITY and PRIORITY_UPDATE frames, beyond 4 per stream opened.
    public var priorities = Allowance(burst: 500, perSecond: 100)
    /// Bytes.
    public var cutDataBytes = 512
    /// WINDOW_UPDATE frames, beyond 4 per DATA frame sent and per stream opened. A DATA frame that the peer's own window cut down to less
    /// than `cutDataBytes` explains none.
    public var windowUpdates = Allowance(burst: 2_000, perSecond: 200)

    public init() {}

    public static let standard = HTTP2Limits()

    func check() {
        precondition(streamsMax > 0 && fieldsMax > 0 && fieldsMax <= HeadLimits.fieldsCapacity)
        precondition(headListBytesMax <= 65_536 && headBombBytes > headListBytesMax, "offsets into a head are 16 bits wide")
        precondition(headBlockBytesMax >= headListBytesMax, "what fits decoded must fit encoded")
        precondition(queueBytesMin > 0 && queueBytesMin <= queueBytesMax && queueBytesMax <= queueBytesPerSession)
        precondition(streamWindowBytes >= 65_535 && connectionWindowBytes >= streamWindowBytes && heldBytesMax >= connectionWindowBytes)
    }
}

/// So many at once, and so many more with each second.
public struct Allowance: Sendable, Equatable {
    public var burst: Int32
    public var perSecond: Int32

    public init(burst: Int32, perSecond: Int32) {
        precondition(burst > 0 && perSecond > 0)
        self.burst = burst
        self.perSecond = perSecond
    }

    /// What is left of it with a peer that nothing is to be said against.
    @inline(__always) var unsuspicious: Int32 { burst &- burst / 64 }
}

/// Counts one kind of frame against its allowance. What is earned by time is added when a sixty-fourth of it is used, so an
/// honest peer costs one subtraction and a comparison a frame.
struct FloodMeter {
    private var left: Int32
    private var filledAt: UInt64

    init(_ allowance: Allowance, now: UInt64) {
        left = allowance.burst
        filledAt = now
    }

    /// Takes one, or as many as the frame is worth. False: the allowance is used up.
    @inline(__always) mutating func take(_ allowance: Allowance, now: UInt64, count: Int32 = 1) -> Bool {
        left = max(left &- count, -1)
        return left >= allowance.unsuspicious || refill(allowance, now: now)
    }

    /// More is used than time and honest work have earned.
    @inline(__always) func isLow(_ allowance: Allowance) -> Bool { left < allowance.unsuspicious }

    /// Honest work that explains `count` more.
    @inline(__always) mutating func earn(_ count: Int32, _ allowance: Allowance) {
        if left < allowance.burst { left &+= count }
    }

    private mutating func refill(_ allowance: Allowance, now: UInt64) -> Bool {
        let elapsed = now > filledAt ? now &- filledAt : 0
        let earned = Int32(clamping: min(elapsed, 1_000_000_000_000) / 1_000 * UInt64(allowance.perSecond) / 1_000_000)
        guard earned > 0 else { return left >= 0 }
        filledAt = now
        left = min(left &+ min(earned, allowance.burst), allowance.burst)
        return left >= 0
    }
}
