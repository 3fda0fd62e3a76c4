import Bytes
import EventLoop
import Glibc
import HTTPCodec
import Upstream

// Steps 5 to 8 of the journey, where one of the legs is a stream: the request comes as head, content and trailers, and is framed as the
// upstream's protocol has it. From HTTP/1 to HTTP/1 it passes as it stands (RequestHead, RequestBody).
extension Worker {
    /// The head of a stream's request, decoded from `bytes` into the worker's head, is routed and goes out, or waits. The exchange may have
    /// ended when this returns.
    mutating func passRequestHead(_ number: UInt32, _ bytes: UnsafeRawBufferPointer, ends: Bool) {
        let exchange = exchanges.at(number)
        let connection = connections.at(exchange.pointee.downstream)
        if let shared = sessions.at(connection.pointee.session).pointee.chance {
            exchange.pointee.chance = shared.of(exchange.pointee.downstreamStream)
        } else {
            exchange.pointee.chance = (random.next(), random.next(), random.next())
        }
        switch steer(number, exchange, connection, route(exchange, connection, host: head.authority.of(bytes)), bytes) {
        case .onwards(let route, let changed):
            guard beginContent(exchange, changed, ends: ends) else { return answer(number, .requestHead(.headTooLarge)) }
            notePatience(number, exchange, changed)
            noteIdentity(exchange, changed)
            dispatch(number, route, .head(changed))
        case .answered(let refusal): answer(number, refusal)
        }
    }

    /// From here on the request of the exchange is one that passes as content; its head is held.
    mutating func beginContent(_ exchange: ExchangePlace, _ bytes: UnsafeRawBufferPointer, ends: Bool) -> Bool {
        exchange.pointee.passesContent = true
        exchange.pointee.requestIsEnded = ends
        return hold(exchange, bytes)
    }

    /// Content of the request; all of it is taken. The exchange may have ended when this returns.
    mutating func passRequestContent(_ number: UInt32, _ content: UnsafeRawBufferPointer, ends: Bool) {
        let exchange = exchanges.at(number)
        let token = exchanges.token(at: number)
        exchange.pointee.requestBytes &+= UInt64(content.count)
        if exchange.pointee.isGRPC { exchange.pointee.requestMessages.pass(content) }
        if ends { exchange.pointee.requestIsEnded = true }
        if exchange.pointee.firstMirror != nobody { copyContent(exchange, content, ends: ends) }
        guard exchange.pointee.reach == .connected else {
            if !holdContent(exchange, content) { answer(number, .bufferBudgetSpent) }
            return
        }
        if exchange.pointee.isRelay { ledger.relayMoved(exchange, fromDownstream: true, bytes: UInt64(content.count)) }
        let index = exchange.pointee.upstream
        let upstream = connections.at(index)
        if exchange.pointee.upstreamStream != 0 {
            keepContent(exchange, content)
            sendContent(number, exchange, upstream, content, ends: ends)
        } else if awaitsTunnel(exchange) {
            if !exchange.pointee.early.append(content) { answer(number, .bufferBudgetSpent) }
        } else {
            keepContent(exchange, content)
            writeContent(exchange, upstream, content, ends: ends)
        }
        if ends, exchanges.find(token) != nil { _ = finishTunnel(number) }
    }

    /// The fields behind the content, decoded from `bytes` into the worker's head. They end the request.
    mutating func passRequestTrailers(_ number: UInt32, _ bytes: UnsafeRawBufferPointer) {
        let exchange = exchanges.at(number)
        guard head.fieldCount > 0 else { return passRequestContent(number, UnsafeRawBufferPointer(start: nil, count: 0), ends: true) }
        exchange.pointee.requestIsEnded = true
        // A copy ends without them.
        copyContent(exchange, UnsafeRawBufferPointer(start: nil, count: 0), ends: true)
        guard exchange.pointee.reach == .connected else {
            if !holdTrailers(exchange, bytes) { answer(number, .bufferBudgetSpent) }
            return
        }
        if exchange.pointee.replay != BlockPool.none { _ = holdTrailers(exchange, bytes) }
        keepIfInBlock(exchange)
        _ = sendTrailers(number, exchange, bytes)
    }

    /// The trailers in the worker's head go out, and with them the request ends. False when the exchange has ended instead.
    private mutating func sendTrailers(_ number: UInt32, _ exchange: ExchangePlace, _ bytes: UnsafeRawBufferPointer) -> Bool {
        let index = exchange.pointee.upstream
        let upstream = connections.at(index)
        if exchange.pointee.upstreamStream != 0 {
            sessions.at(upstream.pointee.session).pointee.codec.submitTrailers(exchange.pointee.upstreamStream, head, of: bytes)
        } else if exchange.pointee.requestIsChunked {
            guard upstream.pointee.output.reserve(TrailerWriter.bytesMax(head)) else {
                answer(number, .bufferBudgetSpent)
                return false
            }
            var writer = ByteWriter(upstream.pointee.output.writable)
            guard TrailerWriter.write(head, of: bytes, to: &writer) else {
                answer(number, .requestBody(.trailersTooLarge))
                return false
            }
            upstream.pointee.output.commit(writer.count)
        }
        again(upstream, index)
        return true
    }

    /// Towards a stream: frames of the session, which go out with its turn.
    private mutating func sendContent(
        _ number: UInt32, _ exchange: ExchangePlace, _ upstream: ConnectionPlace, _ content: UnsafeRawBufferPointer, ends: Bool
    ) {
        // More than the windows allow: a request with a hole must not end.
        guard pass(content, ends: ends, to: exchange.pointee.upstreamStream, upstream, exchange.pointee.upstream) else {
            return answer(number, .bufferBudgetSpent)
        }
    }

    /// Towards an HTTP/1 connection: as it stands where a length was announced or a tunnel is open, else as a chunk.
    mutating func writeContent(_ exchange: ExchangePlace, _ upstream: ConnectionPlace, _ content: UnsafeRawBufferPointer, ends: Bool) {
        exchange.pointee.seen = .body
        var isTaken = !upstream.pointee.isBroken
        if isTaken, exchange.pointee.requestIsChunked, !exchange.pointee.isTunnel {
            isTaken = upstream.pointee.output.write(upTo: content.count + 32) { out in
                if !content.isEmpty {
                    out.writeHex(UInt64(content.count))
                    out.write("\r\n")
                    out.write(content)
                    out.write("\r\n")
                }
                if ends { out.write("0\r\n\r\n") }
            }
        } else if isTaken {
            isTaken = write(content, to: upstream)
            if ends && exchange.pointee.isTunnel { endTunnel(exchange, upstream) }
        }
        // It may have answered before it closed; what it sent is read first, and no more is sent.
        if !isTaken { upstream.pointee.canRead = true }
        if !isTaken || !upstream.pointee.output.isEmpty { again(upstream, exchange.pointee.upstream) }
        charge(upstream)
    }

    // MARK: Attempts

    /// One attempt of a request that passes as content: on a stream where the upstream speaks HTTP/2 or is another node's proxy, else on an HTTP/1
    /// connection.
    mutating func dispatchContent(
        _ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace, _ route: Route, _ message: Message, mayReuse: Bool
    ) {
        exchange.pointee.upstreamIsOver = false
        exchange.pointee.isDeclaredHTTP2 = isDeclaredHTTP2(route)
        sendAsContent(number, exchange, connection, message, mayReuse: mayReuse)
    }

    /// The same for a target that has been chosen.
    mutating func sendAsContent(_ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace, _ message: Message, mayReuse: Bool) {
        exchange.pointee.wantsStream = exchange.pointee.target.wire == .secure || exchange.pointee.isDeclaredHTTP2
            || (exchange.pointee.downstreamStream != 0 || exchange.pointee.cameAsStream) && !exchange.pointee.wantsHTTP1 && !isHTTP1Only(exchange.pointee.target)
        if exchange.pointee.wantsStream {
            requestStream(number, exchange, connection, message)
        } else {
            sendAsHTTP1(number, exchange, connection, message, mayReuse: mayReuse)
        }
    }

    func isDeclaredHTTP2(_ route: Route) -> Bool {
        switch route {
        case .service(let service), .address(behind: let service?): service.port.protocolHint.isHTTP2
        case .address(behind: nil), .noSuchPort: false
        }
    }

    private func isHTTP1Only(_ target: Target) -> Bool { http1Memory.knows(high: target.address.high, low: target.address.low, port: target.port, now: now) }

    /// On an idle connection, or one to be opened.
    mutating func sendAsHTTP1(_ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace, _ message: Message, mayReuse: Bool) {
        if mayReuse, let index = lease(number, exchange, connection) {
            _ = writeHeld(number, exchange, connections.at(index), message)
        } else {
            open(number, exchange, connection, message)
        }
    }

    /// Writes what is held of the request to an HTTP/1 connection. False when the attempt has failed.
    mutating func writeHeld(_ number: UInt32, _ exchange: ExchangePlace, _ upstream: ConnectionPlace, _ message: Message) -> Bool {
        let bytes = takeUp(exchange, message)
        var writer = ByteWriter(writeMemory)
        guard forwarding(exchange, { RequestWriter.write(head, of: bytes, $0, to: &writer) }) else {
            answer(number, .requestHead(.headTooLarge))
            return false
        }
        exchange.pointee.chanceIsShown = true
        exchange.pointee.requestIsChunked = head.framing == .chunked
        let isReused = upstream.pointee.served > 0
        guard write(writer.written, to: upstream) else {
            // Nothing was written: whatever the request is, it may go out on a fresh connection.
            fail(number, .endedBeforeReply(peerMayHaveSeen: .nothing, reused: isReused))
            return false
        }
        exchange.pointee.requestBytes &+= UInt64(writer.count)
        exchange.pointee.seen = exchange.pointee.hasBody ? .body : .head
        let content = heldContent(exchange)
        if awaitsTunnel(exchange) {
            guard exchange.pointee.early.append(content) else {
                answer(number, .bufferBudgetSpent)
                return false
            }
        } else {
            let ends = exchange.pointee.requestIsEnded && exchange.pointee.heldTrailersAt == 0
            if !content.isEmpty || ends && exchange.pointee.hasBody { writeContent(exchange, upstream, content, ends: ends) }
            if let trailers = takeUpTrailers(exchange), !sendTrailers(number, exchange, trailers) { return false }
        }
        keepIfInBlock(exchange)
        return true
    }

    // MARK: Tunnels

    /// The request asks for a tunnel, and the upstream has not agreed yet: what follows the head is not for it before it has.
    private func awaitsTunnel(_ exchange: ExchangePlace) -> Bool {
        !exchange.pointee.isTunnel && (exchange.pointee.method == .connect || exchange.pointee.asksForUpgrade)
    }

    /// The tunnel is open: what its client has sent already passes.
    mutating func passEarly(_ exchange: ExchangePlace) {
        guard exchange.pointee.isTunnel, exchange.pointee.upstreamStream == 0, exchange.pointee.upstream != nobody, !exchange.pointee.early.isEmpty
        else { return }
        writeContent(exchange, connections.at(exchange.pointee.upstream), exchange.pointee.early.readable, ends: exchange.pointee.requestIsEnded)
        exchange.pointee.early.removeAll()
        exchange.pointee.early.releaseIfEmpty()
    }
}
