import CLinux
import ControlChannel
import EventLoop
import Glibc
import HTTPCodec
import Telemetry
import Upstream

// Step 6 of the journey, when no session has a stream left: one more is opened for all who wait, the way a connection is (Connect).
extension Worker {
    /// Marks the tokens by which sessions wait for a socket; no exchange has a place so high.
    private static let sessionMark: UInt32 = 1 << 31

    mutating func openSession(_ target: Target, pod: UInt32, _ key: PoolKey, isDeclared: Bool) {
        // Those who wait meet their deadlines, or whoever comes next asks again.
        guard let codec = HTTP2Session(.client, workspace, now: now) else { return ledger.count(.http2SessionsRefusedUpstream) }
        var fresh = Session(codec, isServer: false, connection: nobody, now: now)
        fresh.target = target
        fresh.pod = pod
        fresh.isDeclared = isDeclared || target.wire == .secure
        // There are as many places as for connections; those who wait meet their deadlines.
        guard let token = sessions.insert(fresh) else { return }
        sessionTable.open(token.index, key)
        if target.wire == .bridged { return bridgeSession(token.index) }
        if target.wire == .secure, identity(of: pod, like: target.address)?.credentials == nil {
            // The pod's first certificate may be on its way.
            sessions.at(token.index).pointee.awaitsIdentity = true
            return
        }
        findSocket(token)
    }

    /// Those who have waited for this opening were more than it can serve, and none of them comes again to ask for another.
    mutating func openAnother(_ place: UInt32, _ session: SessionPlace) {
        // How many it serves, only its SETTINGS tell.
        guard sessionTable.hasWaiters(place), session.pointee.codec.hasHeardSettings else { return }
        let key = sessionTable.key(of: place)
        if sessionTable.wantsOpening(key, now: now) { openSession(session.pointee.target, pod: session.pointee.pod, key, isDeclared: session.pointee.isDeclared) }
    }

    mutating func findSocket(_ token: Token) {
        let shelf = shelf(for: sessions.at(token.index).pointee.target)
        if let socket = stock.take(shelf, now: now) {
            connectSession(token.index, socket)
        } else {
            stock.wait(Token(index: token.index | Self.sessionMark, generation: token.generation), at: shelf)
        }
        refill(shelf)
    }

    /// Once a second: openings for which the node has made no socket in time, or the authority no certificate, are given up, as an exchange's would be.
    mutating func abandonUnmadeSessions() {
        guard sessionTable.opening > 0 else { return }
        var place: UInt32 = 0
        while place < sessions.highWater {
            if sessions.isOccupied(place) {
                let session = sessions.at(place)
                if !session.pointee.isServer, session.pointee.connection == nobody, isPast(session.pointee.idleSince, milliseconds: limits.connectMilliseconds) {
                    abandonOpening(place, session.pointee.awaitsIdentity ? .noIdentity : .noSocket(errno: ETIMEDOUT))
                }
            }
            place += 1
        }
    }

    /// The session's place, if that is whose token it is and it still waits for a socket.
    func sessionWaiting(_ waiter: Token) -> UInt32? {
        guard waiter.index & Self.sessionMark != 0 else { return nil }
        let token = Token(index: waiter.index & ~Self.sessionMark, generation: waiter.generation)
        guard let session = sessions.find(token), session.pointee.connection == nobody else { return nil }
        return token.index
    }

    mutating func connectSession(_ place: UInt32, _ socket: Int32) {
        ledger.count(.stockTaken)
        let session = sessions.at(place)
        let target = session.pointee.target
        if let source = target.source {
            var address = source.socketAddress(port: 0)
            let result = clinux_bind_as_client(socket, &address)
            if result != 0 {
                close(socket)
                return abandonOpening(place, .connect(errno: -result))
            }
        }
        var address = target.address.socketAddress(port: target.wirePort)
        let result = clinux_connect(socket, &address)
        guard result == 0 || result == -EINPROGRESS else {
            close(socket)
            return abandonOpening(place, .connect(errno: -result))
        }
        var upstream = Connection(descriptor: socket, role: .upstream, stage: .connecting, pod: session.pointee.pod)
        upstream.session = place
        upstream.address = target.address
        upstream.port = target.wirePort
        guard let token = connections.insert(upstream) else {
            close(socket)
            return abandonOpening(place, .noSocket(errno: EMFILE))
        }
        let connection = connections.at(token.index)
        giveConnection(place, connection, token.index)
        pods.budgets.base[Int(session.pointee.pod)].connections += 1
        shared.socketOpened(on: number)
        ledger.count(.upstreamConnects)
        clinux_no_delay(socket)
        guard poller.watch(socket, as: token) else { return dropSession(connection, token.index, .failed(.noSocket(errno: ENOSPC))) }
        deadlines.set(token.index, at: after(milliseconds: limits.connectMilliseconds))
    }

    /// From here on the session ends with this connection.
    mutating func giveConnection(_ place: UInt32, _ connection: ConnectionPlace, _ index: UInt32) {
        sessions.at(place).pointee.connection = index
        connection.pointee.session = place
        connection.pointee.pool = pools.join(sessionTable.key(of: place))
        ledger.count(.http2SessionsUpstream)
        ledger.raise(.http2SessionsOpenUpstream)
    }

    /// The kernel has reported the connecting socket: the session speaks, or has failed.
    mutating func finishSessionConnect(_ connection: ConnectionPlace, _ index: UInt32) {
        if connection.pointee.isBroken {
            let code = clinux_socket_error(connection.pointee.descriptor)
            return dropSession(connection, index, .failed(.connect(errno: code == 0 ? ECONNREFUSED : code)))
        }
        if connection.pointee.isOnBridge && !connection.pointee.bridgeIsOpen { return }
        let place = connection.pointee.session
        if sessions.at(place).pointee.target.wire == .secure { return secureSession(connection, index, sessions.at(place)) }
        connection.pointee.stage = .multiplexing
        deadlines.set(index, at: after(milliseconds: limits.connectMilliseconds))
        if sessions.at(place).pointee.isDeclared { sessionOpened(place) }
        serveSession(connection, index)
    }

    /// From here on the session takes streams.
    mutating func sessionOpened(_ place: UInt32) {
        let session = sessions.at(place)
        sessionTable.opened(place, streamsMax: session.pointee.codec.hasHeardSettings ? session.pointee.codec.peerMaxStreams : nil)
        serveWaiters(place)
    }

    /// The session got no connection.
    mutating func abandonOpening(_ place: UInt32, _ failure: UpstreamFailure) {
        sessions.at(place).pointee.ending = .failed(failure)
        // It has no stream yet, so this is all of it.
        _ = endUpstreamSession(place)
    }

    /// Closes the session's connection, for a reason of ours.
    mutating func dropSession(_ connection: ConnectionPlace, _ index: UInt32, _ ending: SessionEnding) {
        guard connection.pointee.session != nobody else { return drop(connection, index) }
        sessions.at(connection.pointee.session).pointee.ending = ending
        drop(connection, index)
    }
}
