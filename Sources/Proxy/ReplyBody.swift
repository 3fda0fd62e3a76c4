import Bytes
import EventLoop
import HTTPCodec
import Upstream

// Step 8 of the journey: the reply's body streams to the client as fast as the client takes it.
extension Worker {
    /// Passes body bytes on. Returns how many are dealt with, or nil when the exchange has ended.
    mutating func passReplyBody(_ number: UInt32, _ bytes: UnsafeRawBufferPointer) -> Int? {
        let exchange = exchanges.at(number)
        if exchange.pointee.downstreamStream != 0 { return passReplyBodyToStream(number, exchange, bytes) }
        var consumed = 0
        do throws(HTTPFault) {
            while true {
                let next = try step(&exchange.pointee.replyBody, UnsafeRawBufferPointer(rebasing: bytes[consumed...]), .standard)
                consumed += next.consumed
                guard sendReply(number, exchange, next.content) else { return nil }
                if !next.hasMore { break }
            }
        } catch {
            replyWasRefused(number, error)
            return nil
        }
        if exchange.pointee.replyBody.isComplete { return endReply(number, extra: consumed < bytes.count) }
        return consumed
    }

    /// The same where the client's leg is a stream: content without its framing, and the trailers as fields.
    private mutating func passReplyBodyToStream(_ number: UInt32, _ exchange: ExchangePlace, _ bytes: UnsafeRawBufferPointer) -> Int? {
        guard case .verbatim(var decoder) = exchange.pointee.replyBody else { return nil }
        var consumed = 0
        do throws(HTTPFault) {
            while true {
                let rest = UnsafeRawBufferPointer(rebasing: bytes[consumed...])
                let piece = try decoder.next(rest)
                consumed += piece.consumed
                exchange.pointee.replyBody = .verbatim(decoder)
                switch piece.event {
                case .content:
                    guard sendReplyContent(number, UnsafeRawBufferPointer(rebasing: rest[piece.payload])) else { return nil }
                case .starved where decoder.isAtTrailers:
                    let section = UnsafeRawBufferPointer(rebasing: bytes[consumed...])
                    guard let count = try decoder.takeTrailers(section, into: &head) else { return consumed }
                    if head.fieldCount > 0, !sendReplyTrailers(number, section) { return nil }
                    return endReply(number, extra: consumed + count < bytes.count)
                case .trailer, .starved: return consumed
                case .complete: return endReply(number, extra: consumed < bytes.count)
                }
            }
        } catch {
            replyWasRefused(number, error)
            return nil
        }
    }

    /// False when the client is gone, and with it the exchange.
    mutating func sendReply(_ number: UInt32, _ exchange: ExchangePlace, _ bytes: UnsafeRawBufferPointer) -> Bool {
        exchange.pointee.replyBytes &+= UInt64(bytes.count)
        let connection = connections.at(exchange.pointee.downstream)
        if write(bytes, to: connection) { return true }
        clientAborted(connection, exchange.pointee.downstream)
        return false
    }

    /// The whole reply has been passed on.
    /// - Parameter extra: bytes came behind it that nobody asked for: the connection is out of step.
    mutating func endReply(_ number: UInt32, extra: Bool) -> Int? {
        let exchange = exchanges.at(number)
        exchange.pointee.replyPhase = .complete
        if extra { exchange.pointee.upstreamKeepsAlive = false }
        finish(number)
        return nil
    }

    /// The upstream has reset the connection: what came is not the whole, even where the end of the connection would be the end of the reply.
    mutating func replyBroke(_ number: UInt32) {
        guard exchanges.at(number).pointee.replyPhase == .body else { return replyEnded(number) }
        fail(number, .endedInReply)
    }

    /// The upstream has closed the connection.
    mutating func replyEnded(_ number: UInt32) {
        let exchange = exchanges.at(number)
        let upstream = connections.at(exchange.pointee.upstream)
        upstream.pointee.canRead = false
        guard exchange.pointee.replyPhase == .body else {
            let isPartial = !upstream.pointee.input.isEmpty
            return fail(
                number, isPartial ? .endedInReply : .endedBeforeReply(peerMayHaveSeen: exchange.pointee.seen, reused: upstream.pointee.served > 0))
        }
        do throws(HTTPFault) {
            try exchange.pointee.replyBody.peerClosed()
            // An until-close body that was sent in chunks still owes the last one.
            let last = try step(&exchange.pointee.replyBody, UnsafeRawBufferPointer(start: nil, count: 0), .standard)
            guard exchange.pointee.downstreamStream != 0 || sendReply(number, exchange, last.content) else { return }
        } catch {
            return fail(number, .endedInReply)
        }
        exchange.pointee.upstreamKeepsAlive = false
        _ = endReply(number, extra: false)
    }
}
