import Bytes
import Foundation
import HTTPCodec
import MeshModel
import Routing

@testable import Discovery

/// `Tests/Routes/decisions.json`: routes, and requests with where each must go. The journeys send the same requests.
struct RouteTable {
    struct Scenario: Decodable, Sendable {
        var name: String
        var requests: [Request]
        /// The routes as manifests.
        var manifests: String

        private enum Key: CodingKey { case name, requests }

        init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: Key.self)
            name = try container.decode(String.self, forKey: .name)
            requests = try container.decode([Request].self, forKey: .requests)
            manifests = ""
        }
    }

    /// One request and its fate.
    struct Request: Decodable, Sendable {
        /// The caller's namespace; absent: `shop`.
        var from: String?
        /// Where it goes; absent: `cart.shop:80`.
        var to: String?
        /// Absent: GET.
        var method: String?
        var path: String
        /// Of the Host header; absent: what it goes to.
        var host: String?
        var headers: [[String]]?
        /// The Service whose endpoints get it, or the status of the answer.
        var expect: String
    }

    static let scenarios: [Scenario] = {
        let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../Routes/decisions.json")
        guard let data = try? Data(contentsOf: file), var scenarios = try? JSONDecoder().decode([Scenario].self, from: data),
            let raw = try? JSONSerialization.jsonObject(with: data) as? [[String: Any]]
        else { fatalError("Tests/Routes/decisions.json cannot be read") }
        for place in scenarios.indices { scenarios[place].manifests = manifests(raw[place]["objects"] as? [[String: Any]] ?? []) }
        return scenarios
    }()

    private static func manifests(_ objects: [[String: Any]]) -> String {
        objects.map { object in
            let kind = object["kind"] as? String ?? ""
            var metadata = ["name": object["name"] ?? "", "namespace": object["namespace"] ?? ""]
            if let created = object["created"] { metadata["creationTimestamp"] = created }
            let manifest: [String: Any] = [
                "apiVersion": "gateway.networking.k8s.io/\(kind == "ReferenceGrant" ? "v1beta1" : "v1")", "kind": kind, "metadata": metadata,
                "spec": object["spec"] ?? [:],
            ]
            let data = (try? JSONSerialization.data(withJSONObject: manifest, options: [.withoutEscapingSlashes])) ?? Data()
            return String(decoding: data, as: UTF8.self)
        }.joined(separator: "\n---\n")
    }
}

/// The mesh that the table is about: a Service with three ports, and those that its routes may send on to.
enum Stage {
    static let mesh: String = {
        let namespaces = ["shop", "lab", "depot", "weft-system"].map { "apiVersion: v1\nkind: Namespace\nmetadata: {name: \($0), labels: {weft.mesh/mode: enabled}}" }
        let cart = """
            apiVersion: v1
            kind: Service
            metadata: {name: cart, namespace: shop}
            spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}, {name: http-alt, port: 8080}, {name: grpc, port: 7070, appProtocol: grpc}]}
            """
        let others = [("shop", "v1"), ("shop", "v2"), ("shop", "v3"), ("shop", "v4"), ("lab", "far"), ("lab", "spare")].enumerated().map { number, service in
            """
            apiVersion: v1
            kind: Service
            metadata: {name: \(service.1), namespace: \(service.0)}
            spec: {clusterIP: 10.96.1.\(number + 1), ports: [{name: http, port: 80}]}
            """
        }
        return (namespaces + [cart] + others).joined(separator: "\n---\n")
    }()

    /// The objects as one reading of a directory.
    static func view(_ manifests: String) -> ClusterView {
        var reader = Manifests(nodeName: "node-a")
        return reader.take(DirectoryReading(files: ["mesh.yaml": .bytes(Array(mesh.utf8)), "routes.yaml": .bytes(Array(manifests.utf8))]))
    }

    /// The tables that a proxy of node-a has of a state.
    static func tables(_ state: MeshState) throws -> Tables {
        var writer = SnapshotWriter()
        var builder = TablesBuilder(states: EndpointStates(capacity: 64))
        for image in try writer.update(state).shards { builder.stage(image.id, try ShardMemory(copying: image.bytes)) }
        return try builder.commit(generation: 1)
    }
}

/// A request as it stands on the wire, read as the proxy reads it.
struct WireRequest: ~Copyable {
    private let bytes: UnsafeMutableRawBufferPointer
    private var head = Head()

    /// Throws what the parser says against it.
    init(method: String, path: String, host: String, headers: [[String]]) throws {
        let text = "\(method) \(path) HTTP/1.1\r\nHost: \(host)\r\n" + headers.map { "\($0[0]): \($0[1])\r\n" }.joined() + "\r\n"
        bytes = .allocate(byteCount: text.utf8.count, alignment: 1)
        bytes.copyBytes(from: text.utf8)
        var progress = HeadProgress()
        guard try head.parseRequest(UnsafeRawBufferPointer(bytes), limits: .standard, progress: &progress) == bytes.count else { throw HTTPFault.headTooLarge }
    }

    deinit { bytes.deallocate() }

    /// What a table says about it.
    func decide<Result>(_ table: RouteTableView, _ scratch: borrowing RouteScratch, _ body: (RouteDecision?) throws -> Result) rethrows -> Result {
        try body(Self.decide(table, head, UnsafeRawBufferPointer(bytes), scratch))
    }

    private static func decide(_ table: RouteTableView, _ head: borrowing Head, _ bytes: UnsafeRawBufferPointer, _ scratch: borrowing RouteScratch) -> RouteDecision? {
        let request = RouteRequest(method: head.methodName.of(bytes), path: head.path.of(bytes), host: head.authority.of(bytes))
        return table.decide(request, scratch) { name, row in
            while row < head.fieldCount {
                let field = head.field(row)
                row += 1
                if equalsIgnoringCase(field.name.of(bytes), name) { return field.value.of(bytes) }
            }
            return nil
        }
    }
}

func withBytes<Result>(_ text: String, _ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
    let copy = Array(text.utf8)
    return try copy.withUnsafeBytes(body)
}

func string(_ bytes: UnsafeRawBufferPointer) -> String { String(decoding: bytes, as: UTF8.self) }

struct TestRandom: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return state ^ state >> 29
    }
}
