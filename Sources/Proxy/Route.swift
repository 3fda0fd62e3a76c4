import Bytes
import EventLoop
import Glibc
import HTTPCodec
import MeshModel
import Routing
import Telemetry

/// Where a request or connection may go, within this turn.
enum Route {
    /// Any ready endpoint of a service port.
    case service(ServiceDestination)
    /// The address it asked for, whatever the mesh knows about it.
    case address(behind: ServiceDestination?)
    /// The service has no such port: nothing listens there.
    case noSuchPort
}

// Step 5 of the journey: the service, then the endpoint.
extension Worker {
    /// What the address says; a Host header is asked only where the address says nothing, or names one pod of a headless service.
    func route(_ exchange: ExchangePlace, _ connection: ConnectionPlace, host: UnsafeRawBufferPointer) -> Route {
        let address = connection.pointee.address, port = wantedPort(exchange, connection)
        if connection.pointee.listener.isInbound { return .address(behind: tables.serviceBehind(address: address, port: port)) }
        switch tables.resolve(address: address, port: port) {
        case .service(let service): return .service(service)
        case .unknownPort: return .noSuchPort
        case .workload, .unknown: break
        }
        let callers = tables.workload(at: callerAddress(of: connection, like: address))?.namespace ?? UnsafeRawBufferPointer(start: nil, count: 0)
        switch tables.resolve(address: address, port: port, host: host, clientNamespace: callers) {
        case .service(let service): return .service(service)
        case .workload(_, let behind): return .address(behind: behind)
        case .unknownPort: return .noSuchPort
        case .unknown: return .address(behind: nil)
        }
    }

    /// The port that the exchange's client has asked for.
    @inline(__always) func wantedPort(_ exchange: ExchangePlace, _ connection: ConnectionPlace) -> UInt16 {
        exchange.pointee.port == 0 ? connection.pointee.port : exchange.pointee.port
    }

    /// The calling pod's own address: outbound connections reach us over loopback, so their peer address says nothing.
    func callerAddress(of connection: ConnectionPlace, like model: IPAddress) -> IPAddress {
        if connection.pointee.listener.isInbound { return connection.pointee.peer }
        return pods.address(of: connection.pointee.pod, like: model) ?? pods.anyAddress(of: connection.pointee.pod) ?? connection.pointee.peer
    }

    /// The text that `x-forwarded-for` gets. Inbound from a meshed pod, its own proxy has written it already.
    func describePeer(_ connection: ConnectionPlace, _ text: inout AddressText) {
        let caller = callerAddress(of: connection, like: connection.pointee.address)
        if connection.pointee.listener.isInbound, let workload = tables.workload(at: caller), workload.isMeshed { return }
        text.write(caller)
    }

    /// Picks where this attempt goes. False when there is no endpoint (left) to try.
    /// - Parameter mayRepeat: whether the endpoint tried before may be tried again when there is no other: right after a connection that had
    ///   merely come of age, wrong after a refused connect.
    mutating func aim(_ exchange: ExchangePlace, _ connection: ConnectionPlace, _ route: Route, mayRepeat: Bool) -> Bool {
        switch route {
        case .noSuchPort: return false
        case .address(let behind):
            guard exchange.pointee.attempts == 0 || mayRepeat else { return false }
            let port = wantedPort(exchange, connection)
            exchange.pointee.target = Target(address: connection.pointee.address, port: port)
            // A health check is judged by whoever asked.
            if let behind, !connection.pointee.isProbe, let place = behind.port.place(of: connection.pointee.address, port: port) {
                exchange.pointee.target.slot = behind.slot(at: place)
                exchange.pointee.lease = Lease(on: behind.state(at: place))
            }
        case .service(let service):
            guard let place = stuckPlace(exchange, service) ?? pick(service, exchange, connection, mayRepeat: mayRepeat) else { return false }
            let endpoint = service.endpoint(at: place)
            exchange.pointee.target = Target(address: endpoint.address, port: endpoint.port)
            exchange.pointee.target.slot = service.slot(at: place)
            exchange.pointee.lease = Lease(on: service.state(at: place), total: exchange.pointee.hash == 0 ? nil : service.portState.requests)
        }
        chooseNamespace(exchange, connection)
        chooseWire(exchange, connection)
        return true
    }

    /// The endpoint tried, or the same pod by its other address: when one refuses, so will the other.
    static func isSamePod(_ endpoint: EndpointView, _ tried: EndpointAddress?, _ tables: TablesView) -> Bool {
        guard let tried else { return false }
        if endpoint.address == tried.address && endpoint.port == tried.port { return true }
        guard let left = tables.workload(at: endpoint.address), let right = tables.workload(at: tried.address) else { return false }
        return left.uid.count == right.uid.count && memcmp(left.uid.baseAddress!, right.uid.baseAddress!, left.uid.count) == 0
    }

    /// In which pod's namespace the upstream socket must live, and whose address it shows.
    ///
    /// Inbound: in the pod itself, showing the peer. To a pod of this node: straight into that pod's namespace, showing the caller, with no
    /// second hop. Anything else: from the calling pod's namespace, a plain socket.
    private func chooseNamespace(_ exchange: ExchangePlace, _ connection: ConnectionPlace) {
        let pod = connection.pointee.pod
        exchange.pointee.target.socketPod = pod
        if connection.pointee.listener.isInbound {
            exchange.pointee.target.source = connection.pointee.peer
        } else if let neighbour = pods.place(at: exchange.pointee.target.address),
            let caller = pods.address(of: pod, like: exchange.pointee.target.address)
        {
            exchange.pointee.target.socketPod = neighbour
            exchange.pointee.target.source = caller
        }
    }
}
