@testable import Discovery
import MeshModel
import Testing

/// What Kubernetes objects mean together.
@Suite struct ClusterSemanticsTests {
    @Test func aPodIsEnrolledWithAllItsAnnotationsSay() throws {
        let view = Scene.view(Sample.documents(Sample.namespace, Sample.pod(), Sample.service(), Sample.slice()))
        #expect(view.faults.isEmpty, "\(view.faults)")
        let workload = try #require(view.state.workloads.first)
        #expect(workload.uid == "shop/cart-7d4-x")
        #expect(workload.workloadName == "cart")
        #expect(workload.app == "cart" && workload.version == "v2")
        #expect(workload.canonicalService == "cart" && workload.canonicalRevision == "v2")
        #expect(workload.serviceAccount == "default")
        #expect(workload.isMeshed && workload.isReady)

        let pod = try #require(view.pods.first)
        guard case .enrol(let enrolment) = pod.wish else { return #expect(Bool(false), "\(pod.wish)") }
        #expect(enrolment.networkNamespacePath == "/run/netns/cart")
        #expect(enrolment.addresses == [IPAddress("10.1.0.5")!, IPAddress("fd00:1::5")!])
        #expect(enrolment.isFailClosed)
        #expect(enrolment.excludedOutboundPorts == [5432, 6379])
        #expect(enrolment.excludedOutboundPrefixes.map(\.description) == ["10.9.0.0/16", "fd00::/8"])
        #expect(enrolment.excludedOutboundPrefixes.map(\.mappedLength) == [112, 8])

        let port = try #require(view.state.services.first?.ports.first)
        #expect(port.protocolHint == .http1)
        #expect(port.endpoints.map(\.workloadUID) == ["shop/cart-7d4-x"])
        #expect(port.endpoints.map(\.port) == [8080])
    }

    @Test(arguments: [
        ("spec: {hostNetwork: true, nodeName: node-a}\nstatus: {phase: Running, podIP: 10.1.0.5}", "host's network"),
        ("spec: {nodeName: node-a}\nstatus: {phase: Pending}", "phase is Pending"),
        ("spec: {nodeName: node-a}\nstatus: {phase: Running}", "no address"),
        ("spec: {nodeName: node-a}\nstatus: {podIP: 10.1.0.5}", "no kubelet to ask"),
    ])
    func aPodLeftOutOfTheMeshSaysWhy(_ rest: String, _ reason: String) throws {
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop}\n" + rest
        let view = Scene.view(Sample.documents(Sample.namespace, pod))
        guard case .leave(let because)? = view.pods.first?.wish else { return #expect(Bool(false), "\(view.pods)") }
        #expect(because.contains(reason))
    }

    @Test func modeIsTheNamespacesUnlessThePodSaysOtherwise() {
        func isMeshed(namespace: String, pod: String) -> Bool? {
            Scene.view(
                """
                apiVersion: v1
                kind: Namespace
                metadata: {name: shop, labels: {\(namespace)}}
                ---
                apiVersion: v1
                kind: Pod
                metadata: {name: p, namespace: shop, labels: {\(pod)}}
                spec: {}
                """
            ).state.workloads.first?.isMeshed
        }
        #expect(isMeshed(namespace: "", pod: "") == false)
        #expect(isMeshed(namespace: "istio.io/dataplane-mode: ambient", pod: "") == true)
        #expect(isMeshed(namespace: "istio.io/dataplane-mode: ambient, weft.mesh/mode: disabled", pod: "") == false)
        #expect(isMeshed(namespace: "weft.mesh/mode: enabled", pod: "weft.mesh/mode: disabled") == false)
        #expect(isMeshed(namespace: "weft.mesh/mode: enabled", pod: "istio.io/dataplane-mode: none") == false)
        #expect(isMeshed(namespace: "weft.mesh/mode: disabled", pod: "weft.mesh/mode: enabled") == true)
    }

    @Test func podsOfOtherNodesAreKnownButNotEnrolled() {
        let view = Scene.view(Sample.documents(Sample.namespace, Sample.pod(node: "node-b")))
        #expect(view.state.workloads.map(\.isMeshed) == [true])
        #expect(view.pods.isEmpty)
    }

    @Test func aFinishedPodGivesItsAddressAway() {
        let finished = Sample.pod("old").replacing("phase: Running", with: "phase: Succeeded")
        let view = Scene.view(Sample.documents(Sample.namespace, finished, Sample.pod("new")))
        #expect(view.faults.isEmpty)
        #expect(view.state.workloads.map(\.name) == ["new"])
    }

    @Test func portsAreJoinedByNameOverSlicesOfBothFamilies() throws {
        let view = Scene.view(
            """
            apiVersion: v1
            kind: Service
            metadata: {name: cart, namespace: shop}
            spec:
              clusterIP: 10.96.0.10
              clusterIPs: [10.96.0.10, "fd00::10"]
              ports:
              - {name: web, port: 80, appProtocol: kubernetes.io/h2c}
              - {name: admin, port: 9000}
              - {name: dns, port: 53, protocol: UDP}
            ---
            apiVersion: discovery.k8s.io/v1
            kind: EndpointSlice
            metadata: {name: c4, namespace: shop, labels: {kubernetes.io/service-name: cart}}
            addressType: IPv4
            ports: [{name: web, port: 8080}, {name: dns, port: 5353, protocol: UDP}]
            endpoints:
            - {addresses: [10.1.0.5], zone: z1, nodeName: node-a}
            - {addresses: [10.1.0.6], conditions: {ready: false}}
            - {addresses: [10.1.0.7], conditions: {ready: false, serving: true, terminating: true}}
            - {addresses: [10.1.0.8], conditions: {ready: false, serving: false, terminating: true}}
            ---
            apiVersion: discovery.k8s.io/v1
            kind: EndpointSlice
            metadata: {name: c6, namespace: shop, labels: {kubernetes.io/service-name: cart}}
            addressType: IPv6
            ports: [{name: web, port: 8080}, {name: admin, port: 9090}]
            endpoints: [{addresses: ["fd00:1::5"]}]
            """)
        #expect(view.faults.isEmpty, "\(view.faults)")
        let service = try #require(view.state.services.first)
        #expect(service.addresses.map(\.description) == ["10.96.0.10", "fd00::10"])
        #expect(service.ports.map(\.name) == ["web", "admin"])
        #expect(service.ports[0].protocolHint == .http2)
        #expect(service.ports[0].endpoints.map { "\($0.address) \($0.port) \($0.isReady) \($0.isTerminating)" } == [
            "10.1.0.5 8080 true false", "10.1.0.6 8080 false false", "10.1.0.7 8080 false true", "fd00:1::5 8080 true false",
        ])
        #expect(service.ports[1].endpoints.map(\.port) == [9090])
    }

    @Test func headlessServicesHaveNoAddressAndMayPublishWhatIsNotReady() throws {
        let view = Scene.view(
            """
            apiVersion: v1
            kind: Service
            metadata: {name: db, namespace: shop}
            spec: {clusterIP: None, publishNotReadyAddresses: true, ports: [{port: 5432}]}
            ---
            apiVersion: discovery.k8s.io/v1
            kind: EndpointSlice
            metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}
            addressType: IPv4
            ports: [{port: 5432}]
            endpoints: [{addresses: [10.1.0.9], conditions: {ready: false}}]
            """)
        let service = try #require(view.state.services.first)
        #expect(service.isHeadless && service.addresses.isEmpty)
        #expect(service.ports[0].endpoints.map(\.isReady) == [true])
    }

    @Test func twoClaimsToOneAddressAreAFaultOfTheSecond() {
        let view = Scene.view(Sample.documents(Sample.service("a"), Sample.service("b")))
        #expect(view.state.services.map(\.addresses.count) == [1, 0])
        #expect(view.faults.map(\.object) == ["Service shop/b"])
        #expect(view.faults.first?.reason == "10.96.0.10 is the address of Service shop/a too")
    }

    @Test func listsHoldObjectsAndUnknownKindsAreNoted() {
        let view = Scene.view(
            """
            apiVersion: v1
            kind: List
            items:
            - {apiVersion: v1, kind: Namespace, metadata: {name: shop}}
            - {apiVersion: apps/v1, kind: Deployment, metadata: {name: cart}}
            - {apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: cart}}
            - {apiVersion: v1, kind: Namespace, metadata: {name: 7}}
            """)
        #expect(view.state.namespaces.map(\.name) == ["shop"])
        #expect(view.notes.map(\.text) == [
            "Deployment (apps/v1) is none of the kinds that Weft reads", "Service (serving.knative.dev/v1) is none of the kinds that Weft reads",
        ])
        #expect(view.faults.map(\.field) == ["metadata.name"])
    }

    @Test func jsonIsReadToo() {
        var scene = Scene(["a.json": #"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}"#])
        #expect(scene.view().state.namespaces.map(\.name) == ["shop"])
    }

    @Test func theNodesZoneIsRead() {
        let node = "apiVersion: v1\nkind: Node\nmetadata: {name: node-a, labels: {topology.kubernetes.io/zone: z1}}"
        #expect(Scene.view(node).state.zone == "z1")
    }

    @Test(arguments: [
        (nil, "http", 80, ProtocolHint.http1), (nil, "http-admin", 80, .http1), (nil, "http2-x", 80, .http2), (nil, "grpc", 80, .grpc),
        (nil, "grpc-web-x", 80, .http1), (nil, "grpc-x", 80, .grpc), (nil, "https", 443, .tls), (nil, "tls-db", 80, .tls), (nil, "tcp", 80, .tcp), (nil, "mongo", 80, .tcp),
        (nil, "web", 80, .undeclared), (nil, "httpx", 80, .undeclared), (nil, "", 3306, .tcp), ("http", "tcp", 80, .http1),
        ("kubernetes.io/ws", "", 80, .http1), ("kubernetes.io/wss", "", 80, .tls), ("kubernetes.io/h2c", "http", 80, .http2), ("HTTP", "", 80, .http1),
        ("grpc", "http", 80, .grpc), ("http-alt", "", 80, .http1), ("mysql-router", "", 80, .tcp), ("ms-sql-s", "", 80, .tcp), (nil, "domain", 80, .undeclared),
        (nil, "kubernetes.io", 80, .undeclared), ("example.com/own", "http", 80, .undeclared), ("example.com/own", "", 25, .tcp), ("", "", 80, .undeclared),
    ] as [(String?, String, UInt16, ProtocolHint)])
    func protocolConventions(_ appProtocol: String?, _ name: String, _ port: UInt16, _ expected: ProtocolHint) {
        #expect(ProtocolConvention.hint(appProtocol: appProtocol, portName: name, port: port) == expected)
    }

    @Test func anUnknownAppProtocolIsNotedWhereItStands() {
        let view = Scene.view(
            """
            apiVersion: v1
            kind: Service
            metadata: {name: cart, namespace: shop}
            spec: {ports: [{name: a, port: 80, appProtocol: example.com/own}, {name: b, port: 81, appProtocol: https}, {name: c, port: 82}]}
            """)
        #expect(view.faults.isEmpty)
        #expect(view.notes.map(\.description) == [
            "all.yaml:1: Service shop/cart, port 80: appProtocol “example.com/own” is no protocol that Weft knows; the first bytes decide"
        ])
    }

    @Test(arguments: [
        ("ReplicaSet", "web-7f9c6b5d48", "web"), ("ReplicaSet", "web", "web"), ("Job", "report-28391234", "report"),
        ("Job", "import", "import"), ("StatefulSet", "db", "db"),
    ])
    func workloadsAreNamedAfterWhatMadeThem(_ kind: String, _ owner: String, _ expected: String) {
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, ownerReferences: [{kind: \(kind), name: \(owner)}]}\nspec: {}"
        #expect(Scene.view(pod).state.workloads.map(\.workloadName) == [expected])
    }
}

extension String {
    fileprivate func replacing(_ text: String, with other: String) -> String { split(separator: text, omittingEmptySubsequences: false).joined(separator: other) }
}
