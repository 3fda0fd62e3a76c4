import Testing

@testable import Upstream

/// A memory that may stand in an expectation.
private final class Memory {
    private var memory = WireMemory()
    func remember(_ low: UInt64, isForeign: Bool, now: UInt64) { memory.remember(high: 1, low: low, isForeign: isForeign, now: now) }
    func rememberAbsence(_ low: UInt64, now: UInt64) { memory.rememberAbsence(high: 1, low: low, now: now) }
    func isForeign(_ low: UInt64, now: UInt64) -> Bool { memory.isForeign(high: 1, low: low, now: now) }
    func isAbsent(_ low: UInt64, now: UInt64) -> Bool { memory.isAbsent(high: 1, low: low, now: now) }
}

@Suite struct WireMemoryTests {
    private let second: UInt64 = 1_000_000_000

    @Test func aForeignProxyIsKnownUntilItIsForgotten() {
        let memory = Memory()
        memory.remember(2, isForeign: false, now: 5 * second)
        #expect(!memory.isForeign(2, now: 5 * second))
        memory.remember(2, isForeign: true, now: 5 * second)
        #expect(memory.isForeign(2, now: 6 * second))
        #expect(!memory.isForeign(3, now: 6 * second))
        #expect(!memory.isForeign(2, now: 5 * second + WireMemory.foreignLastsNanoseconds))
        memory.remember(2, isForeign: true, now: 5 * second)
        memory.remember(2, isForeign: false, now: 6 * second)      // it has been replaced
        #expect(!memory.isForeign(2, now: 6 * second))
    }

    /// Both facts have one place; the one says nothing of the other.
    @Test func absenceLastsASecond() {
        let memory = Memory()
        memory.remember(2, isForeign: true, now: 5 * second)
        memory.rememberAbsence(2, now: 5 * second)
        #expect(memory.isAbsent(2, now: 6 * second - 1))
        #expect(!memory.isAbsent(2, now: 6 * second))
        #expect(memory.isForeign(2, now: 6 * second))
    }

    /// Another address in the same place: nothing is said of either that was not told of it.
    @Test func aPlaceIsOneAddress() {
        let memory = Memory()
        for low in 0..<UInt64(WireMemory.placeCount) * 4 {
            memory.rememberAbsence(low, now: second)
            #expect(!memory.isForeign(low, now: second))
            #expect(memory.isAbsent(low, now: second), "the latest is known")
        }
        let known = (0..<UInt64(WireMemory.placeCount) * 4).count { memory.isAbsent($0, now: second) }
        #expect(known <= WireMemory.placeCount)
    }
}
