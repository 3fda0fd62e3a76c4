import Bytes
import EventLoop
import Glibc
import HTTPCodec
import MeshModel

// Step 4 of the journey: a request's head is read, judged whole, and becomes an exchange.
extension Worker {
    mutating func readRequestHead(_ connection: ConnectionPlace, _ index: UInt32) {
        // The last reply is still on its way out: the next request waits, so that one client holds at most one reply in memory.
        guard connection.pointee.output.isEmpty else { return }
        if connection.pointee.inputIsFresh {
            connection.pointee.inputIsFresh = false
            return takeRequestFromInput(connection, index)
        }
        guard connection.pointee.canRead else { return }
        if connection.pointee.input.isEmpty {
            switch EventLoop.receive(connection.pointee.descriptor, into: receiveMemory, count: WorkerSizes.headReadBytes) {
            case .moved(let count):
                // A short read has drained the socket: the next edge will tell. After the peer's FIN no edge comes any more.
                if count < WorkerSizes.headReadBytes && !connection.pointee.hasEnded { connection.pointee.canRead = false }
                takeRequest(connection, index, UnsafeRawBufferPointer(start: receiveMemory, count: count), isInInput: false)
            case .wouldBlock: connection.pointee.canRead = false
            case .ended, .failed: drop(connection, index)
            }
        } else {
            guard connection.pointee.input.reserve(4_096) else { return refuse(connection, index, .headTooLarge) }
            let space = connection.pointee.input.writable
            switch EventLoop.receive(connection.pointee.descriptor, into: space.baseAddress!, count: space.count) {
            case .moved(let count):
                if count < space.count && !connection.pointee.hasEnded { connection.pointee.canRead = false } else { again(connection, index) }
                connection.pointee.input.commit(count)
                takeRequestFromInput(connection, index)
            case .wouldBlock: connection.pointee.canRead = false
            case .ended, .failed: drop(connection, index)
            }
        }
    }

    mutating func takeRequestFromInput(_ connection: ConnectionPlace, _ index: UInt32) {
        takeRequest(connection, index, connection.pointee.input.readable, isInInput: true)
    }

    /// Looks for a whole head at the start of `bytes`, which lie in the receive buffer or in the connection's input.
    mutating func takeRequest(_ connection: ConnectionPlace, _ index: UInt32, _ bytes: UnsafeRawBufferPointer, isInInput: Bool) {
        guard !bytes.isEmpty else { return }
        let headCount: Int
        do throws(HTTPFault) {
            let hasBegun = connection.pointee.progress.hasBegun
            guard let count = try head.parseRequest(bytes, limits: limits.head, progress: &connection.pointee.progress) else {
                if !isInInput && !connection.pointee.input.append(bytes) { return refuse(connection, index, .headTooLarge) }
                // Counted from the first byte, never pushed back: a head fed a byte at a time ends with the others.
                if !hasBegun { deadlines.set(index, at: after(milliseconds: limits.headMilliseconds)) }
                if connection.pointee.canRead { again(connection, index) }
                return
            }
            headCount = count
        } catch {
            return refuse(connection, index, error)
        }
        beginExchange(connection, index, bytes, headCount, isInInput: isInInput)
    }

    /// Judges what the head asks for and hands request and first body bytes to `Forward` as one message.
    private mutating func beginExchange(
        _ connection: ConnectionPlace, _ index: UInt32, _ bytes: UnsafeRawBufferPointer, _ headCount: Int, isInInput: Bool
    ) {
        // Its content is the tunnel's; a length would be another's idea of where that begins.
        if head.method == .connect && !head.framing.isEmpty { return refuse(connection, index, .badContentLength) }
        let body: BodyFlow
        do throws(HTTPFault) {
            body = try BodyFlow(head.framing, writesChunks: head.framing == .chunked, limits: limits.body)
        } catch {
            return refuse(connection, index, error)
        }
        guard let token = exchanges.insert(Exchange(downstream: index, isRelay: false)) else {
            preconditionFailure("there are as many places for exchanges as for connections, and each has one at most")
        }
        let exchange = exchanges.at(token.index)
        connection.pointee.exchange = token.index
        connection.pointee.stage = .exchanging
        exchange.pointee.method = head.method
        exchange.pointee.hasBody = !head.framing.isEmpty
        exchange.pointee.isHTTP10 = head.minorVersion == 0
        // What lies behind a CONNECT is for the tunnel, and is no request when there is none.
        exchange.pointee.keepsAlive = head.keepsAlive && head.method != .connect && drainUntil == nil
        exchange.pointee.expectsContinue = head.expectsContinue
        exchange.pointee.asksForUpgrade = head.asksForUpgrade && !asksForPlainHTTP2(bytes)
        exchange.pointee.requestBody = body
        exchange.pointee.started = now

        if isOverBudget(connection.pointee.pod) {
            settleInput(connection, bytes, headCount, isInInput: isInInput)
            return answer(token.index, .bufferBudgetSpent)
        }
        exchange.pointee.chance = (random.next(), random.next(), random.next())
        let route: Route, headBytes: UnsafeRawBufferPointer
        switch steer(token.index, exchange, connection, self.route(exchange, connection, host: head.authority.of(bytes)), bytes) {
        case .onwards(let backend, let changed): (route, headBytes) = (backend, changed)
        case .answered(let refusal):
            settleInput(connection, bytes, passOver(exchange, bytes, headCount), isInInput: isInInput)
            return answer(token.index, refusal)
        }
        notePatience(token.index, exchange, headBytes)
        noteIdentity(exchange, headBytes)
        // A body that may be needed again, by another attempt or a copy, is kept as content.
        let isKept = exchange.pointee.firstMirror != nobody || exchange.pointee.retry.isSet && exchange.pointee.hasBody
        if isKept || isDeclaredHTTP2(route) || mayTravelSecurely(route, from: connection) {
            return beginTranslation(token.index, exchange, connection, route, headBytes, bytes, headCount, isInInput: isInInput)
        }
        var writer = ByteWriter(writeMemory)
        guard forwarding(exchange, { RequestWriter.write(head, of: headBytes, $0, to: &writer) }) else {
            return answer(token.index, .requestHead(.headTooLarge))
        }
        let message: UnsafeRawBufferPointer
        let consumed: Int
        do throws(HTTPFault) {
            (message, consumed) = try gather(&exchange.pointee.requestBody, &writer, bytes, headCount, isInInput: isInInput, limits.body)
        } catch {
            return answer(token.index, .requestBody(error))
        }
        exchange.pointee.requestBytes = UInt64(message.count)
        settleInput(connection, bytes, consumed, isInInput: isInInput)
        sendOn(token.index, exchange, connection, route, .inHand(message), received: bytes.count)
    }

    /// The upstream speaks HTTP/2: the request passes as content. What came with its head is held until a stream takes it.
    private mutating func beginTranslation(
        _ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace, _ route: Route, _ headBytes: UnsafeRawBufferPointer,
        _ bytes: UnsafeRawBufferPointer, _ headCount: Int, isInInput: Bool
    ) {
        exchange.pointee.isGRPC = head.isGRPC(headBytes)
        let consumed: Int
        do throws(HTTPFault) {
            guard beginContent(exchange, headBytes, ends: !exchange.pointee.hasBody) else { throw .headTooLarge }
            exchange.pointee.requestBody = .verbatim(try BodyDecoder(head.framing, keepsTrailers: true, limits: limits.body))
            consumed = headCount + (try holdBody(exchange, UnsafeRawBufferPointer(rebasing: bytes[headCount...])))
        } catch {
            settleInput(connection, bytes, headCount, isInInput: isInInput)
            return answer(number, .requestBody(error))
        }
        settleInput(connection, bytes, consumed, isInInput: isInInput)
        // Still in the worker's head, unless trailers have been read into that; what lay in the input may be gone.
        let isAtHand = !isInInput && !exchange.pointee.hasBody
        sendOn(number, exchange, connection, route, isAtHand ? .head(headBytes) : .held, received: bytes.count)
    }

    private mutating func sendOn(
        _ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace, _ route: Route, _ message: Message, received: Int
    ) {
        let index = exchange.pointee.downstream
        if exchange.pointee.requestBody.isComplete {
            exchange.pointee.requestPhase = .complete
        } else {
            exchange.pointee.requestPhase = .body
            hastenRest(connection, received: received)
        }
        setDeadline(exchange, number, milliseconds: connection.pointee.hasEnded ? limits.halfClosedMilliseconds : limits.replyMilliseconds)
        dispatch(number, route, message)
        // The read was full: more of the body is there already, and no edge will say so.
        if connection.pointee.canRead && connection.pointee.stage == .exchanging { again(connection, index) }
    }

    /// A request that goes no further and is here whole is done with: the next one on its connection can be read. Returns where that begins.
    private func passOver(_ exchange: ExchangePlace, _ bytes: UnsafeRawBufferPointer, _ headCount: Int) -> Int {
        var end = headCount
        switch head.framing {
        case .none: break
        case .length(let count) where bytes.count - headCount >= count: end += count
        case .length, .chunked, .untilClose: return headCount
        }
        exchange.pointee.requestPhase = .complete
        return end
    }

    private func asksForPlainHTTP2(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let value = head.value(.upgrade)?.of(bytes), let base = value.baseAddress else { return false }
        return tokenEquals(base, value.count, "h2c")
    }

    /// Keeps what lies behind the consumed bytes (an unfinished chunk line, or a pipelined request) for later.
    private mutating func settleInput(_ connection: ConnectionPlace, _ bytes: UnsafeRawBufferPointer, _ consumed: Int, isInInput: Bool) {
        if isInInput {
            connection.pointee.input.consume(consumed)
            connection.pointee.input.releaseIfEmpty()
        } else if consumed < bytes.count {
            // Cannot fail: the queue is empty and holds twice what one read brings.
            _ = connection.pointee.input.append(UnsafeRawBufferPointer(rebasing: bytes[consumed...]))
        }
    }
}
