/// Whether a namespace or a pod takes what is not protected by mutual TLS.
enum Protection: String, Sendable, Hashable, Codable, CaseIterable {
    case permissive, strict

    /// Reads `weft.mesh/mtls`, label or annotation; nil when neither is there.
    init?(of metadata: ObjectReader) {
        let label = metadata.object("labels")?.choice(MeshNames.protection, Protection.self)
        let annotations = metadata.object("annotations")
        let annotation = annotations?.choice(MeshNames.protection, Protection.self)
        if let label, let annotation, label != annotation {
            annotations?.fault(MeshNames.protection, "“\(annotation.rawValue)” contradicts the label “\(label.rawValue)”", remedy: "write one of the two")
        }
        guard let known = label ?? annotation else { return nil }
        self = known
    }
}

/// The ports of a pod that the kubelet itself connects to: probes, and the hooks of a container's life that are HTTP requests.
enum ProbePorts {
    static func read(_ spec: ObjectReader) -> [UInt16] {
        var ports: Set<UInt16> = []
        // Sidecars are init containers that stay, with probes of their own.
        for container in spec.objects("containers") + spec.objects("initContainers") {
            let names = names(of: container)
            let probes = ["livenessProbe", "readinessProbe", "startupProbe"].compactMap { container.object($0) }
            let hooks = ["postStart", "preStop"].compactMap { container.object("lifecycle")?.object($0) }
            for handler in probes + hooks {
                for way in ["httpGet", "tcpSocket", "grpc"] {
                    // With a host of its own it does not ask the pod.
                    guard let target = handler.object(way), (target.string("host") ?? "").isEmpty else { continue }
                    if let port = target.portOrName("port", names: names) { ports.insert(port) }
                }
            }
        }
        return ports.sorted()
    }

    private static func names(of container: ObjectReader) -> [String: UInt16] {
        var names: [String: UInt16] = [:]
        for port in container.objects("ports") {
            if let name = port.string("name"), let number = port.port("containerPort") { names[name] = number }
        }
        return names
    }
}
