/// A worker's source of chance: one addition and three mixing steps per number, replayable from its seed
/// (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators"; the reference constants).
///
/// For balancing, jitter and request ids. Not for secrets: one output reveals all that follow.
public struct SplitMix64: RandomNumberGenerator, Sendable {
    @usableFromInline var state: UInt64

    /// The same seed gives the same numbers. Workers seed from `getrandom`, tests from a constant.
    @inlinable
    public init(seed: UInt64) { state = seed }

    @inlinable
    public mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
        return word ^ (word >> 31)
    }
}
