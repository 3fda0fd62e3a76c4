import Bytes
import EventLoop
import HTTPCodec
import Upstream

// Step 8 of the journey, where one of the legs is a stream: the reply comes as head, content and trailers, and is framed as the client's
// protocol has it. From HTTP/1 to HTTP/1 it passes as it stands (ReplyHead, ReplyBody).
extension Worker {
    /// An interim head (1xx), decoded from `bytes` into the worker's head. 100 goes to whoever expects it, others to any client.
    mutating func passInterimHead(_ number: UInt32, _ bytes: UnsafeRawBufferPointer) {
        let exchange = exchanges.at(number)
        guard !exchange.pointee.isHTTP10, head.status != 100 || exchange.pointee.expectsContinue else { return }
        let index = exchange.pointee.downstream
        let connection = connections.at(index)
        if exchange.pointee.downstreamStream != 0 {
            sessions.at(connection.pointee.session).pointee.codec.submitResponse(exchange.pointee.downstreamStream, head, of: bytes, ends: false)
        } else {
            let plan = head.responsePlan(minorVersion: 1, keepsAlive: true)
            _ = queueHead(bytes, plan, on: connection)
        }
        again(connection, index)
    }

    /// The final head, decoded from `bytes` into the worker's head.
    /// - Returns: false when the exchange has ended, with this head or for lack of a client.
    mutating func passReplyHead(_ number: UInt32, _ bytes: UnsafeRawBufferPointer, ends: Bool) -> Bool {
        guard sendReplyHead(number, bytes, ends: ends) else { return false }
        if ends { finish(number) }
        return !ends
    }

    /// Content of the reply; all of it is taken.
    /// - Returns: false when the exchange has ended.
    mutating func passReplyContent(_ number: UInt32, _ content: UnsafeRawBufferPointer, ends: Bool) -> Bool {
        guard sendReplyContent(number, content, ends: ends) else { return false }
        if ends { finish(number) }
        return !ends
    }

    /// The fields behind the content, decoded from `bytes` into the worker's head. They end the exchange.
    mutating func passReplyTrailers(_ number: UInt32, _ bytes: UnsafeRawBufferPointer) {
        if sendReplyTrailers(number, bytes) { finish(number) }
    }

    // MARK: The client's side

    /// - Returns: false when the client is gone, and with it the exchange.
    mutating func sendReplyHead(_ number: UInt32, _ came: UnsafeRawBufferPointer, ends: Bool) -> Bool {
        let exchange = exchanges.at(number)
        guard let bytes = amendReply(exchange, came) else {
            replyWasRefused(number, .headTooLarge)
            return false
        }
        let index = exchange.pointee.downstream
        let connection = connections.at(index)
        exchange.pointee.status = UInt16(head.status)
        heardReply(exchange)
        exchange.pointee.replyPhase = .body
        exchange.pointee.replyHasBegun = true
        exchange.pointee.replyBytes &+= UInt64(head.byteCount)
        if exchange.pointee.isGRPC { noteGRPCStatus(exchange, bytes) }
        if opensTunnel(exchange) { beginTunnel(exchange) }
        if exchange.pointee.downstreamStream != 0 {
            sessions.at(connection.pointee.session).pointee.codec.submitResponse(
                exchange.pointee.downstreamStream, head, of: bytes, ends: ends, wasRetried: tellsOfRetries(exchange, ends: ends))
            exchange.pointee.replyIsEnded = ends
        } else {
            let keepsAlive = exchange.pointee.isTunnel || exchange.pointee.keepsAlive && keepsRequestInStep(exchange)
            var plan = head.responsePlan(minorVersion: exchange.pointee.isHTTP10 ? 0 : 1, keepsAlive: keepsAlive)
            if exchange.pointee.isTunnel { plan.framing = .none }
            exchange.pointee.keepsAlive = plan.keepsAlive && !exchange.pointee.isTunnel
            exchange.pointee.replyIsChunked = plan.writesChunks
            exchange.pointee.replyIsEnded = !plan.writesChunks
            guard queueHead(bytes, plan, on: connection) else {
                clientAborted(connection, index)
                return false
            }
        }
        setDeadline(exchange, number, milliseconds: limits.stallMilliseconds)
        again(connection, index)
        return true
    }

    mutating func sendReplyContent(_ number: UInt32, _ content: UnsafeRawBufferPointer, ends: Bool = false) -> Bool {
        guard !content.isEmpty else { return true }
        let exchange = exchanges.at(number)
        let index = exchange.pointee.downstream
        let connection = connections.at(index)
        exchange.pointee.replyBytes &+= UInt64(content.count)
        if exchange.pointee.isGRPC { exchange.pointee.replyMessages.pass(content) }
        if exchange.pointee.isRelay { ledger.relayMoved(exchange, fromDownstream: false, bytes: UInt64(content.count)) }
        let isTaken: Bool
        if exchange.pointee.downstreamStream != 0 {
            isTaken = pass(content, ends: ends, to: exchange.pointee.downstreamStream, connection, index)
        } else if exchange.pointee.replyIsChunked {
            isTaken = connection.pointee.output.write(upTo: content.count + 20) { out in
                out.writeHex(UInt64(content.count))
                out.write("\r\n")
                out.write(content)
                out.write("\r\n")
            }
        } else {
            isTaken = connection.pointee.output.append(content)
        }
        guard isTaken else {
            giveUpReply(number)
            return false
        }
        setDeadline(exchange, number, milliseconds: limits.stallMilliseconds)
        again(connection, index)
        return true
    }

    /// - Returns: false when the exchange has ended, for they could not be sent.
    mutating func sendReplyTrailers(_ number: UInt32, _ bytes: UnsafeRawBufferPointer) -> Bool {
        let exchange = exchanges.at(number)
        let connection = connections.at(exchange.pointee.downstream)
        if exchange.pointee.isGRPC { noteGRPCStatus(exchange, bytes) }
        guard !exchange.pointee.replyIsEnded else { return true }
        again(connection, exchange.pointee.downstream)
        if exchange.pointee.downstreamStream != 0 {
            sessions.at(connection.pointee.session).pointee.codec.submitTrailers(exchange.pointee.downstreamStream, head, of: bytes)
            exchange.pointee.replyIsEnded = true
        } else {
            var isWritten = false
            if connection.pointee.output.reserve(TrailerWriter.bytesMax(head)) {
                var writer = ByteWriter(connection.pointee.output.writable)
                isWritten = TrailerWriter.write(head, of: bytes, to: &writer)
                if isWritten { connection.pointee.output.commit(writer.count) }
            }
            guard isWritten else {
                giveUpReply(number)
                return false
            }
            exchange.pointee.replyIsEnded = true
        }
        return true
    }

    /// The end of the reply towards the client, unless its last part has told it already.
    /// - Returns: false when the exchange has ended otherwise, for the end could not be sent.
    mutating func sendReplyEnd(_ number: UInt32, _ exchange: ExchangePlace) -> Bool {
        guard !exchange.pointee.replyIsEnded else { return true }
        let index = exchange.pointee.downstream
        let connection = connections.at(index)
        if exchange.pointee.downstreamStream != 0 {
            sessions.at(connection.pointee.session).pointee.codec.end(exchange.pointee.downstreamStream)
        } else if !connection.pointee.output.write(upTo: 8, { $0.write("0\r\n\r\n") }) {
            giveUpReply(number)
            return false
        }
        exchange.pointee.replyIsEnded = true
        again(connection, index)
        return true
    }

    private mutating func queueHead(_ bytes: UnsafeRawBufferPointer, _ plan: ResponsePlan, on connection: ConnectionPlace) -> Bool {
        guard connection.pointee.output.reserve(ResponseWriter.bytesMax(head)) else { return false }
        var writer = ByteWriter(connection.pointee.output.writable)
        guard ResponseWriter.write(head, of: bytes, plan, to: &writer) else { return false }
        connection.pointee.output.commit(writer.count)
        return true
    }

    private func noteGRPCStatus(_ exchange: ExchangePlace, _ bytes: UnsafeRawBufferPointer) {
        if let status = head.grpcStatus(bytes) { exchange.pointee.grpcStatus = status.rawValue }
    }

    /// More came than the windows allow: a fault of ours or of the session's, and no reply that anyone may take for whole.
    private mutating func giveUpReply(_ number: UInt32) { answer(number, .upstream(.endedInReply)) }
}
