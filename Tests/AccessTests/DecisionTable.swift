import Foundation
import MeshModel
import Routing

@testable import Discovery

/// `Tests/Access/decisions.json`: policies, and calls with what must become of each. The journeys send the same calls as real requests.
struct DecisionTable {
    struct Scenario: Decodable, Sendable {
        var name: String
        var calls: [Call]
        /// The policies as manifests.
        var manifests: String

        private enum Key: CodingKey { case name, calls }

        init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: Key.self)
            name = try container.decode(String.self, forKey: .name)
            calls = try container.decode([Call].self, forKey: .calls)
            manifests = ""
        }
    }

    /// One call and its fate.
    struct Call: Decodable, Sendable {
        /// `namespace/pod`, whose service account has the pod's name; or `unauthenticated`.
        var from: String
        /// `namespace/pod:port`.
        var to: String
        /// Absent: opaque bytes.
        var method: String?
        var path: String?
        var host: String?
        var headers: [[String]]?
        /// `allow`, `deny` or `audit` (passes, and would be denied).
        var expect: String
        /// `policy field` of the rule that decides; absent: any.
        var by: String?
        var why: String?
    }

    static let scenarios: [Scenario] = {
        let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../Access/decisions.json")
        guard let data = try? Data(contentsOf: file), var scenarios = try? JSONDecoder().decode([Scenario].self, from: data),
            let raw = try? JSONSerialization.jsonObject(with: data) as? [[String: Any]]
        else { fatalError("Tests/Access/decisions.json cannot be read") }
        for place in scenarios.indices { scenarios[place].manifests = manifests(raw[place]["policies"] as? [[String: Any]] ?? []) }
        return scenarios
    }()

    private static func manifests(_ policies: [[String: Any]]) -> String {
        policies.map { policy in
            let object: [String: Any] = [
                "apiVersion": "weft.mesh/v1alpha1", "kind": "AccessPolicy",
                "metadata": ["name": policy["name"] ?? "", "namespace": policy["namespace"] ?? ""], "spec": policy["spec"] ?? [:],
            ]
            let data = (try? JSONSerialization.data(withJSONObject: object, options: [.withoutEscapingSlashes])) ?? Data()
            return String(decoding: data, as: UTF8.self)
        }.joined(separator: "\n---\n")
    }
}

/// The mesh that the table is about: two servers with two ports each, and their clients.
enum Stage {
    static let mesh: String = {
        let namespaces = ["shop", "lab", "depot", "weft-system"].map { "apiVersion: v1\nkind: Namespace\nmetadata: {name: \($0), labels: {weft.mesh/mode: enabled}}" }
        let pods = [("shop", "web"), ("shop", "admin"), ("lab", "robot"), ("shop", "cart"), ("depot", "stock")].enumerated().map { number, pod in
            """
            apiVersion: v1
            kind: Pod
            metadata: {name: \(pod.1), namespace: \(pod.0), uid: uid-\(pod.1), labels: {app: \(pod.1)}}
            spec: {nodeName: node-a, serviceAccountName: \(pod.1)}
            status: {phase: Running, podIPs: [{ip: 10.1.0.\(number + 1)}]}
            """
        }
        let service = """
            apiVersion: v1
            kind: Service
            metadata: {name: cart, namespace: shop}
            spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
            ---
            apiVersion: discovery.k8s.io/v1
            kind: EndpointSlice
            metadata: {name: cart-1, namespace: shop, labels: {kubernetes.io/service-name: cart}}
            addressType: IPv4
            ports: [{name: http, port: 8080}]
            endpoints: [{addresses: [10.1.0.4], targetRef: {kind: Pod, name: cart}}]
            """
        return (namespaces + pods + [service]).joined(separator: "\n---\n")
    }()

    /// The objects as one reading of a directory.
    static func view(_ manifests: String) -> ClusterView {
        var reader = Manifests(nodeName: "node-a")
        return reader.take(DirectoryReading(files: ["mesh.yaml": .bytes(Array(mesh.utf8)), "policies.yaml": .bytes(Array(manifests.utf8))]))
    }

    /// The tables that a proxy of node-a has of a state.
    static func tables(_ state: MeshState) throws -> Tables {
        var writer = SnapshotWriter()
        var builder = TablesBuilder(states: EndpointStates(capacity: 64))
        for image in try writer.update(state).shards { builder.stage(image.id, try ShardMemory(copying: image.bytes)) }
        return try builder.commit(generation: 1)
    }
}

/// Lends the bytes of several texts for a call.
func withTexts<Result>(_ texts: [String], _ body: ([UnsafeRawBufferPointer]) throws -> Result) rethrows -> Result {
    let memory = texts.map { text in
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, text.utf8.count), alignment: 1)
        copy.copyBytes(from: text.utf8)
        return UnsafeRawBufferPointer(rebasing: copy[..<text.utf8.count])
    }
    defer { memory.forEach { UnsafeMutableRawBufferPointer(mutating: $0).baseAddress?.deallocate() } }
    return try body(memory)
}

func string(_ bytes: UnsafeRawBufferPointer) -> String { String(decoding: bytes, as: UTF8.self) }
