import Bytes
import EventLoop
import HTTPCodec
import MeshModel
import Upstream

// A request that comes as content is held, as far as it has come, until its reply begins: the head parked, the content behind it. Every attempt
// is made from that, whatever protocol its upstream speaks, and one that waits needs nothing else. What has gone out and is longer than a
// block is held no more.
extension Worker {
    /// Holds the head that was decoded from `bytes` into the worker's head. False when it is larger than any head may be.
    mutating func hold(_ exchange: ExchangePlace, _ bytes: UnsafeRawBufferPointer) -> Bool {
        let block = replays.lend()
        if block != BlockPool.none {
            let count = head.park(bytes, into: UnsafeMutableRawBufferPointer(start: replays.memory(of: block), count: WorkerSizes.replayBytes))
            if count > 0 {
                exchange.pointee.replay = block
                exchange.pointee.replayCount = count
                exchange.pointee.heldHeadCount = count
                return true
            }
            replays.giveBack(block)
        }
        guard head.park(bytes, into: &exchange.pointee.unsent) else { return false }
        exchange.pointee.heldHeadCount = exchange.pointee.unsent.count
        return true
    }

    /// Holds more of the request. False when that is more than may wait.
    mutating func holdContent(_ exchange: ExchangePlace, _ content: UnsafeRawBufferPointer) -> Bool {
        guard let start = content.baseAddress else { return true }
        if exchange.pointee.replay != BlockPool.none {
            if exchange.pointee.replayCount + content.count <= WorkerSizes.replayBytes {
                (replays.memory(of: exchange.pointee.replay) + exchange.pointee.replayCount).copyMemory(from: start, byteCount: content.count)
                exchange.pointee.replayCount += content.count
                return true
            }
            let headCount = exchange.pointee.heldHeadCount
            guard exchange.pointee.unsent.append(held(exchange)) else { return false }
            giveBackReplay(exchange)
            exchange.pointee.heldHeadCount = headCount
        }
        return exchange.pointee.unsent.append(content)
    }

    /// Holds the trailers that were decoded from `bytes` into the worker's head. False when that is more than may wait.
    mutating func holdTrailers(_ exchange: ExchangePlace, _ bytes: UnsafeRawBufferPointer) -> Bool {
        let at = held(exchange).count
        let count = head.park(bytes, into: writeMemory)
        guard count > 0, holdContent(exchange, UnsafeRawBufferPointer(rebasing: writeMemory[..<count])) else { return false }
        exchange.pointee.heldTrailersAt = at
        return true
    }

    /// Content goes out: as long as the whole fits into the block, it is held for another attempt too.
    mutating func keepContent(_ exchange: ExchangePlace, _ content: UnsafeRawBufferPointer) {
        guard exchange.pointee.heldHeadCount > 0, !content.isEmpty else { return }
        if exchange.pointee.replay != BlockPool.none, exchange.pointee.replayCount + content.count <= WorkerSizes.replayBytes {
            _ = holdContent(exchange, content)
        } else {
            letGo(exchange)
        }
    }

    /// The request is out, or over: nothing of it is held any more.
    mutating func letGo(_ exchange: ExchangePlace) {
        giveBackReplay(exchange)
        exchange.pointee.heldHeadCount = 0
        exchange.pointee.heldTrailersAt = 0
        exchange.pointee.unsent.removeAll()
        exchange.pointee.unsent.releaseIfEmpty()
    }

    /// What went out of `unsent` is too long for a block.
    mutating func keepIfInBlock(_ exchange: ExchangePlace) {
        if exchange.pointee.replay == BlockPool.none { letGo(exchange) }
    }

    /// Parked head and content.
    func held(_ exchange: ExchangePlace) -> UnsafeRawBufferPointer {
        guard exchange.pointee.replay != BlockPool.none else { return exchange.pointee.unsent.readable }
        return UnsafeRawBufferPointer(start: replays.memory(of: exchange.pointee.replay), count: exchange.pointee.replayCount)
    }

    func heldContent(_ exchange: ExchangePlace) -> UnsafeRawBufferPointer {
        let all = held(exchange)
        let end = exchange.pointee.heldTrailersAt == 0 ? all.count : exchange.pointee.heldTrailersAt
        return UnsafeRawBufferPointer(rebasing: all[exchange.pointee.heldHeadCount..<end])
    }

    /// Puts the trailers that are held into the worker's head, and returns the bytes they refer to; nil when there are none.
    mutating func takeUpTrailers(_ exchange: ExchangePlace) -> UnsafeRawBufferPointer? {
        guard exchange.pointee.heldTrailersAt != 0 else { return nil }
        return head.unpark(from: UnsafeRawBufferPointer(rebasing: held(exchange)[exchange.pointee.heldTrailersAt...]))
    }

    /// Puts the head of the request into the worker's head, and returns the bytes it refers to.
    mutating func takeUp(_ exchange: ExchangePlace, _ message: Message) -> UnsafeRawBufferPointer {
        if case .head(let bytes) = message { return bytes }
        guard let bytes = head.unpark(from: held(exchange)) else { preconditionFailure("a head was held that cannot be read back") }
        return bytes
    }

    /// What the request says beyond what came, as texts on the stack.
    func forwarding<Result>(_ exchange: ExchangePlace, peerKnowsChance: Bool = false, _ body: (RequestForwarding) -> Result) -> Result {
        let connection = connections.at(exchange.pointee.downstream)
        var peerText = AddressText()
        var destinationText = AddressText()
        describePeer(connection, &peerText)
        if head.authority.isEmpty { destinationText.write(connection.pointee.address, port: wantedPort(exchange, connection)) }
        return peerText.withBytes { peer in
            destinationText.withBytes { destination in
                var forwarding = RequestForwarding(
                    peerAddress: peer, destination: destination, random: exchange.pointee.chance, keepsUpgrade: exchange.pointee.asksForUpgrade)
                forwarding.peerKnowsChance = peerKnowsChance
                forwarding.isAnotherAttempt = exchange.pointee.isRetrying
                if exchange.pointee.giveUpAt != 0 {
                    // Less than a millisecond is one: 0 would be no limit.
                    forwarding.millisecondsLeft = exchange.pointee.giveUpAt > now ? max(1, (exchange.pointee.giveUpAt - now) / 1_000_000) : 1
                    forwarding.isCall = exchange.pointee.isGRPC
                }
                if connection.pointee.caller != nobody { forwarding.clientCertificate = callers.at(connection.pointee.caller).pointee.forwarded }
                guard exchange.pointee.target.wire == .secure else { return body(forwarding) }
                return DestinationText(port: exchange.pointee.target.port, protocol: applicationProtocol(exchange)).withBytes { text in
                    forwarding.weftDestination = text
                    return body(forwarding)
                }
            }
        }
    }
}
