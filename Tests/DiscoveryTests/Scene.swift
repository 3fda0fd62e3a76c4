@testable import Discovery
import MeshModel

/// Manifests in memory, as the files of one directory.
struct Scene {
    var manifests = Manifests(nodeName: "node-a")
    var files: [String: String] = [:]

    init(_ files: [String: String] = [:]) { self.files = files }

    /// Takes the files as they are now.
    mutating func view() -> ClusterView {
        manifests.take(DirectoryReading(files: files.mapValues { .bytes(Array($0.utf8)) }))
    }

    static func view(_ text: String) -> ClusterView {
        var scene = Scene(["all.yaml": text])
        return scene.view()
    }
}

/// Small correct objects to build scenes of.
enum Sample {
    static let namespace = """
        apiVersion: v1
        kind: Namespace
        metadata:
          name: shop
          labels: {weft.mesh/mode: enabled}
          annotations: {weft.mesh/failure: closed}
        """

    static func service(_ name: String = "cart", ip: String = "10.96.0.10", port: Int = 80) -> String {
        """
        apiVersion: v1
        kind: Service
        metadata: {name: \(name), namespace: shop}
        spec:
          clusterIP: \(ip)
          ports:
          - {name: http, port: \(port), targetPort: 8080}
        """
    }

    static func slice(_ name: String = "cart-1", of service: String = "cart", address: String = "10.1.0.5", port: Int = 8080) -> String {
        """
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata:
          name: \(name)
          namespace: shop
          labels: {kubernetes.io/service-name: \(service)}
        addressType: IPv4
        ports:
        - {name: http, port: \(port)}
        endpoints:
        - addresses: ["\(address)"]
          targetRef: {kind: Pod, name: cart-7d4-x}
        """
    }

    static func pod(_ name: String = "cart-7d4-x", ip: String = "10.1.0.5", node: String = "node-a") -> String {
        """
        apiVersion: v1
        kind: Pod
        metadata:
          name: \(name)
          namespace: shop
          labels: {app: cart, version: v2, pod-template-hash: 7d4}
          ownerReferences: [{kind: ReplicaSet, name: cart-7d4, controller: true}]
          annotations:
            weft.mesh/network-namespace: /run/netns/cart
            weft.mesh/cgroup: /sys/fs/cgroup/pods/cart
            weft.mesh/exclude-outbound-ports: "5432, 6379"
            weft.mesh/exclude-outbound-cidrs: "10.9.7.1/16,fd00::/8"
        spec:
          nodeName: \(node)
        status:
          phase: Running
          podIPs: [{ip: \(ip)}, {ip: "fd00:1::5"}]
        """
    }

    static func documents(_ texts: String...) -> String { texts.joined(separator: "\n---\n") }
}
