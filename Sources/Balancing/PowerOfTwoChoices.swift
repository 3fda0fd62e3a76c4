/// Step 5 of the journey: which endpoint takes the request.
/// Before it, `Routing` found the service port; after it, `Upstream` leases a connection to the endpoint chosen.
///
/// Of two endpoints drawn at random the less loaded one wins. That keeps the longest queue near log log n without any
/// endpoint being compared with all others, and without the herd that "least loaded of all" makes when several proxies
/// see the same figures (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing").
public enum PowerOfTwoChoices {
    /// The place, in 0 ..< `count`, of the endpoint to use; `nil` when there is none or all are excluded.
    ///
    /// `load` is read for at most two endpoints. Equal loads are settled by the draw, so idle endpoints share evenly.
    /// When an endpoint that was drawn is excluded (a request's second try), the next one not excluded takes its part.
    /// The closures do not escape and are specialised away; nothing is allocated.
    @inlinable
    public static func pick(
        among count: Int, using random: inout some RandomNumberGenerator, isExcluded: (Int) -> Bool, load: (Int) -> UInt32
    ) -> Int? {
        if count <= 1 { return count == 1 && !isExcluded(0) ? 0 : nil }
        let drawn = distinctPair(below: count, using: &random)
        guard let first = included(from: drawn.0, count: count, isExcluded: isExcluded) else { return nil }
        guard let second = included(from: drawn.1, count: count, isExcluded: { $0 == first || isExcluded($0) }) else { return first }
        return load(second) < load(first) ? second : first
    }

    /// As above, with nothing excluded: a request's first try.
    @inlinable
    public static func pick(among count: Int, using random: inout some RandomNumberGenerator, load: (Int) -> UInt32) -> Int? {
        if count <= 1 { return count == 1 ? 0 : nil }
        let drawn = distinctPair(below: count, using: &random)
        return load(drawn.1) < load(drawn.0) ? drawn.1 : drawn.0
    }

    /// Two different numbers below `count` (≥ 2) from one random word, in random order.
    ///
    /// Each half is scaled by multiplication instead of division. The bias is below `count` / 2^32: for 1,000 endpoints,
    /// one pick in four million.
    @inlinable
    static func distinctPair(below count: Int, using random: inout some RandomNumberGenerator) -> (Int, Int) {
        let word = random.next()
        let bound = UInt64(truncatingIfNeeded: count)
        let first = Int(truncatingIfNeeded: ((word & 0xffff_ffff) &* bound) >> 32)
        var second = Int(truncatingIfNeeded: ((word >> 32) &* (bound - 1)) >> 32)
        if second >= first { second += 1 }
        return (first, second)
    }

    /// The first place from `start` on, around the end, that is not excluded.
    @inlinable
    static func included(from start: Int, count: Int, isExcluded: (Int) -> Bool) -> Int? {
        var place = start
        repeat {
            if !isExcluded(place) { return place }
            place = place + 1 == count ? 0 : place + 1
        } while place != start
        return nil
    }
}
