import EventLoop
import MeshModel
import Routing

/// Ports that Weft itself listens on inside pod namespaces (DESIGN §6).
enum WeftPorts {
    static func isInPods(_ port: UInt16) -> Bool { port == 15001 || port == 15006 || port == 15008 }
}

// Step 2 of the journey: the original destination, and what the mesh knows about it, decide how the bytes will be read.
extension Worker {
    mutating func claim(_ connection: ConnectionPlace, _ index: UInt32) {
        guard let wanted = KernelOriginalDestinations.claim(connection.pointee.descriptor, connection.pointee.listener) else {
            // Someone connected to the listener itself. There is nowhere to go.
            ledger.count(.connectionsRefusedNoDestination)
            reset(connection, index)
            return
        }
        connection.pointee.address = wanted.address
        connection.pointee.port = wanted.port
        if isOurOwn(wanted, connection) {
            ledger.count(.connectionsRefusedOwnPort)
            reset(connection, index)
            return
        }
        switch hint(for: connection) {
        case .http1:
            connection.pointee.speaksHTTP = true
            connection.pointee.stage = .awaitingHead
            deadlines.set(index, at: after(milliseconds: limits.idleMilliseconds))
        case .tcp, .tls:
            // HTTP/2 passes as opaque bytes until Weft speaks it.
            beginRelay(connection, index)
        case .undeclared, .http2, .grpc:
            connection.pointee.stage = .detecting
            deadlines.set(index, at: after(milliseconds: limits.detectionMilliseconds))
        }
    }

    /// Weft's own listeners in a pod are not destinations: forwarding to one would come back to us.
    private func isOurOwn(_ wanted: OriginalDestination, _ connection: ConnectionPlace) -> Bool {
        guard WeftPorts.isInPods(wanted.port) else { return false }
        return connection.pointee.listener.isInbound || pods.place(at: wanted.address) != nil
    }

    /// What was declared about the port the connection wanted. Inbound it is the service port in front of the pod's own.
    private func hint(for connection: ConnectionPlace) -> ProtocolHint {
        switch tables.resolve(address: connection.pointee.address, port: connection.pointee.port) {
        case .service(let service): service.port.protocolHint
        case .workload(_, let behind): behind?.port.protocolHint ?? .undeclared
        case .unknownPort, .unknown: .undeclared
        }
    }
}
