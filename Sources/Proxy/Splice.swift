import CLinux
import ControlChannel
import EventLoop
import Glibc
import HTTPCodec
import Upstream

// Bulk goes from socket to socket through a pipe: no byte of it enters our memory.
extension Worker {
    /// A shorter rest of a body is copied: two more system calls per turn cost what copying 64 KiB does.
    static let spliceBytesMin = 64 * 1024
    /// What is moved in one go while other pods are at work: about 20 µs each way. A whole pipe would be a turn of 150 µs.
    static let spliceBytesShared = 128 * 1024

    /// What came of one move from a socket towards another.
    enum Splice {
        /// So many bytes left the source; all of them are with the other socket, or the rest waits in its pipe.
        case moved(Int)
        /// The source has nothing at the moment.
        case empty
        case ended
        /// The source failed with an errno.
        case failed(Int32)
        /// The bytes' destination has failed.
        case refused
        /// No pipe is to be had: copy.
        case noPipe
    }

    /// From a socket into a pipe and on to the other socket, at most `count` bytes. `to` has no output waiting.
    mutating func splice(from: ConnectionPlace, to: ConnectionPlace, count: Int) -> Splice {
        let budget = pods.budgets.base + Int(to.pointee.pod)
        guard Int(budget.pointee.pipes) < pipes.perPodMax, let place = pipes.lend() else {
            if Int(budget.pointee.pipes) < pipes.perPodMax { askForPipes() }
            return .noPipe
        }
        let most = isShared ? Self.spliceBytesShared : Int(pipes.bytes)
        let moved = clinux_splice(from.pointee.descriptor, pipes[place].writeEnd, UInt(min(count, most)))
        guard moved > 0 else {
            pipes.giveBack(place)
            return moved == 0 ? .ended : moved == -Int(EAGAIN) ? .empty : .failed(Int32(truncatingIfNeeded: -moved))
        }
        budget.pointee.pipes += 1
        to.pointee.piped = PipedOutput(pipe: place, count: UInt32(moved))
        return drainPipe(to) ? .moved(moved) : .refused
    }

    /// Sends what is in the connection's pipe until it is empty or the socket is full. False when the connection is dead.
    mutating func drainPipe(_ connection: ConnectionPlace) -> Bool {
        let pipe = pipes[connection.pointee.piped.pipe]
        while connection.pointee.piped.count > 0 {
            let moved = clinux_splice(pipe.readEnd, connection.pointee.descriptor, UInt(connection.pointee.piped.count))
            guard moved > 0 else {
                if moved == -Int(EAGAIN) { return true }
                connection.pointee.isBroken = true
                return false
            }
            connection.pointee.piped.count -= UInt32(moved)
        }
        leavePipe(connection)
        return true
    }

    /// The connection needs its pipe no longer: it is empty, or what is in it can go nowhere any more.
    mutating func leavePipe(_ connection: ConnectionPlace) {
        let place = connection.pointee.piped.pipe
        guard place != PipeStock.none else { return }
        pods.budgets.base[Int(connection.pointee.pod)].pipes -= 1
        if connection.pointee.piped.count == 0 { pipes.giveBack(place) } else { pipes.discard(place) }
        connection.pointee.piped = PipedOutput()
    }

    /// The connection can take more of what waits in its pipe; when it has taken all, the other side is read again.
    mutating func flushPipe(_ connection: ConnectionPlace, _ index: UInt32) {
        let number = connection.pointee.exchange
        let before = connection.pointee.piped.count
        guard drainPipe(connection) else { return pipeRefused(connection, index) }
        let exchange = exchanges.at(number)
        if connection.pointee.piped.count < before { pushBackStall(connection, index) }
        guard connection.pointee.piped.count == 0 else { return }
        if connection.pointee.stage == .exchanging, exchange.pointee.replyBody.isComplete {
            _ = endReply(number, extra: false)
            return
        }
        if connection.pointee.role == .downstream { replyMayContinue(number) } else { requestMayContinue(number) }
    }

    private mutating func pipeRefused(_ connection: ConnectionPlace, _ index: UInt32) {
        if connection.pointee.stage == .relaying { return relayRefused(connection, index) }
        clientAborted(connection, index)
    }

    // MARK: Large replies of known length

    /// Whether the rest of the reply is long enough for a pipe.
    func maySpliceReply(_ exchange: ExchangePlace) -> Bool {
        guard exchange.pointee.downstreamStream == 0, !exchange.pointee.isMirror, exchange.pointee.replyPhase == .body, case .verbatim(let decoder) = exchange.pointee.replyBody,
            let rest = decoder.announced, rest >= Self.spliceBytesMin
        else { return false }
        return !isOverBudget(connections.at(exchange.pointee.downstream).pointee.pod)
    }

    /// One turn: from the upstream into a pipe, from the pipe to the client. False when it has to be copied.
    mutating func spliceReply(_ number: UInt32, _ exchange: ExchangePlace, _ upstream: ConnectionPlace, _ index: UInt32) -> Bool {
        guard case .verbatim(var decoder) = exchange.pointee.replyBody, let rest = decoder.announced else { return false }
        let connection = connections.at(exchange.pointee.downstream)
        switch splice(from: upstream, to: connection, count: rest) {
        case .noPipe:
            ledger.count(.spliceFallbacks)
            return false
        case .moved(let count):
            decoder.skip(count)
            exchange.pointee.replyBody = .verbatim(decoder)
            exchange.pointee.replyBytes &+= UInt64(count)
            setDeadline(exchange, number, milliseconds: limits.stallMilliseconds)
            // What waits in the pipe ends the turn; the client's window goes on with it.
            guard !connection.pointee.hasPipedOutput else { return true }
            if exchange.pointee.replyBody.isComplete {
                _ = endReply(number, extra: false)
            } else {
                // A short move says nothing: only EAGAIN means that the socket is empty.
                again(upstream, index)
            }
        case .empty: upstream.pointee.canRead = false
        case .ended, .failed: replyEnded(number)
        case .refused: clientAborted(connection, exchange.pointee.downstream)
        }
        return true
    }

    // MARK: Stock

    func showPipes() {
        ledger.counters.set(.pipes, to: UInt64(pipes.owned))
        ledger.counters.set(.pipesInUse, to: UInt64(pipes.lent))
        ledger.counters.set(.pipeBytes, to: UInt64(pipes.owned) * UInt64(pipes.bytes))
    }

    private mutating func askForPipes() {
        let count = pipes.wanted(now: now)
        guard count > 0 else { return }
        do throws(ControlFault) {
            try stockChannel.send(PipesWanted(count: count, capacityBytes: pipes.bytes))
        } catch {
            // Asked again with the next bulk.
            pipes.notAsked()
        }
    }

    mutating func deliver(_ made: PipesMade) {
        var index = 0
        while index + 1 < made.ends.count {
            let pipe = Pipe(readEnd: made.ends[index], writeEnd: made.ends[index + 1])
            if made.capacityBytes >= PipeStock.bytesMin { pipes.deliver(pipe) } else { pipe.closeBoth() }
            index += 2
        }
        if made.capacityBytes >= PipeStock.bytesMin { pipes.delivered() } else { pipes.refused(now: now) }
    }
}
