import Bytes
import CLinux
import EventLoop
import Glibc
import HTTPCodec
import Routing
import Telemetry
import Upstream

// An opaque connection to a pod of another node: its bytes travel in a CONNECT stream (RFC 9113, 8.5) of a session over mutual TLS. The client's
// side is a socket, as in Relay; what is said here of its other side is said of the stream. A FIN is END_STREAM, a reset is RST_STREAM(CONNECT_ERROR),
// and each comes behind what was said before it.
extension Worker {
    /// Asks for the connection on a stream of the session, which the table has taken for it. What the client has said waits for the answer, so that
    /// another endpoint can be tried when there is none here; the way there and back is that of a TCP handshake.
    mutating func submitConnect(_ number: UInt32, _ exchange: ExchangePlace, _ place: UInt32, _ session: SessionPlace) {
        var authority = AddressText()
        authority.write(exchange.pointee.target.address, port: exchange.pointee.target.port)
        var stream: Int32 = 0
        var refusal: HTTP2Refusal?
        // What a bridge leads to another Weft proxy is HTTP that no stream could bring (an upgrade): said to be so, it is judged there as what it is.
        let isHTTP = exchange.pointee.account.isBridge && !session.pointee.isForeign
        let destination = isHTTP ? DestinationText(port: exchange.pointee.target.port, protocol: WireDestination.Spoken.bridge.name) : DestinationText()
        authority.withBytes { text in
            destination.withBytes { destination in
                do throws(HTTP2Refusal) {
                    stream = try session.pointee.codec.submitConnect(authority: text, destination: destination, owner: number + 1)
                } catch {
                    refusal = error
                }
            }
        }
        if let refusal { return notSubmitted(number, exchange, place, refusal) }
        joinUpstream(number, exchange, session, stream)
        countPending(1, exchange, connections.at(exchange.pointee.downstream))
        exchange.pointee.reach = .connecting
        exchange.pointee.requestIsEnded = false
        exchange.pointee.upstreamIsOver = false
        // The other side gives its own connect a deadline, and says so when it has passed: first its word, then ours.
        deadlines.set(exchange.pointee.downstream, at: after(milliseconds: limits.connectMilliseconds * 2))
        again(connections.at(session.pointee.connection), session.pointee.connection)
    }

    /// The answer to CONNECT, decoded into the worker's head.
    mutating func connectAnswered(_ number: UInt32, _ bytes: UnsafeRawBufferPointer, ends: Bool) {
        let exchange = exchanges.at(number)
        guard exchange.pointee.reach == .connecting else { return }
        guard head.status >= 200 && head.status < 300 else {
            exchange.pointee.upstreamIsOver = ends
            // Refused for what it is, not for what is behind it: no other endpoint would say otherwise.
            return fail(number, head.status < 500 ? .tunnelRefused : .refusedBehindPeer)
        }
        let index = exchange.pointee.downstream
        let connection = connections.at(index)
        settlePending(number, exchange, connection)
        exchange.pointee.reach = .connected
        if !exchange.pointee.account.isBridge {
            judgeReply(exchange)
            tellProbe(exchange)
            ledger.relayOpened(exchange)
        }
        if exchange.pointee.requestBytes > 0 { ledger.relayMoved(exchange, fromDownstream: true, bytes: exchange.pointee.requestBytes) }
        relayHasMoved(exchange)
        let unsent = exchange.pointee.unsent.readable
        if !unsent.isEmpty {
            // What was read before there was an upstream is less than a stream may hold.
            let upstream = connections.at(exchange.pointee.upstream)
            _ = sessions.at(upstream.pointee.session).pointee.codec.append(exchange.pointee.upstreamStream, unsent)
            again(upstream, exchange.pointee.upstream)
        }
        exchange.pointee.unsent.removeAll()
        exchange.pointee.unsent.releaseIfEmpty()
        if connection.pointee.bridge != nobody { bridgeOpened(connection) }
        if ends { return streamSpoke(number, UnsafeRawBufferPointer(start: nil, count: 0), ends: true) }
        if connection.pointee.stage == .relaying { again(connection, index) }
    }

    // MARK: From the stream

    /// The other side has said something, or that it says no more.
    mutating func streamSpoke(_ number: UInt32, _ content: UnsafeRawBufferPointer, ends: Bool) {
        let exchange = exchanges.at(number)
        let index = exchange.pointee.downstream
        let connection = connections.at(index)
        if ends { exchange.pointee.upstreamIsOver = true }
        if connection.pointee.stage == .detecting, !decides(content, exchange, connection, ends: ends) { return }
        if !content.isEmpty { passFromStream(exchange, connection, index, content) }
        if ends && connection.pointee.stage == .relaying { again(connection, index) }
    }

    /// Whether what the server says settles what a client speaks that has not been understood yet. What does not is kept until the client has spoken.
    private mutating func decides(_ content: UnsafeRawBufferPointer, _ exchange: ExchangePlace, _ connection: ConnectionPlace, ends: Bool) -> Bool {
        guard settles(content, connection) else {
            // At most the stream's window.
            _ = exchange.pointee.early.append(content)
            exchange.pointee.unconsumedReply &+= Int32(truncatingIfNeeded: content.count)
            return false
        }
        connection.pointee.stage = .relaying
        passEarlyReply(exchange)
        return true
    }

    /// The client's stage is known: what its server said meanwhile goes first.
    mutating func passEarlyReply(_ exchange: ExchangePlace) {
        guard exchange.pointee.isRelay, !exchange.pointee.early.isEmpty else { return }
        let index = exchange.pointee.downstream
        let connection = connections.at(index)
        if !write(exchange.pointee.early.readable, to: connection) { relayRefused(connection, index) }
        exchange.pointee.early.removeAll()
        exchange.pointee.early.releaseIfEmpty()
        if connection.pointee.output.isEmpty { replyMayContinue(connection.pointee.exchange) }
    }

    private mutating func passFromStream(_ exchange: ExchangePlace, _ connection: ConnectionPlace, _ index: UInt32, _ content: UnsafeRawBufferPointer) {
        let codec = sessions.at(connections.at(exchange.pointee.upstream).pointee.session)
        // Who was reset hears nothing any more.
        if connection.pointee.wasReset { return codec.pointee.codec.consumed(exchange.pointee.upstreamStream, content.count) }
        account(exchange, isDownstream: false, content.count)
        guard write(content, to: connection) else {
            codec.pointee.codec.consumed(exchange.pointee.upstreamStream, content.count)
            return relayRefused(connection, index)
        }
        if connection.pointee.output.isEmpty {
            codec.pointee.codec.consumed(exchange.pointee.upstreamStream, content.count)
        } else {
            exchange.pointee.unconsumedReply &+= Int32(truncatingIfNeeded: content.count)
        }
    }

    /// The stream is gone: reset by the other side, or lost with its session. What it has brought before is passed on first.
    mutating func connectStreamGone(_ number: UInt32, _ code: HTTP2Code, wasProcessed: Bool) {
        let exchange = exchanges.at(number)
        let wasAsked = exchange.pointee.reach == .connecting
        exchange.pointee.upstreamIsOver = true
        exchange.pointee.requestIsEnded = true
        exchange.pointee.resetCode = code
        if wasAsked { return fail(number, wasProcessed ? .refusedBehindPeer : .refusedStream) }
        releaseUpstream(exchange, mayRest: false)
        exchange.pointee.streamIsGone = true
        let connection = connections.at(exchange.pointee.downstream)
        if connection.pointee.stage == .detecting {
            connection.pointee.stage = .relaying
            passEarlyReply(exchange)
        }
        relayHasMoved(exchange)
        again(connection, exchange.pointee.downstream)
    }

    // MARK: From the socket

    /// One turn of the client's side.
    mutating func relayToStream(_ connection: ConnectionPlace, _ index: UInt32, _ exchange: ExchangePlace) {
        let number = connection.pointee.exchange
        if exchange.pointee.streamIsGone { return followStream(number, exchange, connection, index) }
        if connection.pointee.canRead && !connection.pointee.sawEnd { readForStream(exchange, connection, index) }
        if connection.pointee.sawEnd && connection.pointee.wasReset { return passReset(number, exchange, connection, index) }
        if connection.pointee.sawEnd && !exchange.pointee.requestIsEnded {
            exchange.pointee.requestIsEnded = true
            let upstream = connections.at(exchange.pointee.upstream)
            sessions.at(upstream.pointee.session).pointee.codec.end(exchange.pointee.upstreamStream)
            again(upstream, exchange.pointee.upstream)
        }
        guard exchange.pointee.upstreamIsOver, connection.pointee.output.isEmpty else { return }
        if !connection.pointee.hasShutDown {
            connection.pointee.hasShutDown = true
            clinux_end_output(connection.pointee.descriptor)
        }
        guard exchange.pointee.requestIsEnded else { return }
        closeRelay(number, exchange, connection, index, .none)
        drop(connection, index)
    }

    private mutating func readForStream(_ exchange: ExchangePlace, _ connection: ConnectionPlace, _ index: UInt32) {
        let upstream = connections.at(exchange.pointee.upstream)
        let room = sessions.at(upstream.pointee.session).pointee.codec.room(exchange.pointee.upstreamStream)
        // The stream says when it has room again.
        guard room > 0 else { return }
        // A stream has no urgent bytes (RFC 9293, 3.8.5): what was one keeps its place and loses its urgency.
        if connection.pointee.hasUrgent, clinux_is_at_urgent(connection.pointee.descriptor) == 1 {
            connection.pointee.hasUrgent = false
            var byte: UInt8 = 0
            if clinux_receive_urgent(connection.pointee.descriptor, &byte) == 1 {
                account(exchange, isDownstream: true, 1)
                withUnsafeBytes(of: byte) { _ = pass($0, ends: false, to: exchange.pointee.upstreamStream, upstream, exchange.pointee.upstream) }
            }
            return again(connection, index)
        }
        let shift = min(exchange.pointee.requestReadShift, WorkerSizes.readShiftMax)
        let wanted = min(readBytes(connection.pointee.pod, shift: shift), max(room, WorkerSizes.streamReadBytesMin))
        switch EventLoop.receive(connection.pointee.descriptor, into: receiveMemory, count: wanted) {
        case .moved(let count):
            // At an urgent byte a read stops short of what there is.
            if count < wanted && !connection.pointee.hasEnded && !connection.pointee.isBroken && !connection.pointee.hasUrgent { connection.pointee.canRead = false }
            account(exchange, isDownstream: true, count)
            lend(UnsafeRawBufferPointer(start: receiveMemory, count: count), to: exchange.pointee.upstreamStream, upstream, exchange.pointee.upstream)
            if connection.pointee.canRead { again(connection, index) }
        case .wouldBlock:
            connection.pointee.canRead = false
            connection.pointee.hasUrgent = false
        case .ended:
            connection.pointee.sawEnd = true
            connection.pointee.canRead = false
        case .failed:
            connection.pointee.sawEnd = true
            connection.pointee.canRead = false
            connection.pointee.wasReset = true
        }
    }

    /// Bulk leaves from where it was read, without a copy of ours.
    private mutating func lend(_ content: UnsafeRawBufferPointer, to stream: Int32, _ upstream: ConnectionPlace, _ index: UInt32) {
        lends = true
        // What was read fits: no more than the stream had room for, or a little.
        _ = pass(content, ends: false, to: stream, upstream, index)
        lends = false
        while let borrower = borrowers.popLast() { sendGathered(borrower) }
    }

    /// The client was reset, and so shall its server be, behind what the client had said.
    private mutating func passReset(_ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace, _ index: UInt32) {
        let upstream = connections.at(exchange.pointee.upstream)
        sessions.at(upstream.pointee.session).pointee.codec.resetBehindQueue(exchange.pointee.upstreamStream, .connectError)
        ledger.count(.http2ResetsSentUpstream)
        again(upstream, exchange.pointee.upstream)
        // The stream is the session's own from here on.
        exchange.pointee.upstreamIsOver = true
        exchange.pointee.requestIsEnded = true
        closeRelay(number, exchange, connection, index, .downstreamConnectionTermination)
        reset(connection, index)
    }

    /// The stream is gone: so is the client's connection, as soon as the client has what was said before.
    private mutating func followStream(_ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace, _ index: UInt32) {
        guard connection.pointee.output.isEmpty || connection.pointee.isBroken else { return }
        // Done with both directions is no failure (RFC 9113, 8.1): a server that closes while its client still speaks.
        let isInOrder = exchange.pointee.resetCode == .noError
        if !isInOrder, connection.pointee.bridge != nobody { connections.at(connection.pointee.bridge).pointee.bridgeBroke = true }
        closeRelay(number, exchange, connection, index, isInOrder ? .none : .upstreamConnectionTermination)
        if isInOrder { closeAfterFlush(connection, index, lingers: true) } else { resetWhenSent(connection, index) }
    }

    /// Ends the exchange. Its connection is the caller's to place.
    private mutating func closeRelay(
        _ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace, _ index: UInt32, _ flags: ResponseFlags
    ) {
        ledger.relayClosed(exchange, flags, now: now)
        releaseUpstream(exchange, mayRest: false)
        end(number, exchange, connection)
    }
}
