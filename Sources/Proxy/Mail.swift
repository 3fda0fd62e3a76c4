import EventLoop
import Glibc
import MeshModel
import Telemetry
import Upstream

// Letters from the control thread and from other workers, read between turns on the worker's own thread.
extension Worker {
    mutating func collectMail() {
        let box = shared.mailboxes[number]
        var letters: [WorkerMessage] = []
        box.collect { letters.append($0) }
        var credentialsChanged = false
        for letter in letters {
            switch letter {
            case .podAdded(let number, let slot, let addresses): admitPod(number, slot, addresses)
            case .podRemoved(let number): dismissPod(number)
            case .listener(let descriptor, let podNumber, let isInbound, let readsSocketName, let isIPv6):
                addListener(descriptor, podNumber, ListenerKind(isInbound: isInbound, readsSocketName: readsSocketName, isIPv6: isIPv6))
            case .handedOver(let connection): receive(connection)
            case .probe(let probe): carry(probe)
            case .tablesPublished: nextHousekeeping = now       // entered at the next turn, which this letter has caused, and then shown
            case .identity(let letter):
                identities.install(letter)
                credentialsChanged = true
            case .revocations(let list):
                identities.install(list)
                credentialsChanged = true
                beginRevocationWalk()
            case .rootsChanged:
                identities.rootsChanged()
                credentialsChanged = true
            case .drain(let until): beginDrain(until)
            }
        }
        if credentialsChanged { identitiesChanged() }
    }

    private mutating func admitPod(_ number: UInt32, _ slot: PodSlot?, _ addresses: [IPAddress]) {
        guard let place = pods.admit(number: number, slot: slot, addresses: addresses) else { return }
        scheduler.admit(flow: Self.flow(of: place, isApart: true))
    }

    private mutating func addListener(_ descriptor: Int32, _ podNumber: UInt32, _ kind: ListenerKind) {
        guard let pod = pods.place(numbered: podNumber) else {
            close(descriptor)
            return
        }
        var listener = Connection(descriptor: descriptor, role: .listener, stage: .accepting, pod: pod)
        listener.listener = kind
        guard let token = connections.insert(listener), poller.watchShared(descriptor, as: token) else {
            close(descriptor)
            return
        }
        pods.addListener(token.index, at: pod)
    }

    /// The pod is gone. Everything of ours inside its namespace would keep that namespace alive, so all of it closes.
    private mutating func dismissPod(_ podNumber: UInt32) {
        guard let pod = pods.place(numbered: podNumber) else { return }
        for listener in pods.dismiss(pod) { drop(connections.at(listener), listener) }
        for waiter in stock.remove(pod: podNumber) { gotNoSocket(waiter, errno: ENOENT) }
        var index: UInt32 = 0
        while index < connections.highWater {
            if connections.isOccupied(index) { part(connections.at(index), index, fromPod: pod) }
            index += 1
        }
        pods.recycle(pod)
    }

    private mutating func part(_ connection: ConnectionPlace, _ index: UInt32, fromPod pod: UInt32) {
        switch connection.pointee.role {
        case .listener: break
        case .downstream:
            guard connection.pointee.pod == pod, connection.pointee.stage != .dead else { return }
            if connection.pointee.exchange != nobody { cancel(connection.pointee.exchange) }
            reset(connection, index)
        case .upstream:
            guard connection.pointee.stage != .dead else { return }
            if connection.pointee.exchange != nobody {
                guard exchanges.at(connection.pointee.exchange).pointee.target.socketPod == pod else { return }
                answer(connection.pointee.exchange, .upstream(.endedInReply))
            } else if connection.pointee.pool != nobody {
                let key = pools.key(of: connection.pointee.pool)
                if key.namespacePod == pod || key.callingPod == pod {
                    ledger.count(connection.pointee.session == nobody ? .upstreamRetiredPodGone : .http2RetiredPodGone)
                    drop(connection, index)
                }
            } else if connection.pointee.pod == pod {
                // It has lost its exchange, and what was said in it is still on its way.
                reset(connection, index)
            }
        }
    }

    /// Accept nothing more; answer what is under way; tell keep-alive clients with their next reply; end at the deadline.
    private mutating func beginDrain(_ until: Nanoseconds) {
        drainUntil = until
        for listener in pods.allListeners() { drop(connections.at(listener), listener) }
        var index: UInt32 = 0
        while index < connections.highWater {
            if connections.isOccupied(index) {
                let connection = connections.at(index)
                switch connection.pointee.stage {
                case .idle: drop(connection, index)
                case .multiplexing: if connection.pointee.role == .downstream { drainSession(connection, index) }
                case .awaitingHead:
                    // At rest between requests: closing now is what its client must expect at any time (RFC 9112, 9.6).
                    if connection.pointee.input.isEmpty && !connection.pointee.canRead && connection.pointee.output.isEmpty { drop(connection, index) }
                default: break
                }
            }
            index += 1
        }
        nextHousekeeping = now
    }
}
