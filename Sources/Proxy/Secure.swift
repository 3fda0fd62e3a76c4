import CLinux
import EventLoop
import Glibc
import HTTPCodec
import MutualTLS
import Telemetry

/// TLS under one connection: from its first byte, or the ClientHello we send, until the last close_notify.
struct Secure: ~Copyable {
    var tls: TLSSession
    let isServer: Bool
    /// The connection under which it lies.
    let connection: UInt32
    /// When its handshake was done, in unix seconds.
    var began: Int64 = 0
    /// The last read stopped though there was more, or may have been.
    var hasMore = false
    /// Its handshake is not over, and is charged to its pod.
    var isUnderWay = true

    init(_ tls: consuming TLSSession, isServer: Bool, connection: UInt32) {
        self.tls = tls
        self.connection = connection
        self.isServer = isServer
    }
}

typealias SecurePlace = UnsafeMutablePointer<Secure>

// Bytes in and out of a connection that may be secure. Those that are not pay for a comparison, those that are see what a plain socket would
// show: what TLS has in store, and what it must say before it can listen, stays in here.
extension Worker {
    /// As `EventLoop.receive`: fewer bytes than asked for mean that an edge will tell of more, unless the connection `hasMoreSecured`.
    @inline(__always)
    mutating func receive(from connection: ConnectionPlace, into memory: UnsafeMutableRawPointer, count: Int) -> Transfer {
        if connection.pointee.secure == nobody { return EventLoop.receive(connection.pointee.descriptor, into: memory, count: count) }
        return receiveSecured(connection, into: memory, count: count)
    }

    /// As `EventLoop.transmit`. What was not taken must be offered again, first thing and unchanged: it may be encrypted already.
    @inline(__always)
    mutating func transmit(to connection: ConnectionPlace, _ memory: UnsafeRawPointer, count: Int) -> Transfer {
        if connection.pointee.secure == nobody {
            return connection.pointee.isMirror ? .moved(count) : EventLoop.transmit(connection.pointee.descriptor, memory, count: count)
        }
        return transfer(secures.at(connection.pointee.secure).pointee.tls.transmit(memory, count: count))
    }

    /// The same for bytes in several pieces; they leave in records as large as may be, not one to each piece.
    @inline(__always)
    mutating func transmit(to connection: ConnectionPlace, _ pieces: UnsafeMutableBufferPointer<iovec>) -> Transfer {
        if connection.pointee.secure == nobody { return EventLoop.transmit(connection.pointee.descriptor, pieces) }
        guard let base = pieces.baseAddress else { return .moved(0) }
        return transfer(secures.at(connection.pointee.secure).pointee.tls.transmit(pieces: base, count: pieces.count))
    }

    @inline(never)
    private mutating func receiveSecured(_ connection: ConnectionPlace, into memory: UnsafeMutableRawPointer, count: Int) -> Transfer {
        let secure = secures.at(connection.pointee.secure)
        secure.pointee.hasMore = false
        let result = secure.pointee.tls.receive(into: memory, count: count)
        switch result {
        case .moved(let moved):
            // Less than was asked for though there is more: the rest is another turn's. An end behind these bytes is told by the next call too.
            if moved < count { secure.pointee.hasMore = !secure.pointee.tls.isDrained }
        case .wantsRead:
            // Half a record and then a FIN may have come in one edge: only another read tells of the FIN.
            secure.pointee.hasMore = !secure.pointee.tls.isDrained || connection.pointee.hasEnded
        case .wantsWrite, .ended, .failed: break
        }
        return transfer(result)
    }

    /// Whether a short read has left something behind.
    @inline(__always) func hasMoreSecured(_ connection: ConnectionPlace) -> Bool {
        connection.pointee.secure != nobody && secures.at(connection.pointee.secure).pointee.hasMore
    }

    private func transfer(_ result: TLSTransfer) -> Transfer {
        switch result {
        case .moved(let count): .moved(count)
        case .wantsRead, .wantsWrite: .wouldBlock
        // Many close without a word; HTTP/2 tells by itself what is whole.
        case .ended, .failed(.truncated): .ended
        case .failed: .failed(ECONNRESET)
        }
    }
}

// The handshake: a stage of its own, in which nothing of the application's moves.
extension Worker {
    /// Begins TLS as a client on a connection that stands. How it ends, `upstreamSecured` or `upstreamNotSecured` hears.
    mutating func beginSecuring(_ connection: ConnectionPlace, _ index: UInt32, _ tls: consuming TLSSession) {
        guard secure(connection, index, tls, isServer: false) else { return upstreamNotSecured(connection, index, .outOfMemory) }
        deadlines.set(index, at: after(milliseconds: limits.handshakeMilliseconds))
        connection.pointee.canRead = true       // it begins with us
        again(connection, index)
    }

    /// A connection for port 15008 waits for its client's first byte; until then it costs its record and nothing else.
    mutating func awaitHandshake(_ connection: ConnectionPlace, _ index: UInt32) {
        connection.pointee.stage = .securing
        deadlines.set(index, at: after(milliseconds: limits.handshakeMilliseconds))
    }

    private mutating func secure(_ connection: ConnectionPlace, _ index: UInt32, _ tls: consuming TLSSession, isServer: Bool) -> Bool {
        guard let token = secures.insert(Secure(tls, isServer: isServer, connection: index)) else { return false }
        connection.pointee.secure = token.index
        connection.pointee.stage = .securing
        chargeHandshake(connection, by: 1)
        return true
    }

    /// The client's first bytes are here: the certificate to show is that of the pod whose address it has called.
    private mutating func beginServing(_ connection: ConnectionPlace, _ index: UInt32) -> Bool {
        guard Int(pods.budgets[Int(connection.pointee.pod)].handshakes) < limits.handshakesPerPodMax else {
            ledger.count(.connectionsRefusedHandshakes)
            reset(connection, index)
            return false
        }
        guard let workload = tables.workload(at: connection.pointee.address),
            let credentials = identities.find(namespace: workload.namespace, serviceAccount: workload.serviceAccount)?.credentials
        else {
            ledger.count(.connectionsRefusedNoIdentity)
            reset(connection, index)
            return false
        }
        guard let tls = TLSSession(server: credentials, descriptor: connection.pointee.descriptor, workspace: identities.workspace),
            secure(connection, index, tls, isServer: true)
        else {
            ledger.count(.connectionsRefusedPodMemory)
            reset(connection, index)
            return false
        }
        return true
    }

    /// One step of the handshake. It may cost half a millisecond, so it ends the pod's turn.
    mutating func serveSecuring(_ connection: ConnectionPlace, _ index: UInt32) {
        guard connection.pointee.canRead else { return }
        if connection.pointee.secure == nobody, !beginServing(connection, index) { return }
        turnIsSpent = true
        switch secures.at(connection.pointee.secure).pointee.tls.handshake(now: unixNow) {
        case .done: secured(connection, index)
        // Any edge sets it again: it may be the socket's room that is waited for.
        case .wantsRead where connection.pointee.hasEnded || !secures.at(connection.pointee.secure).pointee.tls.isDrained: again(connection, index)
        case .wantsRead, .wantsWrite: connection.pointee.canRead = false
        case .failed(let fault): notSecured(connection, index, fault)
        }
    }

    private mutating func secured(_ connection: ConnectionPlace, _ index: UInt32) {
        let secure = secures.at(connection.pointee.secure)
        chargeHandshake(connection, by: -1)
        secure.pointee.began = unixNow
        ledger.countHandshake(isServer: secure.pointee.isServer, isResumed: secure.pointee.tls.isResumed)
        guard let token = callers.insert(ProvenCaller(secure.pointee.tls.peer, own: secure.pointee.tls.ownURI)) else { return reset(connection, index) }
        connection.pointee.caller = token.index
        // What came with the last flight waits inside, and no edge will tell of it.
        connection.pointee.canRead = true
        if !secure.pointee.isServer { return upstreamSecured(connection, index) }
        beginMultiplexing(connection, index)
    }

    private mutating func notSecured(_ connection: ConnectionPlace, _ index: UInt32, _ fault: TLSFault) {
        let isServer = secures.at(connection.pointee.secure).pointee.isServer
        ledger.countHandshake(isServer: isServer, fault: fault)
        if !isServer { return upstreamNotSecured(connection, index, fault) }
        // Our alert is on its way; what the client still says must not turn it into a reset.
        leaveSecure(connection, says: false)
        closeAfterFlush(connection, index, lingers: true)
    }

    /// The handshake has taken too long.
    mutating func securingExpired(_ connection: ConnectionPlace, _ index: UInt32) {
        let isServer = connection.pointee.role == .downstream
        ledger.countHandshakeTimeout(isServer: isServer)
        if isServer { return reset(connection, index) }
        upstreamNotSecured(connection, index, .closed)
    }

    /// TLS ends on this connection; the socket is still there.
    /// - Parameter says: the peer is told (close_notify), if its socket takes it.
    mutating func leaveSecure(_ connection: ConnectionPlace, says: Bool) {
        let place = connection.pointee.secure
        guard place != nobody else { return }
        if secures.at(place).pointee.isUnderWay {
            chargeHandshake(connection, by: -1)
        } else if says && !connection.pointee.isBroken && connection.pointee.output.isEmpty {
            secures.at(place).pointee.tls.close()
        }
        connection.pointee.secure = nobody
        secures.remove(at: place)
    }

    private mutating func chargeHandshake(_ connection: ConnectionPlace, by change: Int) {
        let budget = pods.budgets.base + Int(connection.pointee.pod)
        budget.pointee.handshakes += Int32(truncatingIfNeeded: change)
        budget.pointee.bufferedBytes += change * WorkerSizes.handshakeBytes
        ledger.showBuffered(change * WorkerSizes.handshakeBytes, of: budget.pointee.slot)
        secures.at(connection.pointee.secure).pointee.isUnderWay = change > 0
    }
}
