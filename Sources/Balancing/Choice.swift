/// Step 5 of the journey: which endpoint takes the request.
/// Before it, `Routing` found the service port; after it, `Upstream` leases a connection to the endpoint chosen.
///
/// Every choice is: draw one or two as the algorithm has it; when neither of them is avoided, warming or excluded, that was it. Otherwise the
/// careful choice draws again, a bounded number of times. Nothing here looks at all endpoints unless nearly all of them are unfit.
public enum Choice {
    /// Draws of the careful choice before it walks. With half of the endpoints unfit, one choice in 65,536 walks.
    static let drawsMax = 16

    // MARK: The algorithms

    /// Of two endpoints drawn at random the less loaded one. That keeps the longest queue near log log n without any endpoint being compared
    /// with all others, and without the herd that "least loaded of all" makes when several proxies see the same figures (Mitzenmacher, "The
    /// Power of Two Choices in Randomized Load Balancing"). Equal loads are settled by the draw, so idle endpoints share evenly.
    ///
    /// Nobody is excluded: a request's first try.
    @inlinable
    public static func leastRequests(_ candidates: some Candidates, using random: inout some RandomNumberGenerator) -> Int? {
        let count = candidates.count
        if count <= 1 { return count == 1 ? 0 : nil }
        let drawn = distinctPair(below: count, using: &random)
        let first = candidates.load(at: drawn.0).rawValue, second = candidates.load(at: drawn.1).rawValue
        if first | second < EndpointLoad.flagged { return second < first ? drawn.1 : drawn.0 }
        return carefully(candidates, by: .inFlight, using: &random)
    }

    /// Of two endpoints drawn at random the one expected to answer sooner: latency as it was lately, its peaks remembered (`PeakLatency`),
    /// times the requests that wait there already.
    @inlinable
    public static func peakEWMA(_ candidates: some Candidates, using random: inout some RandomNumberGenerator) -> Int? {
        let count = candidates.count
        if count <= 1 { return count == 1 ? 0 : nil }
        let drawn = distinctPair(below: count, using: &random)
        if candidates.load(at: drawn.0).rawValue | candidates.load(at: drawn.1).rawValue < EndpointLoad.flagged {
            return candidates.cost(at: drawn.1) < candidates.cost(at: drawn.0) ? drawn.1 : drawn.0
        }
        return carefully(candidates, by: .cost, using: &random)
    }

    /// Any one.
    @inlinable
    public static func random(_ candidates: some Candidates, using random: inout some RandomNumberGenerator) -> Int? {
        let count = candidates.count
        if count <= 1 { return count == 1 ? 0 : nil }
        let drawn = number(below: count, using: &random)
        if !candidates.load(at: drawn).isFlagged { return drawn }
        return carefully(candidates, by: .nothing, using: &random)
    }

    /// The one whose turn it is. Turns of those that are unfit, and those that a warming one does not take yet, go to any other: to the next in
    /// order they would double its share.
    /// - Parameter turn: counts up by one with each request, over all who choose.
    @inlinable
    public static func roundRobin(_ candidates: some Candidates, turn: UInt64, using random: inout some RandomNumberGenerator) -> Int? {
        let count = candidates.count
        if count <= 1 { return count == 1 ? 0 : nil }
        let place = Int(truncatingIfNeeded: turn % UInt64(truncatingIfNeeded: count))
        let load = candidates.load(at: place)
        if !load.isFlagged || isFit(candidates, place, load, using: &random) { return place }
        return carefully(candidates, by: .nothing, using: &random)
    }

    /// The one that the table has for a hash, or the next for it while that one is unfit or has more than its share in flight: consistent
    /// hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam).
    ///
    /// - Parameter total: requests in flight on all of them together.
    @inlinable
    public static func hashed(
        _ candidates: some Candidates, _ table: HashTable.View, _ hash: UInt64, total: UInt32, using random: inout some RandomNumberGenerator
    ) -> Int? {
        let count = candidates.count
        // A table of another generation's endpoints is none.
        guard count > 1, table.count == count else { return leastRequests(candidates, using: &random) }
        // Five quarters of the mean, and at least one more than nothing: alone, a request stays where it belongs.
        let bound = UInt32(truncatingIfNeeded: (UInt64(total) &+ 1) &* 5 / (4 &* UInt64(truncatingIfNeeded: count))) &+ 1
        var probe = table.begin(hash)
        var draws = 0
        while draws < hashProbesMax {
            let place = table.next(&probe)
            let load = candidates.load(at: place)
            if !load.isAvoided && load.inFlight < bound && !candidates.isExcluded(place) { return place }
            draws &+= 1
        }
        // Those for this hash are all busy or unfit: what is asked for so much is best asked for everywhere.
        return carefully(candidates, by: .inFlight, using: &random)
    }

    /// Places of the table that one hash looks at. With a third of the endpoints unfit, one hash in a billion finds none.
    @usableFromInline static let hashProbesMax = 20

    // MARK: With care

    /// By what the better of two is told.
    public enum Measure: Sendable { case inFlight, cost, nothing }

    /// The choice when some endpoints are avoided, warming or excluded; nil when all are excluded.
    public static func carefully(_ candidates: some Candidates, by measure: Measure, using random: inout some RandomNumberGenerator) -> Int? {
        let count = candidates.count
        guard count > 0 else { return nil }
        var best: Int?
        for _ in 0..<drawsMax {
            let place = number(below: count, using: &random)
            let load = candidates.load(at: place)
            guard place != best, !candidates.isExcluded(place), isFit(candidates, place, load, using: &random) else { continue }
            guard let other = best else {
                best = place
                if measure == .nothing { return place }
                continue
            }
            switch measure {
            case .inFlight: return load.inFlight < candidates.load(at: other).inFlight ? place : other
            case .cost: return candidates.cost(at: place) < candidates.cost(at: other) ? place : other
            case .nothing: return other
            }
        }
        if let best { return best }
        let start = number(below: count, using: &random)
        return first(of: candidates, from: start) { !candidates.isExcluded($0) && !candidates.load(at: $0).isAvoided }
            ?? first(of: candidates, from: start) { !candidates.isExcluded($0) }
    }

    @inlinable
    static func isFit(_ candidates: some Candidates, _ place: Int, _ load: EndpointLoad, using random: inout some RandomNumberGenerator) -> Bool {
        if load.isAvoided { return false }
        return !load.isWarming || UInt32(truncatingIfNeeded: random.next() >> 48) < candidates.warmth(at: place)
    }

    /// The first place from `start` on, around the end, that is wanted.
    private static func first(of candidates: some Candidates, from start: Int, where isWanted: (Int) -> Bool) -> Int? {
        var place = start
        repeat {
            if isWanted(place) { return place }
            place = place + 1 == candidates.count ? 0 : place + 1
        } while place != start
        return nil
    }

    // MARK: Chance

    /// A number below `count`, by multiplication instead of division. The bias is below `count` / 2^32.
    @inlinable
    static func number(below count: Int, using random: inout some RandomNumberGenerator) -> Int {
        Int(truncatingIfNeeded: ((random.next() >> 32) &* UInt64(truncatingIfNeeded: count)) >> 32)
    }

    /// Two different numbers below `count` (≥ 2) from one random word, in random order. The bias is as above: for 1,000 endpoints, one pick
    /// in four million.
    @inlinable
    static func distinctPair(below count: Int, using random: inout some RandomNumberGenerator) -> (Int, Int) {
        let word = random.next()
        let bound = UInt64(truncatingIfNeeded: count)
        let first = Int(truncatingIfNeeded: ((word & 0xffff_ffff) &* bound) >> 32)
        var second = Int(truncatingIfNeeded: ((word >> 32) &* (bound - 1)) >> 32)
        if second >= first { second += 1 }
        return (first, second)
    }
}
