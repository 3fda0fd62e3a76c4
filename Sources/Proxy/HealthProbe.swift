import CLinux
import EventLoop
import Glibc
import MeshModel
import Telemetry

/// One question to an endpoint, for a worker to carry: its own end of a pair of sockets, and from whose namespace it is asked.
struct HealthProbe: Sendable {
    var descriptor: Int32
    var podNumber: UInt32
    var address: IPAddress
    var port: UInt16
    /// Only that a connection can be made.
    var isOpaque: Bool
}

// A health check's question is a connection of the pod like any other, but that nobody in the pod has opened it: it goes as its requests go, by
// mutual TLS where theirs do and under the same policies. It is in no account but its pod's budgets.
extension Worker {
    mutating func carry(_ probe: HealthProbe) {
        guard drainUntil == nil, !shared.isDescriptorBudgetSpent, let pod = pods.place(numbered: probe.podNumber), pods.budgets[Int(pod)].isPresent,
            !isOverBudget(pod), Int(pods.budgets[Int(pod)].connections) < limits.connectionsPerPodMax
        else {
            close(probe.descriptor)
            return
        }
        var fresh = Connection(descriptor: probe.descriptor, role: .downstream, stage: .detecting, pod: pod)
        fresh.isProbe = true
        fresh.address = probe.address
        fresh.port = probe.port
        guard let token = connections.insert(fresh) else {
            close(probe.descriptor)
            return
        }
        let connection = connections.at(token.index)
        pods.budgets.base[Int(pod)].connections += 1
        shared.connectionOpened(on: number)
        shared.socketOpened(on: number)
        ledger.connectionOpened(isInbound: false, of: pods.budgets[Int(pod)].slot)
        guard poller.watch(probe.descriptor, as: token) else { return drop(connection, token.index) }
        if probe.isOpaque { beginRelay(connection, token.index) } else { beginDetecting(connection, token.index) }
        charge(connection)
    }

    /// The connection that was to be made has been made: whoever asked hears a byte.
    @inline(__always)
    mutating func tellProbe(_ exchange: ExchangePlace) {
        guard connections.at(exchange.pointee.downstream).pointee.isProbe else { return }
        var word: UInt8 = 0x2B
        _ = EventLoop.transmit(connections.at(exchange.pointee.downstream).pointee.descriptor, &word, count: 1)
    }
}
