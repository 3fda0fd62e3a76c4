import Testing

@testable import Balancing

@Suite struct PowerOfTwoChoicesTests {
    @Test func nobodyIsPickedAmongNone() {
        var random = SplitMix64(seed: 1)
        #expect(PowerOfTwoChoices.pick(among: 0, using: &random) { _ in 0 } == nil)
    }

    @Test func theOnlyOneIsPickedUnlessExcluded() {
        var random = SplitMix64(seed: 1)
        #expect(PowerOfTwoChoices.pick(among: 1, using: &random) { _ in 99 } == 0)
        #expect(PowerOfTwoChoices.pick(among: 1, using: &random, isExcluded: { _ in true }, load: { _ in 0 }) == nil)
    }

    @Test func ofTwoTheLessLoadedIsPicked() {
        var random = SplitMix64(seed: 1)
        let loads: [UInt32] = [3, 2]
        for _ in 0..<100 { #expect(PowerOfTwoChoices.pick(among: 2, using: &random) { loads[$0] } == 1) }
    }

    @Test func ofTwoTheOneNotExcludedIsPickedWhateverItsLoad() {
        var random = SplitMix64(seed: 1)
        for _ in 0..<100 {
            #expect(PowerOfTwoChoices.pick(among: 2, using: &random, isExcluded: { $0 == 0 }, load: { $0 == 0 ? 0 : 50 }) == 1)
        }
    }

    @Test func equalLoadsShareEvenly() {
        var random = SplitMix64(seed: 7)
        var picks = [Int](repeating: 0, count: 10)
        for _ in 0..<100_000 { picks[PowerOfTwoChoices.pick(among: 10, using: &random) { _ in 5 }!] += 1 }
        // 10,000 each; five standard deviations of a binomial with p = 0.1 are 474.
        for count in picks { #expect(abs(count - 10_000) < 474) }
    }

    /// The most loaded endpoint is never picked, the least loaded in 2/n of all draws.
    @Test func loadDecidesBetweenTheTwo() {
        var random = SplitMix64(seed: 11)
        var picks = [Int](repeating: 0, count: 8)
        for _ in 0..<80_000 { picks[PowerOfTwoChoices.pick(among: 8, using: &random) { UInt32($0) }!] += 1 }
        #expect(picks[7] == 0)
        #expect(abs(picks[0] - 20_000) < 600)
        for place in 1..<8 { #expect(picks[place] < picks[place - 1]) }
    }

    /// n balls into n bins: the fullest holds about log log n, where one random choice makes log n / log log n.
    @Test func queuesStayShort() {
        var random = SplitMix64(seed: 3)
        var two = [UInt32](repeating: 0, count: 10_000), one = two
        for _ in 0..<10_000 {
            two[PowerOfTwoChoices.pick(among: two.count, using: &random) { two[$0] }!] += 1
            one[Int(random.next() % 10_000)] += 1
        }
        #expect(two.max()! <= 4)
        #expect(one.max()! >= 5)
    }

    @Test func excludedOnesAreNeverPickedAndTheOthersAll() {
        var random = SplitMix64(seed: 5)
        var picks = [Int](repeating: 0, count: 6)
        for _ in 0..<60_000 {
            picks[PowerOfTwoChoices.pick(among: 6, using: &random, isExcluded: { $0 == 2 || $0 == 3 }, load: { _ in 0 })!] += 1
        }
        #expect(picks[2] == 0 && picks[3] == 0)
        for place in [0, 1, 4, 5] { #expect(picks[place] > 6_000) }
        #expect(PowerOfTwoChoices.pick(among: 6, using: &random, isExcluded: { _ in true }, load: { _ in 0 }) == nil)
    }

    @Test func oneSeedReplaysOneDecision() {
        var first = SplitMix64(seed: 42), second = SplitMix64(seed: 42)
        for _ in 0..<100 {
            #expect(
                PowerOfTwoChoices.pick(among: 1_000, using: &first) { UInt32($0 % 7) }
                    == PowerOfTwoChoices.pick(among: 1_000, using: &second) { UInt32($0 % 7) })
        }
    }

    /// The reference implementation's first numbers for seed 1234567.
    @Test func theGeneratorIsTheReferences() {
        var random = SplitMix64(seed: 1_234_567)
        #expect((0..<3).map { _ in random.next() } == [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423])
    }
}
