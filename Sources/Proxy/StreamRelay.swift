import EventLoop
import HTTPCodec
import Upstream

// An opaque connection whose client's side is a CONNECT stream on port 15008: the stream's content is the connection's bytes, and each end of
// it the connection's end. Once the application has accepted, it is a tunnel like any other.
extension Worker {
    mutating func beginStreamRelay(
        _ stream: Int32, port: UInt16, ends: Bool, _ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace
    ) {
        guard let token = admitStream(stream, connection, index, session, isRelay: true) else { return }
        let exchange = exchanges.at(token.index)
        exchange.pointee.port = port
        exchange.pointee.method = .connect
        exchange.pointee.hasBody = true
        exchange.pointee.requestIsEnded = ends
        exchange.pointee.requestPhase = ends ? .complete : .body
        exchange.pointee.started = now
        if isOverBudget(connection.pointee.pod) { return answer(token.index, .bufferBudgetSpent) }
        dispatch(token.index, route(exchange, connection, host: UnsafeRawBufferPointer(start: nil, count: 0)), .unsent, mayReuse: false)
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
}
