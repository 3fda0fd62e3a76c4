import EventLoop

// The two legs of an exchange meet here: whoever brings content asks the other leg for room, and a leg that has room again says so.
//
// A leg takes all that it is given: what one read or the window of one stream can bring. Room tells only whether to bring more.
extension Worker {
    /// How much more of the request the upstream wants; 0: what it has not taken yet waits with us.
    func requestRoom(_ exchange: ExchangePlace) -> Int {
        guard exchange.pointee.reach == .connected else { return 0 }
        if exchange.pointee.upstreamStream != 0 {
            return sessions.at(connections.at(exchange.pointee.upstream).pointee.session).pointee.codec.room(exchange.pointee.upstreamStream)
        }
        guard exchange.pointee.early.isEmpty else { return 0 }
        return connections.at(exchange.pointee.upstream).pointee.output.isEmpty ? WorkerSizes.readBytesMax : 0
    }

    /// How much more of the reply the client wants; 0: what it has not taken yet waits with us.
    @inline(__always) func replyRoom(_ exchange: ExchangePlace) -> Int {
        let connection = connections.at(exchange.pointee.downstream)
        if exchange.pointee.downstreamStream != 0 { return sessions.at(connection.pointee.session).pointee.codec.room(exchange.pointee.downstreamStream) }
        return connection.pointee.output.isEmpty && !connection.pointee.hasPipedOutput ? WorkerSizes.readBytesMax : 0
    }

    /// The upstream has room again: the client's side is read on.
    mutating func requestMayContinue(_ number: UInt32) {
        let exchange = exchanges.at(number)
        let connection = connections.at(exchange.pointee.downstream)
        if !exchange.pointee.early.isEmpty { passEarly(exchange) }
        if exchange.pointee.downstreamStream != 0 {
            chargeHeld(exchange, connection)
            guard exchange.pointee.unconsumedRequest > 0 else { return }
            sessions.at(connection.pointee.session).pointee.codec.consumed(exchange.pointee.downstreamStream, Int(exchange.pointee.unconsumedRequest))
            exchange.pointee.unconsumedRequest = 0
            if !exchange.pointee.replyHasBegun { setDeadline(exchange, number, milliseconds: limits.stallMilliseconds) }
            return again(connection, exchange.pointee.downstream)
        }
        if connection.pointee.canRead || connection.pointee.sawEnd { again(connection, exchange.pointee.downstream) }
    }

    /// The client has room again: the upstream's side is read on.
    mutating func replyMayContinue(_ number: UInt32) {
        let exchange = exchanges.at(number)
        guard exchange.pointee.upstream != nobody else { return }
        let upstream = connections.at(exchange.pointee.upstream)
        if exchange.pointee.upstreamStream != 0 {
            guard exchange.pointee.unconsumedReply > 0 else { return }
            sessions.at(upstream.pointee.session).pointee.codec.consumed(exchange.pointee.upstreamStream, Int(exchange.pointee.unconsumedReply))
            exchange.pointee.unconsumedReply = 0
            return again(upstream, exchange.pointee.upstream)
        }
        if upstream.pointee.canRead || upstream.pointee.sawEnd { again(upstream, exchange.pointee.upstream) }
    }
}
