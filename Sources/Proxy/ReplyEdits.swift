import Bytes
import EventLoop
import HTTPCodec
import MeshModel
import Routing

// Step 8 of the journey, before the reply's head is written: what its request's rule wants changed about it.
extension Worker {
    /// Changes the head of a final reply, which the worker's head is, parsed from `bytes`, and lets go of the rule.
    /// - Returns: the bytes that the head now refers to; nil when it has become too large.
    mutating func amendReply(_ exchange: ExchangePlace, _ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        guard !exchange.pointee.hold.isNone else { return bytes }
        defer { letGoOfRoute(exchange) }
        guard let (rule, backend) = tables.held(exchange.pointee.hold) else { return bytes }
        room.begin()
        noteEdits(rule.responseHeaders)
        if let backend { noteEdits(backend.responseHeaders) }
        if let cors = rule.cors { noteCrossOrigin(exchange, cors) }
        if let session = rule.session { noteSession(exchange, session, backend) }
        if room.edits.isEmpty { return bytes }
        guard let changed = head.amend(room.edits, of: bytes, into: room.head) else {
            ledger.count(.limitRouteHead)
            return nil
        }
        return changed
    }

    /// The exchange needs its rule no more: its reply's head is written, or will never be.
    mutating func letGoOfRoute(_ exchange: ExchangePlace) {
        tables.release(&exchange.pointee.hold, worker: number)
        if exchange.pointee.origin != BlockPool.none {
            origins.giveBack(exchange.pointee.origin)
            exchange.pointee.origin = BlockPool.none
        }
    }
}
