import Bytes
import CLinux
import EventLoop
import Glibc
import HTTPCodec
import MeshModel
import Upstream

// What is not HTTP passes as it is, in both directions, with each side's end passed on separately.
extension Worker {
    /// The connection is opaque: whatever came so far goes to the upstream, which is opened if it is not open beside the detection already.
    mutating func beginRelay(_ connection: ConnectionPlace, _ index: UInt32) {
        if connection.pointee.exchange == nobody {
            openRelay(connection, index)
        } else {
            let exchange = exchanges.at(connection.pointee.exchange)
            connection.pointee.stage = .relaying
            deadlines.set(index, at: after(milliseconds: limits.relayIdleMilliseconds))
            passInput(connection, exchange)
        }
        ledger.count(connection.pointee.input.isEmpty ? .opaqueDeclared : .opaqueNotHTTP)
    }

    /// Detection goes on while the upstream is opened; if the server speaks first, it is opaque.
    mutating func openBesideDetection(_ connection: ConnectionPlace, _ index: UInt32) {
        openRelay(connection, index)
        guard connection.pointee.stage == .relaying else { return }     // no endpoint: it has been reset
        connection.pointee.stage = .detecting
    }

    private mutating func openRelay(_ connection: ConnectionPlace, _ index: UInt32) {
        guard let token = exchanges.insert(Exchange(downstream: index, isRelay: true)) else { return reset(connection, index) }
        let exchange = exchanges.at(token.index)
        exchange.pointee.started = now
        exchange.pointee.hasBody = true
        connection.pointee.exchange = token.index
        connection.pointee.stage = .relaying
        deadlines.set(index, at: after(milliseconds: limits.relayIdleMilliseconds))
        if isOverBudget(connection.pointee.pod) { return answer(token.index, .bufferBudgetSpent) }
        passInput(connection, exchange)
        dispatch(token.index, route(connection, host: UnsafeRawBufferPointer(start: nil, count: 0)), .unsent, mayReuse: false)
    }

    /// Bytes read while the protocol was in doubt go first.
    private mutating func passInput(_ connection: ConnectionPlace, _ exchange: ExchangePlace) {
        guard !connection.pointee.input.isEmpty else { return }
        exchange.pointee.requestBytes &+= UInt64(connection.pointee.input.count)
        if exchange.pointee.reach == .connected {
            if !write(connection.pointee.input.readable, to: connections.at(exchange.pointee.upstream)) { again(connections.at(exchange.pointee.upstream), exchange.pointee.upstream) }
        } else {
            _ = exchange.pointee.unsent.append(connection.pointee.input.readable)
        }
        connection.pointee.input.removeAll()
        connection.pointee.input.releaseIfEmpty()
    }

    /// An exchange whose reply was 101: its two connections now carry bytes.
    mutating func becomeRelay(_ number: UInt32) {
        let exchange = exchanges.at(number)
        let connection = connections.at(exchange.pointee.downstream), upstream = connections.at(exchange.pointee.upstream)
        connection.pointee.stage = .relaying
        upstream.pointee.stage = .relaying
        upstream.pointee.served += 1
        giveBackReplay(exchange)
        deadlines.set(exchange.pointee.downstream, at: after(milliseconds: limits.relayIdleMilliseconds))
        passInput(connection, exchange)
        again(connection, exchange.pointee.downstream)
        again(upstream, exchange.pointee.upstream)
    }

    /// One read from this side, written to the other.
    mutating func relay(_ connection: ConnectionPlace, _ index: UInt32) {
        let number = connection.pointee.exchange
        let exchange = exchanges.at(number)
        let isDownstream = connection.pointee.role == .downstream
        guard exchange.pointee.reach == .connected else {
            if connection.pointee.isBroken { cancel(number); drop(connection, index) }
            return
        }
        let otherIndex = isDownstream ? exchange.pointee.upstream : exchange.pointee.downstream
        let other = connections.at(otherIndex)
        if other.pointee.stage == .detecting {
            guard connection.pointee.canRead else { return }
            other.pointee.stage = .relaying     // the server speaks first
            ledger.count(.opaqueServerFirst)
        }
        guard other.pointee.output.isEmpty else { return }
        if connection.pointee.canRead && !connection.pointee.sawEnd {
            let shift = isDownstream ? exchange.pointee.requestReadShift : exchange.pointee.replyReadShift
            let wanted = readBytes(connection.pointee.pod, shift: shift)
            switch EventLoop.receive(connection.pointee.descriptor, into: receiveMemory, count: wanted) {
            case .moved(let count):
                if count < wanted && !connection.pointee.hasEnded && !connection.pointee.isBroken { connection.pointee.canRead = false }
                if isDownstream { exchange.pointee.requestBytes &+= UInt64(count) } else { exchange.pointee.replyBytes &+= UInt64(count) }
                ledger.relayMoved(exchange, fromDownstream: isDownstream, bytes: UInt64(count))
                guard write(UnsafeRawBufferPointer(start: receiveMemory, count: count), to: other) else { return relayFailed(number) }
                pace(exchange, other, isDownstream: isDownstream, wasFull: count == wanted)
                deadlines.set(exchange.pointee.downstream, at: after(milliseconds: limits.relayIdleMilliseconds))
            case .wouldBlock: connection.pointee.canRead = false
            case .ended:
                connection.pointee.sawEnd = true
                connection.pointee.canRead = false
            case .failed: return relayFailed(number)
            }
        }
        if connection.pointee.sawEnd && other.pointee.output.isEmpty { return passEnd(number, connection, other) }
        if connection.pointee.canRead && other.pointee.output.isEmpty { again(connection, index) }
    }

    /// This side has ended and everything it said was passed on: so does our sending side towards the other.
    private mutating func passEnd(_ number: UInt32, _ connection: ConnectionPlace, _ other: ConnectionPlace) {
        if !other.pointee.hasShutDown {
            other.pointee.hasShutDown = true
            clinux_end_output(other.pointee.descriptor)
        }
        guard other.pointee.sawEnd && connection.pointee.hasShutDown && connection.pointee.output.isEmpty else { return }
        let exchange = exchanges.at(number)
        let index = exchange.pointee.downstream
        let downstream = connections.at(index)
        ledger.relayClosed(exchange, .none, now: now)
        releaseUpstream(exchange, mayRest: false)
        end(number, exchange, downstream)
        drop(downstream, index)
    }

    /// One side was reset: so is the other.
    mutating func relayFailed(_ number: UInt32) {
        let exchange = exchanges.at(number)
        let index = exchange.pointee.downstream
        let downstream = connections.at(index)
        ledger.relayClosed(exchange, downstream.pointee.isBroken ? .downstreamConnectionTermination : .upstreamConnectionTermination, now: now)
        if exchange.pointee.upstream != nobody {
            let upstream = exchange.pointee.upstream
            exchange.pointee.upstream = nobody
            connections.at(upstream).pointee.exchange = nobody
            reset(connections.at(upstream), upstream)
        }
        end(number, exchange, downstream)
        reset(downstream, index)
    }

    private func pace(_ exchange: ExchangePlace, _ other: ConnectionPlace, isDownstream: Bool, wasFull: Bool) {
        let step = !other.pointee.output.isEmpty ? -1 : wasFull ? 1 : 0
        if isDownstream {
            exchange.pointee.requestReadShift = UInt8(min(Int(WorkerSizes.readShiftMax), max(Int(WorkerSizes.readShiftMin), Int(exchange.pointee.requestReadShift) + step)))
        } else {
            exchange.pointee.replyReadShift = UInt8(min(Int(WorkerSizes.readShiftMax), max(Int(WorkerSizes.readShiftMin), Int(exchange.pointee.replyReadShift) + step)))
        }
    }
}
