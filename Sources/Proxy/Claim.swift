import EventLoop
import MeshModel
import Routing

/// Ports that Weft itself listens on inside pod namespaces (DESIGN §6).
enum WeftPorts {
    /// Where the proxy of a meshed pod takes mutual TLS.
    static let mutualTLS: UInt16 = 15008

    static func isInPods(_ port: UInt16) -> Bool { port == 15001 || port == 15006 || port == mutualTLS }
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
        if connection.pointee.listener.isInbound {
            if wanted.port == WeftPorts.mutualTLS { return awaitHandshake(connection, index) }
            if refusesPlaintext(connection) { return reset(connection, index) }
        }
        beginDetecting(connection, index)
    }

    /// Where the connection wants to go is known: what was declared about that decides how its first bytes are read.
    mutating func beginDetecting(_ connection: ConnectionPlace, _ index: UInt32) {
        connection.pointee.stage = .detecting
        let hint = hint(for: connection)
        switch hint {
        case .http1, .http2, .grpc:
            // Which HTTP is the client's choice (RFC 9113, 3.3): what was declared is what the server speaks.
            connection.pointee.speaksHTTP = true
            deadlines.set(index, at: after(milliseconds: limits.idleMilliseconds))
        case .tls where asksForName(connection):
            deadlines.set(index, at: after(milliseconds: limits.detectionMilliseconds))
        case .tcp, .tls:
            decided(connection, hint == .tls ? .tls : .tcp, .declared)
            beginRelay(connection, index)
        case .undeclared:
            deadlines.set(index, at: after(milliseconds: limits.detectionMilliseconds))
            recallServerFirst(connection, index)
        }
    }

    /// Weft's own listeners in a pod are not destinations: forwarding to one would come back to us.
    private func isOurOwn(_ wanted: OriginalDestination, _ connection: ConnectionPlace) -> Bool {
        guard WeftPorts.isInPods(wanted.port) else { return false }
        if connection.pointee.listener.isInbound { return wanted.port != WeftPorts.mutualTLS }
        return pods.place(at: wanted.address) != nil
    }

    /// Whether the client's own word for where it wants to go is asked: only where the address says nothing, or names one pod of a headless service.
    func asksForName(_ connection: ConnectionPlace) -> Bool {
        if connection.pointee.listener.isInbound { return false }
        return switch tables.resolve(address: connection.pointee.address, port: connection.pointee.port) {
        case .service, .unknownPort: false
        case .workload(_, let behind): behind?.service.isHeadless == true
        case .unknown: true
        }
    }

    /// What was declared about the port the connection wanted. Inbound it is the service port in front of the pod's own.
    func hint(for connection: ConnectionPlace) -> ProtocolHint {
        switch tables.resolve(address: connection.pointee.address, port: connection.pointee.port) {
        case .service(let service): service.port.protocolHint
        case .workload(_, let behind): behind?.port.protocolHint ?? .undeclared
        case .unknownPort, .unknown: .undeclared
        }
    }
}
