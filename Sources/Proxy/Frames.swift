import Bytes
import EventLoop
import Glibc
import HTTPCodec

// The turn of a multiplexed connection: the frames that have come become events, the frames that wait go out in one send.
extension Worker {
    /// Events between two looks at the clock; one costs a microsecond or two. In company every one is followed by a look: the head or the reset of a
    /// request to an HTTP/1.1 server may cost a connect or a close, which is more than a turn.
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
        if connection.pointee.isBroken { return again(connection, index) }
        if session.pointee.revokedUntil != 0, !endRevoked(connection, index, session) { return }
        if isShared { writeFrames(connection, index, session) } else { writeLater(connection, index) }
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
        guard !connection.pointee.sawEnd else { return endUnfinished(connection, index, session) }
        guard connection.pointee.canRead else {
            if session.pointee.codec.hasEvents { _ = passFrames(connection, index, session, UnsafeRawBufferPointer(start: nil, count: 0)) }
            return
        }
        let wanted = readBytes(connection.pointee.pod, isApart: connection.pointee.isApart, shift: session.pointee.readShift)
        switch receive(from: connection, into: receiveMemory, count: wanted) {
        case .moved(let count):
            if count < wanted && !connection.pointee.hasEnded && !hasMoreSecured(connection) { connection.pointee.canRead = false }
            guard let rest = passFrames(connection, index, session, UnsafeRawBufferPointer(start: receiveMemory, count: count)) else { return }
            // Cannot fail: the queue is empty and holds what one read brings.
            if rest > 0 { _ = connection.pointee.input.append(UnsafeRawBufferPointer(start: receiveMemory + (count - rest), count: rest)) }
            if rest > 0 || connection.pointee.canRead { again(connection, index) }
        case .wouldBlock where connection.pointee.isBroken: sessionEnded(connection, index)
        case .wouldBlock where hasMoreSecured(connection): again(connection, index)
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
        endUnfinished(connection, index, session)
        deadlines.set(index, at: after(milliseconds: limits.halfClosedMilliseconds))
    }

    /// The connection is of no use any more.
    mutating func sessionEnded(_ connection: ConnectionPlace, _ index: UInt32) {
        if connection.pointee.role == .upstream { return upstreamSessionEnded(connection, index) }
        drop(connection, index)
    }

    /// Nothing can be sent any more. What a server has said before it closed is still read: which requests it has answered, and which it never
    /// looked at.
    mutating func sendFailed(_ connection: ConnectionPlace, _ index: UInt32) {
        guard connection.pointee.role == .upstream else { return drop(connection, index) }
        connection.pointee.isBroken = true
        connection.pointee.output.removeAll()
        _ = sessionTable.retire(connection.pointee.session)
        again(connection, index)
    }

    /// How long one session's frames may take. Shorter turns within a pod would part what one read brought for several connections into
    /// many small sends: at 50 µs they were nearly twice as many, and an exchange cost a quarter more.
    private var framesNanoseconds: UInt64 { UInt64(scheduler.quantumNanoseconds) }

    /// What began then has taken as long as a turn may.
    func turnIsOver(since begun: Nanoseconds) -> Bool { monotonicNow() - begun >= framesNanoseconds }

    /// Lets the session read frames until all are dealt with, or the turn is over. Their content stays where it is meanwhile, so it is lent.
    /// - Returns: how many bytes are left for the next turn; nil when the session has ended.
    private mutating func passFrames(_ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace, _ bytes: UnsafeRawBufferPointer) -> Int? {
        lends = true
        let left = passEvents(connection, index, session, bytes)
        lends = false
        if connection.pointee.role == .downstream, connection.pointee.stage == .multiplexing { judgeCompany(connection, session) }
        while let borrower = borrowers.popLast() { sendGathered(borrower) }
        return left
    }

    /// A client that floods us, or fills the pod's queue with its requests, is served apart from its neighbours in the pod: they do not wait for
    /// more than its turn. While it is, turns are short.
    private mutating func judgeCompany(_ connection: ConnectionPlace, _ session: SessionPlace) {
        connection.pointee.isApart = session.pointee.codec.isSuspect || session.pointee.pendingCount > WorkerSizes.pendingTogetherMax
            || session.pointee.exchangeCount > WorkerSizes.streamsTogetherMax
    }

    private mutating func passEvents(_ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace, _ bytes: UnsafeRawBufferPointer) -> Int? {
        var rest = bytes
        var looks = 0
        let isLong = bytes.count >= 1 << Int(WorkerSizes.frameShiftMin)
        let begun = isLong ? monotonicNow() : now
        let isServer = session.pointee.isServer
        while true {
            let event = session.pointee.codec.next(&rest, head: &head, now: now)
            if case .none = event {
                if isLong { pace(session, bytes.count, monotonicNow() - begun) }
                return 0
            }
            if case .fault(let fault) = event {
                sessionFailed(connection, index, session, fault)
                return nil
            }
            if case .pause = event {
                // As soon as it is known, not after a whole turn.
                if isServer, !connection.pointee.isApart, session.pointee.codec.isSuspect { return rest.count }
                looks |= Self.eventsPerLook - 1
            } else if isServer { requestEvent(event, connection, index, session) } else { replyEvent(event, connection, index, session) }
            guard connection.pointee.stage == .multiplexing else { return nil }
            looks &+= 1
            if isShared || looks & (Self.eventsPerLook - 1) == 0, !rest.isEmpty, monotonicNow() - begun >= framesNanoseconds { return rest.count }
        }
    }

    private func pace(_ session: SessionPlace, _ count: Int, _ cost: Nanoseconds) {
        if cost > framesNanoseconds {
            session.pointee.readShift = max(WorkerSizes.frameShiftMin, session.pointee.readShift - 1)
        } else if session.pointee.readShift < WorkerSizes.frameShiftMax, count >= 1 << Int(session.pointee.readShift) {
            session.pointee.readShift += 1
        }
    }

    /// The peer has broken the protocol: it is told why, and the connection closes behind that.
    mutating func sessionFailed(_ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace, _ fault: HTTP2Fault) {
        ledger.countFault(fault, isUpstream: connection.pointee.role == .upstream)
        if connection.pointee.role == .upstream { return upstreamSessionFailed(connection, index, fault) }
        closeSession(connection, index, session)
    }

    /// Closes a client's connection behind the frames that wait: a GOAWAY has told why.
    mutating func closeSession(_ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace) {
        sendGathered(index)
        _ = session.pointee.codec.write(to: &connection.pointee.output, upTo: min(connection.pointee.output.room, WorkerSizes.sendBytesMax))
        endSession(connection, index)
        closeAfterFlush(connection, index, lingers: true)
        if connection.pointee.stage == .flushing { flush(connection, index) }
    }

    /// Content for a stream, and its end when `ends`.
    /// - Returns: false when not all of it was taken; then it does not end either.
    mutating func pass(_ content: UnsafeRawBufferPointer, ends: Bool, to stream: Int32, _ connection: ConnectionPlace, _ index: UInt32) -> Bool {
        let session = sessions.at(connection.pointee.session)
        again(connection, index)
        guard lends, connection.pointee.stage == .multiplexing, connection.pointee.output.isEmpty else {
            let taken = session.pointee.codec.append(stream, content)
            guard taken == content.count else { return false }
            if ends { session.pointee.codec.end(stream) }
            return true
        }
        let taken = session.pointee.codec.lend(stream, content, ends: ends)
        if session.pointee.codec.gathered != nil, borrowers.last != index { borrowers.append(index) }
        return taken == content.count
    }

    /// Sends the frames whose content is lent, before the memory where it lies is read into again. What the socket does not take is copied.
    mutating func sendGathered(_ index: UInt32) {
        let connection = connections.at(index)
        guard connection.pointee.session != nobody else { return }
        let session = sessions.at(connection.pointee.session)
        guard let gathered = session.pointee.codec.gathered else { return }
        // A session whose exchanges are still ending has said its last word, and its descriptor may be another connection's by now.
        guard connection.pointee.stage == .multiplexing else { return session.pointee.codec.clearGathered() }
        var sent = 0
        switch transmit(to: connection, gathered.pieces) {
        case .moved(let count): sent = count
        case .wouldBlock: break
        case .ended, .failed:
            connection.pointee.isBroken = true
            sent = gathered.byteCount
        }
        if sent < gathered.byteCount {
            session.pointee.blockedSince = now
            for piece in gathered.pieces {
                if sent < piece.iov_len {
                    // Has room: it was empty, and what is lent is at most one read with its frames' headers.
                    _ = connection.pointee.output.append(UnsafeRawBufferPointer(start: piece.iov_base + sent, count: piece.iov_len - sent))
                }
                sent = max(0, sent - piece.iov_len)
            }
            charge(connection)
        }
        session.pointee.codec.clearGathered()
    }

    /// While a pod is alone, its sessions write when all have read: what many of them have to say to one goes out in one send.
    private mutating func writeLater(_ connection: ConnectionPlace, _ index: UInt32) {
        guard !connection.pointee.writesLater else { return }
        connection.pointee.writesLater = true
        writers.append(index)
    }

    /// Behind the turns: the sends that were put off.
    mutating func writeWaiting() {
        var position = 0
        while position < writers.count {
            let index = writers[position]
            position += 1
            let connection = connections.at(index)
            guard connection.pointee.writesLater else { continue }      // another connection's place by now
            connection.pointee.writesLater = false
            guard connection.pointee.stage == .multiplexing else { continue }
            let flow = flow(of: connection)
            writeFrames(connection, index, sessions.at(connection.pointee.session))
            charge(connection)
            let after = monotonicNow()
            scheduler.settle(flow, items: 1, nanoseconds: after - now)
            ledger.chargeTime(after - now, to: pods.budgets.base[Int(Self.pod(of: flow))].slot)
            now = after
        }
        writers.removeAll(keepingCapacity: true)
    }

    /// Pulls what waits out of the session, as much as one send may take.
    private mutating func writeFrames(_ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace) {
        guard connection.pointee.output.isEmpty else { return }
        let begun = isShared ? monotonicNow() : 0
        session.pointee.blockedSince = 0
        while session.pointee.codec.wantsWrite {
            let memory = UnsafeMutableRawBufferPointer(rebasing: writeMemory[..<WorkerSizes.sendBytesMax])
            let count = session.pointee.codec.write(into: memory, framesMax: isShared ? WorkerSizes.framesPerSendShared : .max)
            if session.pointee.codec.wasCutShort { again(connection, index) }
            if count == 0 { break }
            guard write(UnsafeRawBufferPointer(rebasing: memory[..<count]), to: connection) else { return sendFailed(connection, index) }
            if !connection.pointee.output.isEmpty {
                session.pointee.blockedSince = now
                break
            }
            if count == memory.count { again(connection, index) }
            break
        }
        while let owner = session.pointee.codec.nextWritable() {
            if session.pointee.isServer { replyMayContinue(owner - 1) } else { requestMayContinue(owner - 1) }
            guard isShared, turnIsOver(since: begun) else { continue }
            again(connection, index)
            break
        }
        if session.pointee.codec.hasEvents { again(connection, index) }
        if session.pointee.isServer { settleSession(connection, index, session) } else { settleUpstreamSession(connection, index, session) }
    }
}
