import HTTPCodec
import MeshModel

/// The limits one process runs with: MeshModel's defaults, each of which `--limit name=value` may change for a test.
public struct ProxyLimits: Sendable {
    public var head = HeadLimits.standard
    public var body = BodyLimits.standard

    public var connectionsPerPodMax = Limits.connectionsPerPodMax
    public var bufferedBytesPerPodMax = Limits.bufferedBytesPerPodMax
    public var pendingRequestsPerPodMax = Limits.pendingRequestsPerPodMax
    public var idleUpstreamsPerPodMax = Limits.idleUpstreamsPerPodMax

    public var headMilliseconds = Limits.headTimeoutMilliseconds
    public var idleMilliseconds = Limits.idleTimeoutMilliseconds
    public var connectMilliseconds = Limits.connectTimeoutMilliseconds
    public var replyMilliseconds = Limits.replyTimeoutMilliseconds
    public var detectionMilliseconds = Limits.detectionTimeoutMilliseconds
    /// First bytes that are the beginning of HTTP or TLS and of nothing else: so long for the rest, since the last of them.
    public var detectionLateMilliseconds = 1_000
    /// How long a port counts as one whose server speaks first, since a server of its last did.
    public var serverFirstMilliseconds = 600_000
    /// A connection that has rested so long after its first reply will not be closed because of it.
    public var provenRestMilliseconds = 20
    /// Without a byte in either direction of a body in progress.
    public var stallMilliseconds = 60_000
    /// An opaque connection without a byte in either direction. TCP itself has no such limit; two hours is its keep-alive interval.
    public var relayIdleMilliseconds = 7_200_000
    /// How long a reply may keep us waiting when the client has closed its sending side. That is what a client that went away looks like, and
    /// also what one that has nothing more to say looks like; the difference shows only when we send.
    public var halfClosedMilliseconds = 2_000
    /// Pipes of the whole process for bulk on its way, shared out equally over the workers; together with the next line this bounds the
    /// kernel memory that readers who do not keep up can fill: 128 MiB.
    public var pipesMax = 128
    /// Bytes that one pipe holds.
    public var pipeBytes = 1 << 20
    /// After an error reply, unread bytes are drained so long: closing at once would reset the connection and lose the reply.
    public var lingerMilliseconds = 1_000

    public init() {}

    /// Names of the integers that may be set from outside.
    public mutating func set(_ name: String, _ value: Int) -> Bool {
        guard value > 0 else { return false }
        switch name {
        case "connectionsPerPodMax": connectionsPerPodMax = value
        case "bufferedBytesPerPodMax": bufferedBytesPerPodMax = value
        case "pendingRequestsPerPodMax": pendingRequestsPerPodMax = value
        case "idleUpstreamsPerPodMax": idleUpstreamsPerPodMax = value
        case "headMilliseconds": headMilliseconds = value
        case "idleMilliseconds": idleMilliseconds = value
        case "connectMilliseconds": connectMilliseconds = value
        case "replyMilliseconds": replyMilliseconds = value
        case "detectionMilliseconds": detectionMilliseconds = value
        case "detectionLateMilliseconds": detectionLateMilliseconds = value
        case "serverFirstMilliseconds": serverFirstMilliseconds = value
        case "stallMilliseconds": stallMilliseconds = value
        case "relayIdleMilliseconds": relayIdleMilliseconds = value
        case "halfClosedMilliseconds": halfClosedMilliseconds = value
        case "lingerMilliseconds": lingerMilliseconds = value
        case "pipesMax": pipesMax = value
        case "pipeBytes": pipeBytes = value
        case "bodyBytesMax":
            body = BodyLimits(bodyBytesMax: value)
        default: return false
        }
        return true
    }
}

/// Sizes that shape the worker's memory.
enum WorkerSizes {
    /// One read of a body. Measured with 1 MB replies and 100 KB requests (S9): 64 KiB costs as little per byte as 256 KiB and leaves a
    /// quarter as much waiting for a slow reader; 16 KiB costs a third more.
    static let readBytesMax = 64 * 1024
    /// log2 of the smallest and largest read: reads shrink where the other side does not keep up.
    static let readShiftMin: UInt8 = 14, readShiftMax: UInt8 = 16
    /// The step above the largest read: through a pipe. A move that brings less than this was not worth one.
    static let spliceShift = readShiftMax + 1
    static let spliceBytesLeast = 32 * 1024
    /// One read where a head is expected. It bounds what a pipelining client can leave with us per connection.
    static let headReadBytes = 64 * 1024
    /// Free room before the receive buffer: a rewritten head is put right before the body bytes that came with it, so both leave in one
    /// send without moving the body. A head grows by less than this.
    static let headroomBytes = 4 * 1024
    /// A body this small is copied behind the head instead.
    static let inlineBodyBytes = 4 * 1024
    /// A head that is kept for a second try must fit.
    static let replayBytes = 4 * 1024
    /// Output that a slow reader may leave waiting on one connection: one whole read and the framing around it.
    static let outputBytesMax = 2 * readBytesMax
    /// The payload of a full Ethernet segment with timestamps.
    static let segmentBytes = 1_448
    /// Connections accepted per wake: more would let one pod's burst hold the turn.
    static let acceptsPerTurn = 16, acceptsPerTurnShared = 2
}
