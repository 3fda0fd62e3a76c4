import CLinux
import EventLoop
import Glibc
import MeshModel
import Telemetry

// Step 2 of the journey: a connection that the hooks pointed at a pod's listener becomes ours.
extension Worker {
    /// Takes a bounded number of connections: the rest stays in the backlog, and the listener, being level-triggered, reports again.
    mutating func acceptSome(_ listener: ConnectionPlace, _ index: UInt32) {
        var taken = 0
        while taken < (isShared ? WorkerSizes.acceptsPerTurnShared : WorkerSizes.acceptsPerTurn) {
            var peer = clinux_address()
            let descriptor = clinux_accept(listener.pointee.descriptor, &peer)
            guard descriptor >= 0 else {
                // EAGAIN: another worker was faster, or all are taken. A client that gave up (ECONNABORTED) is no reason to stop.
                if descriptor == -ECONNABORTED { continue }
                if descriptor == -EMFILE || descriptor == -ENFILE { ledger.count(.connectionsRefusedDescriptors) }
                return
            }
            taken += 1
            let podNumber = pods.budgets[Int(listener.pointee.pod)].number
            if let other = shared.lessLoaded(than: number) {
                let kind = listener.pointee.listener
                shared.mailboxes[other].post(
                    .handedOver(HandedOver(
                        descriptor: descriptor, podNumber: podNumber, listener: (kind.isInbound, kind.readsSocketName, kind.isIPv6), peer: IPAddress(peer))))
                ledger.count(.connectionsHandedOver)
            } else {
                adopt(descriptor, pod: listener.pointee.pod, listener.pointee.listener, peer: IPAddress(peer))
            }
        }
    }

    mutating func receive(_ handed: HandedOver) {
        guard let pod = pods.place(numbered: handed.podNumber), pods.budgets[Int(pod)].isPresent else {
            close(handed.descriptor)
            return
        }
        let (isInbound, readsSocketName, isIPv6) = handed.listener
        adopt(handed.descriptor, pod: pod, ListenerKind(isInbound: isInbound, readsSocketName: readsSocketName, isIPv6: isIPv6), peer: handed.peer)
    }

    /// Gives the connection a place and finds out where it wants to go.
    private mutating func adopt(_ descriptor: Int32, pod: UInt32, _ kind: ListenerKind, peer: IPAddress) {
        let budget = pods.budgets.base + Int(pod)
        // Over its budget a pod's connection is refused at once (a reset, not a timeout), whatever it would have spoken.
        guard Int(budget.pointee.connections) < limits.connectionsPerPodMax else { return turnAway(descriptor, .connectionsRefusedPodConnections) }
        guard !isOverBudget(pod) else { return turnAway(descriptor, .connectionsRefusedPodMemory) }
        guard !shared.isDescriptorBudgetSpent, drainUntil == nil else { return turnAway(descriptor, .connectionsRefusedDescriptors) }
        var fresh = Connection(descriptor: descriptor, role: .downstream, stage: .detecting, pod: pod)
        fresh.listener = kind
        fresh.peer = peer
        guard let token = connections.insert(fresh) else { return turnAway(descriptor, .connectionsRefusedDescriptors) }
        let connection = connections.at(token.index)
        budget.pointee.connections += 1
        shared.connectionOpened(on: number)
        shared.socketOpened(on: number)
        ledger.connectionOpened(isInbound: kind.isInbound, of: budget.pointee.slot)
        clinux_no_delay(descriptor)
        guard poller.watch(descriptor, as: token) else {
            drop(connection, token.index)
            return
        }
        claim(connection, token.index)
        charge(connection)
    }

    private func turnAway(_ descriptor: Int32, _ counter: Counter) {
        clinux_reset_on_close(descriptor)
        close(descriptor)
        ledger.count(counter)
    }
}
