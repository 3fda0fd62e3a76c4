import EventLoop
import Glibc
import HTTPCodec
import Telemetry
import Upstream

// What happens when nothing happens. Each connection has one deadline; what it means follows from the stage. An exchange has the deadline of
// its HTTP/1 connection, which serves nobody else meanwhile, or, as a stream, one of its own.
extension Worker {
    /// When the exchange is given up unless something moves.
    mutating func setDeadline(_ exchange: ExchangePlace, _ number: UInt32, milliseconds wanted: Int) {
        let milliseconds = exchange.pointee.isTunnel ? limits.relayIdleMilliseconds : wanted
        let farthest = exchange.pointee.giveUpAt == 0 || exchange.pointee.isTunnel ? UInt64.max : exchange.pointee.giveUpAt
        let until = min(after(milliseconds: milliseconds), farthest)
        if exchange.pointee.downstreamStream == 0 {
            deadlines.set(exchange.pointee.downstream, at: until)
        } else if !exchange.pointee.isGRPC {
            exchangeDeadlines.set(number, at: until)
        } else if exchange.pointee.reach == .connected {
            // A call may be silent for hours; only its client knows how long is too long.
            if exchange.pointee.giveUpAt == 0 { exchangeDeadlines.clear(number) } else { exchangeDeadlines.set(number, at: exchange.pointee.giveUpAt) }
        } else {
            exchangeDeadlines.set(number, at: until)
        }
    }

    /// Only notes it: thousands of connections may come of age in the same tick, and closing them is their pod's work, done in its turns.
    mutating func expireDeadlines() {
        while let index = deadlines.takeDue(now) {
            guard connections.isOccupied(index) else { continue }
            let connection = connections.at(index)
            connection.pointee.isDue = true
            scheduler.enqueue(index, flow: flow(of: connection))
        }
        while let number = exchangeDeadlines.takeDue(now) {
            guard exchanges.isOccupied(number) else { continue }
            let exchange = exchanges.at(number)
            exchange.pointee.isDue = true
            scheduler.enqueue(UInt32(connections.capacity) + number, flow: flow(of: connections.at(exchange.pointee.downstream)))
        }
        while let number = alarms.takeDue(now) {
            guard exchanges.isOccupied(number) else { continue }
            let exchange = exchanges.at(number)
            exchange.pointee.alarmIsDue = true
            scheduler.enqueue(UInt32(connections.capacity) + number, flow: flow(of: connections.at(exchange.pointee.downstream)))
        }
    }

    /// The place may have a new tenant since its number was queued, or what moved has set another deadline.
    mutating func serveDueExchange(_ number: UInt32) {
        guard exchanges.isOccupied(number) else { return }
        if exchanges.at(number).pointee.alarmIsDue {
            exchanges.at(number).pointee.alarmIsDue = false
            return alarms.isSet(number) ? () : alarmRang(number)
        }
        guard exchanges.at(number).pointee.isDue else { return }
        exchanges.at(number).pointee.isDue = false
        if !exchangeDeadlines.isSet(number) { exchangeExpired(number) }
    }

    mutating func expire(_ connection: ConnectionPlace, _ index: UInt32) {
        switch connection.pointee.stage {
        case .detecting:
            detectionExpired(connection, index)
        case .awaitingHead:
            if connection.pointee.input.isEmpty {
                ledger.count(.limitIdleTimeout)
                drop(connection, index)
            } else {
                refuse(connection, index, .headTimeout)
            }
        case .exchanging: if connection.pointee.role == .downstream { exchangeExpired(connection.pointee.exchange) }
        case .relaying: if connection.pointee.role == .downstream { relayExpired(connection.pointee.exchange) }
        case .resetting: watchResetting(connection, index)
        case .securing: securingExpired(connection, index)
        case .connecting:
            if connection.pointee.session != nobody { return dropSession(connection, index, .failed(.connectTimeout)) }
            fail(connection.pointee.exchange, .connectTimeout)
        case .idle:
            ledger.count(.upstreamRetiredIdle)
            drop(connection, index)
        case .flushing: reset(connection, index)
        case .lingering: drop(connection, index)
        case .multiplexing: sessionExpired(connection, index)
        case .accepting, .dead: break
        }
    }

    mutating func relayExpired(_ number: UInt32) {
        switch exchanges.at(number).pointee.reach {
        case .socket: fail(number, .noSocket(errno: ETIMEDOUT))
        case .session: fail(number, .connectTimeout)
        case .connecting where exchanges.at(number).pointee.upstreamStream != 0: fail(number, .connectTimeout)
        case .nothing, .connecting, .connected: relayFailed(number)
        }
    }

    private mutating func exchangeExpired(_ number: UInt32) {
        let exchange = exchanges.at(number)
        if exchange.pointee.giveUpAt != 0, now >= exchange.pointee.giveUpAt { return answer(number, .deadlinePassed) }
        // Set while it waited for its upstream, which it has by now.
        if exchange.pointee.isGRPC, exchange.pointee.reach == .connected { return setDeadline(exchange, number, milliseconds: limits.replyMilliseconds) }
        if exchange.pointee.reach == .socket {
            fail(number, .noSocket(errno: ETIMEDOUT))
        } else if exchange.pointee.replyHasBegun || exchange.pointee.requestPhase == .complete {
            answer(number, .replyTimeout)
        } else if exchange.pointee.reach == .connected && requestRoom(exchange) > 0 {
            // The upstream takes everything; it is the client that does not send.
            answer(number, .requestBodyTimeout)
        } else {
            answer(number, .replyTimeout)
        }
    }

    /// Once a second: what is not needed goes, what is counted is shown.
    mutating func keepHouse() {
        nextHousekeeping = now + Self.housekeepingNanoseconds
        stock.trim(now: now)
        abandonUnmadeSessions()
        beginSecureWalk()
        pipes.trim()
        showPipes()
        ledger.showGauges(self.gauges)
        if let until = drainUntil, now >= until || connectionsInUse == 0 { isFinished = true }
    }

    /// Connections that still carry something for a client.
    private var connectionsInUse: Int { Int(shared.connectionCount(of: number)) }

    var gauges: Gauges {
        var buffered = 0
        var place: UInt32 = 0
        while place < pods.count {
            buffered += pods.budgets[Int(place)].bufferedBytes
            place += 1
        }
        return Gauges(
            connectionsOpen: shared.connectionCount(of: number), idleUpstreams: pools.idleTotal, stockSockets: stock.socketCount, bufferedBytes: buffered,
            generation: tables.generation, heartbeat: now)
    }
}
