import Glibc

/// Leaves whose chain was verified, by the SHA-256 of their DER and the side they were shown from. A peer that comes again is known by 32 bytes
/// instead of two signatures; that it holds the leaf's key it proves each time (CertificateVerify).
///
/// Four ways per set, the oldest of which makes room. Everything is dropped when roots or revocations change.
struct VerifiedLeaves: ~Copyable {
    struct Digest: Equatable {
        var words: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
        static func == (a: Digest, b: Digest) -> Bool {
            a.words.0 == b.words.0 && a.words.1 == b.words.1 && a.words.2 == b.words.2 && a.words.3 == b.words.3
        }
    }
    struct Entry {
        var digest = Digest()
        var peer: UnsafeMutablePointer<PeerRecord>?
        /// The peer was a server.
        var wasServer = false
        var since: UInt32 = 0
    }

    static let ways = 4
    private static let sets = TLSLimits.verifiedLeavesMax / ways
    private let entries: UnsafeMutablePointer<Entry>
    private var insertions: UInt32 = 0
    /// The roots that the entries were verified against.
    private(set) var rootsGeneration: UInt64 = 0

    init() {
        precondition(Self.sets.nonzeroBitCount == 1, "a set is chosen by a mask")
        entries = .allocate(capacity: Self.sets * Self.ways)
        entries.initialize(repeating: Entry(), count: Self.sets * Self.ways)
    }

    deinit {
        for place in 0..<(Self.sets * Self.ways) { entries[place].peer?.release() }
        entries.deallocate()
    }

    private func set(of digest: Digest) -> UnsafeMutablePointer<Entry> {
        entries + Int(truncatingIfNeeded: digest.words.0 & UInt64(Self.sets - 1)) * Self.ways
    }

    func find(_ digest: Digest, wasServer: Bool) -> UnsafeMutablePointer<PeerRecord>? {
        let set = set(of: digest)
        for way in 0..<Self.ways where set[way].peer != nil && set[way].digest == digest && set[way].wasServer == wasServer { return set[way].peer }
        return nil
    }

    mutating func remember(_ peer: UnsafeMutablePointer<PeerRecord>, _ digest: Digest, wasServer: Bool) {
        let set = set(of: digest)
        var chosen = 0
        for way in 0..<Self.ways {
            if set[way].peer == nil { chosen = way; break }
            if Int32(bitPattern: set[way].since &- set[chosen].since) < 0 { chosen = way }
        }
        set[chosen].peer?.release()
        peer.retain()
        insertions &+= 1
        set[chosen] = Entry(digest: digest, peer: peer, wasServer: wasServer, since: insertions)
    }

    mutating func removeAll(rootsGeneration generation: UInt64) {
        rootsGeneration = generation
        for place in 0..<(Self.sets * Self.ways) {
            entries[place].peer?.release()
            entries[place].peer = nil
        }
    }
}
