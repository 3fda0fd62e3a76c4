import CLinux
import EventLoop
import Glibc
import Upstream

/// A pair of connected sockets within this process. What needs a connection of its own, where there is only a stream, gets the near end and sees
/// a connection like any other; the far end is the socket of an opaque tunnel, whose other side is the stream.
struct Bridge {
    /// The place of the end that is used like any connection.
    var near: UInt32
    /// The place of the end that is tied to a CONNECT stream.
    var far: UInt32
}

// HTTP towards a proxy that knows CONNECT and nothing else (HBONE), and from one.
extension Worker {
    /// Both ends, as upstreams that nobody uses yet; nil where descriptors or places are spent. Their roles are the caller's to give.
    mutating func openBridge(pod: UInt32) -> Bridge? {
        guard !shared.isDescriptorBudgetSpent else { return nil }
        var ends: (near: Int32, far: Int32) = (-1, -1)
        guard clinux_stream_pair(&ends.near, &ends.far) == 0 else { return nil }
        guard let near = adoptEnd(ends.near, pod) else {
            close(ends.far)
            return nil
        }
        guard let far = adoptEnd(ends.far, pod) else {
            drop(connections.at(near), near)
            return nil
        }
        connections.at(near).pointee.bridge = far
        connections.at(far).pointee.bridge = near
        return Bridge(near: near, far: far)
    }

    private mutating func adoptEnd(_ descriptor: Int32, _ pod: UInt32) -> UInt32? {
        var end = Connection(descriptor: descriptor, role: .upstream, stage: .relaying, pod: pod)
        end.isOnBridge = true
        guard let token = connections.insert(end) else {
            close(descriptor)
            return nil
        }
        pods.budgets.base[Int(pod)].connections += 1
        shared.socketOpened(on: number)
        guard poller.watch(descriptor, as: token) else {
            drop(connections.at(token.index), token.index)
            return nil
        }
        return token.index
    }

    // MARK: Towards an endpoint

    /// The exchange's connection is the near end; it counts as connecting until the stream at the far end is answered.
    mutating func bridgeUpstream(_ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace) {
        guard let bridge = openBridge(pod: connection.pointee.pod) else { return fail(number, .noSocket(errno: EMFILE)) }
        exchange.pointee.reach = .connecting
        setDeadline(exchange, number, milliseconds: connection.pointee.hasEnded ? limits.halfClosedMilliseconds : limits.replyMilliseconds)
        let near = connections.at(bridge.near)
        near.pointee.stage = .connecting
        near.pointee.exchange = number
        near.pointee.address = exchange.pointee.target.address
        near.pointee.port = exchange.pointee.target.port
        near.pointee.pool = pools.join(poolKey(exchange.pointee.target, callingPod: connection.pointee.pod))
        exchange.pointee.upstream = bridge.near
        leadOn(bridge.far, exchange.pointee.target)
    }

    /// The same for a session that is opened.
    mutating func bridgeSession(_ place: UInt32) {
        let session = sessions.at(place)
        guard let bridge = openBridge(pod: session.pointee.pod) else { return abandonOpening(place, .noSocket(errno: EMFILE)) }
        let near = connections.at(bridge.near)
        near.pointee.stage = .connecting
        near.pointee.address = session.pointee.target.address
        near.pointee.port = session.pointee.target.port
        giveConnection(place, near, bridge.near)
        leadOn(bridge.far, session.pointee.target)
    }

    /// Ties the far end to a CONNECT stream towards the target, as if it were a client whose bytes nobody understands.
    private mutating func leadOn(_ far: UInt32, _ target: Target) {
        let connection = connections.at(far)
        connection.pointee.role = .downstream
        connection.pointee.address = target.address
        connection.pointee.port = target.port
        guard let token = exchanges.insert(Exchange(downstream: far, isRelay: true)) else {
            preconditionFailure("there are as many places for exchanges as for connections, and each has one at most")
        }
        let exchange = exchanges.at(token.index)
        connection.pointee.exchange = token.index
        exchange.pointee.started = now
        exchange.pointee.hasBody = true
        exchange.pointee.attempts = 1
        exchange.pointee.account.isBridge = true
        exchange.pointee.target = target
        exchange.pointee.target.wire = .secure
        requestStream(token.index, exchange, connection, .unsent)
    }

    /// The stream at the far end is answered: the near end is connected.
    mutating func bridgeOpened(_ far: ConnectionPlace) {
        let near = connections.at(far.pointee.bridge)
        near.pointee.bridgeIsOpen = true
        again(near, far.pointee.bridge)
    }

    /// There is nothing at the far end: whoever has the near one hears why.
    mutating func bridgeFailed(_ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace, _ refusal: Refusal) {
        let far = exchange.pointee.downstream, place = connection.pointee.bridge
        releaseUpstream(exchange, mayRest: false)
        end(number, exchange, connection)
        drop(connection, far)
        guard place != nobody else { return }
        let near = connections.at(place)
        guard near.pointee.stage == .connecting else { return }
        if near.pointee.session != nobody {
            if case .upstream(let failure) = refusal { return dropSession(near, place, .failed(failure)) }
            return dropSession(near, place, .failed(.noSocket(errno: EAGAIN)))
        }
        if case .upstream(let failure) = refusal { fail(near.pointee.exchange, failure) } else { answer(near.pointee.exchange, refusal) }
    }
}
