import CLinux
import ControlChannel
import EventLoop
import Glibc
import HTTPCodec
import Upstream

/// A pipe from the node: a way for body bytes from one socket to the other that no copy lies on.
struct Pipe {
    let readEnd: Int32
    let writeEnd: Int32
}

/// The pipes of one worker that are not in use. Empty until a large reply first comes by.
struct PipeStock: ~Copyable {
    /// A pipe of 512 KiB holds what one turn may move; sixteen of them bound the kernel memory that slow readers can fill.
    static let capacityBytes: UInt32 = 512 * 1024
    static let pipesMax = 16
    static let batch: UInt32 = 4

    var free: [Pipe] = []
    /// Pipes handed out or lying here.
    var owned = 0
    var isAsked = false
    /// The node has none to give: copies do.
    var isRefused = false

    deinit {
        for pipe in free {
            close(pipe.readEnd)
            close(pipe.writeEnd)
        }
    }
}

// Large replies of known length go from socket to socket through a pipe: no byte of theirs enters our memory.
extension Worker {
    /// A shorter rest is copied: two more system calls per turn cost what copying 64 KiB does.
    static let spliceBytesMin = 64 * 1024
    /// What is moved in one go while other pods are at work: about 20 µs each way. A whole pipe would be a turn of 150 µs.
    static let spliceBytesShared = 128 * 1024

    /// Gives the exchange a pipe if the rest of its reply is long and one is free; asks the node for some if none is.
    mutating func maySpliceReply(_ exchange: ExchangePlace) -> Bool {
        if exchange.pointee.pipe != nil { return true }
        guard exchange.pointee.replyPhase == .body, exchange.pointee.downstreamStream == 0, case .verbatim(let decoder) = exchange.pointee.replyBody,
            let rest = decoder.announced, rest >= Self.spliceBytesMin
        else { return false }
        guard let pipe = pipes.free.popLast() else {
            askForPipes()
            return false
        }
        exchange.pointee.pipe = pipe
        return true
    }

    private mutating func askForPipes() {
        guard !pipes.isAsked, !pipes.isRefused, pipes.owned < PipeStock.pipesMax else { return }
        do throws(ControlFault) {
            try stockChannel.send(PipesWanted(count: PipeStock.batch, capacityBytes: PipeStock.capacityBytes))
            pipes.isAsked = true
        } catch {
            // Asked again with the next large reply.
        }
    }

    mutating func deliver(_ made: PipesMade) {
        pipes.isAsked = false
        var index = 0
        while index + 1 < made.ends.count {
            pipes.free.append(Pipe(readEnd: made.ends[index], writeEnd: made.ends[index + 1]))
            pipes.owned += 1
            index += 2
        }
        // Unprivileged users get pipes of 8 KiB beyond their limit: worse than copying.
        if made.capacityBytes < Self.spliceBytesMin { pipes.isRefused = true }
    }

    /// One turn: from the upstream into the pipe, from the pipe to the client.
    mutating func spliceReply(_ number: UInt32, _ exchange: ExchangePlace, _ upstream: ConnectionPlace, _ index: UInt32) {
        guard let pipe = exchange.pointee.pipe, case .verbatim(var decoder) = exchange.pointee.replyBody, let rest = decoder.announced else { return }
        let moved = clinux_splice(upstream.pointee.descriptor, pipe.writeEnd, UInt(min(rest, isShared ? Self.spliceBytesShared : Int(PipeStock.capacityBytes))))
        switch moved {
        case 1...:
            decoder.skip(Int(moved))
            exchange.pointee.replyBody = .verbatim(decoder)
            exchange.pointee.replyBytes &+= UInt64(moved)
            exchange.pointee.inPipe = Int(moved)
            deadlines.set(exchange.pointee.downstream, at: after(milliseconds: limits.stallMilliseconds))
            guard drainPipe(number, exchange) else { return }
            // The pipe was empty, so a short move says nothing: only EAGAIN means that the socket is.
            again(upstream, index)
        case Int(-EAGAIN): upstream.pointee.canRead = false
        default: replyEnded(number)
        }
    }

    /// Sends what is in the pipe. False when some of it has to wait, or the exchange has ended.
    mutating func drainPipe(_ number: UInt32, _ exchange: ExchangePlace) -> Bool {
        guard let pipe = exchange.pointee.pipe else { return true }
        let connection = connections.at(exchange.pointee.downstream)
        while exchange.pointee.inPipe > 0 {
            let moved = clinux_splice(pipe.readEnd, connection.pointee.descriptor, UInt(exchange.pointee.inPipe))
            guard moved > 0 else {
                if moved == -Int(EAGAIN) {
                    connection.pointee.hasPipedOutput = true
                    return false
                }
                connection.pointee.isBroken = true
                clientAborted(connection, exchange.pointee.downstream)
                return false
            }
            exchange.pointee.inPipe -= Int(moved)
        }
        connection.pointee.hasPipedOutput = false
        guard exchange.pointee.replyBody.isComplete else { return true }
        _ = endReply(number, extra: false)
        return false
    }

    /// The client can take more of what waits in the pipe; when it has taken all, the upstream is read again.
    mutating func flushPipe(_ connection: ConnectionPlace) {
        guard connection.pointee.stage == .exchanging else { return }
        let number = connection.pointee.exchange
        let exchange = exchanges.at(number)
        deadlines.set(exchange.pointee.downstream, at: after(milliseconds: limits.stallMilliseconds))
        guard drainPipe(number, exchange) else { return }
        let upstream = connections.at(exchange.pointee.upstream)
        if upstream.pointee.canRead { again(upstream, exchange.pointee.upstream) }
    }

    /// An empty pipe is lent again; one that still holds bytes of a reply that failed must never be.
    mutating func giveBackPipe(_ exchange: ExchangePlace, _ connection: ConnectionPlace) {
        connection.pointee.hasPipedOutput = false
        guard let pipe = exchange.pointee.pipe else { return }
        exchange.pointee.pipe = nil
        if exchange.pointee.inPipe == 0 {
            pipes.free.append(pipe)
        } else {
            close(pipe.readEnd)
            close(pipe.writeEnd)
            pipes.owned -= 1
        }
    }
}
