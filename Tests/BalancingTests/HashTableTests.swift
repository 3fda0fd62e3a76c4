import Testing

@testable import Balancing

@Suite struct HashTableTests {
    private enum Kind: CaseIterable { case ring, maglev }

    private func table(_ kind: Kind, _ keys: [UInt64]) -> HashTable { kind == .ring ? HashTable.ring(keys)! : HashTable.maglev(keys)! }

    private func keys(_ count: Int, seed: UInt64 = 9) -> [UInt64] {
        var random = SplitMix64(seed: seed)
        return (0..<count).map { _ in random.next() }
    }

    /// The key of the endpoint to which each of so many hashes belongs.
    private func owners(_ table: HashTable, _ keys: [UInt64], of hashes: Int) -> [UInt64] {
        var random = SplitMix64(seed: 77)
        return (0..<hashes).map { _ in
            var probe = table.view.begin(random.next())
            return keys[table.view.next(&probe)]
        }
    }

    /// Nobody is owed more than five quarters of the mean; of a table's slots a thousand endpoints have too few each for that.
    @Test(arguments: [3, 10, 65, 300, 500, 1_000]) func sharesAreEven(count: Int) {
        let keys = keys(count)
        for kind in Kind.allCases where kind == .ring || count <= 500 {
            var shares: [UInt64: Int] = [:]
            let hashes = max(200_000, count * 2_000)
            for owner in owners(table(kind, keys), keys, of: hashes) { shares[owner, default: 0] += 1 }
            let mean = Double(hashes) / Double(count)
            #expect(shares.count == count && Double(shares.values.max()!) <= mean * 1.25, "\(kind) of \(count): \(Double(shares.values.max()!) / mean)")
        }
    }

    /// When one of N endpoints leaves, at most 1.5/N of the keys move: its own and no other.
    @Test(arguments: [3, 10, 65, 300, 500, 1_000]) func fewKeysMoveWhenOneLeaves(count: Int) {
        let keys = keys(count)
        let gone = keys[count / 2]
        let rest = keys.filter { $0 != gone }
        for kind in Kind.allCases {
            let before = owners(table(kind, keys), keys, of: 200_000), after = owners(table(kind, rest), rest, of: 200_000)
            let moved = zip(before, after).reduce(0) { $0 + ($1.0 == $1.1 ? 0 : 1) }
            #expect(Double(moved) <= 200_000 * 1.5 / Double(count), "\(kind) of \(count): \(Double(moved) * Double(count) / 200_000)/N")
            #expect(zip(before, after).allSatisfy { $0 == $1 || $0 == gone })
        }
    }

    /// Two nodes that learned of the endpoints in another order send a key to the same one.
    @Test func theOrderOfEndpointsDoesNotMatter() {
        let keys = keys(40)
        let reversed = Array(keys.reversed())
        for kind in Kind.allCases { #expect(owners(table(kind, keys), keys, of: 10_000) == owners(table(kind, reversed), reversed, of: 10_000)) }
    }

    /// Equal hashes meet while all is well; an avoided endpoint's hashes go elsewhere and the others' stay.
    @Test func onlyTheHashesOfAnAvoidedEndpointMove() {
        let keys = keys(20)
        for kind in Kind.allCases {
            let table = table(kind, keys)
            var random = SplitMix64(seed: 5)
            var well = Written([UInt32](repeating: 0, count: 20)), ill = well
            ill.loads[7] = EndpointLoad.avoided
            var moved = 0
            for hash in (0..<20_000).map({ UInt64($0) &* 0x9e37_79b9_7f4a_7c15 }) {
                let before = Choice.hashed(well, table.view, hash, total: 0, using: &random)!
                let after = Choice.hashed(ill, table.view, hash, total: 0, using: &random)!
                #expect(after != 7 && (before == 7 || before == after))
                if before != after { moved += 1 }
            }
            #expect(moved > 600 && moved < 1_500)
            well.excluded = [3]
            #expect(Choice.hashed(well, table.view, 1, total: 0, using: &random) != 3)
        }
    }

    /// A key that everybody asks for does not drown its endpoint: past five quarters of the mean, its requests go on.
    @Test func loadIsBounded() {
        let keys = keys(10)
        for kind in Kind.allCases {
            let table = table(kind, keys)
            var random = SplitMix64(seed: 5)
            var written = Written([UInt32](repeating: 0, count: 10))
            for request in 0..<1_000 { written.loads[Choice.hashed(written, table.view, 42, total: UInt32(request), using: &random)!] += 1 }
            #expect(written.loads.max()! <= 126)
            #expect(written.loads.filter { $0 > 0 }.count >= 8)
        }
    }

    /// A worker may still hold tables whose endpoints are others.
    @Test func aTableOfOtherEndpointsIsNone() {
        let table = HashTable.maglev(keys(10))!
        var random = SplitMix64(seed: 1)
        #expect(Choice.hashed(Written([0, 9]), table.view, 1, total: 0, using: &random) == 0)
        #expect(HashTable.ring([]) == nil && HashTable.maglev([]) == nil)
    }
}
