import MeshModel
import Routing
import Telemetry

// Step 3 of the journey, for those who look on: what a connection was taken for, and why, is counted for its service and port.
extension Worker {
    /// Counts the decision about a downstream connection: once, when it has fallen.
    func decided(_ connection: ConnectionPlace, _ spoken: DecidedProtocol, _ reason: DecisionReason) {
        let asked = connection.pointee.port
        switch tables.resolve(address: connection.pointee.address, port: asked) {
        case .service(let service), .workload(_, let service?):
            ledger.decided(spoken, reason, service: service.service, port: service.port.number, tables.generation)
        case .workload(_, nil), .unknownPort, .unknown:
            ledger.decided(spoken, reason, service: nil, port: asked, tables.generation)
        }
    }
}
