import Balancing
import Bytes
import CLinux
import EventLoop
import HTTPCodec
import MutualTLS
import Telemetry
import Upstream

/// What a multiplexed connection has beside its socket: the state of its HTTP/2 session and whose streams are open on it.
struct Session: ~Copyable {
    var codec: HTTP2Session
    /// We are the server: the connection is a client's.
    let isServer: Bool
    /// What its TLS handshake has agreed on; nil: it speaks in the clear.
    var wire: TLSProtocol?
    /// Between Weft proxies: the chance that both ends know; nil: they know none.
    var chance: SharedChance?
    /// The connection it speaks on; `nobody` while one is being opened.
    var connection: UInt32
    /// The exchanges of a client's streams, linked through them.
    var firstExchange = nobody
    /// How many there are.
    var exchangeCount: UInt32 = 0
    /// Those of them that wait for a connection.
    var pendingCount: Int32 = 0
    /// Since when it has none.
    var idleSince: Nanoseconds
    /// Since when the peer has taken none of what waits in `output`; 0: nothing waits.
    var blockedSince: Nanoseconds = 0
    var drain = SessionDrain.none
    /// When it is cut off, for its client is revoked; 0: it is not.
    var revokedUntil: Nanoseconds = 0
    /// When the client closed its sending side; 0: it has not.
    var endedAt: Nanoseconds = 0
    /// log2 of the bytes of one read: what a turn can deal with. A kilobyte of PINGs costs as much as a hundred of content.
    var readShift = WorkerSizes.readShiftMax

    // Towards a server.
    /// Where it goes.
    var target = Target()
    /// Place of the pod whose requests it carries.
    var pod = nobody
    /// The port was declared HTTP/2, or its proxy has agreed to it: the first requests go out with our SETTINGS. Otherwise the server's are awaited.
    var isDeclared = false
    /// By mutual TLS: the other end is a proxy that knows CONNECT only (HBONE).
    var isForeign = false
    /// It waits for the first certificate of the pod that it is opened for.
    var awaitsIdentity = false
    /// Why it ends; nil: the server has closed it.
    var ending: SessionEnding?
    /// It is lost, and its exchanges are being told.
    var isEnding = false

    init(_ codec: consuming HTTP2Session, isServer: Bool, connection: UInt32, now: Nanoseconds) {
        self.codec = codec
        self.isServer = isServer
        self.connection = connection
        idleSince = now
    }
}

/// What the proxies at both ends of a session know without saying it: from it and a stream's number each makes the identifiers of the same request.
struct SharedChance {
    private let words: (UInt64, UInt64, UInt64)

    init(_ words: (UInt64, UInt64, UInt64)) { self.words = words }

    func of(_ stream: Int32) -> (UInt64, UInt64, UInt64) {
        var source = SplitMix64(seed: words.0 &+ UInt64(UInt32(bitPattern: stream)) &* 0xA24B_AED4_963E_E407)
        return (source.next() ^ words.1, source.next() ^ words.2, source.next())
    }
}

/// How far a session of ours has told its client to go elsewhere.
enum SessionDrain: UInt8 {
    case none
    /// The first GOAWAY is out, which names no last stream.
    case announced
    /// The second one is.
    case finished
}

/// Why a session towards a server ends, other than by the server's closing it.
enum SessionEnding {
    /// It could not be opened, or has broken.
    case failed(UpstreamFailure)
    /// The server has answered HTTP/2 with something else, or by closing the connection.
    case notSpoken(hasAnswered: Bool)
    /// Nobody needs it any more.
    case retired
}

typealias SessionPlace = UnsafeMutablePointer<Session>

// A client's session: how it begins, and its exchanges, which join with their request's head and leave at their end.
extension Worker {
    /// The connection speaks HTTP/2 (RFC 9113): what lies in its `input`, and whatever comes, are the session's frames.
    mutating func beginMultiplexing(_ connection: ConnectionPlace, _ index: UInt32) {
        guard let codec = HTTP2Session(.server, workspace, now: now) else {
            ledger.count(.http2SessionsRefusedDownstream)
            return reset(connection, index)
        }
        guard let token = sessions.insert(Session(codec, isServer: true, connection: index, now: now)) else { return reset(connection, index) }
        if connection.pointee.secure != nobody {
            let tls = secures.at(connection.pointee.secure)
            let wire = tls.pointee.tls.applicationProtocol
            sessions.at(token.index).pointee.wire = wire
            if wire == .weft { sessions.at(token.index).pointee.chance = SharedChance(tls.pointee.tls.sharedChance) }
        }
        connection.pointee.session = token.index
        connection.pointee.speaksHTTP = true
        connection.pointee.stage = .multiplexing
        ledger.count(.http2SessionsDownstream)
        ledger.raise(.http2SessionsOpenDownstream)
        deadlines.set(index, at: after(milliseconds: sessionTickMilliseconds))
        if drainUntil != nil { drainSession(connection, index) }
        again(connection, index)
    }

    mutating func joinSession(_ number: UInt32, _ exchange: ExchangePlace, _ session: SessionPlace) {
        let first = session.pointee.firstExchange
        exchange.pointee.nextOfDownstream = first
        if first != nobody { exchanges.at(first).pointee.previousOfDownstream = number }
        session.pointee.firstExchange = number
        session.pointee.exchangeCount += 1
        session.pointee.codec.setOwner(exchange.pointee.downstreamStream, number + 1)
        pods.budgets.base[Int(connections.at(session.pointee.connection).pointee.pod)].streams += 1
        streamExchanges += 1
        ledger.count(.http2StreamsDownstream)
        ledger.raise(.http2StreamsOpenDownstream)
    }

    /// The exchange ends. What its stream still has to send stays the session's.
    mutating func leaveSession(_ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace) {
        let session = sessions.at(connection.pointee.session)
        let next = exchange.pointee.nextOfDownstream, previous = exchange.pointee.previousOfDownstream
        if next != nobody { exchanges.at(next).pointee.previousOfDownstream = previous }
        if previous != nobody { exchanges.at(previous).pointee.nextOfDownstream = next } else { session.pointee.firstExchange = next }
        session.pointee.exchangeCount -= 1
        if session.pointee.exchangeCount == 0 { session.pointee.idleSince = now }
        session.pointee.codec.setOwner(exchange.pointee.downstreamStream, 0)
        if exchange.pointee.requestPhase != .complete {
            // Answered before its end: the session stops it unless it ends by itself.
            deadlines.set(session.pointee.connection, at: after(milliseconds: limits.answeredMilliseconds))
        }
        exchangeDeadlines.remove(number)
        pods.budgets.base[Int(connection.pointee.pod)].streams -= 1
        streamExchanges -= 1
        ledger.lower(.http2StreamsOpenDownstream)
    }

    /// The client is gone, and with it whoever wanted the replies. Two thousand exchanges take tens of milliseconds to end, and their
    /// streams another one, so they do it a few at a time, in their pod's turns; until the last one has, session and connection keep their places,
    /// though nothing moves on them.
    mutating func endSession(_ connection: ConnectionPlace, _ index: UInt32) {
        let place = connection.pointee.session
        guard place != nobody else { return }
        let session = sessions.at(place)
        var ended = 0
        let begun = monotonicNow()
        while session.pointee.firstExchange != nobody {
            guard mayEndMore(ended, since: begun) else { return again(connection, index) }
            streamAborted(session.pointee.firstExchange)
            ended += 1
        }
        guard session.pointee.codec.dismantle(upTo: isShared ? WorkerSizes.streamsGivenUpPerTurnShared : WorkerSizes.streamsGivenUpPerTurn) else {
            return again(connection, index)
        }
        connection.pointee.session = nobody
        sessions.remove(at: place)
        ledger.lower(.http2SessionsOpenDownstream)
    }

    /// Whether one more of a session's exchanges may end in this turn, which `ended` have since it began. Each takes from two microseconds to fifty,
    /// for its connection to a server is closed with it.
    func mayEndMore(_ ended: Int, since begun: Nanoseconds) -> Bool {
        ended < WorkerSizes.exchangesEndedPerTurn && (ended == 0 || !isShared || !turnIsOver(since: begun))
    }

    /// What the client has not asked for whole when it stopped speaking cannot be answered.
    mutating func endUnfinished(_ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace) {
        var ended = 0
        let begun = monotonicNow()
        var number = session.pointee.firstExchange
        while number != nobody {
            let next = exchanges.at(number).pointee.nextOfDownstream
            if exchanges.at(number).pointee.requestPhase != .complete {
                guard mayEndMore(ended, since: begun) else { return again(connection, index) }
                streamAborted(number)
                ended += 1
            }
            number = next
        }
    }

    /// The client wants the rest of this exchange no more, or cannot have it.
    ///
    /// A server that has a connection for it is told by a reset, as one with a stream is. Behind a FIN it would go on with its reply, and our port
    /// would rest for a minute: a client that takes back a thousand requests a second uses up all there are, and then each connect searches them.
    mutating func streamAborted(_ number: UInt32) {
        let exchange = exchanges.at(number)
        if exchange.pointee.upstream != nobody, exchange.pointee.upstreamStream == 0, !exchange.pointee.isTunnel, !exchange.pointee.isRelay {
            clinux_reset_on_close(connections.at(exchange.pointee.upstream).pointee.descriptor)
        }
        ledger.count(.clientAborts)
        ledger.recordFailure(exchange, status: exchange.pointee.replyHasBegun ? exchange.pointee.status : 0, .downstreamConnectionTermination, now: now)
        releaseUpstream(exchange, mayRest: false)
        end(number, exchange, connections.at(exchange.pointee.downstream))
    }
}
