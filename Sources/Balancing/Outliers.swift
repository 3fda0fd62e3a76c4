import Glibc

/// Which endpoints of a service are worse than the others, and what follows from how many are unfit. Numbers in, numbers out.
public enum Outliers {
    /// Requests that an endpoint must have had in an interval for its success rate or latency to mean anything.
    public static let requestsLeast: UInt32 = 100
    /// Endpoints that must have had so many for their mean to mean anything.
    public static let endpointsLeast = 3
    /// The longest ejection, in milliseconds.
    public static let ejectionMillisecondsMax: UInt64 = 300_000

    /// What an interval has shown of one endpoint.
    public struct Reading: Sendable {
        public var requests: UInt32
        public var failures: UInt32
        public var latencyMicroseconds: Float

        public init(requests: UInt32, failures: UInt32, latencyMicroseconds: Float = 0) {
            self.requests = requests
            self.failures = failures
            self.latencyMicroseconds = latencyMicroseconds
        }

        var successRate: Double { requests == 0 ? 1 : 1 - Double(min(failures, requests)) / Double(requests) }
    }

    /// Those whose success rate lies more than some standard deviations below the mean of all (Envoy's success-rate detection).
    /// - Parameter hundredths: of a standard deviation; 0: nobody is judged.
    public static func bySuccessRate(_ readings: [Reading], deviationHundredths hundredths: UInt16) -> [Int] {
        let judged = readings.indices.filter { readings[$0].requests >= requestsLeast }
        guard hundredths > 0, judged.count >= endpointsLeast else { return [] }
        let rates = judged.map { readings[$0].successRate }
        let mean = rates.reduce(0, +) / Double(rates.count)
        let deviation = (rates.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(rates.count)).squareRoot()
        // Of n endpoints one can lie at most √(n − 1) deviations below the mean: with three, 1.41. What the outlier itself makes of the
        // deviation must not hide it.
        let factor = min(Double(hundredths) / 100, Double(rates.count - 1).squareRoot() * 0.95)
        // A whole percent, for a deviation of next to nothing makes an outlier of one failure in a thousand.
        let threshold = min(mean - deviation * factor, mean - 0.01)
        return judged.filter { readings[$0].successRate < threshold }
    }

    /// Those whose latency is more than `factor` times the median of all.
    /// - Parameter factor: 0: nobody is judged.
    public static func byLatency(_ readings: [Reading], factor: UInt8) -> [Int] {
        let judged = readings.indices.filter { readings[$0].requests >= requestsLeast }
        guard factor > 0, judged.count >= endpointsLeast else { return [] }
        let sorted = judged.map { readings[$0].latencyMicroseconds }.sorted()
        let median = sorted[(sorted.count - 1) / 2]
        return judged.filter { readings[$0].latencyMicroseconds > median * Float(factor) }
    }

    /// How many of `count` endpoints may be ejected at a time: the share, at least one, never the last.
    public static func ejectedMax(of count: Int, percent: UInt8) -> Int {
        guard count > 1, percent > 0 else { return 0 }
        return min(count - 1, max(1, count * Int(min(percent, 100)) / 100))
    }

    /// How long an endpoint stays out: longer each time, for what has failed again after its return will do so once more.
    /// - Parameter times: ejections lately, this one included.
    public static func ejectionMilliseconds(base: UInt32, times: UInt32) -> UInt64 {
        min(UInt64(base) * UInt64(max(1, times)), max(ejectionMillisecondsMax, UInt64(base)))
    }

    /// Whether so few are well that the mesh's idea of health is likelier wrong than they are, or that the rest would drown: all get requests.
    public static func isPanic(fit: Int, of count: Int, percent: UInt8) -> Bool { count > 0 && fit * 100 < count * Int(percent) }

    /// The share, in 65,536ths, of a tier's requests that goes to the next tiers, for want of fit endpoints. Three in ten may fail before the
    /// others have more than they can bear (Envoy's overprovisioning factor of 1.4). Both counts are in any one unit.
    public static func spill(fit: Int, of count: Int) -> UInt32 {
        guard count > 0 else { return 65_536 }
        let kept = min(65_536, fit * 65_536 * 14 / (count * 10))
        return UInt32(65_536 - kept)
    }
}

/// How much of its share an endpoint takes that is new, or has just come back.
public enum SlowStart {
    /// The share it begins with, in 65,536ths: a tenth.
    public static let leastShare: UInt32 = 6_554
    /// Who returns from an ejection takes this long even where nothing was said: an endpoint that has just recovered must not meet, at once,
    /// all whose requests it is due.
    public static let returnMillisecondsLeast: UInt32 = 5_000

    /// The share after a time, growing evenly to the full one.
    public static func share(elapsedMilliseconds: UInt32, of duration: UInt32) -> UInt32 {
        guard elapsedMilliseconds < duration else { return 65_536 }
        return max(leastShare, UInt32(UInt64(elapsedMilliseconds) * 65_536 / UInt64(duration)))
    }
}

/// When a near endpoint's work goes farther though it is fit.
public enum Tiers {
    /// Requests of this node in flight on an endpoint, below which nobody asks.
    public static let busyRequests: UInt32 = 32

    /// Twice as much to do as another's is worth the way there.
    public static func goesFarther(near: UInt32, far: UInt32) -> Bool { near >= busyRequests && far < near / 2 }
}
