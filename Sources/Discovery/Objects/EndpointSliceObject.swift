import MeshModel

/// An `EndpointSlice`: some endpoints of one family of one service, with the ports they listen on.
struct EndpointSliceObject: Sendable, Hashable, Codable {
    var metadata: ObjectMetadata
    /// Name of the service in the slice's own namespace.
    var serviceName: String
    /// `addressType: FQDN` names hosts outside; Weft leaves such slices alone.
    var isFQDN: Bool
    var ports: [Port]
    var endpoints: [Member]

    struct Port: Sendable, Hashable, Codable {
        /// Joined with the Service's port of the same name.
        var name: String
        var number: UInt16
        var appProtocol: String?
    }

    struct Member: Sendable, Hashable, Codable {
        var address: IPAddress
        /// Nil conditions count as their defaults: ready true, serving as ready, terminating false.
        var isReady: Bool
        var isServing: Bool
        var isTerminating: Bool
        var nodeName: String
        var zone: String
        /// Zones and nodes whose callers should prefer it (`hints`, KEP-2433, KEP-3015); nil: nobody said.
        var zoneHints: [String]?
        var nodeHints: [String]?
        /// Name of the pod behind it, in the slice's namespace.
        var podName: String?
    }

    private enum AddressType: String, CaseIterable {
        case ipv4 = "IPv4"
        case ipv6 = "IPv6"
        case fqdn = "FQDN"
    }

    init(_ metadata: ObjectMetadata, reading object: ObjectReader) {
        self.metadata = metadata
        serviceName = metadata.labels[MeshNames.serviceName] ?? ""
        (isFQDN, ports, endpoints) = (false, [], [])
        if serviceName.isEmpty {
            let labels = object.object("metadata")
            labels?.fault("labels", "has no “\(MeshNames.serviceName)”", remedy: "add the label with the name of the Service these endpoints belong to")
        }
        guard object.has("addressType") else {
            object.fault("addressType", "is missing", remedy: "write IPv4 or IPv6")
            return
        }
        guard let addressType = object.choice("addressType", AddressType.self) else { return }
        isFQDN = addressType == .fqdn
        if isFQDN { return }
        readPorts(object)
        endpoints = object.objects("endpoints").compactMap { Self.member($0, isIPv4: addressType == .ipv4) }
    }

    private mutating func readPorts(_ object: ObjectReader) {
        var names: Set<String> = []
        for reader in object.objects("ports") {
            let name = reader.string("name") ?? ""
            let transport = reader.choice("protocol", TransportProtocol.self) ?? .tcp
            guard let number = reader.requiredPort("port"), transport == .tcp else { continue }
            if !names.insert(name).inserted {
                reader.fault("name", "“\(name)” is the name of another port of this slice", remedy: "give each port its own name")
            }
            ports.append(Port(name: name, number: number, appProtocol: reader.string("appProtocol")))
        }
    }

    private static func hints(_ reader: ObjectReader, _ field: String) -> [String]? {
        guard let hints = reader.object("hints"), hints.has(field) else { return nil }
        return hints.objects(field).compactMap { $0.string("name") }
    }

    private static func member(_ reader: ObjectReader, isIPv4: Bool) -> Member? {
        let addresses = reader.strings("addresses")
        // All addresses of one endpoint are the same to callers; the API asks consumers to use the first.
        guard let (text, path, line) = addresses.first else {
            if !reader.has("addresses") || reader.elements("addresses").isEmpty {
                reader.fault("addresses", "is empty", remedy: "write the endpoint's address: addresses: [\"10.1.0.5\"]")
            }
            return nil
        }
        guard let address = reader.log.unicastAddress(text, path: path, line: line) else { return nil }
        if address.isIPv4 != isIPv4 {
            reader.log.add(
                line: line, field: path, "“\(text)” is not of the slice's addressType \(isIPv4 ? "IPv4" : "IPv6")",
                remedy: "put each family into a slice of its own")
            return nil
        }
        let conditions = reader.object("conditions")
        let isReady = conditions?.boolean("ready") ?? true
        let target = reader.object("targetRef")
        let podName = target?.string("kind") == "Pod" ? target?.string("name") : nil
        return Member(
            address: address,
            isReady: isReady,
            isServing: conditions?.boolean("serving") ?? isReady,
            isTerminating: conditions?.boolean("terminating") ?? false,
            nodeName: reader.string("nodeName") ?? "",
            zone: reader.string("zone") ?? "",
            zoneHints: hints(reader, "forZones"),
            nodeHints: hints(reader, "forNodes"),
            podName: podName)
    }
}
