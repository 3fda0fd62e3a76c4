import Testing

@testable import Balancing

/// Endpoints written down for a test.
struct Written: Candidates {
    var loads: [UInt32]
    var excluded: Set<Int> = []
    var warmths: [Int: UInt32] = [:]
    var costs: [Float] = []

    init(_ loads: [UInt32]) { self.loads = loads }

    var count: Int { loads.count }
    func load(at place: Int) -> EndpointLoad { EndpointLoad(rawValue: loads[place]) }
    func isExcluded(_ place: Int) -> Bool { excluded.contains(place) }
    func warmth(at place: Int) -> UInt32 { warmths[place] ?? 0 }
    func cost(at place: Int) -> Float { costs[place] }
}

@Suite struct ChoiceTests {
    private func picks(_ written: Written, times: Int, seed: UInt64 = 7, _ choose: (Written, inout SplitMix64) -> Int?) -> [Int] {
        var random = SplitMix64(seed: seed)
        var picks = [Int](repeating: 0, count: written.count)
        for _ in 0..<times { picks[choose(written, &random)!] += 1 }
        return picks
    }

    @Test func nobodyIsChosenAmongNoneAndTheOnlyOneWhateverItsState() {
        var random = SplitMix64(seed: 1)
        #expect(Choice.leastRequests(Written([]), using: &random) == nil)
        #expect(Choice.leastRequests(Written([99]), using: &random) == 0)
        #expect(Choice.random(Written([EndpointLoad.avoided]), using: &random) == 0)
        var only = Written([0])
        only.excluded = [0]
        #expect(Choice.carefully(only, by: .inFlight, using: &random) == nil)
    }

    @Test func ofTwoTheLessLoadedIsChosen() {
        #expect(picks(Written([3, 2]), times: 100) { Choice.leastRequests($0, using: &$1) } == [0, 100])
        var excluded = Written([0, 50])
        excluded.excluded = [0]
        #expect(picks(excluded, times: 100) { Choice.carefully($0, by: .inFlight, using: &$1) } == [0, 100])
    }

    @Test func equalLoadsShareEvenly() {
        // 10,000 each; five standard deviations of a binomial with p = 0.1 are 474.
        for count in picks(Written([UInt32](repeating: 5, count: 10)), times: 100_000, { Choice.leastRequests($0, using: &$1) }) {
            #expect(abs(count - 10_000) < 474)
        }
    }

    /// The most loaded endpoint is never chosen, the least loaded in 2/n of all draws.
    @Test func loadDecidesBetweenTheTwo() {
        let picks = picks(Written((0..<8).map { UInt32($0) }), times: 80_000, seed: 11) { Choice.leastRequests($0, using: &$1) }
        #expect(picks[7] == 0)
        #expect(abs(picks[0] - 20_000) < 600)
        for place in 1..<8 { #expect(picks[place] < picks[place - 1]) }
    }

    /// n balls into n bins: the fullest holds about log log n, where one random choice makes log n / log log n.
    @Test func queuesStayShort() {
        var random = SplitMix64(seed: 3)
        var two = Written([UInt32](repeating: 0, count: 10_000)), one = two
        for _ in 0..<10_000 {
            two.loads[Choice.leastRequests(two, using: &random)!] += 1
            one.loads[Choice.random(one, using: &random)!] += 1
        }
        #expect(two.loads.max()! <= 4)
        #expect(one.loads.max()! >= 5)
    }

    @Test func theExcludedAndTheAvoidedAreNotChosenAndTheOthersAll() {
        var written = Written([0, 0, EndpointLoad.avoided, 0, 0, EndpointLoad.avoided | 3])
        written.excluded = [3]
        written.costs = [1, 1, 0, 0, 1, 0]
        let algorithms: [(Written, inout SplitMix64) -> Int?] = [
            { Choice.carefully($0, by: .inFlight, using: &$1) }, { Choice.carefully($0, by: .cost, using: &$1) },
            { Choice.carefully($0, by: .nothing, using: &$1) },
        ]
        for algorithm in algorithms {
            let picks = picks(written, times: 30_000, algorithm)
            #expect(picks[2] == 0 && picks[3] == 0 && picks[5] == 0)
            for place in [0, 1, 4] { #expect(abs(picks[place] - 10_000) < 600) }
        }
    }

    /// With nearly everybody out, the one that is not is found; with all out, somebody is asked all the same.
    @Test func theLastFitOneIsFound() {
        var written = Written([UInt32](repeating: EndpointLoad.avoided, count: 500))
        written.loads[123] = 9
        let found = picks(written, times: 200) { Choice.leastRequests($0, using: &$1) }
        #expect(found[123] == 200)
        written.loads[123] = EndpointLoad.avoided
        #expect(picks(written, times: 200) { Choice.leastRequests($0, using: &$1) }.reduce(0, +) == 200)
    }

    /// A warming endpoint's share of the draws is its warmth.
    @Test func aWarmingEndpointTakesItsShareOfDraws() {
        for warmth: UInt32 in [6_554, 32_768, 65_536] {
            var written = Written([UInt32](repeating: 0, count: 10))
            written.loads[4] = EndpointLoad.warming
            written.warmths[4] = warmth
            var random = SplitMix64(seed: 21)
            var turns = 0
            for turn in 0..<100_000 where Choice.roundRobin(written, turn: UInt64(turn), using: &random) == 4 { turns += 1 }
            // Its own turns, and now and then one of its own that went to "any other".
            let own = 10_000 * Double(warmth) / 65_536
            #expect(abs(Double(turns) - own) < own * 0.15 + 60)
        }
    }

    @Test func turnsGoRoundAndThoseOfUnfitOnesToAll() {
        var written = Written([UInt32](repeating: 0, count: 5))
        var random = SplitMix64(seed: 1)
        #expect((0..<10).map { Choice.roundRobin(written, turn: UInt64($0), using: &random) } == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4])
        written.loads[2] = EndpointLoad.avoided
        var picks = [Int](repeating: 0, count: 5)
        for turn in 0..<50_000 { picks[Choice.roundRobin(written, turn: UInt64(turn), using: &random)!] += 1 }
        #expect(picks[2] == 0)
        for place in [0, 1, 3, 4] { #expect(abs(picks[place] - 12_500) < 300) }
    }

    @Test func theCheaperOfTwoIsChosen() {
        var written = Written([0, 0, 0])
        written.costs = [5, 1, 9]
        let picks = picks(written, times: 30_000) { Choice.peakEWMA($0, using: &$1) }
        #expect(picks[2] == 0 && abs(picks[1] - 20_000) < 600)
    }

    @Test func oneSeedReplaysOneDecision() {
        let written = Written((0..<1_000).map { UInt32($0 % 7) })
        #expect(picks(written, times: 500) { Choice.leastRequests($0, using: &$1) } == picks(written, times: 500) { Choice.leastRequests($0, using: &$1) })
    }

    /// The reference implementation's first numbers for seed 1234567.
    @Test func theGeneratorIsTheReferences() {
        var random = SplitMix64(seed: 1_234_567)
        #expect((0..<3).map { _ in random.next() } == [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423])
    }
}
