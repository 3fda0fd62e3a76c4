import Glibc
import Synchronization

/// A bucket of tokens as one atomic number: the time at which it is full again (the generic cell rate algorithm, ITU-T I.371). Taking a
/// token moves that time on; what nobody touches fills by itself.
public enum TokenBucket {
    /// Takes a token.
    /// - Parameters:
    ///   - every: nanoseconds between two tokens.
    ///   - burst: nanoseconds until an empty bucket is full.
    /// - Returns: 0, or the nanoseconds until there is a token.
    @inlinable
    static func take(_ fullAt: UnsafeMutablePointer<Atomic<UInt64>>, every: UInt64, burst: UInt64, now: UInt64) -> UInt64 {
        var seen = fullAt.pointee.load(ordering: .relaxed)
        while true {
            let next = max(seen, now) &+ every
            // Workers read the clock once a turn: another's may be a little ahead, which is no token less.
            if next > now &+ burst { return next - now - burst }
            let (exchanged, original) = fullAt.pointee.compareExchange(expected: seen, desired: next, ordering: .relaxed)
            if exchanged { return 0 }
            seen = original
        }
    }
}

/// The process-wide buckets of all rate limits, one per limit and key, exact over the workers.
///
/// A bucket is 16 bytes in a fixed table: its key and its time. A full one holds nothing worth remembering, so its place is free for another
/// key. When all places that a key may have hold others that are not full (a client that makes up header values), the key shares its
/// limit's common bucket with all such keys: who floods the table is limited with those who flood it.
///
/// `@unchecked Sendable`: what changes is atomic.
public final class TokenBuckets: @unchecked Sendable {
    /// Keys that have used their limit lately; 1 MiB of address space.
    public static let bucketsMax = 1 << 16
    static let probesMax = 16
    /// Common buckets of limits, behind the others; two limits that meet in one share it.
    static let commonMax = 1 << 10
    private static let byteCount = bucketsMax * 16 + commonMax * 8

    private let base: UnsafeMutablePointer<Atomic<UInt64>>

    public init() {
        let start = mmap(nil, Self.byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        precondition(start != MAP_FAILED, "address space for token buckets")
        base = start!.assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    deinit { munmap(UnsafeMutableRawPointer(base), Self.byteCount) }

    /// Takes a token of a limit for a key, each told by a hash.
    /// - Returns: 0, or the nanoseconds until there is a token.
    public func take(limit: UInt64, key: UInt64, every: UInt64, burst: UInt64, now: UInt64) -> UInt64 {
        guard every > 0 else { return 0 }
        return TokenBucket.take(bucket(Self.mix(limit, key), now: now) ?? common(Self.mix(limit, 0)), every: every, burst: burst, now: now)
    }

    private func common(_ hash: UInt64) -> UnsafeMutablePointer<Atomic<UInt64>> {
        base + 2 * Self.bucketsMax + (Int(truncatingIfNeeded: hash >> 32) & (Self.commonMax - 1))
    }

    private func bucket(_ hash: UInt64, now: UInt64) -> UnsafeMutablePointer<Atomic<UInt64>>? {
        let first = Int(truncatingIfNeeded: hash >> 32) & (Self.bucketsMax - 1)
        var free: (place: UnsafeMutablePointer<Atomic<UInt64>>, key: UInt64)?
        for probe in 0..<Self.probesMax {
            let place = base + 2 * ((first + probe) & (Self.bucketsMax - 1))
            let seen = place.pointee.load(ordering: .relaxed)
            if seen == hash { return place + 1 }
            if free == nil, seen == 0 || place[1].load(ordering: .relaxed) <= now { free = (place, seen) }
            if seen == 0 { break }
        }
        guard let free else { return nil }
        // Who loses the race to another key uses that one's bucket this once.
        _ = free.place.pointee.compareExchange(expected: free.key, desired: hash, ordering: .relaxed)
        return free.place + 1
    }

    private static func mix(_ limit: UInt64, _ key: UInt64) -> UInt64 {
        var word = limit ^ (key &* 0x9E37_79B9_7F4A_7C15)
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return (word ^ (word >> 31)) | 1
    }
}
