import Bytes
import CLinux
import EventLoop
import Glibc
import HTTPCodec
import Upstream

// Step 8 of the journey: the request's body streams to the upstream as fast as that takes it.
extension Worker {
    mutating func readRequestBody(_ connection: ConnectionPlace, _ index: UInt32) {
        let number = connection.pointee.exchange
        if connection.pointee.isMirror { return serveMirror(connection, index) }
        let exchange = exchanges.at(number)
        if connection.pointee.isBroken {
            // Where we have told a tunnel's client the server's end, its own may follow in order, behind bytes that are still to be read.
            let isInOrder = exchange.pointee.isTunnel && connection.pointee.hasShutDown && clinux_socket_error(connection.pointee.descriptor) == 0
            guard isInOrder else { return clientAborted(connection, index) }
        }
        if exchange.pointee.requestPhase == .complete {
            // Nothing to read until the reply is out. A client that has ended its side may be gone altogether.
            if connection.pointee.hasEnded && !exchange.pointee.replyHasBegun {
                setDeadline(exchange, number, milliseconds: limits.halfClosedMilliseconds)
            }
            return
        }
        guard exchange.pointee.requestPhase == .body, exchange.pointee.reach == .connected else { return }
        let upstream = connections.at(exchange.pointee.upstream)
        guard requestRoom(exchange) > 0, !upstream.pointee.isBroken else { return }
        if exchange.pointee.isTunnel, !connection.pointee.input.isEmpty {
            // What came behind the request for a tunnel, before there was one.
            guard passRequestBody(number, connection.pointee.input.readable) != nil else { return }
            connection.pointee.input.removeAll()
            connection.pointee.input.releaseIfEmpty()
        }
        guard connection.pointee.canRead else { return }

        if connection.pointee.input.isEmpty {
            let wanted = readBytes(connection.pointee.pod, shift: exchange.pointee.requestReadShift)
            switch EventLoop.receive(connection.pointee.descriptor, into: receiveMemory, count: wanted) {
            case .moved(let count):
                if count < wanted && !connection.pointee.hasEnded { connection.pointee.canRead = false }
                let consumed = passRequestBody(number, UnsafeRawBufferPointer(start: receiveMemory, count: count))
                guard let consumed else { return }
                if consumed < count { _ = connection.pointee.input.append(UnsafeRawBufferPointer(start: receiveMemory + consumed, count: count - consumed)) }
                paceRequest(exchange, upstream, wasFull: count == wanted)
            case .wouldBlock: connection.pointee.canRead = false
            case .ended where exchange.pointee.isTunnel:
                connection.pointee.sawEnd = true
                connection.pointee.canRead = false
                exchange.pointee.requestPhase = .complete
                return passRequestContent(number, UnsafeRawBufferPointer(start: nil, count: 0), ends: true)
            case .ended, .failed: return clientAborted(connection, index)
            }
        } else {
            // An unfinished trailer line came before.
            guard connection.pointee.input.reserve(4_096) else { return answer(number, .requestBody(.trailersTooLarge)) }
            let space = connection.pointee.input.writable
            switch EventLoop.receive(connection.pointee.descriptor, into: space.baseAddress!, count: space.count) {
            case .moved(let count):
                if count < space.count && !connection.pointee.hasEnded { connection.pointee.canRead = false }
                connection.pointee.input.commit(count)
                guard let consumed = passRequestBody(number, connection.pointee.input.readable) else { return }
                connection.pointee.input.consume(consumed)
                connection.pointee.input.releaseIfEmpty()
            case .wouldBlock: connection.pointee.canRead = false
            case .ended, .failed: return clientAborted(connection, index)
            }
        }
        if exchange.pointee.requestPhase == .complete {
            if !exchange.pointee.replyHasBegun { setDeadline(exchange, number, milliseconds: limits.replyMilliseconds) }
        } else {
            setDeadline(exchange, number, milliseconds: limits.stallMilliseconds)
            if connection.pointee.canRead && requestRoom(exchange) > 0 { again(connection, index) }
        }
    }

    /// Passes body bytes on. Returns how many are dealt with, or nil when the exchange has ended.
    private mutating func passRequestBody(_ number: UInt32, _ bytes: UnsafeRawBufferPointer) -> Int? {
        let exchange = exchanges.at(number)
        if exchange.pointee.passesContent { return passRequestBodyAsContent(number, bytes) }
        let upstream = connections.at(exchange.pointee.upstream)
        var consumed = 0
        do throws(HTTPFault) {
            while true {
                let next = try step(&exchange.pointee.requestBody, UnsafeRawBufferPointer(rebasing: bytes[consumed...]), limits.body)
                consumed += next.consumed
                deliver(next.content, exchange, upstream)
                if !next.hasMore { break }
            }
        } catch {
            answer(number, .requestBody(error))
            return nil
        }
        if exchange.pointee.requestBody.isComplete { exchange.pointee.requestPhase = .complete }
        return consumed
    }

    /// The same where the upstream's leg is a stream: content without its framing.
    private mutating func passRequestBodyAsContent(_ number: UInt32, _ bytes: UnsafeRawBufferPointer) -> Int? {
        let token = exchanges.token(at: number)
        let exchange = exchanges.at(number)
        guard case .verbatim(var decoder) = exchange.pointee.requestBody else { return nil }
        var consumed = 0
        while true {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[consumed...])
            let piece: BodyPiece
            do throws(HTTPFault) {
                piece = try decoder.next(rest, limits: limits.body)
                if decoder.isAtTrailers {
                    // Behind content of the same bytes, or alone: nothing else is in the piece.
                    let section = UnsafeRawBufferPointer(rebasing: rest[piece.consumed...])
                    let count = try decoder.takeTrailers(section, into: &head)
                    // Also where more is to come: what the decoder has consumed it will not see again.
                    exchange.pointee.requestBody = .verbatim(decoder)
                    guard let count else { return consumed + piece.consumed }
                    exchange.pointee.requestPhase = .complete
                    passRequestTrailers(number, section)
                    return exchanges.find(token) == nil ? nil : consumed + piece.consumed + count
                }
            } catch {
                answer(number, .requestBody(error))
                return nil
            }
            consumed += piece.consumed
            exchange.pointee.requestBody = .verbatim(decoder)
            switch piece.event {
            case .content: passRequestContent(number, UnsafeRawBufferPointer(rebasing: rest[piece.payload]), ends: false)
            case .trailer: continue
            case .starved: return consumed
            case .complete:
                exchange.pointee.requestPhase = .complete
                passRequestContent(number, UnsafeRawBufferPointer(start: nil, count: 0), ends: true)
            }
            guard exchanges.find(token) != nil else { return nil }
            if piece.event == .complete { return consumed }
        }
    }

    /// Holds the content that came with a head.
    /// - Returns: how many of the bytes are dealt with.
    mutating func holdBody(_ exchange: ExchangePlace, _ bytes: UnsafeRawBufferPointer) throws(HTTPFault) -> Int {
        guard case .verbatim(var decoder) = exchange.pointee.requestBody else { return 0 }
        var consumed = 0
        while true {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[consumed...])
            let piece = try decoder.next(rest, limits: limits.body)
            if decoder.isAtTrailers {
                let section = UnsafeRawBufferPointer(rebasing: rest[piece.consumed...])
                let count = try decoder.takeTrailers(section, into: &head)
                exchange.pointee.requestBody = .verbatim(decoder)
                guard let count else { return consumed + piece.consumed }
                exchange.pointee.requestIsEnded = true
                copyContent(exchange, UnsafeRawBufferPointer(start: nil, count: 0), ends: true)
                guard head.fieldCount == 0 || holdTrailers(exchange, section) else { throw .trailersTooLarge }
                return consumed + piece.consumed + count
            }
            consumed += piece.consumed
            exchange.pointee.requestBody = .verbatim(decoder)
            switch piece.event {
            case .content:
                let content = UnsafeRawBufferPointer(rebasing: rest[piece.payload])
                if exchange.pointee.isGRPC { exchange.pointee.requestMessages.pass(content) }
                copyContent(exchange, content, ends: false)
                guard holdContent(exchange, content) else { throw .bodyTooLarge }
            case .trailer: continue
            case .starved: return consumed
            case .complete:
                exchange.pointee.requestIsEnded = true
                copyContent(exchange, UnsafeRawBufferPointer(start: nil, count: 0), ends: true)
                return consumed
            }
        }
    }

    private mutating func deliver(_ bytes: UnsafeRawBufferPointer, _ exchange: ExchangePlace, _ upstream: ConnectionPlace) {
        exchange.pointee.requestBytes &+= UInt64(bytes.count)
        exchange.pointee.seen = .body
        guard !upstream.pointee.isBroken, !write(bytes, to: upstream) else { return }
        // It may have answered before it closed; what it sent is read first, and no more is sent.
        upstream.pointee.canRead = true
        again(upstream, exchange.pointee.upstream)
    }

    private func paceRequest(_ exchange: ExchangePlace, _ upstream: ConnectionPlace, wasFull: Bool) {
        if requestRoom(exchange) == 0 {
            exchange.pointee.requestReadShift = max(WorkerSizes.readShiftMin, exchange.pointee.requestReadShift - 1)
        } else if wasFull {
            exchange.pointee.requestReadShift = min(WorkerSizes.readShiftMax, exchange.pointee.requestReadShift + 1)
        }
    }
}
