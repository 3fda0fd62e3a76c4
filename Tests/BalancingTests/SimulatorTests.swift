import Glibc
import Testing

@testable import Balancing

/// What each algorithm does to the requests of a service, on the real choices. The table that is printed stands in the docs (Resilience).
@Suite struct SimulatorTests {
    private static let alike = Simulator.Scene(name: "2,000 alike", means: [Double](repeating: 10, count: 2_000), utilisation: 0.7)
    /// Machines of three generations, and every hundredth request meets a pause.
    private static let uneven = Simulator.Scene(
        name: "1,000 uneven, noisy", means: (0..<1_000).map { [6, 10, 20][$0 % 3] }, pauseChance: 0.01, pauseMilliseconds: 100, utilisation: 0.65)
    /// One answers, but ten times as slowly as the others.
    private static let oneSlow = Simulator.Scene(
        name: "one of 20 is slow", means: (0..<20).map { $0 == 7 ? 100 : 10 }, hands: 16, utilisation: 0.3, proxies: 2)

    private func results(_ scene: Simulator.Scene) -> [Simulator.Algorithm: Simulator.Result] {
        Dictionary(uniqueKeysWithValues: Simulator.Algorithm.allCases.map { ($0, Simulator.run(scene, $0, seed: 1)) })
    }

    @Test func theOrderOfTheAlgorithms() throws {
        let scenes = [Self.alike, Self.uneven, Self.oneSlow]
        let all = scenes.map(results)
        var table = "| algorithm | " + scenes.map { "\($0.name): p50, p99 ms" }.joined(separator: " | ") + " |\n"
        table += "|---|" + scenes.map { _ in "---|" }.joined() + "\n"
        for algorithm in Simulator.Algorithm.allCases {
            let cells = all.map { results in "\(rounded(results[algorithm]!.p50)), \(rounded(results[algorithm]!.p99))" }
            table += "| \(algorithm.rawValue) | " + cells.joined(separator: " | ") + " |\n"
        }
        print(table)
        let (alike, uneven, oneSlow) = (all[0], all[1], all[2])
        // Looking at two queues beats not looking, wherever there are queues.
        for results in [alike, uneven] {
            #expect(results[.leastRequests]!.p99 < results[.random]!.p99)
            #expect(results[.peakEWMA]!.p99 < results[.random]!.p99)
        }
        #expect(alike[.leastRequests]!.p99 < alike[.roundRobin]!.p99 * 1.05)
        #expect(uneven[.leastRequests]!.p99 < uneven[.roundRobin]!.p99 * 0.8)
        // A slow endpoint has short queues when it has few requests: only its latency gives it away.
        #expect(oneSlow[.peakEWMA]!.p99 < oneSlow[.leastRequests]!.p99 * 0.95)
        #expect(oneSlow[.leastRequests]!.p99 < oneSlow[.random]!.p99)
        // A hash's endpoint is not chosen by its load, but bounded by it.
        for results in [alike, uneven] {
            #expect(results[.ringHash]!.p99 < results[.random]!.p99 * 1.5 && results[.maglev]!.p99 < results[.random]!.p99 * 1.5)
        }
    }

    private func rounded(_ milliseconds: Double) -> String {
        milliseconds < 10 ? "\((milliseconds * 10).rounded() / 10)" : "\(Int(milliseconds.rounded()))"
    }
}
