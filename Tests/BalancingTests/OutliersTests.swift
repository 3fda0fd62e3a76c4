import Testing

@testable import Balancing

@Suite struct OutliersTests {
    private func readings(_ failures: [UInt32], of requests: UInt32 = 1_000) -> [Outliers.Reading] {
        failures.map { Outliers.Reading(requests: requests, failures: $0) }
    }

    @Test func anEndpointThatFailsMoreThanTheOthersIsFound() {
        #expect(Outliers.bySuccessRate(readings([0, 2, 200, 1, 0]), deviationHundredths: 190) == [2])
        #expect(Outliers.bySuccessRate(readings([0, 0, 100]), deviationHundredths: 190) == [2])
    }

    /// All alike are all right, or all wrong: then it is not the endpoint.
    @Test func whereAllFailAlikeNobodyIsWorse() {
        #expect(Outliers.bySuccessRate(readings([500, 510, 490, 505]), deviationHundredths: 190) == [])
        #expect(Outliers.bySuccessRate(readings([0, 0, 0, 3]), deviationHundredths: 190) == [])
    }

    @Test func fewRequestsOrFewEndpointsSayNothing() {
        #expect(Outliers.bySuccessRate(readings([0, 0, 50], of: 99), deviationHundredths: 190) == [])
        #expect(Outliers.bySuccessRate(readings([0, 900]), deviationHundredths: 190) == [])
        #expect(Outliers.bySuccessRate(readings([0, 0, 900]), deviationHundredths: 0) == [])
    }

    @Test func theSlowOneIsFoundByTheMedian() {
        let readings = [1_000, 1_200, 900, 5_000, 1_100].map { Outliers.Reading(requests: 500, failures: 0, latencyMicroseconds: $0) }
        #expect(Outliers.byLatency(readings, factor: 3) == [3])
        #expect(Outliers.byLatency(readings, factor: 5) == [])
        #expect(Outliers.byLatency(readings, factor: 0) == [])
    }

    @Test func aShareMayBeEjectedButNeverTheLast() {
        #expect(Outliers.ejectedMax(of: 1, percent: 100) == 0)
        #expect(Outliers.ejectedMax(of: 2, percent: 10) == 1)
        #expect(Outliers.ejectedMax(of: 10, percent: 50) == 5)
        #expect(Outliers.ejectedMax(of: 4, percent: 100) == 3)
        #expect(Outliers.ejectedMax(of: 10, percent: 0) == 0)
    }

    @Test func ejectionsGrowLongerUpToABound() {
        #expect([1, 2, 3, 1_000].map { Outliers.ejectionMilliseconds(base: 30_000, times: $0) } == [30_000, 60_000, 90_000, 300_000])
        #expect(Outliers.ejectionMilliseconds(base: 600_000, times: 2) == 600_000)
    }

    @Test func panicAndSpillFollowFromHowManyAreFit() {
        #expect(!Outliers.isPanic(fit: 5, of: 10, percent: 50) && Outliers.isPanic(fit: 4, of: 10, percent: 50))
        #expect(!Outliers.isPanic(fit: 0, of: 10, percent: 0) && !Outliers.isPanic(fit: 0, of: 0, percent: 50))
        #expect(Outliers.spill(fit: 10, of: 10) == 0 && Outliers.spill(fit: 8, of: 10) == 0)
        #expect(Outliers.spill(fit: 0, of: 10) == 65_536 && Outliers.spill(fit: 0, of: 0) == 65_536)
        #expect(abs(Double(Outliers.spill(fit: 5, of: 10)) / 65_536 - 0.3) < 0.001)
    }

    @Test func sharesGrowOverTheTimeOfASlowStart() {
        #expect(SlowStart.share(elapsedMilliseconds: 0, of: 10_000) == SlowStart.leastShare)
        #expect(SlowStart.share(elapsedMilliseconds: 5_000, of: 10_000) == 32_768)
        #expect(SlowStart.share(elapsedMilliseconds: 10_000, of: 10_000) == 65_536 && SlowStart.share(elapsedMilliseconds: 0, of: 0) == 65_536)
    }

    // MARK: Latency

    @Test func aPeakIsBelievedAtOnceAndForgottenSlowly() {
        var latency = PeakLatency(rawValue: 0).with(microseconds: 1_000, at: 0)
        latency = latency.with(microseconds: 50_000, at: 10)
        #expect(latency.microseconds(at: 10) == 50_000)
        latency = latency.with(microseconds: 1_000, at: 20)
        #expect(latency.microseconds(at: 20) > 40_000)
        for moment in 0..<200 { latency = latency.with(microseconds: 1_000, at: 30 + UInt32(moment)) }
        #expect(latency.microseconds(at: 230) < 1_100)
    }

    @Test func whoIsNotAskedIsForgivenInTime() {
        let latency = PeakLatency(rawValue: 0).with(microseconds: 80_000, at: .max - 5)
        // The clock has wrapped in between.
        #expect(abs(latency.microseconds(at: 9_994) - 80_000 * 0.368) < 100)
        #expect(latency.microseconds(at: .max - 9) == 80_000)
        #expect(latency.cost(inFlight: 3, at: .max - 5) == 320_000)
    }
}

@Suite struct HealthTallyTests {
    @Test func soManyAnswersInARowChangeTheConclusion() {
        var tally = HealthTally()
        func heard(_ answers: String) -> String {
            String(answers.map { tally.heard($0 == "+", unhealthyAfter: 3, healthyAfter: 2) ? (tally.isWell ? "W" : "U") : "." })
        }
        #expect(heard("--+--+") == "......")
        #expect(heard("----") == "..U.")
        #expect(heard("+-+") == "...")
        #expect(heard("++") == "W.")
        #expect(tally.isWell)
    }
}
