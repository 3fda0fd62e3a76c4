import CLinux

/// Nanoseconds of CLOCK_MONOTONIC. Only the loop reads the clock; everything that decides is handed the time.
public typealias Nanoseconds = UInt64

@inlinable public func monotonicNow() -> Nanoseconds { clinux_monotonic_nanoseconds() }

/// A small, fast generator (xorshift64*), one per worker. Not for secrets: it picks endpoints and trace identifiers.
public struct FastRandom: RandomNumberGenerator, Sendable {
    @usableFromInline var state: UInt64

    public init(seed: UInt64) { state = seed == 0 ? 0x9E37_79B9_7F4A_7C15 : seed }

    @inlinable public mutating func next() -> UInt64 {
        state ^= state &>> 12
        state ^= state &<< 25
        state ^= state &>> 27
        return state &* 0x2545_F491_4F6C_DD1D
    }
}
