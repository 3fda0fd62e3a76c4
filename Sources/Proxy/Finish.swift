import CLinux
import EventLoop
import Glibc
import HTTPCodec
import Upstream

// Step 8 of the journey: the exchange is counted and ends; both connections go back to where they rest.
extension Worker {
    mutating func finish(_ number: UInt32) {
        let exchange = exchanges.at(number)
        let index = exchange.pointee.downstream
        let connection = connections.at(index)
        let isInStep = exchange.pointee.requestPhase == .complete
        let staysOpen = exchange.pointee.keepsAlive && isInStep && drainUntil == nil
        guard sendReplyEnd(number, exchange) else { return }
        if exchange.pointee.isTunnel {
            // Its server has said all; its client may not have.
            exchange.pointee.replyPhase = .complete
            endTunnelReply(exchange, connection)
            guard hasEndedBothWays(exchange) else { return setDeadline(exchange, number, milliseconds: limits.relayIdleMilliseconds) }
        }
        if exchange.pointee.isRelay {
            ledger.relayClosed(exchange, .none, now: now)
        } else {
            judgeReply(exchange)
            ledger.recordRequest(exchange, of: pods.budgets.base[Int(connection.pointee.pod)].slot, now: now)
        }
        releaseUpstream(exchange, mayRest: exchange.pointee.upstreamKeepsAlive && isInStep)
        let isStream = exchange.pointee.downstreamStream != 0
        end(number, exchange, connection)
        if isStream { return }
        if staysOpen {
            connection.pointee.stage = .awaitingHead
            deadlines.set(index, at: after(milliseconds: limits.idleMilliseconds))
            connection.pointee.inputIsFresh = !connection.pointee.input.isEmpty
            if connection.pointee.inputIsFresh || connection.pointee.canRead { again(connection, index) }
        } else {
            closeAfterFlush(connection, index)
        }
    }

    /// The upstream connection of an exchange rests in its pool, or closes.
    mutating func releaseUpstream(_ exchange: ExchangePlace, mayRest: Bool) {
        let index = exchange.pointee.upstream
        guard index != nobody else { return }
        if exchange.pointee.upstreamStream != 0 { return releaseStream(exchange) }
        let isCutOff = exchange.pointee.isTunnel && !hasEndedBothWays(exchange)
        exchange.pointee.upstream = nobody
        let upstream = connections.at(index)
        // What is left to do about it is still the work of who asked for it.
        upstream.pointee.isApart = connections.at(exchange.pointee.downstream).pointee.isApart
        upstream.pointee.exchange = nobody
        upstream.pointee.served += 1
        let budget = pods.budgets.base + Int(upstream.pointee.pod)
        guard mayRest, upstream.pointee.pool != nobody, !upstream.pointee.hasEnded, !upstream.pointee.isBroken,
            upstream.pointee.input.isEmpty, upstream.pointee.output.isEmpty, drainUntil == nil, budget.pointee.isPresent,
            Int(budget.pointee.idleUpstreams) < limits.idleUpstreamsPerPodMax
        else {
            if isCutOff { return endBehindOutput(upstream, index, resets: exchange.pointee.resetCode != .noError) }
            // As in `streamAborted`: who has a thousand connections opened and closed shall not leave a thousand ports at rest.
            if upstream.pointee.isApart { clinux_reset_on_close(upstream.pointee.descriptor) }
            return drop(upstream, index)
        }
        upstream.pointee.stage = .idle
        upstream.pointee.restingSince = now
        budget.pointee.idleUpstreams += 1
        pools.park(index, in: upstream.pointee.pool)
        deadlines.set(index, at: after(milliseconds: restMilliseconds(upstream)))
    }

    /// Ends the exchange itself. Its connections are the caller's to place.
    mutating func end(_ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace) {
        settlePending(number, exchange, connection)
        giveBackReplay(exchange)
        letGoOfRoute(exchange)
        cutOffCopies(exchange)
        leaveOriginal(exchange, number)
        if exchange.pointee.isMirror { charge(exchange, connection, 0) }
        if exchange.pointee.hasAlarm { alarms.remove(number) }
        if exchange.pointee.downstreamStream == 0 {
            leavePipe(connection)
            connection.pointee.exchange = nobody
        } else {
            charge(exchange, connection, 0)
            leaveSession(number, exchange, connection)
        }
        exchanges.remove(at: number)
    }

    /// Something happened on a connection at rest: it can only be its end.
    mutating func readIdle(_ upstream: ConnectionPlace, _ index: UInt32) {
        guard upstream.pointee.canRead || upstream.pointee.isBroken else { return }
        var byte: UInt8 = 0
        let result = EventLoop.receive(upstream.pointee.descriptor, into: &byte, count: 1)
        if result == .wouldBlock {
            upstream.pointee.canRead = false
            return
        }
        pools.sawClose(upstream.pointee.pool, restedMilliseconds: (now - upstream.pointee.restingSince) / 1_000_000)
        ledger.count(.upstreamRetiredClosed)
        drop(upstream, index)
    }
}
