import CLinux
import ControlChannel
import EventLoop
import Glibc
import HTTPCodec
import MeshModel
import Upstream

// Step 6 of the journey, when no idle connection was there: a socket from the stock, connect(), and the message goes out.
extension Worker {
    /// A socket in the namespace the target needs: from the stock, or, when that is empty, from the next delivery.
    mutating func openUpstream(_ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace) {
        if exchange.pointee.target.wire == .bridged { return bridgeUpstream(number, exchange, connection) }
        let key = shelf(for: exchange.pointee.target)
        // Who waits already goes first, but for those who are served apart.
        let isApart = connection.pointee.isApart
        if !stock.owes(key, beforeApart: isApart), let socket = stock.take(key, now: now) {
            connect(number, exchange, connection, socket)
        } else {
            exchange.pointee.reach = .socket
            stock.wait(exchanges.token(at: number), at: key, isApart: isApart)
            setDeadline(exchange, number, milliseconds: limits.connectMilliseconds)
        }
        refill(key)
    }

    func shelf(for target: Target) -> ShelfKey {
        ShelfKey(
            pod: pods.budgets[Int(target.socketPod)].number, family: target.address.isIPv4 ? .ipv4 : .ipv6,
            kind: target.source == nil ? .plain : .transparent)
    }

    mutating func refill(_ key: ShelfKey) {
        let wanted = stock.refill(key)
        guard wanted > 0 else { return }
        do throws(ControlFault) {
            try stockChannel.send(SocketsWanted(pod: key.pod, family: key.family, socketKind: key.kind, count: wanted))
            ledger.count(.stockWanted, UInt64(wanted))
        } catch {
            // The channel is full or gone. Waiters fail with their deadline; the next one asks again.
            for waiter in stock.refused(key) { gotNoSocket(waiter, errno: EAGAIN) }
        }
    }

    private mutating func connect(_ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace, _ socket: Int32) {
        ledger.count(.stockTaken)
        exchange.pointee.reach = .connecting
        if exchange.pointee.isRelay && exchange.pointee.downstreamStream == 0 {
            relayHasMoved(exchange)
        } else {
            setDeadline(exchange, number, milliseconds: connection.pointee.hasEnded ? limits.halfClosedMilliseconds : limits.replyMilliseconds)
        }
        if let source = exchange.pointee.target.source {
            // A port of our own choice: the kernel's could be one this client uses towards this pod, and the connect would hang.
            var address = source.socketAddress(port: 0)
            let result = clinux_bind_as_client(socket, &address)
            if result != 0 {
                close(socket)
                return fail(number, .connect(errno: -result))
            }
        }
        var address = exchange.pointee.target.address.socketAddress(port: exchange.pointee.target.port)
        let result = clinux_connect(socket, &address)
        guard result == 0 || result == -EINPROGRESS else {
            close(socket)
            return fail(number, .connect(errno: -result))
        }
        var upstream = Connection(descriptor: socket, role: .upstream, stage: .connecting, pod: connection.pointee.pod)
        upstream.exchange = number
        upstream.address = exchange.pointee.target.address
        upstream.port = exchange.pointee.target.port
        guard let token = connections.insert(upstream) else {
            close(socket)
            return fail(number, .noSocket(errno: EMFILE))
        }
        let place = connections.at(token.index)
        place.pointee.service = exchange.pointee.service?.passConnection()
        exchange.pointee.upstream = token.index
        if !exchange.pointee.isRelay {
            place.pointee.pool = pools.join(poolKey(exchange.pointee.target, callingPod: connection.pointee.pod))
        }
        pods.budgets.base[Int(connection.pointee.pod)].connections += 1
        shared.socketOpened(on: self.number)
        ledger.count(.upstreamConnects)
        clinux_no_delay(socket)
        guard poller.watch(socket, as: token) else { return fail(number, .noSocket(errno: ENOSPC)) }
        deadlines.set(token.index, at: after(milliseconds: limits.connectMilliseconds))
    }

    /// The kernel has reported the connecting socket: it is connected, or it failed.
    mutating func finishConnect(_ upstream: ConnectionPlace, _ index: UInt32) {
        if upstream.pointee.session != nobody { return finishSessionConnect(upstream, index) }
        let number = upstream.pointee.exchange
        let exchange = exchanges.at(number)
        if upstream.pointee.isBroken {
            let code = clinux_socket_error(upstream.pointee.descriptor)
            return fail(number, .connect(errno: code == 0 ? ECONNREFUSED : code))
        }
        if upstream.pointee.isOnBridge && !upstream.pointee.bridgeIsOpen { return }
        let connection = connections.at(exchange.pointee.downstream)
        deadlines.clear(index)
        settlePending(number, exchange, connection)
        exchange.pointee.reach = .connected
        let isStreamRelay = exchange.pointee.isRelay && exchange.pointee.downstreamStream != 0
        upstream.pointee.stage = exchange.pointee.isRelay && !isStreamRelay ? .relaying : .exchanging
        if exchange.pointee.isRelay { relayConnected(exchange, upstream) }
        if exchange.pointee.passesContent {
            guard writeHeld(number, exchange, upstream, .held) else { return }
        } else {
            if !exchange.pointee.isRelay { keepForReplay(exchange, exchange.pointee.unsent.readable) }
            guard sendUnsent(number, exchange, upstream) else { return }
            if isStreamRelay { openStreamRelay(number, exchange, upstream) }
        }
        if upstream.pointee.canRead { again(upstream, index) }
        if upstream.pointee.output.isEmpty { requestMayContinue(number) }
    }

    /// Hands what waited for the connection to the kernel. False when the connection failed, and with it the attempt.
    private mutating func sendUnsent(_ number: UInt32, _ exchange: ExchangePlace, _ upstream: ConnectionPlace) -> Bool {
        let bytes = exchange.pointee.unsent.readable
        if !bytes.isEmpty {
            switch EventLoop.transmit(upstream.pointee.descriptor, bytes.baseAddress!, count: bytes.count) {
            case .moved(let count):
                if count < bytes.count { _ = upstream.pointee.output.append(UnsafeRawBufferPointer(rebasing: bytes[count...])) }
            case .wouldBlock:
                _ = upstream.pointee.output.append(bytes)
            case .ended, .failed:
                fail(number, .endedBeforeReply(peerMayHaveSeen: .nothing, reused: false))
                return false
            }
            exchange.pointee.seen = exchange.pointee.hasBody ? .body : .head
        }
        exchange.pointee.unsent.removeAll()
        exchange.pointee.unsent.releaseIfEmpty()
        charge(upstream)
        return true
    }

    /// The exchange no longer waits for a connection.
    mutating func settlePending(_ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace) {
        switch exchange.pointee.reach {
        case .session, .socket, .connecting:
            if exchange.pointee.reach == .session { sessionTable.stopWaiting(number) }
            countPending(-1, exchange, connection)
            exchange.pointee.service?.finishPending()
        case .nothing, .connected: break
        }
        exchange.pointee.reach = .nothing
    }

    /// An exchange waits for a connection, or no longer does. A client many of whose requests do is served apart from then on.
    mutating func countPending(_ change: Int32, _ exchange: ExchangePlace, _ connection: ConnectionPlace) {
        let budget = pods.budgets.base + Int(connection.pointee.pod)
        budget.pointee.pendingRequests += change
        ledger.showPending(Int(change), of: budget.pointee.slot)
        guard exchange.pointee.downstreamStream != 0 else { return }
        let session = sessions.at(connection.pointee.session)
        session.pointee.pendingCount += change
        if session.pointee.pendingCount > WorkerSizes.pendingTogetherMax { connection.pointee.isApart = true }
    }

    // MARK: Deliveries

    /// One message that node has sent over the stock channel; epoll names the channel again while there are more, and the others' turns come in
    /// between.
    mutating func collectSockets() {
        do throws(ControlFault) {
            guard let message = try stockChannel.receive() else { return }
            switch message.kind {
            case .socketsMade: deliver(try SocketsMade(message))
            case .pipesMade: deliver(try PipesMade(message))
            case .pipesRefused:
                _ = try PipesRefused(message)
                pipes.refused(now: now)
            case .socketsRefused: deny(try SocketsRefused(message))
            default:
                var unasked = message
                unasked.closeDescriptors()
            }
        } catch {
            // Node has ended, and so shall we: the control thread sees the same on its socket.
            if stockChannel.isClosed { poller.forget(stockChannel.descriptor) }
        }
    }

    private mutating func deliver(_ made: SocketsMade) {
        let key = ShelfKey(pod: made.pod, family: made.family, kind: made.socketKind)
        guard pods.place(numbered: made.pod) != nil else {
            for socket in made.sockets { close(socket) }
            return
        }
        stock.deliver(key, made.sockets)
        matchWaiters(at: key)
        refill(key)
    }

    /// Connects those who wait at a shelf that has sockets again: each connect costs 20 µs and more, outside its pod's turns, so in company only a
    /// few between two looks at the others.
    private mutating func matchWaiters(at key: ShelfKey) {
        var rest = Int(SocketsWanted.countMax)
        let begun = monotonicNow()
        while rest > 0, let (waiter, socket) = stock.match(key) {
            defer { if isShared, turnIsOver(since: begun) { rest = 0 } }
            rest -= 1
            if let session = sessionWaiting(waiter) {
                connectSession(session, socket)
                continue
            }
            guard let exchange = exchanges.find(waiter), exchange.pointee.reach == .socket, shelf(for: exchange.pointee.target) == key else {
                stock.putBack(key, socket)
                continue
            }
            connect(waiter.index, exchange, connections.at(exchange.pointee.downstream), socket)
        }
        if stock.hasMatch(key), !owedShelves.contains(key) { owedShelves.append(key) }
    }

    /// Behind the turns: the next few of those who wait though there are sockets, one shelf after the other.
    mutating func matchOwed() { matchWaiters(at: owedShelves.removeFirst()) }

    private mutating func deny(_ refused: SocketsRefused) {
        ledger.count(.stockRefused)
        let key = ShelfKey(pod: refused.pod, family: refused.family, kind: refused.socketKind)
        for waiter in stock.refused(key) { gotNoSocket(waiter, errno: Int32(bitPattern: refused.errorNumber)) }
    }

    /// Whoever waited for a socket, an exchange or a session, has none to wait for.
    mutating func gotNoSocket(_ waiter: Token, errno: Int32) {
        if let session = sessionWaiting(waiter) { return abandonOpening(session, .noSocket(errno: errno)) }
        guard let exchange = exchanges.find(waiter), exchange.pointee.reach == .socket else { return }
        fail(waiter.index, .noSocket(errno: errno))
    }
}
