import Testing

@testable import MeshModel

/// Whom a node's callers prefer: the order of a port's endpoints in its shard.
@Suite struct TierTests {
    private func port(
        _ endpoints: [Endpoint], _ locality: LocalityPreference, _ algorithm: BalancingAlgorithm = .leastRequests, node: String = "n1", zone: String = "z1"
    ) -> PortEndpoints {
        var policy = TrafficPolicy()
        (policy.locality, policy.algorithm) = (locality, algorithm)
        let surroundings = Surroundings(nodeName: node, zone: zone, clusterDomain: "", trustDomain: "")
        return PortEndpoints(of: ServicePort(port: 80, endpoints: endpoints), under: policy, in: surroundings)
    }

    private func endpoint(_ number: UInt32, _ node: String, _ zone: String, isReady: Bool = true) -> Endpoint {
        Endpoint(address: IPAddress(ipv4: 0x0a01_0000 + number), port: 80, isReady: isReady, zone: zone, nodeName: node)
    }

    private func last(_ port: PortEndpoints) -> [Int] { port.records.map { Int($0.address.low & 0xff) } }

    private var spread: [Endpoint] {
        [endpoint(1, "n3", "z2"), endpoint(2, "n2", "z1"), endpoint(3, "n1", "z1"), endpoint(4, "n1", "z1", isReady: false), endpoint(5, "n2", "z1")]
    }

    @Test func withoutPreferenceAllAreOfOneTier() {
        let port = port(spread, .none)
        #expect(last(port) == [1, 2, 3, 5, 4])
        #expect(port.readyCount == 4 && port.firstTierCount == 4 && port.secondTierCount == 0)
    }

    @Test func nearOnesComeFirst() {
        let zone = port(spread, .sameZone)
        #expect(last(zone) == [2, 3, 5, 1, 4])
        #expect(zone.firstTierCount == 3 && zone.secondTierCount == 1)
        let node = port(spread, .sameNode)
        #expect(last(node) == [3, 2, 5, 1, 4])
        #expect(node.firstTierCount == 1 && node.secondTierCount == 2 && node.readyCount == 4)
    }

    /// A zone in which nobody answers is no preference, and what has no zone is in none.
    @Test func whereNobodyIsNearTheNextNearestAreFirst() {
        let elsewhere = port(spread, .sameNode, node: "n9")
        #expect(last(elsewhere) == [2, 3, 5, 1, 4])
        #expect(elsewhere.firstTierCount == 3 && elsewhere.secondTierCount == 1)
        #expect(port([endpoint(1, "", ""), endpoint(2, "", "")], .sameNode, node: "", zone: "").firstTierCount == 2)
    }

    @Test func hashingKnowsNoTiers() {
        for algorithm in [BalancingAlgorithm.ringHash, .maglev] { #expect(last(port(spread, .sameNode, algorithm)) == [1, 2, 3, 5, 4]) }
    }

    /// Hints count when everybody has them and somebody is meant for us; the marks of the place itself stay what they are.
    @Test func hintsSayForWhomAnEndpointIs() {
        var endpoints = spread
        for place in endpoints.indices { endpoints[place].zoneHints = ["z2"] }
        #expect(last(port(endpoints, .sameZone)) == [2, 3, 5, 1, 4])
        endpoints[0].zoneHints = ["z1", "z2"]
        let hinted = port(endpoints, .sameZone)
        #expect(last(hinted) == [1, 2, 3, 5, 4])
        #expect(hinted.firstTierCount == 1 && hinted.records[0].flags & EndpointRecord.isSameZone == 0)
        endpoints[1].zoneHints = []
        #expect(last(port(endpoints, .sameZone)) == [2, 3, 5, 1, 4])
        for place in endpoints.indices { endpoints[place].nodeHints = place == 4 ? ["n1"] : ["n7"] }
        #expect(last(port(endpoints, .sameNode))[0] == 5)
    }

    /// Thousands of endpoints: each node's callers use some, and those together are all of them, about equally often.
    @Test func nodesShareThousandsOfEndpoints() {
        let endpoints = (0..<UInt32(2_000)).map { endpoint($0, "n", "z") }
        var uses: [IPAddress: Int] = [:]
        for node in 0..<200 {
            let port = port(endpoints, .none, node: "node-\(node)")
            #expect(port.firstTierCount == Limits.apertureEndpoints && port.secondTierCount == 2_000 - Limits.apertureEndpoints)
            for record in port.records[..<port.firstTierCount] { uses[record.address, default: 0] += 1 }
        }
        #expect(uses.count == 2_000)
        // 25 each; five standard deviations of a binomial are 23.
        #expect(uses.values.max()! < 48 && uses.values.min()! > 2)
    }

    @Test func whenAnEndpointGoesANodeChangesOneOfItsOwn() {
        let endpoints = (0..<UInt32(1_500)).map { endpoint($0, "n", "z") }
        func used(_ endpoints: [Endpoint]) -> Set<IPAddress> {
            let port = port(endpoints, .none)
            return Set(port.records[..<port.firstTierCount].map(\.address))
        }
        let before = used(endpoints)
        let gone = before.first!
        let after = used(endpoints.filter { $0.address != gone })
        #expect(before.subtracting(after) == [gone] && after.subtracting(before).count == 1)
    }
}
