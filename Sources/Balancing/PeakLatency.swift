import Glibc

/// An endpoint's latency as it was lately: a mean that weighs what is new more, and jumps up to a peak at once (Finagle's peak EWMA).
///
/// One word, so that workers read and write it whole: microseconds above, the time of the last sample in milliseconds below. A write lost to
/// another worker's is one sample less.
public struct PeakLatency: Sendable, Equatable {
    /// After this time without samples, a third of the value is left: an endpoint that was slow is tried again, and believed.
    public static let decayMilliseconds: Float = 10_000
    /// What an endpoint that was never tried is taken for, in microseconds: new ones are found out about soon, but not by everybody.
    static let untriedMicroseconds: Float = 1_000

    public let rawValue: UInt64

    /// 0: no sample yet.
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }

    @usableFromInline init(microseconds: UInt32, at milliseconds: UInt32) { rawValue = UInt64(microseconds) << 32 | UInt64(milliseconds) }

    /// The value when a sample has come.
    /// - Parameter milliseconds: the time, of any beginning; it may wrap.
    public func with(microseconds sample: UInt32, at milliseconds: UInt32) -> PeakLatency {
        // A sample of nothing would read as none.
        let sample = max(1, sample)
        guard rawValue != 0 else { return PeakLatency(microseconds: sample, at: milliseconds) }
        let old = microseconds(at: milliseconds)
        if Float(sample) >= old { return PeakLatency(microseconds: sample, at: milliseconds) }
        // At least a sixteenth of it counts, however close the samples are: a busy endpoint would else hold on to its peak.
        let elapsed = Float(milliseconds &- UInt32(truncatingIfNeeded: rawValue))
        let weight = max(1 - expf(-elapsed / Self.decayMilliseconds), 1 / 16)
        return PeakLatency(microseconds: UInt32(max(1, old + (Float(sample) - old) * weight)), at: milliseconds)
    }

    /// The latency to expect now.
    public func microseconds(at milliseconds: UInt32) -> Float {
        guard rawValue != 0 else { return Self.untriedMicroseconds }
        let latency = Float(UInt32(truncatingIfNeeded: rawValue >> 32))
        // Written by another worker a moment after this turn began.
        let elapsed = Int32(bitPattern: milliseconds &- UInt32(truncatingIfNeeded: rawValue))
        return elapsed <= 0 ? latency : latency * expf(-Float(elapsed) / Self.decayMilliseconds)
    }

    /// What one request more costs.
    public func cost(inFlight: UInt32, at milliseconds: UInt32) -> Float { microseconds(at: milliseconds) * Float(inFlight + 1) }
}
