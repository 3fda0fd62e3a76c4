/// When a child that ended is started again: at once, and with growing pauses when it does not live long.
///
/// Time is an argument, in milliseconds of one monotonic clock.
struct Backoff: Equatable {
    /// A child that lived this long is not crash-looping.
    static let healthyMilliseconds: UInt64 = 10_000
    static let firstPauseMilliseconds: UInt64 = 100
    static let pauseMillisecondsMax: UInt64 = 2_000

    private var shortLives = 0

    /// The pause before the next start of a child that lived from `started` to `ended`.
    mutating func pause(started: UInt64, ended: UInt64) -> UInt64 {
        precondition(ended >= started)
        guard ended - started < Self.healthyMilliseconds else {
            shortLives = 1
            return 0
        }
        defer { shortLives += 1 }
        if shortLives == 0 { return 0 }
        // 100, 200, 400, 800, 1,600, 2,000 …: five doublings pass the maximum, so the shift cannot overflow.
        return min(Self.firstPauseMilliseconds << UInt64(min(shortLives - 1, 5)), Self.pauseMillisecondsMax)
    }
}
