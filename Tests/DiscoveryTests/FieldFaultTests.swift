@testable import Discovery
import Testing

/// Each field that Weft reads, wrong in each way it can be: the fault names file, line, object and field.
@Suite struct FieldFaultTests {
    struct Case: Sendable, CustomTestStringConvertible {
        let object: String
        let field: String
        let reason: String
        let line: Int
        let text: String
        var testDescription: String { "\(field): \(reason)" }

        init(_ object: String, _ field: String, _ reason: String, line: Int, _ text: String) {
            (self.object, self.field, self.reason, self.line, self.text) = (object, field, reason, line, text)
        }
    }

    private static func service(_ spec: String) -> String {
        "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec:\n" + spec
    }
    private static func slice(_ rest: String) -> String {
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: c1, namespace: shop, labels: {kubernetes.io/service-name: cart}}\n" + rest
    }
    private static func pod(annotations: String = "{}", spec: String = "{}", status: String = "{}") -> String {
        """
        apiVersion: v1
        kind: Pod
        metadata:
          name: p
          annotations: \(annotations)
        spec: \(spec)
        status: \(status)
        """
    }

    static let cases: [Case] = [
        // What an object must be at all.
        Case("", "", "stands where a mapping belongs", line: 1, "- 1"),
        Case("", "kind", "is missing", line: 1, "apiVersion: v1"),
        Case("", "apiVersion", "is missing", line: 1, "kind: Service"),
        Case("Service", "metadata", "is missing", line: 1, "kind: Service\napiVersion: v1"),
        Case("Service", "metadata.name", "is missing", line: 3, "kind: Service\napiVersion: v1\nmetadata: {namespace: shop}"),
        Case("Service default/Cart", "metadata.name", "is no Kubernetes name", line: 3, "kind: Service\napiVersion: v1\nmetadata: {name: Cart}\nspec: {}"),
        Case("Pod default/p", "metadata.uid", "is no uid", line: 3, "kind: Pod\napiVersion: v1\nmetadata: {name: p, uid: \"a b\"}\nspec: {}"),
        Case("Service default/cart", "metadata.labels.version", "the number 1.10 stands where a string belongs", line: 5,
             "kind: Service\napiVersion: v1\nmetadata:\n  name: cart\n  labels: {version: 1.10}\nspec: {}"),
        Case("EndpointSlice shop/c", "apiVersion", "not a version that Weft reads", line: 1,
             "apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\nmetadata: {name: c, namespace: shop, labels: {kubernetes.io/service-name: cart}}\naddressType: IPv4"),
        // Namespace
        Case("Namespace shop", "metadata.labels[weft.mesh/mode]", "“enable” is not known here", line: 3,
             "kind: Namespace\napiVersion: v1\nmetadata: {name: shop, labels: {weft.mesh/mode: enable}}"),
        Case("Namespace shop", "metadata.labels[weft.mesh/mode]", "the boolean true stands where a string belongs", line: 3,
             "kind: Namespace\napiVersion: v1\nmetadata: {name: shop, labels: {weft.mesh/mode: on}}"),
        Case("Namespace shop", "metadata.annotations[weft.mesh/failure]", "“shut” is not known here", line: 3,
             "kind: Namespace\napiVersion: v1\nmetadata: {name: shop, annotations: {weft.mesh/failure: shut}}"),
        // Service
        Case("Service shop/cart", "spec", "is missing", line: 1, "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}"),
        Case("Service shop/cart", "spec.ports[1].port", "the number 70000 is not a port", line: 7,
             service("  ports:\n  - {name: a, port: 80}\n  - {name: b, port: 70000}")),
        Case("Service shop/cart", "spec.ports[0].port", "“80” is not a port", line: 6, service("  ports:\n  - port: \"80\"")),
        Case("Service shop/cart", "spec.ports[0].port", "is missing", line: 6, service("  ports:\n  - name: http")),
        Case("Service shop/cart", "spec.ports", "stands where a list belongs", line: 6, service("  ports:\n    port: 80")),
        Case("Service shop/cart", "spec.ports[1].name", "is missing", line: 7, service("  ports:\n  - {name: a, port: 80}\n  - {port: 81}")),
        Case("Service shop/cart", "spec.ports[1].name", "“a” is the name of another port", line: 7, service("  ports:\n  - {name: a, port: 80}\n  - {name: a, port: 81}")),
        Case("Service shop/cart", "spec.ports[1].port", "80 is already a port", line: 7, service("  ports:\n  - {name: a, port: 80}\n  - {name: b, port: 80}")),
        Case("Service shop/cart", "spec.ports[0].protocol", "“tcp” is not known here", line: 6, service("  ports:\n  - {port: 80, protocol: tcp}")),
        Case("Service shop/cart", "spec.clusterIP", "“10.96.0” is not an IP address", line: 5, service("  clusterIP: 10.96.0")),
        Case("Service shop/cart", "spec.clusterIPs[1]", "is not an IP address", line: 5, service("  clusterIPs: [10.96.0.1, fd00:::1]")),
        Case("Service shop/cart", "spec.clusterIPs", "mixes “None”", line: 5, service("  clusterIPs: [None, fd00::1]")),
        Case("Service shop/cart", "spec.clusterIP", "is a loopback", line: 5, service("  clusterIP: 127.0.0.1")),
        Case("Service shop/cart", "spec.type", "“LoadBalanced” is not known here", line: 5, service("  type: LoadBalanced")),
        Case("Service shop/cart", "spec.publishNotReadyAddresses", "neither true nor false", line: 5, service("  publishNotReadyAddresses: \"true\"")),
        // EndpointSlice
        Case("EndpointSlice default/c", "metadata.labels", "has no “kubernetes.io/service-name”", line: 3,
             "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: c}\naddressType: IPv4"),
        Case("EndpointSlice shop/c1", "addressType", "is missing", line: 1, slice("endpoints: []")),
        Case("EndpointSlice shop/c1", "addressType", "“ipv4” is not known here", line: 4, slice("addressType: ipv4")),
        Case("EndpointSlice shop/c1", "endpoints[0].addresses[0]", "not of the slice's addressType IPv4", line: 5, slice("addressType: IPv4\nendpoints: [{addresses: [\"fd00::1\"]}]")),
        Case("EndpointSlice shop/c1", "endpoints[0].addresses", "is empty", line: 5, slice("addressType: IPv4\nendpoints: [{conditions: {}}]")),
        Case("EndpointSlice shop/c1", "endpoints[0].addresses[0]", "is a loopback", line: 5, slice("addressType: IPv6\nendpoints: [{addresses: [\"::1\"]}]")),
        Case("EndpointSlice shop/c1", "endpoints[0].addresses[0]", "link-local", line: 5, slice("addressType: IPv4\nendpoints: [{addresses: [169.254.169.254]}]")),
        Case("EndpointSlice shop/c1", "endpoints[0].conditions.ready", "neither true nor false", line: 5, slice("addressType: IPv4\nendpoints: [{addresses: [10.1.0.5], conditions: {ready: maybe}}]")),
        Case("EndpointSlice shop/c1", "ports[0].port", "the number 0 is not a port", line: 5, slice("addressType: IPv4\nports: [{port: 0}]")),
        // Pod
        Case("Pod default/p", "status.podIPs[0].ip", "is not an IP address", line: 7, pod(status: "{podIPs: [{ip: 10.1.0.555}]}")),
        Case("Pod default/p", "status.phase", "“running” is not known here", line: 7, pod(status: "{phase: running}")),
        Case("Pod default/p", "spec.hostNetwork", "neither true nor false", line: 6, pod(spec: "{hostNetwork: 1}")),
        Case("Pod default/p", "spec.nodeName", "the number 7 stands where a string belongs", line: 6, pod(spec: "{nodeName: 7}")),
        Case("Pod default/p", "metadata.annotations[weft.mesh/cgroup]", "is missing beside", line: 5, pod(annotations: "{weft.mesh/network-namespace: /run/netns/p}")),
        Case("Pod default/p", "metadata.annotations[weft.mesh/network-namespace]", "is no absolute path", line: 5,
             pod(annotations: "{weft.mesh/network-namespace: netns/p, weft.mesh/cgroup: /x}")),
        Case("Pod default/p", "metadata.annotations[weft.mesh/cgroup]", "is no absolute path", line: 5,
             pod(annotations: "{weft.mesh/network-namespace: /n, weft.mesh/cgroup: /sys/../etc}")),
        Case("Pod default/p", "metadata.annotations[weft.mesh/exclude-outbound-ports]", "“http” is not a port", line: 5, pod(annotations: "{weft.mesh/exclude-outbound-ports: \"80,http\"}")),
        Case("Pod default/p", "metadata.annotations[weft.mesh/exclude-inbound-ports]", "“0” is not a port", line: 5, pod(annotations: "{weft.mesh/exclude-inbound-ports: \"0\"}")),
        Case("Pod default/p", "metadata.annotations[weft.mesh/exclude-outbound-ports]", "lists 300 items", line: 5,
             pod(annotations: "{weft.mesh/exclude-outbound-ports: \"\(String(repeating: "80,", count: 300))\"}")),
        Case("Pod default/p", "metadata.annotations[weft.mesh/cgroup]", "is 5001 bytes long", line: 5,
             pod(annotations: "{weft.mesh/network-namespace: /n, weft.mesh/cgroup: /\(String(repeating: "x", count: 5000))}")),
        Case("Pod default/p", "metadata.annotations[weft.mesh/exclude-outbound-cidrs]", "“10.0.0.0/33” is not a range", line: 5,
             pod(annotations: "{weft.mesh/exclude-outbound-cidrs: \"10.0.0.0/33\"}")),
    ]

    @Test(arguments: cases) func isReportedWithItsPlace(_ example: Case) throws {
        let view = Scene.view(example.text)
        let fault = try #require(view.faults.first { $0.field == example.field && $0.reason.contains(example.reason) }, "\(view.faults)")
        #expect(fault.file == "all.yaml")
        #expect(fault.line == example.line)
        #expect(fault.object == example.object)
        #expect(!fault.remedy.isEmpty)
        #expect(fault.consequence == .leftOut)
    }

    @Test func isWrittenLikeACompilerMessage() {
        let view = Scene.view(Self.service("  ports:\n  - {port: 70000}"))
        #expect(view.faults.map(\.description) == [
            "all.yaml:6: Service shop/cart: spec.ports[0].port: the number 70000 is not a port; write a number from 1 to 65535, without quotes"
        ])
    }

    @Test func allFaultsOfAnObjectComeTogether() {
        let view = Scene.view(Self.service("  clusterIP: x\n  type: y\n  ports: [{port: z}]"))
        #expect(view.faults.map(\.field) == ["spec.clusterIP", "spec.type", "spec.ports[0].port"])
    }

    @Test(arguments: [
        ("kind: [", "is not YAML"),
        ("kind: Service\nkind: Pod", "written twice"),
        ("a: &x 1\nb: *y", "undefined alias"),
    ])
    func syntaxFaultsNameTheFile(_ text: String, _ reason: String) throws {
        let fault = try #require(Scene.view(text).faults.first)
        #expect(fault.file == "all.yaml" && fault.reason.contains(reason) && fault.line > 0)
    }

    @Test func textThatIsNotUTF8IsAFault() {
        var manifests = Manifests(nodeName: "node-a")
        let view = manifests.take(DirectoryReading(files: ["a.yaml": .bytes([0xFF, 0xFE, 0x00])]))
        #expect(view.faults.map(\.reason) == ["is not UTF-8 text"])
    }

    @Test(arguments: [
        ("80", YAMLScalar.integer(80)), ("-1", .integer(-1)), ("0", .integer(0)), ("0755", .otherNumber("0755")), ("1.10", .otherNumber("1.10")),
        ("1e3", .otherNumber("1e3")), ("0x1F", .otherNumber("0x1F")), (".5", .otherNumber(".5")), ("99999999999999999999", .otherNumber("99999999999999999999")),
        ("10.1.0.9", .string("10.1.0.9")), ("1e", .string("1e")), ("v1", .string("v1")), ("-", .string("-")), ("1-2", .string("1-2")), ("0xZZ", .string("0xZZ")),
        ("yes", .boolean(true)), ("Off", .boolean(false)), ("~", .null), ("", .null),
    ])
    func scalarsAreWhatTheAPIServerTakesThemFor(_ text: String, _ expected: YAMLScalar) {
        #expect(YAMLScalar(plain: text) == expected)
    }
}
