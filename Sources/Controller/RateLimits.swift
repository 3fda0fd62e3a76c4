import Synchronization

/// Buckets of attempts: so many at once, so many per second.
final class RateLimits: Sendable {
    private struct Bucket {
        var level: Double
        var at: Double
    }
    private let buckets = Mutex<[String: Bucket]>([:])
    private let burst: Double, perSecond: Double

    init(burst: Double, perSecond: Double) { (self.burst, self.perSecond) = (burst, perSecond) }

    /// Takes one attempt of this name; false when there is none left.
    /// - Parameter now: seconds of any clock that only grows.
    func take(_ name: String, at now: Double) -> Bool {
        buckets.withLock { buckets in
            // Full buckets say nothing: forgotten, a name begins with a full one.
            if buckets[name] == nil, buckets.count >= ControllerLimits.nodesMax {
                buckets = buckets.filter { $0.value.level + (now - $0.value.at) * perSecond < burst }
            }
            var bucket = buckets[name] ?? Bucket(level: burst, at: now)
            bucket.level = min(burst, bucket.level + max(0, now - bucket.at) * perSecond)
            bucket.at = now
            defer { buckets[name] = bucket }
            guard bucket.level >= 1 else { return false }
            bucket.level -= 1
            return true
        }
    }
}
