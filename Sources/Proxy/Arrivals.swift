import EventLoop
import HTTPCodec
import MutualTLS
import Routing
import Telemetry

/// Why a stream on port 15008 is nobody's request: it is refused before anything is routed.
enum ArrivalFault {
    /// It asks for another pod: this door is no relay.
    case foreignDestination
    /// It asks for a name; nothing is resolved here.
    case namedDestination
    /// It asks for a port of Weft's own.
    case ownPort
    case malformedDestination
    /// A request without word of where to.
    case missingDestination
    /// A peer that speaks HBONE may only CONNECT.
    case notConnect

    var status: Int {
        switch self {
        case .foreignDestination, .namedDestination, .ownPort: 403
        case .malformedDestination, .missingDestination: 400
        case .notConnect: 405
        }
    }

    var reason: StaticString {
        switch self {
        case .foreignDestination: "foreign-destination"
        case .namedDestination: "named-destination"
        case .ownPort: "own-port"
        case .malformedDestination: "malformed-destination"
        case .missingDestination: "missing-destination"
        case .notConnect: "not-connect"
        }
    }

    var counter: Counter {
        switch self {
        case .foreignDestination: .connectForeignDestination
        case .namedDestination: .connectNamedDestination
        case .ownPort: .connectOwnPort
        case .malformedDestination: .connectMalformedDestination
        case .missingDestination: .connectMissingDestination
        case .notConnect: .connectNotConnect
        }
    }
}

/// What a stream on port 15008 is.
enum Arrival {
    /// A request, which another Weft proxy has judged and sent on.
    case request(WireDestination)
    /// A connection to this port of the pod, opaque to the wire; or HTTP in a connection of its own, from a Weft proxy that says so.
    case tunnel(port: UInt16, isHTTP: Bool)
    case refused(ArrivalFault)
}

// Step 7 of the journey, over mutual TLS: whoever calls has proven its identity; where it wants to go each stream says for itself, and it may go
// to the applications of this one pod.
extension Worker {
    /// Judges the head in the worker's head, decoded from `bytes`.
    func arrival(_ bytes: UnsafeRawBufferPointer, _ connection: ConnectionPlace, _ wire: TLSProtocol) -> Arrival {
        let (count, text) = onlyValue(.weftDestination, bytes)
        if head.method == .connect, wire == .hbone || count == 0 { return tunnel(to: head.authority.of(bytes), connection, isHTTP: false) }
        guard wire == .weft else { return .refused(.notConnect) }
        guard count > 0 else { return .refused(.missingDestination) }
        guard count == 1, let destination = WireDestination(text) else { return .refused(.malformedDestination) }
        // An application's own CONNECT is a request like any other.
        if destination.spoken == .bridge {
            guard head.method == .connect else { return .refused(.malformedDestination) }
            return tunnel(to: head.authority.of(bytes), connection, isHTTP: true)
        }
        return WeftPorts.isInPods(destination.port) ? .refused(.ownPort) : .request(destination)
    }

    private func tunnel(to authority: UnsafeRawBufferPointer, _ connection: ConnectionPlace, isHTTP: Bool) -> Arrival {
        switch TunnelTarget(authority: authority) {
        case .malformed: .refused(.malformedDestination)
        case .name: .refused(.namedDestination)
        case .address(let address, _) where address != connection.pointee.address: .refused(.foreignDestination)
        case .address(_, let port): WeftPorts.isInPods(port) ? .refused(.ownPort) : .tunnel(port: port, isHTTP: isHTTP)
        }
    }

    private func onlyValue(_ known: KnownField, _ bytes: UnsafeRawBufferPointer) -> (count: Int, value: UnsafeRawBufferPointer) {
        var count = 0, value = UnsafeRawBufferPointer(start: nil, count: 0)
        for row in 0..<head.fieldCount where head.field(row).id == known {
            count += 1
            value = head.field(row).value.of(bytes)
        }
        return (count, value)
    }

    /// The stream gets its answer, and nothing of it goes anywhere.
    mutating func refuseArrival(
        _ stream: Int32, _ fault: ArrivalFault, _ connection: ConnectionPlace, _ index: UInt32, _ session: SessionPlace
    ) {
        ledger.count(fault.counter)
        ledger.recordRefused(
            connection, status: UInt16(fault.status), tables, caller: callerAddress(of: connection, like: connection.pointee.address))
        session.pointee.codec.submitReply(stream, Reply(status: fault.status, reason: fault.reason, keepsAlive: true))
        // Whoever goes on behind the answer is stopped, as with any other that comes before the end of its request.
        deadlines.set(index, at: after(milliseconds: limits.answeredMilliseconds))
        again(connection, index)
    }
}
