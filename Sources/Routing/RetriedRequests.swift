import Glibc
import Synchronization

/// Requests that were tried more than once lately, by a hash of their identifier: so that of several proxies on a request's way one tries
/// again, and not each of them the attempts of the one before.
///
/// A fixed table of words, each a hash and the second it was noted in; a newer request takes an older one's place. What is forgotten too
/// early costs a retry that the budget allows anyway. `@unchecked Sendable`: what changes is atomic.
public final class RetriedRequests: @unchecked Sendable {
    /// On whose side of us it was tried again.
    public enum Side: UInt64, Sendable {
        /// By the proxy of a caller: what we do for it is part of another attempt already.
        case above = 0x9E37_79B9_7F4A_7C15
        /// By us, or by a proxy behind us, in vain: whoever is asked to fails like this again.
        case below = 0xD1B5_4A32_D192_ED03
    }

    static let requestsMax = 1 << 14
    /// A request's life, roughly; seconds of 2^30 ns.
    static let secondsMax: UInt64 = 10

    private let base: UnsafeMutablePointer<Atomic<UInt64>>
    private let used = Atomic<Bool>(false)

    public init() {
        let start = mmap(nil, Self.requestsMax * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        precondition(start != MAP_FAILED, "address space for retried requests")
        base = start!.assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    deinit { munmap(UnsafeMutableRawPointer(base), Self.requestsMax * 8) }

    /// Whether anybody has asked for retries, or told of some. Until then no request needs its identifier looked at.
    public var isUsed: Bool { used.load(ordering: .relaxed) }

    /// From now on identifiers matter.
    public func use() { if !isUsed { used.store(true, ordering: .relaxed) } }

    public func note(_ identity: UInt64, _ side: Side, now: UInt64) {
        let hash = Self.hash(identity, side)
        place(hash).pointee.store(hash & ~0xFFFF | (now >> 30) & 0xFFFF, ordering: .relaxed)
    }

    public func knows(_ identity: UInt64, _ side: Side, now: UInt64) -> Bool {
        let hash = Self.hash(identity, side)
        let seen = place(hash).pointee.load(ordering: .relaxed)
        return seen & ~0xFFFF == hash & ~0xFFFF && ((now >> 30) &- seen) & 0xFFFF <= Self.secondsMax
    }

    private func place(_ hash: UInt64) -> UnsafeMutablePointer<Atomic<UInt64>> { base + (Int(truncatingIfNeeded: hash >> 40) & (Self.requestsMax - 1)) }

    private static func hash(_ identity: UInt64, _ side: Side) -> UInt64 {
        var word = identity ^ side.rawValue
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }
}
