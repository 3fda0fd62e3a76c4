import Bytes
import CLinux
import EventLoop
import Glibc
import HTTPCodec
import MeshModel
import Telemetry
import Upstream

// What is not HTTP passes as it is, in both directions, with each side's end passed on separately: a FIN as a FIN, a reset as a reset.
extension Worker {
    // MARK: Beginning

    /// The connection is opaque: whatever came so far goes to the upstream, which is opened if it is not open beside the detection already.
    /// - Parameter host: a name that the client's first bytes gave, for where the address says nothing.
    mutating func beginRelay(_ connection: ConnectionPlace, _ index: UInt32, host: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)) {
        guard connection.pointee.exchange != nobody else { return openRelay(connection, index, host: host) }
        let number = connection.pointee.exchange
        let exchange = exchanges.at(number)
        connection.pointee.stage = .relaying
        passInput(connection, number, exchange)
        // Waiting for a socket is no opaque connection's rest.
        if exchange.pointee.reach == .socket { return deadlines.set(index, at: after(milliseconds: limits.connectMilliseconds)) }
        if exchange.pointee.reach == .session || exchange.pointee.upstreamStream != 0 && exchange.pointee.reach == .connecting {
            return deadlines.set(index, at: after(milliseconds: limits.connectMilliseconds * 2))
        }
        relayHasMoved(exchange)
        guard exchange.pointee.reach == .connected else { return }
        passEarlyReply(exchange)
        if exchange.pointee.upstreamStream != 0 || exchange.pointee.streamIsGone { return again(connection, index) }
        let upstream = connections.at(exchange.pointee.upstream)
        if upstream.pointee.canRead { again(upstream, exchange.pointee.upstream) }
        if connection.pointee.canRead || connection.pointee.sawEnd { again(connection, index) }
    }

    /// Detection goes on while the upstream is opened; if the server speaks first, it is opaque.
    mutating func openBesideDetection(_ connection: ConnectionPlace, _ index: UInt32) {
        guard mayBeOpaque(connection) else {
            // Its server may be asked by HTTP only, so the client's request is awaited as where HTTP was declared.
            connection.pointee.speaksHTTP = true
            return deadlines.set(index, at: after(milliseconds: limits.idleMilliseconds))
        }
        openRelay(connection, index, host: UnsafeRawBufferPointer(start: nil, count: 0))
        guard connection.pointee.stage == .relaying else { return }     // no endpoint: it has been reset
        connection.pointee.stage = .detecting
    }

    private mutating func openRelay(_ connection: ConnectionPlace, _ index: UInt32, host: UnsafeRawBufferPointer) {
        guard let token = exchanges.insert(Exchange(downstream: index, isRelay: true)) else { return reset(connection, index) }
        let exchange = exchanges.at(token.index)
        exchange.pointee.started = now
        exchange.pointee.hasBody = true
        connection.pointee.exchange = token.index
        connection.pointee.stage = .relaying
        clinux_keep_alive(connection.pointee.descriptor)
        deadlines.set(index, at: after(milliseconds: limits.relayIdleMilliseconds))
        if isOverBudget(connection.pointee.pod) { return answer(token.index, .bufferBudgetSpent) }
        // Before the bytes move: the name lies among them.
        let route = route(exchange, connection, host: host)
        passInput(connection, token.index, exchange)
        dispatch(token.index, route, .unsent, mayReuse: false)
    }

    /// Bytes read while the protocol was in doubt go first.
    private mutating func passInput(_ connection: ConnectionPlace, _ number: UInt32, _ exchange: ExchangePlace) {
        guard !connection.pointee.input.isEmpty else { return }
        let bytes = connection.pointee.input.readable
        exchange.pointee.requestBytes &+= UInt64(bytes.count)
        if exchange.pointee.reach == .connected, exchange.pointee.upstreamStream != 0 {
            let upstream = connections.at(exchange.pointee.upstream)
            ledger.relayMoved(exchange, fromDownstream: true, bytes: UInt64(bytes.count))
            _ = pass(bytes, ends: false, to: exchange.pointee.upstreamStream, upstream, exchange.pointee.upstream)
        } else if exchange.pointee.reach == .connected, exchange.pointee.upstream != nobody {
            let upstream = connections.at(exchange.pointee.upstream)
            if exchange.pointee.isRelay { ledger.relayMoved(exchange, fromDownstream: true, bytes: UInt64(bytes.count)) }
            if !write(bytes, to: upstream) { relayRefused(upstream, exchange.pointee.upstream) }
        } else {
            _ = exchange.pointee.unsent.append(bytes)
        }
        connection.pointee.input.removeAll()
        connection.pointee.input.releaseIfEmpty()
    }

    /// The upstream of an opaque connection is connected.
    mutating func relayConnected(_ exchange: ExchangePlace, _ upstream: ConnectionPlace) {
        clinux_keep_alive(upstream.pointee.descriptor)
        judgeReply(exchange)
        tellProbe(exchange)
        ledger.relayOpened(exchange)
        if exchange.pointee.requestBytes > 0 { ledger.relayMoved(exchange, fromDownstream: true, bytes: exchange.pointee.requestBytes) }
        relayHasMoved(exchange)
    }

    /// An exchange whose reply was 101: its two connections now carry bytes.
    mutating func becomeRelay(_ number: UInt32) {
        let exchange = exchanges.at(number)
        let connection = connections.at(exchange.pointee.downstream), upstream = connections.at(exchange.pointee.upstream)
        connection.pointee.stage = .relaying
        upstream.pointee.stage = .relaying
        upstream.pointee.served += 1
        giveBackReplay(exchange)
        clinux_keep_alive(connection.pointee.descriptor)
        clinux_keep_alive(upstream.pointee.descriptor)
        relayHasMoved(exchange)
        passInput(connection, number, exchange)
        again(connection, exchange.pointee.downstream)
        again(upstream, exchange.pointee.upstream)
    }

    // MARK: Bytes

    /// One move from this side to the other.
    mutating func relay(_ connection: ConnectionPlace, _ index: UInt32) {
        let number = connection.pointee.exchange
        let exchange = exchanges.at(number)
        noteReset(connection)
        guard exchange.pointee.reach == .connected else {
            if connection.pointee.wasReset { relayFailed(number) }
            return
        }
        if exchange.pointee.upstreamStream != 0 || exchange.pointee.streamIsGone { return relayToStream(connection, index, exchange) }
        let isDownstream = connection.pointee.role == .downstream
        let otherIndex = isDownstream ? exchange.pointee.upstream : exchange.pointee.downstream
        let other = connections.at(otherIndex)
        if other.pointee.stage == .detecting {
            guard hasSpokenFirst(connection, other) else { return }
            other.pointee.stage = .relaying
            passInput(other, number, exchange)
            relayHasMoved(exchange)
        }
        // Who was reset hears nothing any more; what it said before is on its way, in turns of its own.
        if other.pointee.wasReset { return }
        guard other.pointee.output.isEmpty, !other.pointee.hasPipedOutput else {
            if connection.pointee.wasReset { relayHasMoved(exchange) }
            return
        }
        if connection.pointee.canRead && !connection.pointee.sawEnd { move(number, exchange, connection, to: other, otherIndex) }
        guard connection.pointee.stage == .relaying, !other.pointee.wasReset, other.pointee.output.isEmpty, !other.pointee.hasPipedOutput else { return }
        if connection.pointee.sawEnd {
            if connection.pointee.wasReset { relayFailed(number) } else { passEnd(number, connection, other) }
        } else if connection.pointee.canRead {
            again(connection, index)
        }
    }

    /// Whether a dead connection was reset, or is merely closed in both directions.
    private func noteReset(_ connection: ConnectionPlace) {
        guard connection.pointee.isBroken, !connection.pointee.wasReset, clinux_socket_error(connection.pointee.descriptor) != 0 else { return }
        connection.pointee.wasReset = true
        connection.pointee.canRead = true       // until its end, which is no end in order now
    }

    /// A flow that has filled a whole read goes through a pipe from then on, and goes back to copies when little comes at a time: two more
    /// system calls cost a small message more than its copy does.
    private mutating func move(
        _ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace, to other: ConnectionPlace, _ otherIndex: UInt32
    ) {
        let isDownstream = connection.pointee.role == .downstream
        if connection.pointee.hasUrgent && passUrgent(connection, to: other) { return }
        let shift = isDownstream ? exchange.pointee.requestReadShift : exchange.pointee.replyReadShift
        if shift == WorkerSizes.spliceShift, !connection.pointee.hasUrgent, !isOverBudget(connection.pointee.pod) {
            switch splice(from: connection, to: other, count: Int(pipes.bytes)) {
            case .moved(let count):
                account(exchange, isDownstream: isDownstream, count)
                if count < WorkerSizes.spliceBytesLeast { pace(exchange, isDownstream: isDownstream, by: -1) }
                return
            case .empty:
                connection.pointee.canRead = false
                return pace(exchange, isDownstream: isDownstream, by: -1)
            case .ended: return noteEnd(connection, wasReset: connection.pointee.bridgeBroke)
            case .failed: return noteEnd(connection, wasReset: true)
            case .refused: return relayRefused(other, otherIndex)
            case .noPipe: ledger.count(.spliceFallbacks)
            }
        }
        let wanted = readBytes(connection.pointee.pod, shift: min(shift, WorkerSizes.readShiftMax))
        switch EventLoop.receive(connection.pointee.descriptor, into: receiveMemory, count: wanted) {
        case .moved(let count):
            // At an urgent byte a read stops short of what there is.
            if count < wanted && !connection.pointee.hasEnded && !connection.pointee.isBroken && !connection.pointee.hasUrgent {
                connection.pointee.canRead = false
            }
            account(exchange, isDownstream: isDownstream, count)
            guard write(UnsafeRawBufferPointer(start: receiveMemory, count: count), to: other) else { return relayRefused(other, otherIndex) }
            pace(exchange, isDownstream: isDownstream, by: !other.pointee.output.isEmpty ? -1 : count == wanted ? 1 : 0)
        case .wouldBlock:
            connection.pointee.canRead = false
            connection.pointee.hasUrgent = false
        case .ended: noteEnd(connection, wasReset: connection.pointee.bridgeBroke)
        case .failed: noteEnd(connection, wasReset: true)
        }
    }

    private func noteEnd(_ connection: ConnectionPlace, wasReset: Bool) {
        connection.pointee.sawEnd = true
        connection.pointee.canRead = false
        if wasReset { connection.pointee.wasReset = true }
    }

    mutating func account(_ exchange: ExchangePlace, isDownstream: Bool, _ count: Int) {
        if isDownstream { exchange.pointee.requestBytes &+= UInt64(count) } else { exchange.pointee.replyBytes &+= UInt64(count) }
        if exchange.pointee.isRelay { ledger.relayMoved(exchange, fromDownstream: isDownstream, bytes: UInt64(count)) }
        relayHasMoved(exchange)
    }

    /// Something moved, or can: the connection has its whole rest before it again. Where one side was reset, only as long as a reset may
    /// wait for a reader who takes nothing.
    mutating func relayHasMoved(_ exchange: ExchangePlace) {
        // A stream has a deadline of its own.
        guard exchange.pointee.downstreamStream == 0 else { return }
        let connection = connections.at(exchange.pointee.downstream)
        // Its first bytes wait to be understood, and not for hours.
        if connection.pointee.stage == .detecting && !connection.pointee.input.isEmpty { return }
        let isReset = connection.pointee.wasReset || exchange.pointee.streamIsGone
            || exchange.pointee.upstream != nobody && connections.at(exchange.pointee.upstream).pointee.wasReset
        deadlines.set(exchange.pointee.downstream, at: after(milliseconds: isReset ? limits.lingerMilliseconds : limits.relayIdleMilliseconds))
    }

    private func pace(_ exchange: ExchangePlace, isDownstream: Bool, by step: Int) {
        let shift = isDownstream ? exchange.pointee.requestReadShift : exchange.pointee.replyReadShift
        let next = UInt8(min(Int(WorkerSizes.spliceShift), max(Int(WorkerSizes.readShiftMin), Int(shift) + step)))
        if isDownstream { exchange.pointee.requestReadShift = next } else { exchange.pointee.replyReadShift = next }
    }

    /// Passes an urgent byte (RFC 9293, 3.8.5) on as one, in its place in the stream. False when bytes come before it, or it has not come.
    private mutating func passUrgent(_ connection: ConnectionPlace, to other: ConnectionPlace) -> Bool {
        guard clinux_is_at_urgent(connection.pointee.descriptor) == 1 else { return false }
        connection.pointee.hasUrgent = false
        var byte: UInt8 = 0
        guard clinux_receive_urgent(connection.pointee.descriptor, &byte) == 1 else { return false }
        // A window without room for one byte loses its urgency, not the byte.
        if clinux_transmit_urgent(other.pointee.descriptor, byte) != 1 {
            withUnsafeBytes(of: byte) { _ = write($0, to: other) }
        }
        return true
    }

    // MARK: Ends

    /// This side has ended and everything it said was passed on: so does our sending side towards the other.
    private mutating func passEnd(_ number: UInt32, _ connection: ConnectionPlace, _ other: ConnectionPlace) {
        if !other.pointee.hasShutDown {
            other.pointee.hasShutDown = true
            clinux_end_output(other.pointee.descriptor)
        }
        guard other.pointee.sawEnd && connection.pointee.hasShutDown && connection.pointee.output.isEmpty && !connection.pointee.hasPipedOutput else { return }
        let exchange = exchanges.at(number)
        let index = exchange.pointee.downstream
        let downstream = connections.at(index)
        ledger.relayClosed(exchange, .none, now: now)
        releaseUpstream(exchange, mayRest: false)
        end(number, exchange, downstream)
        drop(downstream, index)
    }

    /// A side takes no bytes any more: its peer has reset it. What the peer said before is read first.
    mutating func relayRefused(_ connection: ConnectionPlace, _ index: UInt32) {
        connection.pointee.isBroken = true
        connection.pointee.wasReset = true
        connection.pointee.canRead = true
        connection.pointee.output.removeAll()
        connection.pointee.output.releaseIfEmpty()
        leavePipe(connection)
        again(connection, index)
    }

    /// One side was reset, or nothing has moved for too long: both are.
    mutating func relayFailed(_ number: UInt32) {
        let exchange = exchanges.at(number)
        let index = exchange.pointee.downstream
        let downstream = connections.at(index)
        let upstreamIndex = exchange.pointee.upstream
        let upstreamWasReset = upstreamIndex != nobody && connections.at(upstreamIndex).pointee.wasReset
        ledger.relayClosed(
            exchange,
            downstream.pointee.wasReset ? .downstreamConnectionTermination : upstreamWasReset ? .upstreamConnectionTermination : .streamIdleTimeout,
            now: now)
        if exchange.pointee.upstreamStream != 0 {
            exchange.pointee.resetCode = .connectError
            releaseUpstream(exchange, mayRest: false)
        } else if upstreamIndex != nobody {
            exchange.pointee.upstream = nobody
            connections.at(upstreamIndex).pointee.exchange = nobody
            resetWhenSent(connections.at(upstreamIndex), upstreamIndex)
        }
        end(number, exchange, downstream)
        resetWhenSent(downstream, index)
    }

    /// Resets the connection as soon as what was said to it has left the kernel: a reset takes with it what has not.
    mutating func resetWhenSent(_ connection: ConnectionPlace, _ index: UInt32) {
        // With bytes of ours waiting it has taken none for long enough.
        let isStuck = !connection.pointee.output.isEmpty || connection.pointee.hasPipedOutput
        let unsent = isStuck || connection.pointee.wasReset ? 0 : clinux_unsent(connection.pointee.descriptor)
        guard unsent > 0 else { return reset(connection, index) }
        connection.pointee.stage = .resetting
        connection.pointee.unsent = UInt32(clamping: unsent)
        connection.pointee.restingSince = now
        deadlines.set(index, at: now + TimerWheel.tickNanoseconds)
    }

    /// The kernel does not tell when a socket has sent everything, so it is asked once per tick.
    mutating func watchResetting(_ connection: ConnectionPlace, _ index: UInt32) {
        let unsent = UInt32(clamping: max(0, clinux_unsent(connection.pointee.descriptor)))
        if unsent < connection.pointee.unsent {
            connection.pointee.unsent = unsent
            connection.pointee.restingSince = now
        }
        let patience = UInt64(limits.lingerMilliseconds) * 1_000_000
        if unsent == 0 || connection.pointee.isBroken || now - connection.pointee.restingSince >= patience { return reset(connection, index) }
        deadlines.set(index, at: now + TimerWheel.tickNanoseconds)
    }
}
