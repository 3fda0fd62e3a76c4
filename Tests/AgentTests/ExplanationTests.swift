@testable import Agent
import Testing

/// What `weft explain` is told.
@Suite struct ExplanationTests {
    private static let mesh = """
        apiVersion: v1
        kind: Namespace
        metadata: {name: shop, labels: {weft.mesh/mode: enabled}}
        ---
        apiVersion: v1
        kind: Pod
        metadata: {name: web, namespace: shop}
        spec: {nodeName: node-b, serviceAccountName: web}
        status: {phase: Running, podIPs: [{ip: 10.1.0.1}]}
        ---
        apiVersion: v1
        kind: Pod
        metadata: {name: cart, namespace: shop, labels: {app: cart}}
        spec: {nodeName: node-c, serviceAccountName: cart}
        status: {phase: Running, podIPs: [{ip: 10.1.0.2}]}
        ---
        apiVersion: v1
        kind: Pod
        metadata: {name: vault, namespace: shop, annotations: {weft.mesh/mtls: strict}}
        spec: {nodeName: node-c, serviceAccountName: vault}
        status: {phase: Running, podIPs: [{ip: 10.1.0.3}]}
        ---
        apiVersion: v1
        kind: Service
        metadata: {name: cart, namespace: shop}
        spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}, {name: admin, port: 81}]}
        ---
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: cart-1, namespace: shop, labels: {kubernetes.io/service-name: cart}}
        addressType: IPv4
        ports: [{name: http, port: 8080}, {name: admin, port: 8081}]
        endpoints: [{addresses: [10.1.0.2], targetRef: {kind: Pod, name: cart}}]
        ---
        apiVersion: weft.mesh/v1alpha1
        kind: AccessPolicy
        metadata: {name: items, namespace: shop}
        spec:
          selector: {matchLabels: {app: cart}}
          action: allow
          rules: [{from: [{serviceAccounts: [web]}], ports: [8080], http: [{paths: ["/items*"]}]}]
        """

    private func explain(_ inquiry: AccessInquiry) async throws -> Explanation {
        let scene = Scene()
        await scene.read(["mesh.yaml": Self.mesh])
        return try await scene.plane.explain(inquiry)
    }

    @Test func theRuleThatDecidesIsNamedForPodsOfOtherNodesToo() async throws {
        let told = try await explain(AccessInquiry(from: "shop/web", to: "shop/cart:80", method: "GET", path: "/items/7"))
        let destination = try #require(told.destinations.first)
        #expect(told.isAllowed && told.caller == "spiffe://cluster.local/ns/shop/sa/web")
        #expect(destination.pod == "shop/cart" && destination.port == 8080)
        #expect(destination.policy == "shop/items" && destination.field == "spec.rules[0]")
        #expect(destination.policies.map(\.selects) == [true] && destination.rules.map(\.holds) == [true, true])
    }

    @Test(arguments: [
        (AccessInquiry(from: "shop/web", to: "shop/cart:80", method: "GET", path: "/x"), "noRule"),
        (AccessInquiry(from: "shop/web", to: "shop/cart:80", method: "GET", path: "/items/../x"), "ambiguousPath"),
        (AccessInquiry(from: "shop/web", to: "shop/cart:80"), "notHTTP"),
        (AccessInquiry(from: "shop/web", to: "shop/cart:81", method: "GET", path: "/items"), "noRule"),
        // The Service has no port 8080; the pod of the same name may.
        (AccessInquiry(from: "unauthenticated", to: "shop/cart:8080", method: "GET", path: "/items"), "noRule"),
        (AccessInquiry(from: "unauthenticated", to: "shop/vault:1"), "strict"),
        (AccessInquiry(from: "spiffe://other.example/ns/shop/sa/web", to: "shop/cart:80", method: "GET", path: "/items"), "noRule"),
    ])
    func refusalsSayWhy(_ inquiry: AccessInquiry, _ fault: String) async throws {
        let told = try await explain(inquiry)
        #expect(!told.isAllowed && told.destinations.map(\.fault) == [fault])
    }

    @Test(arguments: [
        ("shop/nobody", "shop/cart:80", "there is no pod shop/nobody"), ("web", "shop/cart:80", "“web” is not namespace/pod"),
        ("shop/web", "shop/cart", "Service shop/cart has several ports; name one of 80, 81"), ("shop/web", "shop/nothing", "there is neither a Service nor a pod shop/nothing"),
        ("shop/web", "shop/vault", "shop/vault is a pod; name one of its ports: shop/vault:8080"), ("spiffe://x", "shop/cart:80", "“spiffe://x” is no identity; write spiffe://cluster.local/ns/<namespace>/sa/<service account>"),
    ])
    func whatCannotBeAnsweredIsSaid(_ from: String, _ to: String, _ reason: String) async {
        await #expect(throws: InquiryFault(reason)) { try await explain(AccessInquiry(from: from, to: to)) }
    }
}
