import EventLoop
import Glibc
import HTTPCodec
import Upstream

// A connection whose client's side is a CONNECT stream on port 15008: the stream's content is the connection's bytes, and each end of it the
// connection's end.
//
// From another Weft proxy it is opaque, for what HTTP there was that one has sent as requests: it goes to the application, and once that has accepted
// it is a tunnel like any other. From a foreign peer (HBONE) it may be anything, and where a Weft proxy says so it is HTTP: it goes over a bridge,
// whose near end is a connection that has arrived like those in the clear, but for its caller, who is known.
extension Worker {
    mutating func beginStreamRelay(
        _ stream: Int32, port: UInt16, ends: Bool, isOpaque: Bool, _ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace
    ) {
        guard let token = admitStream(stream, connection, index, session, isRelay: true) else { return }
        let number = token.index
        let exchange = exchanges.at(number)
        exchange.pointee.port = port
        exchange.pointee.method = .connect
        exchange.pointee.hasBody = true
        exchange.pointee.requestIsEnded = ends
        exchange.pointee.requestPhase = ends ? .complete : .body
        exchange.pointee.started = now
        if session.pointee.revokedUntil != 0 { return answer(number, .denied(.revoked)) }
        if isOverBudget(connection.pointee.pod) { return answer(number, .bufferBudgetSpent) }
        if !isOpaque { return bridgeArrival(number, exchange, connection) }
        dispatch(number, route(exchange, connection, host: UnsafeRawBufferPointer(start: nil, count: 0)), .unsent, mayReuse: false)
    }

    /// The application has accepted, and what the stream had brought by then is on its way to it.
    mutating func openStreamRelay(_ number: UInt32, _ exchange: ExchangePlace, _ upstream: ConnectionPlace) {
        let index = exchange.pointee.downstream
        let connection = connections.at(index)
        sessions.at(connection.pointee.session).pointee.codec.submitTunnelOpened(exchange.pointee.downstreamStream)
        exchange.pointee.status = 200
        exchange.pointee.replyHasBegun = true
        exchange.pointee.replyIsEnded = false
        beginTunnel(exchange)
        setDeadline(exchange, number, milliseconds: limits.relayIdleMilliseconds)
        endTunnel(exchange, upstream)
        again(connection, index)
    }

    /// The exchange passes bytes that nobody here understands, between a stream and a socket.
    func isOpaque(_ exchange: ExchangePlace) -> Bool { exchange.pointee.isRelay && exchange.pointee.downstreamStream != 0 }

    private mutating func bridgeArrival(_ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace) {
        // What passes is counted at the near end.
        exchange.pointee.attempts = 1
        guard let bridge = openBridge(pod: connection.pointee.pod) else { return answer(number, .upstream(.noSocket(errno: EMFILE))) }
        let far = connections.at(bridge.far), near = connections.at(bridge.near)
        far.pointee.stage = .exchanging
        far.pointee.exchange = number
        exchange.pointee.upstream = bridge.far
        exchange.pointee.reach = .connected
        near.pointee.role = .downstream
        near.pointee.listener = connection.pointee.listener
        near.pointee.peer = connection.pointee.peer
        near.pointee.address = connection.pointee.address
        near.pointee.port = exchange.pointee.port
        near.pointee.caller = shareCaller(connection.pointee.caller)
        openStreamRelay(number, exchange, far)
        beginDetecting(near, bridge.near)
    }
}
