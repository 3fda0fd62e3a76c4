import Bytes
import EventLoop
import HTTPCodec
import MeshModel
import Routing
import Telemetry
import Upstream

/// The right to count as "in flight" on an endpoint, and the duty to stop counting. Whatever becomes of an exchange, its end settles it.
struct Lease: ~Copyable {
    let endpoint: EndpointState
    /// The count of all requests to the same port, where hashing wants to know.
    let total: EndpointState?

    init(on endpoint: EndpointState, total: EndpointState? = nil) {
        endpoint.begin()
        total?.begin()
        self.endpoint = endpoint
        self.total = total
    }

    deinit {
        endpoint.finish()
        total?.finish()
    }
}

/// How far one direction of an exchange has come.
enum Phase: UInt8 { case head, body, complete }

/// Where the upstream of an exchange comes from at the moment.
enum Reach: UInt8 {
    /// None is held: before the first attempt, between two, or after the end.
    case nothing
    /// Queued for a stream of a session: of one that is being opened, or has none free.
    case session
    /// Queued for a stock socket.
    case socket
    /// connect() is under way, or CONNECT is not answered yet.
    case connecting
    /// Connected.
    case connected
}

/// One request and its reply, or one opaque connection, between a downstream and an upstream. It exists from the request's head (or the
/// decision to relay) until the last byte, so that a connection at rest does not pay for it.
///
/// Each of its sides is a leg: an HTTP/1 connection, which it has to itself, or a stream of a session, beside others.
struct Exchange: ~Copyable {
    let downstream: UInt32
    /// The downstream's stream; 0 where that is an HTTP/1 connection.
    let downstreamStream: Int32
    var upstream = nobody
    /// The upstream's stream; 0 where that is an HTTP/1 connection, or none.
    var upstreamStream: Int32 = 0
    /// Neighbours among the exchanges of the downstream's session.
    var nextOfDownstream = nobody, previousOfDownstream = nobody
    /// Neighbours among the exchanges of the upstream's session.
    var nextOfUpstream = nobody, previousOfUpstream = nobody
    /// The upstream's stream has ended from its side, or is gone.
    var upstreamIsOver = false
    /// Its deadline has passed.
    var isDue = false
    var reach = Reach.nothing
    let isRelay: Bool

    // MARK: Request
    var requestPhase = Phase.head
    var requestBody = BodyFlow()
    var method = HTTPMethod.get
    var hasBody = false
    /// HTTP/1.0 downstream: no chunks, no interim replies.
    var isHTTP10 = false
    /// The downstream connection may carry another request afterwards.
    var keepsAlive = false
    var expectsContinue = false
    var asksForUpgrade = false
    /// Why either peer has reset its stream; the other is told the same.
    var resetCode = HTTP2Code.cancel
    /// Its heads have made it a tunnel: content until either side closes.
    var isTunnel = false
    /// Opaque: the stream is gone, by a reset or with its session; what it has brought is still on its way to the socket.
    var streamIsGone = false
    /// When the whole request is given up: as its client says (`grpc-timeout`, `x-request-timeout`), or its route; 0: never.
    var giveUpAt: Nanoseconds = 0
    /// Content bytes of a stream's request so far.
    var requestContent = 0
    /// The whole request as forwarded, in a replay block, while a second try could still be needed.
    var replay = BlockPool.none
    var replayCount = 0
    /// The request comes as content, which is framed as its upstream's protocol has it. Only from HTTP/1 to HTTP/1 it passes framed already.
    var passesContent = false
    /// Of what is held of such a request (in its replay block, or in `unsent`), the head: the first bytes, parked. 0: nothing is held.
    var heldHeadCount = 0
    /// Where the parked trailers begin in what is held; 0: there are none.
    var heldTrailersAt = 0
    /// The source has said all.
    var requestIsEnded = false
    /// Content goes to an HTTP/1 upstream in chunks of our own.
    var requestIsChunked = false
    /// What the client of a tunnel to be has sent before it was one; of an opaque connection, what its server has said before it is known
    /// what the client speaks.
    var early = ByteQueue(capacityMax: WorkerSizes.outputBytesMax)
    /// Chance for the identifiers that the request gets: every attempt shows the same.
    var chance: (UInt64, UInt64, UInt64) = (0, 0, 0)
    /// An attempt has been made with it.
    var chanceIsShown = false
    /// What waits for the upstream to be connected.
    var unsent = ByteQueue(capacityMax: WorkerSizes.outputBytesMax)
    /// Memory of what waits, charged to the pod.
    var charged: Int32 = 0
    /// Content of the request that its stream has delivered and not got its window back for: the upstream is behind.
    var unconsumedRequest: Int32 = 0
    /// Bytes were handed to the kernel in this attempt.
    var seen = RequestPart.nothing

    // MARK: Reply
    var replyPhase = Phase.head
    var interimReplies: UInt8 = 0
    var replyBody = BodyFlow()
    /// The upstream says it will keep the connection.
    var upstreamKeepsAlive = false
    var status: UInt16 = 0
    /// Content of the reply that its stream has delivered and not got its window back for: the client is behind.
    var unconsumedReply: Int32 = 0
    /// A byte of the final reply went downstream: too late for any other answer.
    var replyHasBegun = false
    /// Towards the client: nothing tells the reply's end any more, for its last part has, or its head.
    var replyIsEnded = true
    /// Content goes to an HTTP/1 client in chunks of our own.
    var replyIsChunked = false

    // MARK: Route
    /// The rule that has taken the request, and the backend that was chosen, until the reply's head is written.
    var hold = RouteHold.none
    /// The origin that may read the reply, in a block of `Worker.origins`.
    var origin = BlockPool.none
    var originCount: UInt16 = 0
    /// The endpoint that the request's session is with, when it began (seconds since 1970), and what the client is owed of it.
    var sticksTo: EndpointAddress?
    var sessionBegun: UInt32 = 0
    var sessionDebt = SessionDebt.nothing

    /// A copy of another request, whose answer nobody hears.
    var isMirror = false
    /// The copied request has come on a stream.
    var cameAsStream = false
    /// Copies that this request's content still goes to, in a list; of a copy, the request whose list it is in.
    var firstMirror = nobody, nextMirror = nobody, mirrorOf = nobody

    // MARK: Destination
    /// The port that was asked for, where the connection's own does not say: on port 15008 each stream says it. 0: the connection's.
    var port: UInt16 = 0
    /// The calling proxy knows that HTTP/1 is to be spoken.
    var wantsHTTP1 = false
    var target = Target()
    var attempts: UInt8 = 0
    /// How often a session has given the request back unprocessed; such attempts do not count.
    var refusals: UInt8 = 0
    /// This attempt's upstream speaks HTTP/2: declared, or to be found out first.
    var wantsStream = false
    /// It was declared.
    var isDeclaredHTTP2 = false
    /// Where the attempt went that failed; the next one goes to another pod.
    var tried: EndpointAddress?
    var lease: Lease?
    /// Where the service's requests are hashed, this one's hash; every attempt has the same. 0: it has none.
    var hash: UInt64 = 0

    // MARK: Policy
    /// Its place among the requests of its service.
    var service: ServiceLease?
    var retry = RetryPlan()
    /// Of the identifier that its head brought; 0: it has one made by chance, or nobody needs to know.
    var identity: UInt64 = 0
    /// The attempt under way is one that a plan has asked for.
    var isRetrying = false
    /// Of the service's policy; 0: no limit.
    var pendingMax: UInt32 = 0
    var connectionsMax: UInt32 = 0
    /// Its service's policy says what its client gets when no endpoint can be reached.
    var hasFallback = false
    /// It has gone to a fallback: that one's own is nobody's.
    var hasFallenBack = false
    /// Injected before the first attempt.
    var delayMilliseconds: UInt32 = 0
    /// What one attempt may take, to the end of its reply; 0: no limit of its own.
    var attemptMilliseconds: UInt32 = 0
    /// When the present attempt is given up, and when a pause ends; 0: never, and none.
    var attemptEndsAt: Nanoseconds = 0
    var resumeAt: Nanoseconds = 0
    /// How long it waits for a place among its service's connections; 0: it has not waited.
    var waitsUntil: Nanoseconds = 0
    var hasAlarm = false
    /// It has rung.
    var alarmIsDue = false

    // MARK: Accounts
    /// The request's content type is gRPC's.
    var isGRPC = false
    /// What the reply's `grpc-status` said; nil while it has said nothing.
    var grpcStatus: UInt8?
    /// Messages of a call, both ways.
    var requestMessages = GRPCMessages(), replyMessages = GRPCMessages()
    var started: Nanoseconds = 0
    var requestBytes: UInt64 = 0
    var replyBytes: UInt64 = 0
    /// Reads grow while the other side keeps up and shrink when it does not: log2 of bytes.
    var requestReadShift = WorkerSizes.readShiftMax
    var replyReadShift = WorkerSizes.readShiftMax
    var account = ExchangeAccount()

    init(downstream: UInt32, stream: Int32 = 0, isRelay: Bool) {
        self.downstream = downstream
        downstreamStream = stream
        self.isRelay = isRelay
    }

    /// The request is given up then, if not before.
    mutating func giveUp(at moment: Nanoseconds) { giveUpAt = giveUpAt == 0 ? moment : min(giveUpAt, moment) }
}

/// One body on its way: found in the bytes and passed as it stands (a length, or until the close), or framed anew (chunks).
enum BodyFlow {
    case verbatim(BodyDecoder)
    case reframed(BodyRelay)

    init() { self = .verbatim(BodyDecoder()) }

    /// Whatever comes, until the sender closes.
    static var untilClose: BodyFlow {
        // No limit can refuse a body that has not begun.
        (try? BodyFlow(.untilClose, writesChunks: false)) ?? BodyFlow()
    }

    init(_ framing: BodyFraming, writesChunks: Bool, limits: BodyLimits = .standard) throws(HTTPFault) {
        let decoder = try BodyDecoder(framing, limits: limits)
        self = writesChunks || framing == .chunked ? .reframed(BodyRelay(decoder, writesChunks: writesChunks)) : .verbatim(decoder)
    }

    var isComplete: Bool {
        switch self {
        case .verbatim(let decoder): decoder.isComplete
        case .reframed(let relay): relay.isComplete
        }
    }

    mutating func peerClosed() throws(HTTPFault) {
        switch self {
        case .verbatim(var decoder):
            try decoder.peerClosed()
            self = .verbatim(decoder)
        case .reframed(var relay):
            try relay.peerClosed()
            self = .reframed(relay)
        }
    }
}

struct EndpointAddress: Equatable {
    var address: IPAddress
    var port: UInt16
}

/// Where one attempt goes.
struct Target {
    var address = IPAddress(high: 0, low: 0)
    var port: UInt16 = 0
    /// The pod in whose namespace the socket must live.
    var socketPod: UInt32 = nobody
    /// The address the upstream shall see; nil for a plain socket.
    var source: IPAddress?
    /// The endpoint's slot; `nobody` when the destination is no endpoint the mesh knows.
    var slot = nobody
    /// How it travels there.
    var wire = Wire.plain
    /// By mutual TLS: the number of the calling pod's identity, and a hash of the name the other end must show.
    var identity: UInt32 = 0
    var expected: UInt64 = 0

    /// The port of the connection itself.
    var wirePort: UInt16 { wire == .secure ? WeftPorts.mutualTLS : port }
}

typealias ExchangePlace = UnsafeMutablePointer<Exchange>
