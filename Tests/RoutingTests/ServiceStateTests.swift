import Glibc
import Synchronization
import Testing

@testable import Routing

/// What is exact over workers is exact when they all ask at once.
@Suite struct ServiceStateTests {
    /// `count` threads that run the same, at the same time.
    private func together(_ count: Int, _ work: @escaping @Sendable (Int) -> Void) {
        final class Work: Sendable {
            let number: Int
            let body: @Sendable (Int) -> Void
            init(_ number: Int, _ body: @escaping @Sendable (Int) -> Void) { (self.number, self.body) = (number, body) }
        }
        var threads: [pthread_t] = []
        for number in 0..<count {
            var thread = pthread_t()
            let argument = Unmanaged.passRetained(Work(number, work)).toOpaque()
            pthread_create(&thread, nil, { argument in
                let work = Unmanaged<Work>.fromOpaque(argument!).takeRetainedValue()
                work.body(work.number)
                return nil
            }, argument)
            threads.append(thread)
        }
        for thread in threads { pthread_join(thread, nil) }
    }

    @Test func noMoreAreLetInThanFit() {
        let states = ServiceStates()
        defer { withExtendedLifetime(states) {} }
        let state = states.state(hash: 42)!
        let most = Atomic<UInt32>(0), passed = Atomic<Int>(0)
        together(8) { _ in
            for _ in 0..<20_000 where state.begin(.requests, max: 3) {
                let now = state.value(.requests)
                if now > most.load(ordering: .relaxed) { most.store(now, ordering: .relaxed) }
                passed.wrappingAdd(1, ordering: .relaxed)
                state.finish(.requests)
            }
        }
        #expect(most.load(ordering: .relaxed) <= 3 && passed.load(ordering: .relaxed) > 1_000 && state.value(.requests) == 0)
    }

    @Test func everyServiceHasOneStateWhoeverComesFirst() {
        let states = ServiceStates()
        together(8) { _ in
            for number in 0..<5_000 { states.state(hash: UInt64(number) &* 0x9E37_79B9_7F4A_7C15)!.begin(.requests) }
        }
        for number in 0..<5_000 { #expect(states.state(hash: UInt64(number) &* 0x9E37_79B9_7F4A_7C15)!.value(.requests) == 8) }
    }

    @Test func aProcessThatHasSeenTooManyServicesCountsTheLaterOnesNoMore() {
        let states = ServiceStates()
        var unknown = 0
        var random = SystemRandomNumberGenerator()
        for _ in 0..<(ServiceStates.servicesMax + 1_000) where states.state(hash: random.next()) == nil { unknown += 1 }
        #expect(unknown >= 1_000)
    }

    @Test func retriesAreAShareOfThoseInFlightOrSoManyASecond() {
        let states = ServiceStates()
        defer { withExtendedLifetime(states) {} }
        let state = states.state(hash: 1)!
        for _ in 0..<100 { state.begin(.requests) }
        let granted = (0..<50).filter { _ in state.beginRetry(percent: 20, perSecondMin: 3, now: 1_000_000_000) }.count
        #expect(granted == 20 + 3)
        for _ in 0..<granted { state.finish(.retries) }
        let later = (0..<50).filter { _ in state.beginRetry(percent: 20, perSecondMin: 3, now: 2_000_000_000) }.count
        #expect(later == 20 + 3)
        #expect(!state.beginRetry(percent: 0, perSecondMin: 0, now: 9_000_000_000))
    }

    @Test(arguments: [1, 2, 8]) func aBucketGivesAsMuchAsItHolds(threads: Int) {
        let buckets = TokenBuckets(), given = Atomic<Int>(0)
        // Each thread's clock runs from 1 s to 11 s in its own steps: 1,000 a second and 100 at once are 10,100.
        together(threads) { _ in
            for step in 0..<40_000 {
                let now: UInt64 = 1_000_000_000 + UInt64(step) * 250_000
                if buckets.take(limit: 7, key: 1, every: 1_000_000, burst: 100_000_000, now: now) == 0 { given.wrappingAdd(1, ordering: .relaxed) }
            }
        }
        let count = given.load(ordering: .relaxed)
        // With several threads one that is ahead in time takes what those behind it would have found.
        #expect(count <= 10_100 && (threads > 1 || count >= 10_098), "\(count)")
    }

    @Test func keysDoNotShareAndAFullTableLimitsThoseWhoFillIt() {
        let buckets = TokenBuckets()
        let now: UInt64 = 1_000_000_000
        #expect(buckets.take(limit: 1, key: 1, every: 1_000_000_000, burst: 1_000_000_000, now: now) == 0)
        #expect(buckets.take(limit: 1, key: 1, every: 1_000_000_000, burst: 1_000_000_000, now: now) > 0)
        #expect(buckets.take(limit: 1, key: 2, every: 1_000_000_000, burst: 1_000_000_000, now: now) == 0)
        #expect(buckets.take(limit: 2, key: 1, every: 1_000_000_000, burst: 1_000_000_000, now: now) == 0)
        let asked = 4 * TokenBuckets.bucketsMax
        let given = (0..<asked).filter { buckets.take(limit: 9, key: UInt64($0) + 10, every: 1_000_000_000, burst: 1_000_000_000, now: now) == 0 }.count
        #expect(given <= TokenBuckets.bucketsMax + 1 && given > TokenBuckets.bucketsMax / 2)
    }

    @Test func aRequestIsRememberedOnItsSideAndForgottenInTime() {
        let memory = RetriedRequests()
        let second: UInt64 = 1 << 30
        #expect(!memory.isUsed && !memory.knows(5, .above, now: 100 * second))
        memory.note(5, .above, now: 100 * second)
        #expect(memory.knows(5, .above, now: 105 * second) && !memory.knows(5, .below, now: 105 * second) && !memory.knows(6, .above, now: 105 * second))
        #expect(!memory.knows(5, .above, now: 120 * second))
    }
}
