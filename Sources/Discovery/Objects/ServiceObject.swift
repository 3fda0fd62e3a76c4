import MeshModel

/// A `Service`: the name that clients use, its addresses and its TCP ports.
struct ServiceObject: Sendable, Hashable, Codable {
    var metadata: ObjectMetadata
    /// Cluster addresses of both families; empty for a headless service.
    var addresses: [IPAddress]
    /// `clusterIP: None`: clients connect to the endpoints' own addresses.
    var isHeadless: Bool
    /// Endpoints count as ready whatever they say (`publishNotReadyAddresses`).
    var publishesNotReady: Bool
    /// `type: ExternalName` has neither addresses nor endpoints.
    var isExternalName: Bool
    /// Whose endpoints callers prefer; nil: nobody said.
    var trafficDistribution: TrafficDistribution?
    var ports: [Port]

    struct Port: Sendable, Hashable, Codable {
        /// Empty when the service has a single, unnamed port.
        var name: String
        var number: UInt16
        var appProtocol: String?
    }

    init(_ metadata: ObjectMetadata, reading object: ObjectReader) {
        self.metadata = metadata
        addresses = []
        (isHeadless, publishesNotReady, isExternalName, ports) = (false, false, false, [])
        guard let spec = object.requiredObject("spec") else { return }
        isExternalName = spec.choice("type", ServiceType.self) == .externalName
        publishesNotReady = spec.boolean("publishNotReadyAddresses") ?? false
        trafficDistribution = spec.choice("trafficDistribution", TrafficDistribution.self)
        readAddresses(spec)
        readPorts(spec)
    }

    /// `spec.trafficDistribution` (KEP-4444, KEP-3015).
    enum TrafficDistribution: String, Sendable, Codable, CaseIterable {
        /// The older name of `PreferSameZone`.
        case preferClose = "PreferClose"
        case preferSameZone = "PreferSameZone"
        case preferSameNode = "PreferSameNode"

        var locality: LocalityPreference { self == .preferSameNode ? .sameNode : .sameZone }
    }

    private enum ServiceType: String, CaseIterable {
        case clusterIP = "ClusterIP"
        case nodePort = "NodePort"
        case loadBalancer = "LoadBalancer"
        case externalName = "ExternalName"
    }

    private mutating func readAddresses(_ spec: ObjectReader) {
        let single = spec.string("clusterIP") ?? ""
        var texts = spec.strings("clusterIPs")
        if texts.isEmpty, !single.isEmpty { texts = [(single, spec.pathOf("clusterIP"), spec.lineOf("clusterIP"))] }
        if let first = texts.first, !single.isEmpty, first.text != single {
            spec.fault("clusterIPs", "begins with “\(first.text)” but clusterIP is “\(single)”", remedy: "make clusterIP the first of clusterIPs")
        }
        if texts.contains(where: { $0.text == "None" }) {
            isHeadless = true
            if texts.count > 1 { spec.fault("clusterIPs", "mixes “None” with addresses", remedy: "write either None or addresses") }
            return
        }
        for (text, path, line) in texts {
            guard let address = spec.log.unicastAddress(text, path: path, line: line) else { continue }
            addresses.append(address)
        }
    }

    private mutating func readPorts(_ spec: ObjectReader) {
        let readers = spec.objects("ports")
        var names: Set<String> = []
        var numbers: Set<UInt16> = []
        for reader in readers {
            let name = reader.string("name") ?? ""
            let transport = reader.choice("protocol", TransportProtocol.self) ?? .tcp
            let appProtocol = reader.string("appProtocol")
            guard let number = reader.requiredPort("port") else { continue }
            if name.isEmpty, readers.count > 1 {
                reader.fault("name", "is missing", remedy: "name every port when a Service has several")
            } else if !names.insert(name).inserted {
                reader.fault("name", "“\(name)” is the name of another port of this Service", remedy: "give each port its own name")
            }
            // The mesh carries TCP; UDP and SCTP ports go past it.
            guard transport == .tcp else { continue }
            if !numbers.insert(number).inserted {
                reader.fault("port", "\(number) is already a port of this Service", remedy: "give each port its own number")
            }
            ports.append(Port(name: name, number: number, appProtocol: appProtocol))
        }
    }
}

/// Transport of a Service or EndpointSlice port.
enum TransportProtocol: String, CaseIterable {
    case tcp = "TCP"
    case udp = "UDP"
    case sctp = "SCTP"
}
