import EventLoop
import MeshModel
import Routing
import Telemetry

/// Why a call is refused. Which rule said so stands in the log; the caller is not told.
enum AccessFault {
    /// A rule denies it.
    case rule
    /// Some rules allow calls, and none this one.
    case noRule
    /// A rule asks for something that only HTTP has, and this is not HTTP.
    case notHTTP
    /// A rule asks for the path, and this one may mean another to the application.
    case ambiguousPath
    /// The identity was revoked.
    case revoked

    var reason: StaticString {
        switch self {
        case .rule, .noRule, .revoked: "access-denied"
        case .notHTTP: "access-needs-http"
        case .ambiguousPath: "ambiguous-path"
        }
    }

    var counter: Counter {
        switch self {
        case .rule: .accessRefusedRule
        case .noRule: .accessRefusedNoRule
        case .notHTTP: .accessRefusedNotHTTP
        case .ambiguousPath: .accessRefusedAmbiguousPath
        case .revoked: .accessRefusedRevoked
        }
    }
}

// Between steps 5 and 6 of the journey, on the destination's side: who calls, and whether it may. One place asks, `dispatch`, when the endpoint
// is known and nothing has been leased or opened; what reaches an application in another way calls `mayConnect`.
extension Worker {
    /// Who is at the other end of a downstream connection.
    func caller(of connection: ConnectionPlace) -> Caller {
        if connection.pointee.caller != nobody {
            let proven = callers.at(connection.pointee.caller)
            return Caller(
                trustDomain: proven.pointee.trustDomain, namespace: proven.pointee.namespace, serviceAccount: proven.pointee.serviceAccount)
        }
        guard !connection.pointee.listener.isInbound else { return .unauthenticated }
        // The kernel says in which pod's namespace the socket was made, and the snapshot who that pod is.
        guard let own = pods.anyAddress(of: connection.pointee.pod), let workload = tables.workload(at: own) else { return .unauthenticated }
        return Caller(trustDomain: tables.trustDomain, namespace: workload.namespace, serviceAccount: workload.serviceAccount)
    }

    /// Whether a plaintext connection from outside must be refused because its destination is strict. Counted.
    func refusesPlaintext(_ connection: ConnectionPlace) -> Bool {
        guard connection.pointee.listener.isInbound, tables.workload(at: connection.pointee.address)?.isStrict == true else { return false }
        ledger.count(.connectionsRefusedPlaintext)
        return true
    }

    /// Whether opaque bytes of a connection may reach (address, port). False: counted and noted; the caller closes, or answers 403.
    func mayConnect(_ connection: ConnectionPlace, to address: IPAddress, port: UInt16) -> Bool { true }

    /// Whether the exchange may go to its target, which was chosen just now.
    func mayDispatch(_ number: UInt32, _ connection: ConnectionPlace) -> Bool { true }
}
