import MeshModel

/// A `Pod`: a workload with its addresses, and how it wants to be captured.
struct PodObject: Sendable, Hashable, Codable {
    var metadata: ObjectMetadata
    var mode: MeshMode?
    var protection: Protection?
    var nodeName: String
    var serviceAccount: String
    var usesHostNetwork: Bool
    var phase: Phase
    var isReady: Bool
    var addresses: [IPAddress]
    /// Ports that the kubelet itself connects to.
    var probePorts: [UInt16]
    var capture: Capture

    enum Phase: String, Sendable, Hashable, Codable, CaseIterable {
        case pending = "Pending"
        case running = "Running"
        case succeeded = "Succeeded"
        case failed = "Failed"
        case unknown = "Unknown"
    }

    /// Where the pod's namespace and cgroup are when no kubelet can be asked, and what passes by the mesh.
    struct Capture: Sendable, Hashable, Codable {
        var networkNamespacePath: String?
        var cgroupPath: String?
        var excludedOutboundPorts: [UInt16] = []
        var excludedInboundPorts: [UInt16] = []
        var excludedOutboundPrefixes: [AddressPrefix] = []
        /// Nil: as its namespace has it.
        var udpExceptionPorts: [UInt16]?
    }

    init(_ metadata: ObjectMetadata, reading object: ObjectReader) {
        self.metadata = metadata
        let reader = object.object("metadata")
        mode = reader.flatMap { MeshMode(labelsOf: $0) }
        protection = reader.flatMap { Protection(of: $0) }
        let spec = object.requiredObject("spec")
        nodeName = spec?.string("nodeName") ?? ""
        let serviceAccount = spec?.string("serviceAccountName") ?? spec?.string("serviceAccount") ?? ""
        self.serviceAccount = serviceAccount.isEmpty ? "default" : serviceAccount
        usesHostNetwork = spec?.boolean("hostNetwork") ?? false
        probePorts = spec.map(ProbePorts.read) ?? []

        let status = object.object("status")
        addresses = status.map(Self.addresses) ?? []
        // Nobody writes a phase into a manifest by hand; a pod that has an address is running.
        phase = status?.choice("phase", Phase.self) ?? (addresses.isEmpty ? .pending : .running)
        let readiness = (status?.objects("conditions") ?? []).first { $0.string("type") == "Ready" }
        isReady = phase == .running && (readiness.map { $0.string("status") == "True" } ?? true)
        capture = reader?.object("annotations").map(Self.capture) ?? Capture()
    }

    private static func addresses(_ status: ObjectReader) -> [IPAddress] {
        var result: [IPAddress] = []
        for reader in status.objects("podIPs") {
            guard let text = reader.requiredString("ip", remedy: "write the address") else { continue }
            if let address = status.log.unicastAddress(text, path: reader.pathOf("ip"), line: reader.lineOf("ip")) { result.append(address) }
        }
        if let text = status.string("podIP"), !text.isEmpty,
            let address = status.log.unicastAddress(text, path: status.pathOf("podIP"), line: status.lineOf("podIP")),
            !result.contains(address)
        {
            result.insert(address, at: 0)
        }
        return result
    }

    private static func capture(_ annotations: ObjectReader) -> Capture {
        var capture = Capture()
        capture.networkNamespacePath = absolutePath(annotations, MeshNames.networkNamespace, example: "/run/netns/shop")
        capture.cgroupPath = absolutePath(annotations, MeshNames.cgroup, example: "/sys/fs/cgroup/pods/shop")
        switch (annotations.has(MeshNames.networkNamespace), annotations.has(MeshNames.cgroup)) {
        case (true, false):
            annotations.fault(MeshNames.cgroup, "is missing beside \(MeshNames.networkNamespace)", remedy: "name the pod's cgroup too, or neither")
        case (false, true):
            annotations.fault(MeshNames.networkNamespace, "is missing beside \(MeshNames.cgroup)", remedy: "name the pod's network namespace too, or neither")
        default: break
        }
        capture.excludedOutboundPorts = annotations.ports(MeshNames.excludedOutboundPorts)
        capture.excludedInboundPorts = annotations.ports(MeshNames.excludedInboundPorts)
        capture.excludedOutboundPrefixes = annotations.prefixes(MeshNames.excludedOutboundPrefixes)
        if annotations.has(MeshNames.udpExceptionPorts) { capture.udpExceptionPorts = annotations.ports(MeshNames.udpExceptionPorts) }
        return capture
    }

    private static func absolutePath(_ annotations: ObjectReader, _ name: String, example: String) -> String? {
        guard let path = annotations.string(name) else { return nil }
        guard path.utf8.count <= DiscoveryLimits.pathBytesMax else {
            annotations.fault(name, "is \(path.utf8.count) bytes long", remedy: "a path has at most \(DiscoveryLimits.pathBytesMax)")
            return nil
        }
        guard path.hasPrefix("/"), !path.utf8.contains(0), !path.split(separator: "/").contains("..") else {
            annotations.fault(name, "“\(path)” is no absolute path", remedy: "write it whole, such as \(example)")
            return nil
        }
        return path
    }
}
