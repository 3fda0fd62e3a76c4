@testable import Discovery
import MeshModel
import Testing

/// What Services and EndpointSlices say about near endpoints.
@Suite struct LocalityTests {
    private func view(spec: String = "", annotations: String = "", hints: String = "") -> ClusterView {
        Scene.view(
            Sample.documents(
                Sample.namespace,
                """
                apiVersion: v1
                kind: Service
                metadata: {name: cart, namespace: shop, annotations: {\(annotations)}}
                spec:
                  clusterIP: 10.96.0.10
                  ports: [{name: http, port: 80}]
                  \(spec)
                """,
                """
                apiVersion: discovery.k8s.io/v1
                kind: EndpointSlice
                metadata: {name: cart-1, namespace: shop, labels: {kubernetes.io/service-name: cart}}
                addressType: IPv4
                ports: [{name: http, port: 8080}]
                endpoints:
                - addresses: ["10.1.0.5"]
                  zone: z1
                  nodeName: n1
                  \(hints)
                """))
    }

    private func locality(_ view: ClusterView) -> LocalityPreference? { view.state.services.first?.policy.locality }

    @Test(arguments: [("PreferClose", LocalityPreference.sameZone), ("PreferSameZone", .sameZone), ("PreferSameNode", .sameNode)])
    func trafficDistributionIsAPreference(_ word: String, _ expected: LocalityPreference) {
        let view = view(spec: "trafficDistribution: \(word)")
        #expect(view.faults.isEmpty && locality(view) == expected)
    }

    @Test func nothingSaidIsNoPreferenceAndAnUnknownWordIsAFault() throws {
        #expect(view().state.services.first?.policy == .default)
        let faulty = view(spec: "trafficDistribution: PreferCheap")
        #expect(try #require(faulty.faults.first).field == "spec.trafficDistribution")
    }

    @Test func hintsComeWithTheirEndpoints() throws {
        let view = view(hints: "hints: {forZones: [{name: z1}, {name: z2}], forNodes: [{name: n7}]}")
        let endpoint = try #require(view.state.services.first?.ports.first?.endpoints.first)
        #expect(endpoint.zoneHints == ["z1", "z2"] && endpoint.nodeHints == ["n7"])
        #expect(locality(view) == LocalityPreference.none)
    }

    /// Topology-aware routing asks for hints: where the cluster gives none, it means nothing.
    @Test func topologyAwareRoutingGoesByHints() {
        let auto = "service.kubernetes.io/topology-mode: Auto"
        #expect(locality(view(annotations: auto)) == LocalityPreference.none)
        #expect(locality(view(annotations: auto, hints: "hints: {forZones: [{name: z1}]}")) == .sameZone)
    }
}
