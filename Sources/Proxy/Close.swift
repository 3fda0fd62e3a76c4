import CLinux
import EventLoop
import Glibc
import Upstream

// How connections end.
extension Worker {
    /// Closes once everything is out.
    /// - Parameter lingers: the client may still be sending; then closing at once would reset the connection and lose the reply.
    mutating func closeAfterFlush(_ connection: ConnectionPlace, _ index: UInt32, lingers: Bool = false) {
        if connection.pointee.isMirror { return drop(connection, index) }
        if !connection.pointee.input.isEmpty {
            connection.pointee.input.removeAll()
            connection.pointee.input.releaseIfEmpty()
        }
        connection.pointee.inputIsFresh = lingers
        connection.pointee.stage = .flushing
        deadlines.set(index, at: after(milliseconds: limits.stallMilliseconds))
        if connection.pointee.output.isEmpty { finishClosing(connection, index) }
    }

    /// The last byte is with the kernel.
    mutating func finishClosing(_ connection: ConnectionPlace, _ index: UInt32) {
        if connection.pointee.resetsAtEnd { return resetWhenSent(connection, index) }
        let lingers = connection.pointee.inputIsFresh || connection.pointee.canRead
        guard lingers, !connection.pointee.sawEnd, !connection.pointee.isBroken else { return drop(connection, index) }
        // Behind close_notify nothing is read any more, only dropped: that needs no key.
        leaveSecure(connection, says: true)
        clinux_end_output(connection.pointee.descriptor)
        connection.pointee.hasShutDown = true
        connection.pointee.stage = .lingering
        deadlines.set(index, at: after(milliseconds: limits.lingerMilliseconds))
        readLingering(connection, index)
    }

    /// Drops what still arrives, a bounded amount per turn, until the client's FIN.
    mutating func readLingering(_ connection: ConnectionPlace, _ index: UInt32) {
        guard connection.pointee.canRead else { return }
        switch EventLoop.receive(connection.pointee.descriptor, into: receiveMemory, count: WorkerSizes.headReadBytes) {
        case .moved: again(connection, index)
        case .wouldBlock: connection.pointee.canRead = false
        case .ended, .failed: drop(connection, index)
        }
    }

    /// While the last reply leaves, only the end of the connection is of interest.
    mutating func watchFlushing(_ connection: ConnectionPlace, _ index: UInt32) {
        if connection.pointee.isBroken { drop(connection, index) }
    }

    /// Closes with a reset: the peer must not take what it has for the whole.
    mutating func reset(_ connection: ConnectionPlace, _ index: UInt32) {
        leaveSecure(connection, says: false)
        // Between the ends of a bridge there are no resets: the other one is told.
        if connection.pointee.bridge != nobody { connections.at(connection.pointee.bridge).pointee.bridgeBroke = true }
        clinux_reset_on_close(connection.pointee.descriptor)
        drop(connection, index)
    }

    /// Ends the server's side of a tunnel whose client is gone, behind what the client had said.
    /// - Parameter resets: by a reset: the client did not end in order.
    mutating func endBehindOutput(_ connection: ConnectionPlace, _ index: UInt32, resets: Bool) {
        connection.pointee.resetsAtEnd = resets
        closeAfterFlush(connection, index, lingers: true)
    }

    /// Closes now. The place stays dead until the scheduler lets go of it, so pointers to it stay good for the rest of this turn.
    mutating func drop(_ connection: ConnectionPlace, _ index: UInt32) {
        guard connection.pointee.stage != .dead else { return }
        if connection.pointee.session != nobody {
            if connection.pointee.role == .downstream { endSession(connection, index) } else { forgetUpstreamSession(connection, index) }
        }
        let budget = pods.budgets.base + Int(connection.pointee.pod)
        switch connection.pointee.role {
        case .listener:
            poller.forget(connection.pointee.descriptor)
        case .downstream where connection.pointee.isMirror: budget.pointee.mirrors -= 1
        case .downstream where connection.pointee.isOnBridge:
            budget.pointee.connections -= 1
            shared.socketClosed(on: number)
        case .downstream:
            budget.pointee.connections -= 1
            shared.connectionClosed(on: number)
            shared.socketClosed(on: number)
            ledger.connectionClosed(isInbound: connection.pointee.listener.isInbound, of: budget.pointee.slot)
        case .upstream:
            shared.socketClosed(on: number)
            budget.pointee.connections -= 1
            connection.pointee.service?.finish(.connections)
            connection.pointee.service = nil
            if connection.pointee.pool != nobody {
                if connection.pointee.stage == .idle {
                    pools.withdraw(index, from: connection.pointee.pool)
                    budget.pointee.idleUpstreams -= 1
                }
                pools.leave(connection.pointee.pool)
                connection.pointee.pool = nobody
            }
        }
        if connection.pointee.bridge != nobody { connections.at(connection.pointee.bridge).pointee.bridge = nobody }
        connection.pointee.bridge = nobody
        leaveSecure(connection, says: true)
        connection.pointee.stage = .dead
        leavePipe(connection)
        deadlines.remove(index)
        if !connection.pointee.isMirror { close(connection.pointee.descriptor) }
        connection.pointee.input.removeAll()
        connection.pointee.input.releaseIfEmpty()
        connection.pointee.output.removeAll()
        connection.pointee.output.releaseIfEmpty()
        charge(connection)
        scheduler.enqueue(index, flow: flow(of: connection))
    }

    /// The scheduler has let go of a dead connection: its place is free as soon as no exchange refers to it.
    mutating func release(_ connection: ConnectionPlace, _ index: UInt32) {
        if connection.pointee.role == .upstream, connection.pointee.session != nobody {
            forgetUpstreamSession(connection, index)
            // Each exchange that ended has asked for a turn of the session's: it must not come when the place is another connection's.
            return again(connection, index)
        }
        endSession(connection, index)
        guard connection.pointee.session == nobody else { return }
        forgetCaller(connection)
        charge(connection)      // what the session had queued is gone with it
        let pod = connection.pointee.pod
        connections.remove(at: index)
        if !pods.budgets[Int(pod)].isPresent { pods.recycle(pod) }
    }
}
