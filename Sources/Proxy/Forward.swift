import Bytes
import ControlChannel
import EventLoop
import Glibc
import HTTPCodec
import MeshModel
import Routing
import Upstream

/// Where the bytes of a request are that shall be sent.
enum Message {
    /// In the worker's buffers, for this turn.
    case inHand(UnsafeRawBufferPointer)
    /// In the exchange's `unsent`.
    case unsent
    /// In the exchange's replay block.
    case replay
    /// Held as parked head and content.
    case held
    /// The same, and the head is in the worker's head, decoded from these bytes, for this turn.
    case head(UnsafeRawBufferPointer)
}

// Step 6 of the journey: an upstream connection is leased, or opened, and the request goes out.
extension Worker {
    /// Sends the request towards an endpoint of `route`, on an idle connection when there is one.
    mutating func dispatch(_ number: UInt32, _ route: Route, _ message: Message, mayRepeat: Bool = false, mayReuse: Bool = true) {
        let exchange = exchanges.at(number)
        let connection = connections.at(exchange.pointee.downstream)
        if exchange.pointee.delayMilliseconds > 0 { return delay(number, exchange, message) }
        if exchange.pointee.service == nil, case .service(let destination) = route, let refusal = enter(exchange, destination.service) {
            exchange.pointee.target.address = connection.pointee.address
            ledger.describe(exchange, connection, route, tables, by: caller(of: connection), from: callerAddress(of: connection, like: connection.pointee.address))
            return answer(number, refusal)
        }
        noteHash(exchange, connection, route, message)
        guard aim(exchange, connection, route, mayRepeat: mayRepeat) else {
            exchange.pointee.target.address = connection.pointee.address
            ledger.describe(exchange, connection, route, tables, by: caller(of: connection), from: callerAddress(of: connection, like: connection.pointee.address))
            if case .noSuchPort = route { return answer(number, .noSuchPort) }
            if exchange.pointee.hasFallback { keepUnsent(exchange, message) }
            return answer(number, exchange.pointee.attempts == 0 ? .noReadyEndpoint : .noOtherEndpoint)
        }
        exchange.pointee.attempts += 1
        ledger.describe(exchange, connection, route, tables, by: caller(of: connection), from: callerAddress(of: connection, like: exchange.pointee.target.address))
        if let fault = refusal(of: exchange, connection, message) { return answer(number, .denied(fault)) }
        beginAttempt(number, exchange)
        if exchange.pointee.passesContent { return dispatchContent(number, exchange, connection, route, message, mayReuse: mayReuse) }
        if exchange.pointee.target.wire == .secure {
            // The pod that it goes to has joined the mesh since its head was written.
            guard exchange.pointee.isRelay else { return answer(number, .upstream(.refusedStream)) }
            return requestStream(number, exchange, connection, message)
        }
        if mayReuse, let upstream = lease(number, exchange, connection) {
            sendReused(number, exchange, upstream, message)
        } else {
            open(number, exchange, connection, message)
        }
    }

    /// Injected: the request waits before its first attempt.
    private mutating func delay(_ number: UInt32, _ exchange: ExchangePlace, _ message: Message) {
        let milliseconds = Int(exchange.pointee.delayMilliseconds)
        exchange.pointee.delayMilliseconds = 0
        keepUnsent(exchange, message)
        pause(number, exchange, milliseconds: milliseconds)
    }

    func poolKey(_ target: Target, callingPod: UInt32) -> PoolKey {
        var key = PoolKey(
            namespacePod: target.socketPod, callingPod: callingPod, addressHigh: target.address.high, addressLow: target.address.low, port: target.wirePort)
        key.wire = target.wire
        key.identity = target.identity
        key.expected = target.expected
        if let source = target.source {
            key.sourceHigh = source.high
            key.sourceLow = source.low
        }
        return key
    }

    /// An idle connection for the exchange's target, now bound to the exchange.
    mutating func lease(_ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace) -> UInt32? {
        let key = poolKey(exchange.pointee.target, callingPod: connection.pointee.pod)
        // What is known to have ended, but was not collected yet, is skipped.
        while let index = pools.lease(key) {
            let upstream = connections.at(index)
            guard isRepeatable(exchange) || isProven(upstream) else {
                pools.park(index, in: upstream.pointee.pool)
                return nil
            }
            pods.budgets.base[Int(upstream.pointee.pod)].idleUpstreams -= 1
            upstream.pointee.stage = .exchanging
            guard isQuiet(upstream) else {
                drop(upstream, index)
                continue
            }
            deadlines.clear(index)
            upstream.pointee.exchange = number
            exchange.pointee.upstream = index
            exchange.pointee.reach = .connected
            exchange.pointee.service?.finishPending()
            ledger.count(.upstreamPoolHits)
            return index
        }
        return nil
    }

    /// Whether the request could be sent once more, should the connection turn out to be closing.
    private func isRepeatable(_ exchange: ExchangePlace) -> Bool { exchange.pointee.method.isIdempotent && !exchange.pointee.hasBody }

    /// Whether the server is known to keep this connection: it has answered on it twice, or it has rested longer than a close behind the
    /// reply takes to arrive. Some servers close after each reply without saying so; a POST that follows at once would meet the close and
    /// could not be sent again (45 % of them did, before this).
    private func isProven(_ upstream: ConnectionPlace) -> Bool {
        upstream.pointee.served > 1 || now - upstream.pointee.restingSince >= UInt64(limits.provenRestMilliseconds) * 1_000_000
    }

    /// Whether an idle connection is still fit for a request. One whose last read was exactly full may have more to say, or nothing.
    private func isQuiet(_ upstream: ConnectionPlace) -> Bool {
        if upstream.pointee.isBroken || upstream.pointee.hasEnded { return false }
        guard upstream.pointee.canRead else { return true }
        var byte: UInt8 = 0
        guard EventLoop.receive(upstream.pointee.descriptor, into: &byte, count: 1) == .wouldBlock else { return false }
        upstream.pointee.canRead = false
        return true
    }

    private mutating func sendReused(_ number: UInt32, _ exchange: ExchangePlace, _ index: UInt32, _ message: Message) {
        let upstream = connections.at(index)
        let bytes = self.bytes(of: message, exchange)
        switch EventLoop.transmit(upstream.pointee.descriptor, bytes.baseAddress!, count: bytes.count) {
        case .moved(let count):
            exchange.pointee.seen = exchange.pointee.hasBody ? .body : .head
            keepForReplay(exchange, bytes)
            if count < bytes.count { _ = upstream.pointee.output.append(UnsafeRawBufferPointer(rebasing: bytes[count...])) }
        case .wouldBlock:
            exchange.pointee.seen = exchange.pointee.hasBody ? .body : .head
            _ = upstream.pointee.output.append(bytes)
        case .ended, .failed:
            // Nothing was written: whatever the request is, it may go out on a fresh connection.
            keepUnsent(exchange, message)
            return fail(number, .endedBeforeReply(peerMayHaveSeen: .nothing, reused: true))
        }
        if case .unsent = message {
            exchange.pointee.unsent.removeAll()
            exchange.pointee.unsent.releaseIfEmpty()
        }
        charge(upstream)
    }

    /// A second try can be needed after the bytes have left: when a reused connection turns out to have been closed, and when the proxy at the
    /// other end could not reach its application. Only what may then be repeated is kept.
    mutating func keepForReplay(_ exchange: ExchangePlace, _ bytes: UnsafeRawBufferPointer) {
        guard exchange.pointee.attempts <= max(1, exchange.pointee.retry.attempts), exchange.pointee.requestPhase == .complete,
            bytes.count <= WorkerSizes.replayBytes,
            isRepeatable(exchange) || exchange.pointee.account.isBehindPeer || exchange.pointee.retry.isSet, exchange.pointee.replay == BlockPool.none
        else { return }
        let block = replays.lend()
        guard block != BlockPool.none else { return }
        replays.memory(of: block).copyMemory(from: bytes.baseAddress!, byteCount: bytes.count)
        exchange.pointee.replay = block
        exchange.pointee.replayCount = bytes.count
    }

    func bytes(of message: Message, _ exchange: ExchangePlace) -> UnsafeRawBufferPointer {
        switch message {
        case .inHand(let bytes): bytes
        case .unsent: exchange.pointee.unsent.readable
        case .held, .head: held(exchange)
        case .replay: UnsafeRawBufferPointer(start: replays.memory(of: exchange.pointee.replay), count: exchange.pointee.replayCount)
        }
    }

    /// Moves the message to where it survives this turn.
    mutating func keepUnsent(_ exchange: ExchangePlace, _ message: Message) {
        switch message {
        case .unsent, .held, .head: return
        case .inHand, .replay: break
        }
        exchange.pointee.unsent.removeAll()
        // Holds a head, a whole read and its framing: cannot be too small.
        _ = exchange.pointee.unsent.append(bytes(of: message, exchange))
        giveBackReplay(exchange)
    }

    mutating func giveBackReplay(_ exchange: ExchangePlace) {
        guard exchange.pointee.replay != BlockPool.none else { return }
        replays.giveBack(exchange.pointee.replay)
        exchange.pointee.replay = BlockPool.none
        exchange.pointee.heldHeadCount = 0
    }

    /// No idle connection: the message waits while a new one is made.
    mutating func open(_ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace, _ message: Message) {
        let budget = pods.budgets.base + Int(connection.pointee.pod)
        guard Int(budget.pointee.pendingRequests) < share(of: limits.pendingRequestsPerPodMax, connection) else { return answer(number, .pendingBudgetSpent) }
        keepUnsent(exchange, message)
        exchange.pointee.seen = .nothing
        guard exchange.pointee.service?.beginPending(max: exchange.pointee.pendingMax) != false else { return answer(number, .overflow(.pending)) }
        let connectionsMax = exchange.pointee.connectionsMax
        if connectionsMax > 0, exchange.pointee.service?.beginConnection(max: connectionsMax) == false { return awaitConnection(number, exchange) }
        countPending(1, exchange, connection)
        exchange.pointee.reach = .socket
        openUpstream(number, exchange, connection)
    }
}
