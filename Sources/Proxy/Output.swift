import Bytes
import EventLoop
import Glibc

// Bytes out. What the peer's window does not take waits in `output`, and while it waits, nobody reads what would add to it.
extension Worker {
    /// Sends bytes, or queues what the kernel does not take.
    /// - Returns: false when the connection is dead; nothing further can be sent on it.
    mutating func write(_ bytes: UnsafeRawBufferPointer, to connection: ConnectionPlace) -> Bool {
        guard let base = bytes.baseAddress, bytes.count > 0 else { return true }
        guard connection.pointee.output.isEmpty else { return queue(bytes, on: connection) }
        switch transmit(to: connection, base, count: bytes.count) {
        case .moved(let count):
            return count == bytes.count || queue(UnsafeRawBufferPointer(rebasing: bytes[count...]), on: connection)
        case .wouldBlock: return queue(bytes, on: connection)
        case .ended, .failed:
            connection.pointee.isBroken = true
            return false
        }
    }

    private mutating func queue(_ bytes: UnsafeRawBufferPointer, on connection: ConnectionPlace) -> Bool {
        defer { charge(connection) }
        return connection.pointee.output.append(bytes)
    }

    /// Sends what waited. When all of it is out, whoever was held back reads on.
    mutating func flush(_ connection: ConnectionPlace, _ index: UInt32) {
        while !connection.pointee.output.isEmpty {
            let bytes = connection.pointee.output.readable
            switch transmit(to: connection, bytes.baseAddress!, count: bytes.count) {
            case .moved(let count):
                connection.pointee.output.consume(count)
                // A short send has filled the window: EPOLLOUT will tell.
                if count < bytes.count { return pushBackStall(connection, index) }
            case .wouldBlock: return
            case .ended, .failed:
                connection.pointee.isBroken = true
                return outputFailed(connection, index)
            }
        }
        connection.pointee.output.releaseIfEmpty()
        if connection.pointee.stage == .flushing { return finishClosing(connection, index) }
        guard connection.pointee.exchange != nobody else {
            // Between requests: the next one waited for this.
            return
        }
        if connection.pointee.role == .downstream {
            endTunnelReply(exchanges.at(connection.pointee.exchange), connection)
            replyMayContinue(connection.pointee.exchange)
        } else {
            endTunnel(exchanges.at(connection.pointee.exchange), connection)
            if finishTunnel(connection.pointee.exchange) { return }
            requestMayContinue(connection.pointee.exchange)
        }
    }

    /// A slow reader is not a dead one: each byte it takes buys the exchange more time.
    mutating func pushBackStall(_ connection: ConnectionPlace, _ index: UInt32) {
        switch connection.pointee.stage {
        case .flushing: deadlines.set(index, at: after(milliseconds: limits.stallMilliseconds))
        case .multiplexing: sessions.at(connection.pointee.session).pointee.blockedSince = now
        case .exchanging:
            let exchange = exchanges.at(connection.pointee.exchange)
            if exchange.pointee.replyHasBegun || exchange.pointee.requestPhase == .body {
                setDeadline(exchange, connection.pointee.exchange, milliseconds: limits.stallMilliseconds)
            }
        case .relaying: relayHasMoved(exchanges.at(connection.pointee.exchange))
        default: break
        }
    }

    private mutating func outputFailed(_ connection: ConnectionPlace, _ index: UInt32) {
        switch connection.pointee.stage {
        case .exchanging:
            if connection.pointee.role == .downstream {
                clientAborted(connection, index)
            } else {
                // The upstream may have answered before it closed (413, say): what it sent is read first.
                connection.pointee.output.removeAll()
                connection.pointee.canRead = true
            }
        case .relaying: relayRefused(connection, index)
        case .flushing, .awaitingHead, .detecting: drop(connection, index)
        case .multiplexing: sendFailed(connection, index)
        case .accepting, .connecting, .securing, .idle, .resetting, .lingering, .dead: break
        }
    }
}
