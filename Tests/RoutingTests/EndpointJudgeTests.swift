import Balancing
import MeshModel
import Testing

@testable import Routing

/// Ejection and return, as the control thread decides them on what workers have counted.
@Suite struct EndpointJudgeTests {
    private struct Scene {
        var sample = RoutingSample()
        var state: MeshState
        var judge = EndpointJudge(intervalMilliseconds: 1_000, now: 0)
        var tables: Tables
        var moment: UInt64 = 0

        init(endpoints: Int, zones: Int = 1, policy change: (inout TrafficPolicy) -> Void = { _ in }) throws {
            var policy = TrafficPolicy()
            change(&policy)
            let list = (0..<endpoints).map { Endpoint(address: IPAddress(ipv4: 0x0a01_0000 + UInt32($0)), port: 80, zone: "z\($0 % zones)", nodeName: "n\($0)") }
            state = MeshState(
                nodeName: "n0", zone: "z0",
                services: [
                    Service(
                        namespace: "shop", name: "cart", addresses: [IPAddress("10.96.0.1")!], ports: [ServicePort(port: 80, endpoints: list)], policy: policy)
                ])
            tables = try sample.tables(state)
        }

        var cart: ServiceDestination {
            guard case .service(let cart) = tables.view.resolve("10.96.0.1", 80) else { preconditionFailure("the sample has a cart") }
            return cart
        }

        /// Requests to an endpoint, of which the last ones fail. True when the judge was called.
        @discardableResult
        func requests(_ count: Int, failing failures: Int, at place: Int) -> Bool {
            var isCalled = false
            let state = cart.state(at: place)
            for number in 0..<count {
                state.begin()
                if number >= count - failures { isCalled = sample.states.failed(cart.slot(at: place)) || isCalled } else { state.succeeded() }
                state.finish()
            }
            return isCalled
        }

        mutating func look(at milliseconds: UInt64) -> [EndpointJudge.Ruling.Kind] {
            moment = milliseconds
            return judge.look(tables.view, sample.states, now: milliseconds).map(\.kind)
        }

        // Asked through the scene, which keeps what they lie in.
        func isWarming(_ place: Int) -> Bool { withExtendedLifetime(self) { cart.state(at: place).load.isWarming } }
        func warmth(_ place: Int, at milliseconds: UInt32) -> UInt32 { withExtendedLifetime(self) { cart.state(at: place).warmth(at: milliseconds) } }
        func wantsLatency(at place: Int) -> Bool { withExtendedLifetime(self) { cart.state(at: place).wantsLatency } }
        var hashedCount: Int? { withExtendedLifetime(self) { cart.hashTable?.count } }
        var nearCount: Int { withExtendedLifetime(self) { cart.port.firstTierCount } }
        var spill: UInt32 { withExtendedLifetime(self) { cart.portState.spill(ofTier: 0, isIPv4: true) } }

        var avoided: [Int] { withExtendedLifetime(self) { (0..<cart.readyCount).filter { cart.state(at: $0).load.isAvoided } } }

        mutating func change(_ body: (inout [Endpoint]) -> Void) throws {
            body(&state.services[0].ports[0].endpoints)
            tables = try sample.tables(state)
        }
    }

    @Test func fiveFailuresInARowEjectAndASuccessBetweenDoesNot() throws {
        var scene = try Scene(endpoints: 4)
        #expect(!scene.requests(4, failing: 4, at: 1))
        scene.requests(1, failing: 0, at: 1)
        #expect(!scene.requests(4, failing: 4, at: 1))
        #expect(scene.look(at: 10) == [] && scene.avoided == [])
        #expect(scene.requests(1, failing: 1, at: 1))
        #expect(scene.look(at: 20) == [.ejected(.consecutiveFailures, milliseconds: 30_000)])
        #expect(scene.avoided == [1] && scene.judge.ejectedCount == 1)
        #expect(scene.judge.nextLook(now: 20, isWarming: false) == 1_000)
    }

    /// Back after its time, on probation: one failure sends it away again, for twice as long. In between its share grows.
    @Test func theReturnIsSlowAndOnProbation() throws {
        var scene = try Scene(endpoints: 4)
        scene.requests(5, failing: 5, at: 2)
        _ = scene.look(at: 0)
        #expect(scene.look(at: 29_999) == [] && scene.avoided == [2])
        #expect(scene.look(at: 30_000) == [.returned])
        #expect(scene.avoided == [] && scene.isWarming(2) && scene.warmth(2, at: 30_000) == SlowStart.leastShare)
        #expect(scene.warmth(2, at: 32_500) == 32_768)
        #expect(scene.requests(1, failing: 1, at: 2))
        #expect(scene.look(at: 33_000) == [.ejected(.consecutiveFailures, milliseconds: 60_000)])
        _ = scene.look(at: 93_000)
        scene.requests(1, failing: 0, at: 2)
        #expect(scene.look(at: 97_999) == [] && scene.isWarming(2))
        #expect(scene.look(at: 98_000) == [] && !scene.isWarming(2))
    }

    @Test func noMoreThanTheShareIsEjected() throws {
        var scene = try Scene(endpoints: 10) { $0.ejectedPercentMax = 30 }
        for place in 0..<10 { scene.requests(5, failing: 5, at: place) }
        #expect(scene.look(at: 0).count == 3 && scene.avoided.count == 3)
        // It goes on failing; when one has returned there is room for another.
        scene.requests(5, failing: 5, at: 9)
        #expect(scene.look(at: 10) == [])
        _ = scene.look(at: 30_000)
        scene.requests(5, failing: 5, at: 9)
        #expect(scene.look(at: 30_001).contains(.ejected(.consecutiveFailures, milliseconds: 30_000)))
    }

    @Test func theOnlyOneStays() throws {
        var scene = try Scene(endpoints: 1) { $0.ejectedPercentMax = 100 }
        scene.requests(50, failing: 50, at: 0)
        #expect(scene.look(at: 0) == [] && scene.avoided == [])
    }

    /// So few are well that their health is not asked: better some failures than all requests on the last ones.
    @Test func inPanicHealthIsNotAsked() throws {
        var scene = try Scene(endpoints: 10) {
            $0.ejectedPercentMax = 100
            $0.panicPercent = 40
        }
        for place in 0..<6 { scene.requests(5, failing: 5, at: place) }
        _ = scene.look(at: 0)
        #expect(scene.avoided == [0, 1, 2, 3, 4, 5])
        scene.requests(5, failing: 5, at: 6)
        _ = scene.look(at: 1)
        #expect(scene.avoided == [] && scene.judge.ejectedCount == 7)
    }

    @Test func aWorseSuccessRateThanTheOthersEjects() throws {
        var scene = try Scene(endpoints: 5) { $0.consecutiveFailures = 0 }
        for place in 0..<5 { scene.requests(500, failing: place == 3 ? 100 : 1, at: place) }
        #expect(scene.look(at: 999) == [])
        #expect(scene.look(at: 1_000) == [.ejected(.successRate, milliseconds: 30_000)])
        #expect(scene.avoided == [3])
    }

    @Test func aMultipleOfTheOthersLatencyEjects() throws {
        var scene = try Scene(endpoints: 5) { $0.latencyFactor = 4 }
        for place in 0..<5 {
            scene.requests(200, failing: 0, at: place)
            #expect(scene.wantsLatency(at: place))
            scene.cart.state(at: place).heard(afterMicroseconds: place == 1 ? 90_000 : 10_000, at: 900)
        }
        _ = scene.look(at: 900)
        #expect(scene.look(at: 1_000) == [.ejected(.latency, milliseconds: 30_000)])
        #expect(scene.avoided == [1])
    }

    @Test func nobodyPaysForLatencyThatNobodyWants() throws {
        let plain = try Scene(endpoints: 2), measured = try Scene(endpoints: 2) { $0.algorithm = .peakEWMA }
        #expect(!plain.wantsLatency(at: 0) && measured.wantsLatency(at: 0))
    }

    /// New tables keep who is out; who has gone is forgotten; who stays is judged by how many there are now.
    @Test func newTablesKeepWhoIsOut() throws {
        var scene = try Scene(endpoints: 4)
        scene.requests(5, failing: 5, at: 0)
        scene.requests(5, failing: 5, at: 1)
        _ = scene.look(at: 0)
        #expect(scene.avoided == [0, 1])
        try scene.change { $0.append(Endpoint(address: IPAddress("10.0.0.1")!, port: 80)) }
        _ = scene.look(at: 10)
        #expect(scene.avoided == [1, 2])
        // The well ones go: of two that are left nobody is avoided any more.
        try scene.change { $0.removeAll { $0.address != IPAddress("10.1.0.0")! && $0.address != IPAddress("10.1.0.1")! } }
        _ = scene.look(at: 20)
        #expect(scene.avoided == [])
        try scene.change { $0.removeAll() }
        _ = scene.look(at: 30)
        #expect(scene.judge.ejectedCount == 0)
        #expect(scene.look(at: 60_000) == [])
    }

    @Test func aZoneThatDiesSpillsAndOneThatReturnsGetsItsOwnBack() throws {
        var scene = try Scene(endpoints: 9, zones: 3) { $0.locality = .sameZone }
        #expect(scene.nearCount == 3 && scene.spill == 0)
        scene.requests(5, failing: 5, at: 0)
        _ = scene.look(at: 0)
        // Two of three can bear nearly all of it.
        #expect(scene.spill > 4_000 && scene.spill < 4_600)
        for place in 1..<3 { scene.requests(5, failing: 5, at: place) }
        _ = scene.look(at: 1)
        #expect(scene.avoided == [0, 1, 2] && scene.spill == 65_536)
        _ = scene.look(at: 30_001)
        // All three return at once, but not all of their requests: at first a tenth of each is borne, and 1.4 times that stays.
        #expect(scene.avoided == [] && scene.spill > 55_000 && scene.spill < 57_000)
        _ = scene.look(at: 32_501)
        #expect(scene.spill > 18_000 && scene.spill < 21_000)
        _ = scene.look(at: 35_001)
        #expect(scene.spill == 0)
    }

    /// The pods have an address of each family, and only one of these is asked: the other says nothing about the zone.
    @Test func eachFamilySpillsByItself() throws {
        var scene = try Scene(endpoints: 4, zones: 2) { $0.locality = .sameZone }
        try scene.change { endpoints in
            endpoints += endpoints.map { Endpoint(address: IPAddress(high: 0xfd00 << 48, low: $0.address.low), port: 80, zone: $0.zone, nodeName: $0.nodeName) }
        }
        #expect(scene.nearCount == 4)
        for place in 0..<2 { scene.requests(5, failing: 5, at: place) }
        _ = scene.look(at: 0)
        #expect(scene.avoided == [0, 1] && scene.spill == 65_536)
        #expect(withExtendedLifetime(scene) { scene.cart.portState.spill(ofTier: 0, isIPv4: false) } == 0)
    }

    @Test func nothingSpillsToWhereNobodyIsFit() throws {
        var scene = try Scene(endpoints: 4, zones: 2) {
            $0.locality = .sameZone
            $0.ejectedPercentMax = 100
            $0.panicPercent = 0
        }
        for place in [0, 2, 3] { scene.requests(5, failing: 5, at: place) }
        _ = scene.look(at: 0)
        #expect(scene.nearCount == 2 && scene.avoided == [0, 2, 3])
        #expect(scene.spill == 0)
    }

    @Test func aHealthCheckTakesOutAndBringsBack() throws {
        var scene = try Scene(endpoints: 4)
        let slot = scene.cart.slot(at: 2)
        let bucket = ShardHash.bucket(ShardHash.of(namespace: "shop", name: "cart"))
        func checked(_ isWell: Bool, _ now: UInt64) -> [EndpointJudge.Ruling.Kind] {
            scene.judge.checked(slot, bucket: bucket, isWell: isWell, scene.tables.view, scene.sample.states, now: now).map(\.kind)
        }
        #expect(checked(true, 0) == [] && checked(false, 1) == [.unwell] && checked(false, 2) == [])
        #expect(scene.avoided == [2] && scene.judge.unwellCount == 1)
        #expect(checked(true, 3) == [.well] && scene.avoided == [] && scene.isWarming(2))
    }

    // MARK: Slow start

    @Test func whoIsNewBesideOthersWarmsUpAndWhoeverCameWithTheFirstTablesDoesNot() throws {
        var scene = try Scene(endpoints: 2) { $0.slowStartMilliseconds = 10_000 }
        #expect(!scene.isWarming(0) && !scene.isWarming(1))
        try scene.change { $0.append(Endpoint(address: IPAddress("10.1.0.9")!, port: 80)) }
        #expect(scene.isWarming(2) && !scene.isWarming(0))
        _ = scene.look(at: 9_999)
        #expect(scene.isWarming(2))
        _ = scene.look(at: 10_000)
        #expect(!scene.isWarming(2))
        // Unready for a moment, and ready again.
        try scene.change { $0[0].isReady = false }
        try scene.change { $0[0].isReady = true }
        #expect(scene.isWarming(0))
    }

    // MARK: Hash tables

    @Test func aHashTableIsThereWhereRequestsAreHashedAndIsKeptWhileItIsTheSame() throws {
        let plain = try Scene(endpoints: 3)
        #expect(plain.hashedCount == nil)
        for algorithm in [BalancingAlgorithm.ringHash, .maglev] {
            var scene = try Scene(endpoints: 3) { $0.algorithm = algorithm }
            #expect(scene.hashedCount == 3)
            scene.state.services.append(Service(namespace: "other", name: "one", ports: [ServicePort(port: 1)]))
            try scene.change { _ in }
            #expect(scene.hashedCount == 3)
            try scene.change { $0.removeLast() }
            #expect(scene.hashedCount == 2)
        }
    }
}
