import EventLoop
import HTTPCodec
import MeshModel
import Routing

// Of several proxies on a request's way one tries it again: the one nearest to what has failed. Applications pass `x-request-id` on; between two
// Weft proxies `x-weft-attempt` says what the table of one node cannot know: of a request, that it was tried before; of a reply, that somebody
// behind has tried already.
extension Worker {
    /// The head of a request, parsed from `bytes` into the worker's head: its identifier, and what a caller's proxy says of it.
    mutating func noteIdentity(_ exchange: ExchangePlace, _ bytes: UnsafeRawBufferPointer) {
        if exchange.pointee.retry.isSet { shared.retried.use() }
        let isMarked = comesFromPeer(exchange) && head.value(.weftAttempt) != nil
        if isMarked { shared.retried.use() }
        guard shared.retried.isUsed else { return }
        exchange.pointee.identity = RequestIdentity.of(head, bytes) ?? 0
        if isMarked { shared.retried.note(identity(exchange), .above, now: now) }
    }

    private func comesFromPeer(_ exchange: ExchangePlace) -> Bool {
        let connection = connections.at(exchange.pointee.downstream)
        return exchange.pointee.downstreamStream != 0 && connection.pointee.listener.isInbound && sessions.at(connection.pointee.session).pointee.wire == .weft
    }

    func identity(_ exchange: ExchangePlace) -> UInt64 {
        exchange.pointee.identity != 0 ? exchange.pointee.identity : RequestIdentity.of(exchange.pointee.chance)
    }

    /// Whether the failed reply whose head is in the worker's head comes from behind a proxy that has tried again already. Then so have we, to
    /// whoever asks us.
    func wasRetriedBelow(_ exchange: ExchangePlace) -> Bool {
        let isTold = exchange.pointee.target.wire == .secure && head.value(.weftAttempt) != nil
        if isTold { shared.retried.use() }
        guard shared.retried.isUsed, isTold || shared.retried.knows(identity(exchange), .below, now: now) else { return false }
        noteVain(exchange)
        return true
    }

    /// Another attempt would have been asked for, and there is none: those above need not try either.
    func noteVain(_ exchange: ExchangePlace) { shared.retried.note(identity(exchange), .below, now: now) }

    /// Whether a caller's proxy must hear, with the failed reply whose head is in the worker's head, that it was tried again behind it.
    func tellsOfRetries(_ exchange: ExchangePlace, ends: Bool) -> Bool {
        guard head.status >= 500 || ends && exchange.pointee.isGRPC, shared.retried.isUsed, comesFromPeer(exchange) else { return false }
        return shared.retried.knows(identity(exchange), .below, now: now)
    }
}
