import Bytes
import CLinux
import EventLoop
import Glibc
import HTTPCodec
import MeshModel
import Routing

/// No connection, exchange, pool or block.
let nobody = UInt32.max

/// What a socket is to us.
enum Role: UInt8 { case listener, downstream, upstream }

/// Where a connection stands. Under each: what is true there, and who leaves it.
///
///     downstream   detecting ─▶ awaitingHead ◀─▶ exchanging        upstream   connecting ─▶ exchanging ◀─▶ idle
///                      └──────▶ relaying    ◀───────┘ (101)                       └───────▶ relaying
///                  securing ─▶ multiplexing                                       └─▶ securing ─▶ multiplexing
///                  any ─▶ flushing ─▶ lingering ─▶ dead                       any ─▶ dead
enum Stage: UInt8 {
    /// A listener; ends with its pod.
    case accepting
    /// Downstream of undeclared protocol. `input` holds what came, if anything. An upstream may be open beside it (then `exchange` is
    /// set, and whoever speaks first decides). Left by `Detect`.
    case detecting
    /// Downstream between requests: no exchange; `input` holds a partial head or nothing. Left by `RequestHead`.
    case awaitingHead
    /// Both: a TLS handshake is under way, or its client's first byte awaited. Left by `Secure`.
    case securing
    /// Upstream whose connect() is under way; `exchange` is set; nothing was written. Left by `Connect`.
    case connecting
    /// Both: `exchange` is set. Left by `Finish` and `Failures`.
    case exchanging
    /// Both: an HTTP/2 connection; `session` is set, its exchanges are those of its streams. Left by `Close`.
    case multiplexing
    /// Both: bytes pass unread in both directions; `exchange` is set. Left by `Relay`.
    case relaying
    /// Both: the other side was reset; what it had said before is still with the kernel, then this side is reset too. Left by `Relay`.
    case resetting
    /// Upstream in its pool; no exchange, nothing buffered. Left by `Lease` and `Close`.
    case idle
    /// Downstream whose last reply is in `output`; nothing is read. Left by `Output` when it is out.
    case flushing
    /// Downstream: FIN sent; what arrives is dropped, so that the reply is not lost to a reset. Left by `Close`.
    case lingering
    /// Closed; the place is free as soon as the scheduler has let go of it.
    case dead
}

/// How a pod's listener tells where its connections wanted to go.
struct ListenerKind: Equatable {
    var isInbound = false
    var readsSocketName = false
    var isIPv6 = false
}

/// A socket and what is known about it between two events. 10,000 idle ones are a supported case, so what only a request in
/// progress needs lives in `Exchange`, and memory for bytes exists while bytes wait.
struct Connection: ~Copyable {
    let descriptor: Int32
    var role: Role
    var stage: Stage
    /// The kernel may have bytes (or the end) for us: set by an edge, cleared by a short read.
    var canRead = false
    /// The peer's FIN was reported or read; bytes before it may still lie in the kernel.
    var hasEnded = false
    /// Everything up to the peer's FIN was read.
    var sawEnd = false
    /// Dead in both directions (reset).
    var isBroken = false
    /// Its deadline has passed.
    var isDue = false
    /// Its peer has reset it; what the peer said before may still lie in the kernel.
    var wasReset = false
    /// Urgent data lies in its stream or has been announced.
    var hasUrgent = false
    /// Flushing: behind its last byte comes a reset.
    var resetsAtEnd = false
    /// A FIN of ours was sent.
    var hasShutDown = false
    /// Downstream: a health check's question, whose other end is the control thread's.
    var isProbe = false
    /// Downstream: bytes in `input` have not been looked at since the last request ended.
    var inputIsFresh = false
    var listener = ListenerKind()
    /// Place of the pod whose turn this connection's work is charged to.
    let pod: UInt32
    /// Its work waits in a queue of its own beside that of its pod: a client that asks for more than its neighbours there, or for nothing.
    var isApart = false
    /// HTTP/1 and opaque: the one exchange.
    var exchange = nobody
    /// HTTP/2: the session.
    var session = nobody
    /// A client that we play for the copy of a request: it has no socket.
    var isMirror = false
    /// An end of a bridge; `bridge` is the other one while it lives.
    var isOnBridge = false
    var bridge = nobody
    /// Bridge, near end: what it leads to has been reached.
    var bridgeIsOpen = false
    /// Bridge: the far end's stream was reset, so the end of what is read here is no end in order.
    var bridgeBroke = false
    /// TLS under it; `nobody`: none.
    var secure = nobody
    /// Who its peer has proven to be; `nobody`: nothing is proven.
    var caller = nobody
    /// HTTP/2: waits among the worker's writers.
    var writesLater = false
    /// Buffer memory charged to the pod.
    var charged: Int32 = 0
    var progress = HeadProgress()
    var input = ByteQueue(capacityMax: WorkerSizes.inputBytesMax)
    var output = ByteQueue(capacityMax: WorkerSizes.outputBytesMax)
    /// Beside `output`, never with it: bytes that leave towards it and wait in a pipe.
    var piped = PipedOutput()
    var hasPipedOutput: Bool { piped.count > 0 }

    /// Resetting: bytes that the kernel had not sent when last asked.
    var unsent: UInt32 = 0
    // Downstream: who calls. Upstream: unused.
    var peer = IPAddress(high: 0, low: 0)
    // Downstream: where it wanted to go. Upstream: where it is connected.
    var address = IPAddress(high: 0, low: 0)
    var port: UInt16 = 0
    /// Downstream: the protocol was declared or found to be HTTP.
    var speaksHTTP = false
    /// Upstream: the service among whose connections it counts, where a policy bounds those.
    var service: ServiceState?
    /// Upstream: its pool, while it is a member.
    var pool = nobody
    /// Upstream: requests carried so far; more than zero makes it a reused connection.
    var served: UInt32 = 0
    /// Upstream: since when it rests. Resetting: since when nothing has left.
    var restingSince: Nanoseconds = 0

    init(descriptor: Int32, role: Role, stage: Stage, pod: UInt32) {
        self.descriptor = descriptor
        self.role = role
        self.stage = stage
        self.pod = pod
    }
}

typealias ConnectionPlace = UnsafeMutablePointer<Connection>

extension IPAddress {
    init(_ address: clinux_address) { self.init(high: UInt64(bigEndian: address.high), low: UInt64(bigEndian: address.low)) }

    func socketAddress(port: UInt16) -> clinux_address {
        clinux_address(high: high.bigEndian, low: low.bigEndian, port: port, zero: (0, 0, 0))
    }
}
