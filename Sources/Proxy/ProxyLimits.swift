import HTTPCodec
import MeshModel

/// The limits one process runs with: MeshModel's defaults, each of which `--limit name=value` may change for a test.
public struct ProxyLimits: Sendable {
    public var head = HeadLimits.standard
    public var body = BodyLimits.standard

    public var connectionsPerPodMax = Limits.connectionsPerPodMax
    public var bufferedBytesPerPodMax = Limits.bufferedBytesPerPodMax
    public var pendingRequestsPerPodMax = Limits.pendingRequestsPerPodMax
    public var streamsPerPodMax = Limits.streamsPerPodMax
    public var idleUpstreamsPerPodMax = Limits.idleUpstreamsPerPodMax

    public var headMilliseconds = Limits.headTimeoutMilliseconds
    public var idleMilliseconds = Limits.idleTimeoutMilliseconds
    public var connectMilliseconds = Limits.connectTimeoutMilliseconds
    public var replyMilliseconds = Limits.replyTimeoutMilliseconds
    /// From a connection's beginning to the end of its TLS handshake.
    public var handshakeMilliseconds = 5_000
    /// TLS handshakes under way of one pod on one worker: a third of a second's work.
    public var handshakesPerPodMax = 512
    public var detectionMilliseconds = Limits.detectionTimeoutMilliseconds
    /// First bytes that are the beginning of HTTP or TLS and of nothing else: so long for the rest, since the last of them.
    public var detectionLateMilliseconds = 1_000
    /// How long a port counts as one whose server speaks first, since a server of its last did.
    public var serverFirstMilliseconds = 600_000
    /// A connection that has rested so long after its first reply will not be closed because of it.
    public var provenRestMilliseconds = 20
    /// Interim heads (1xx) before a reply; a server that sends more never means to answer.
    public var interimRepliesMax: UInt8 = 64
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

    /// Copies of one pod's requests (mirrors) that are under way on one worker.
    public var mirrorsPerPodMax = 512
    /// Bytes of a copy that its backend has not taken yet; one more, and the copy is cut off.
    public var mirrorBytesMax = 256 * 1024

    /// A request that is still coming when its whole reply is out may come for so long before it is stopped.
    public var answeredMilliseconds = 100
    /// Between the two GOAWAYs of a drain, if the client does not answer the PING between them: a long round trip.
    public var drainStepMilliseconds = 1_000
    /// How long a session of a revoked client refuses what it is asked before it is cut off: time for GOAWAY to be heard, well within a second.
    public var revokedMilliseconds = 400
    /// A client with open streams that has been silent so long is asked whether it is still there. Half of what takes most NATs to forget.
    public var pingMilliseconds = 120_000
    /// A PING that is not answered by then was sent to nobody.
    public var pingAnswerMilliseconds = 20_000
    /// A server with open streams that has been silent so long is asked the same: gRPC's end a connection that asks more often than every five minutes.
    public var serverPingMilliseconds = 300_000
    /// A session towards a server without streams. Longer than an HTTP/1 connection rests, for its server says when it goes.
    public var sessionRestMilliseconds = 60_000
    /// How often a session looks at what time may have decided. Limits shorter than that make it look more often.
    public var sessionTickMilliseconds = 5_000

    /// How often success rates and latencies of a service's endpoints are compared.
    public var judgeMilliseconds = 10_000

    public init() {}

    /// Names of the integers that may be set from outside.
    public mutating func set(_ name: String, _ value: Int) -> Bool {
        guard value > 0 else { return false }
        switch name {
        case "connectionsPerPodMax": connectionsPerPodMax = value
        case "bufferedBytesPerPodMax": bufferedBytesPerPodMax = value
        case "pendingRequestsPerPodMax": pendingRequestsPerPodMax = value
        case "streamsPerPodMax": streamsPerPodMax = value
        case "idleUpstreamsPerPodMax": idleUpstreamsPerPodMax = value
        case "headMilliseconds": headMilliseconds = value
        case "idleMilliseconds": idleMilliseconds = value
        case "connectMilliseconds": connectMilliseconds = value
        case "replyMilliseconds": replyMilliseconds = value
        case "handshakeMilliseconds": handshakeMilliseconds = value
        case "handshakesPerPodMax": handshakesPerPodMax = value
        case "detectionMilliseconds": detectionMilliseconds = value
        case "detectionLateMilliseconds": detectionLateMilliseconds = value
        case "serverFirstMilliseconds": serverFirstMilliseconds = value
        case "stallMilliseconds": stallMilliseconds = value
        case "relayIdleMilliseconds": relayIdleMilliseconds = value
        case "halfClosedMilliseconds": halfClosedMilliseconds = value
        case "revokedMilliseconds": revokedMilliseconds = value
        case "drainStepMilliseconds": drainStepMilliseconds = value
        case "pingMilliseconds": pingMilliseconds = value
        case "serverPingMilliseconds": serverPingMilliseconds = value
        case "sessionRestMilliseconds": sessionRestMilliseconds = value
        case "pingAnswerMilliseconds": pingAnswerMilliseconds = value
        case "lingerMilliseconds": lingerMilliseconds = value
        case "mirrorsPerPodMax": mirrorsPerPodMax = value
        case "mirrorBytesMax": mirrorBytesMax = value
        case "judgeMilliseconds": judgeMilliseconds = value
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
    /// log2 of the smallest read of a session: a few hundred of the smallest frames.
    static let frameShiftMin: UInt8 = 12
    /// log2 of the largest, for a session whose reads are full and cheap, as those of content are: what one read brings for many connections
    /// leaves in fewer sends. Measured with 1 MB replies to 8 connections: 256 KiB costs a tenth less per byte than 64 KiB.
    static let frameShiftMax: UInt8 = 18
    /// What is left of one read waits there for the next turn.
    static let inputBytesMax = 1 << Int(frameShiftMax)
    /// The step above the largest read: through a pipe. A move that brings less than this was not worth one.
    static let spliceShift = readShiftMax + 1
    static let spliceBytesLeast = 32 * 1024
    /// Exchanges of a session that has failed which end in one turn: each costs its books and an upstream connection, about 10 µs. While several pods
    /// are at work the clock decides.
    static let exchangesEndedPerTurn = 32
    /// Streams of a client's session that has ended which are given up in one turn: half a microsecond each.
    static let streamsGivenUpPerTurn = 256, streamsGivenUpPerTurnShared = 32
    /// A client's requests that may wait for a connection to a server while it is served in one queue with the others of its pod: each brings
    /// a connection into that queue, which costs some 50 µs before it rests.
    static let pendingTogetherMax: Int32 = 32
    /// Streams that it may have open. Eight clients with 32 each, as gRPC has them, are no reason for short turns.
    static let streamsTogetherMax: UInt32 = 256
    /// Exchanges that are asked about again in one turn after new tables came: 50 ns each, and 10 µs more for one that is ended.
    static let rejudgedPerTurn = 512
    /// A gRPC deadline farther away than 30 days is none; what a wheel's ticks can count ends at 397.
    static let callNanosecondsMax: UInt64 = 30 * 86_400 * 1_000_000_000
    /// One read of a reply whose stream has hardly any room: two thousand streams that nobody reads must not fill their pod's budget.
    static let streamReadBytesMin = 4 * 1024
    /// What a TLS handshake under way holds: OpenSSL's buffers, keys and transcript.
    static let handshakeBytes = 40 * 1024
    /// One read where a head is expected. It bounds what a pipelining client can leave with us per connection.
    static let headReadBytes = 64 * 1024
    /// Free room before the receive buffer: a rewritten head is put right before the body bytes that came with it, so both leave in one
    /// send without moving the body. A head grows by less than this.
    static let headroomBytes = 4 * 1024
    /// A body this small is copied behind the head instead.
    static let inlineBodyBytes = 4 * 1024
    /// How long a connection rests that counts among those of a service whose policy bounds them.
    static let countedRestMilliseconds = 100
    /// The longest pause between two attempts of one request.
    static let backoffMillisecondsMax: UInt32 = 10_000
    /// A request that is kept for another attempt must fit, head and body.
    static let replayBytes = 4 * 1024
    /// Output that a slow reader may leave waiting on one connection. From HTTP/1 that is one whole read and the framing around it; from a
    /// stream it is the stream's window, each byte of which may have come, and then leaves, in a chunk of its own.
    static let outputBytesMax = 2 * 1_024 * 1_024
    /// What one turn of a session sends: the frames of many streams, or of one that is in a hurry.
    static let sendBytesMax = 2 * readBytesMax
    /// Frames of one send while several pods are at work. One costs up to two microseconds, and 128 KiB of resets, answers without content, or
    /// DATA that the peer's windows cut down to a byte hold thousands.
    static let framesPerSendShared = 24
    /// The payload of a full Ethernet segment with timestamps.
    static let segmentBytes = 1_448
    /// Connections accepted per wake: more would let one pod's burst hold the turn.
    static let acceptsPerTurn = 16, acceptsPerTurnShared = 2
}
