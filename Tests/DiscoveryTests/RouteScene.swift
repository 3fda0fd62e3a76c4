@testable import Discovery
import MeshModel

/// Services to route between, and routes written in a few words.
enum RouteScene {
    /// Services `cart`, `cart-v2` and `pay` of namespace shop, `ledger` of namespace bank, and one outside.
    static let services = """
        apiVersion: v1
        kind: Service
        metadata: {name: cart, namespace: shop}
        spec:
          clusterIP: 10.96.0.1
          ports:
          - {name: http, port: 80, appProtocol: http}
          - {name: http-alt, port: 8080}
          - {name: grpc, port: 7070, appProtocol: grpc}
          - {name: tcp, port: 9090}
        ---
        apiVersion: v1
        kind: Service
        metadata: {name: cart-v2, namespace: shop}
        spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 80}, {name: db, port: 5432, appProtocol: postgresql}]}
        ---
        apiVersion: v1
        kind: Service
        metadata: {name: pay, namespace: shop}
        spec: {clusterIP: 10.96.0.3, ports: [{port: 80}]}
        ---
        apiVersion: v1
        kind: Service
        metadata: {name: ledger, namespace: bank}
        spec: {clusterIP: 10.96.0.4, ports: [{name: http, port: 80}]}
        ---
        apiVersion: v1
        kind: Service
        metadata: {name: outside, namespace: shop}
        spec: {type: ExternalName, externalName: example.com, ports: [{port: 80}]}
        """

    static let cart = "{group: \"\", kind: Service, name: cart, port: 80}"

    static func route(
        _ name: String = "r", kind: String = "HTTPRoute", namespace: String = "shop", created: String? = nil, parents: String = cart, hostnames: String? = nil, rules: String
    ) -> String {
        """
        apiVersion: gateway.networking.k8s.io/v1
        kind: \(kind)
        metadata: {name: \(name), namespace: \(namespace)\(created.map { ", creationTimestamp: \"\($0)\"" } ?? "")}
        spec:
          parentRefs: [\(parents)]
        \(hostnames.map { "  hostnames: \($0)\n" } ?? "")  rules: \(rules)
        """
    }

    static func view(_ routes: String...) -> ClusterView { Scene.view(([services] + routes).joined(separator: "\n---\n")) }
}

extension ClusterView {
    /// What routes say about a port of shop/cart.
    func cart(port: UInt16 = 80, callers: String? = nil) -> ServiceRoutes? {
        state.routes.first { $0.namespace == "shop" && $0.name == "cart" && $0.port == port && $0.callersNamespace == callers }
    }

    /// `Accepted=True(Accepted)` and so on, of the only route's parent by number.
    func conditions(_ parent: Int = 0) -> [String] {
        guard let parents = routes.first?.parents, parents.count > parent else { return [] }
        return parents[parent].conditions.map { "\($0.type.rawValue)=\($0.status.rawValue)(\($0.reason.rawValue))" }
    }
}
