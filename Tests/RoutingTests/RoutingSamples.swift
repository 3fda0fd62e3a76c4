import MeshModel

@testable import Routing

/// Writer and builder back to back, as agent and proxy are through the node.
struct RoutingSample {
    var writer = SnapshotWriter()
    var builder: TablesBuilder
    let states: EndpointStates
    private var kept: [Tables] = []

    init(states: EndpointStates = EndpointStates(capacity: 16_384)) {
        self.states = states
        builder = TablesBuilder(states: states)
    }

    mutating func tables(_ state: MeshState) throws -> Tables {
        let change = try writer.update(state)
        for image in change.shards {
            builder.stage(image.id, image.bytes.isEmpty ? nil : try ShardMemory(adopting: image.sealedMemory(), expected: image.id))
        }
        return try builder.commit(generation: change.generation)
    }

    /// For reading alone: the sample keeps the tables alive.
    mutating func view(_ state: MeshState) throws -> TablesView {
        kept.append(try tables(state))
        return kept.last!.view
    }
}

extension TablesView {
    func resolve(_ address: String, _ port: UInt16) -> Destination { resolve(address: IPAddress(address)!, port: port) }

    func resolve(host: String, _ port: UInt16 = 80, from namespace: String = "shop") -> Destination {
        withBytes(host) { host in withBytes(namespace) { resolve(host: host, port: port, clientNamespace: $0) } }
    }

    func resolve(_ address: String, _ port: UInt16, host: String, from namespace: String = "shop") -> Destination {
        withBytes(host) { host in
            withBytes(namespace) { resolve(address: IPAddress(address)!, port: port, host: host, clientNamespace: $0) }
        }
    }
}

extension Destination {
    /// A short form for comparison: `cart.shop:80`, `pod cart-1`, `pod db-0 of db.shop:5432`, `no port cart.shop`, `unknown`.
    var text: String {
        switch self {
        case .service(let destination): destination.text
        case .workload(let workload, nil): "pod \(string(workload.name))"
        case .workload(let workload, let behind?): "pod \(string(workload.name)) of \(behind.text)"
        case .unknownPort(let service): "no port \(string(service.name)).\(string(service.namespace))"
        case .unknown: "unknown"
        }
    }
}

extension ServiceDestination {
    var text: String { "\(string(service.name)).\(string(service.namespace)):\(port.number)" }
    var slots: [UInt32] { (0..<port.endpointCount).map { slot(at: $0) } }
}

func withBytes<Result>(_ text: String, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
    var text = text
    return text.withUTF8 { body(UnsafeRawBufferPointer($0)) }
}

func string(_ bytes: UnsafeRawBufferPointer) -> String { String(decoding: bytes, as: UTF8.self) }

enum Shop {
    /// `cart` with two pods behind cluster IPs of both families, `db` headless with one, a pod of no service.
    static var state: MeshState {
        MeshState(
            nodeName: "n1",
            workloads: [
                Workload(uid: "1", name: "cart-1", namespace: "shop", nodeName: "n1", addresses: [IPAddress("10.1.0.1")!, IPAddress("fd00::1")!]),
                Workload(uid: "2", name: "cart-2", namespace: "shop", nodeName: "n2", addresses: [IPAddress("10.1.0.2")!]),
                Workload(uid: "3", name: "db-0", namespace: "shop", addresses: [IPAddress("10.1.0.3")!]),
                Workload(uid: "4", name: "lonely", namespace: "shop", addresses: [IPAddress("10.1.0.4")!]),
            ],
            services: [
                Service(
                    namespace: "shop", name: "cart", addresses: [IPAddress("10.96.0.1")!, IPAddress("fd96::1")!],
                    ports: [
                        ServicePort(
                            name: "http", port: 80, protocolHint: .http1,
                            endpoints: [
                                Endpoint(address: IPAddress("10.1.0.1")!, port: 8080), Endpoint(address: IPAddress("10.1.0.2")!, port: 8080),
                            ]),
                        ServicePort(name: "admin", port: 81),
                    ]),
                Service(
                    namespace: "shop", name: "db", isHeadless: true,
                    ports: [ServicePort(port: 5432, protocolHint: .tcp, endpoints: [Endpoint(address: IPAddress("10.1.0.3")!, port: 5432)])]),
            ])
    }
}
