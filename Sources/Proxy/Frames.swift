import Bytes
import EventLoop
import Glibc
import HTTPCodec

// The turn of a multiplexed connection: the frames that have come become events, the frames that wait go out in one send.
extension Worker {
    /// Events between two looks at the clock; one costs a microsecond or two.
    private static let eventsPerLook = 8

    mutating func serveSession(_ connection: ConnectionPlace, _ index: UInt32) {
        let session = sessions.at(connection.pointee.session)
        if connection.pointee.isBroken {
            if connection.pointee.role == .downstream { return drop(connection, index) }
            // A server that closes while requests are on their way to it resets the connection: what it had said before is still to be read.
            connection.pointee.canRead = true
        }
        readFrames(connection, index, session)
        guard connection.pointee.stage == .multiplexing else { return }
        writeFrames(connection, index, session)
    }

    /// One read, or what an earlier turn has left of one. Frames are read also while the peer does not take ours: it may be waiting for us to
    /// do so. What that can make us hold is bounded, content by its windows, answers to PING and SETTINGS by the session's limits.
    private mutating func readFrames(_ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace) {
        if !connection.pointee.input.isEmpty {
            let bytes = connection.pointee.input.readable
            guard let rest = passFrames(connection, index, session, bytes) else { return }
            connection.pointee.input.consume(bytes.count - rest)
            connection.pointee.input.releaseIfEmpty()
            if rest > 0 || connection.pointee.canRead { again(connection, index) }
            return
        }
        guard connection.pointee.canRead, !connection.pointee.sawEnd else {
            if session.pointee.codec.hasEvents { _ = passFrames(connection, index, session, UnsafeRawBufferPointer(start: nil, count: 0)) }
            return
        }
        let wanted = readBytes(connection.pointee.pod, shift: session.pointee.readShift)
        switch EventLoop.receive(connection.pointee.descriptor, into: receiveMemory, count: wanted) {
        case .moved(let count):
            if count < wanted && !connection.pointee.hasEnded { connection.pointee.canRead = false }
            guard let rest = passFrames(connection, index, session, UnsafeRawBufferPointer(start: receiveMemory, count: count)) else { return }
            // Cannot fail: the queue is empty and holds twice what one read brings.
            if rest > 0 { _ = connection.pointee.input.append(UnsafeRawBufferPointer(start: receiveMemory + (count - rest), count: rest)) }
            if rest > 0 || connection.pointee.canRead { again(connection, index) }
        case .wouldBlock: connection.pointee.canRead = false
        case .ended where connection.pointee.role == .downstream: clientEnded(connection, index, session)
        case .ended, .failed: sessionEnded(connection, index)
        }
    }

    /// The client says nothing more. What it has asked for whole is answered, for a while: like this ends a client that has gone away, too.
    private mutating func clientEnded(_ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace) {
        connection.pointee.sawEnd = true
        connection.pointee.canRead = false
        session.pointee.endedAt = now
        var number = session.pointee.firstExchange
        while number != nobody {
            let next = exchanges.at(number).pointee.nextOfDownstream
            if exchanges.at(number).pointee.requestPhase != .complete { streamAborted(number) }
            number = next
        }
        deadlines.set(index, at: after(milliseconds: limits.halfClosedMilliseconds))
    }

    /// The connection is of no use any more.
    mutating func sessionEnded(_ connection: ConnectionPlace, _ index: UInt32) {
        if connection.pointee.role == .upstream { return upstreamSessionEnded(connection, index) }
        drop(connection, index)
    }

    /// How long one session's frames may take. Shorter turns within a pod would part what one read brought for several connections into
    /// many small sends: at 50 µs they were nearly twice as many, and an exchange cost a quarter more.
    private var framesNanoseconds: UInt64 { UInt64(scheduler.quantumNanoseconds) }

    /// Lets the session read frames until all are dealt with, or the turn is over.
    /// - Returns: how many bytes are left for the next turn; nil when the session has ended.
    private mutating func passFrames(_ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace, _ bytes: UnsafeRawBufferPointer) -> Int? {
        var rest = bytes
        var looks = 0
        let isLong = bytes.count >= 1 << Int(WorkerSizes.frameShiftMin)
        let begun = isLong ? monotonicNow() : now
        let isServer = session.pointee.isServer
        while true {
            let event = session.pointee.codec.next(&rest, head: &head, now: now)
            if case .none = event {
                if isLong { pace(session, monotonicNow() - begun) }
                return 0
            }
            if case .fault(let fault) = event {
                sessionFailed(connection, index, session, fault)
                return nil
            }
            if isServer { requestEvent(event, connection, index, session) } else { replyEvent(event, connection, index, session) }
            guard connection.pointee.stage == .multiplexing else { return nil }
            looks &+= 1
            if looks & (Self.eventsPerLook - 1) == 0, !rest.isEmpty, monotonicNow() - begun >= framesNanoseconds { return rest.count }
        }
    }

    private func pace(_ session: SessionPlace, _ cost: Nanoseconds) {
        if cost > framesNanoseconds {
            session.pointee.readShift = max(WorkerSizes.frameShiftMin, session.pointee.readShift - 1)
        } else if session.pointee.readShift < WorkerSizes.readShiftMax {
            session.pointee.readShift += 1
        }
    }

    /// The peer has broken the protocol: it is told why, and the connection closes behind that.
    mutating func sessionFailed(_ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace, _ fault: HTTP2Fault) {
        ledger.countFault(fault)
        if connection.pointee.role == .upstream { return upstreamSessionFailed(connection, index, fault) }
        closeSession(connection, index, session)
    }

    /// Closes a client's connection behind the frames that wait: a GOAWAY has told why.
    mutating func closeSession(_ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace) {
        _ = session.pointee.codec.write(to: &connection.pointee.output, upTo: min(connection.pointee.output.room, WorkerSizes.sendBytesMax))
        endSession(connection)
        closeAfterFlush(connection, index, lingers: true)
        if connection.pointee.stage == .flushing { flush(connection, index) }
    }

    /// Pulls what waits out of the session, as much as one send may take.
    private mutating func writeFrames(_ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace) {
        guard connection.pointee.output.isEmpty else { return }
        session.pointee.blockedSince = 0
        while session.pointee.codec.wantsWrite {
            let memory = UnsafeMutableRawBufferPointer(rebasing: writeMemory[..<WorkerSizes.sendBytesMax])
            let count = session.pointee.codec.write(into: memory)
            if count == 0 { break }
            guard write(UnsafeRawBufferPointer(rebasing: memory[..<count]), to: connection) else { return sessionEnded(connection, index) }
            if !connection.pointee.output.isEmpty {
                session.pointee.blockedSince = now
                break
            }
            if count == memory.count { again(connection, index) }
            break
        }
        while let owner = session.pointee.codec.nextWritable() {
            if session.pointee.isServer { replyMayContinue(owner - 1) } else { requestMayContinue(owner - 1) }
        }
        if session.pointee.codec.hasEvents { again(connection, index) }
        if session.pointee.isServer { settleSession(connection, index, session) } else { settleUpstreamSession(connection, index, session) }
    }
}
