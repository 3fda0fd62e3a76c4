/// Which roots exist and what each is for: `state.json` of an authority's directory, and every decision about it.
///
/// One root's life:
///
///     announced ──overlap──▶ active ──the next one is activated──▶ retiring ──nothing it signed is alive──▶ gone
///
/// A root is in the trust bundle from the first to the last. It signs (through an issuing certificate) only while it is active, and is activated only
/// when every node that can be reached has had time to learn of it.
struct AuthorityState: Codable, Equatable, Sendable {
    var trustDomain: String
    /// Of the trust bundle.
    var generation: UInt64 = 1
    var roots: [Root]
    /// The issuing certificate in use, `issuer/<number>.crt`.
    var issuer: Int
    /// The longest life that was ever given to a leaf here: what a root signed last is dead so long after its last day.
    var longestLifetimeSeconds: Int64
    /// Nodes that were revoked, and when, unix seconds: what they were given until then counts no more. Nil: none ever was.
    var revokedNodes: [String: Int64]?

    struct Root: Codable, Equatable, Sendable {
        /// `roots/<number>.crt`.
        var number: Int
        var phase: Phase
        /// When it came to this phase, unix seconds.
        var since: Int64
        /// When its certificate ends, unix seconds.
        var notAfter: Int64
    }

    enum Phase: String, Codable, Sendable { case announced, active, retiring }

    /// What is due.
    enum Step: Equatable {
        /// A new root's key and certificate are to be made and announced under this number.
        case announce(number: Int)
        /// The root is to sign a new issuing certificate.
        case activate(number: Int)
        /// The root leaves the bundle.
        case remove(number: Int)
    }

    var active: Root? { roots.first { $0.phase == .active } }
    var announced: Root? { roots.first { $0.phase == .announced } }
    var nextRootNumber: Int { (roots.map(\.number).max() ?? 0) + 1 }

    /// The steps that are due now, in the order in which they are to be taken.
    /// - Parameter overlapSeconds: how long a root is announced before it signs.
    func due(at now: Int64, overlapSeconds: Int64) -> [Step] {
        var steps: [Step] = []
        if let announced, now >= announced.since + overlapSeconds { steps.append(.activate(number: announced.number)) }
        for root in roots where root.phase == .retiring && now >= gone(root) { steps.append(.remove(number: root.number)) }
        // A root whose days are numbered makes room by itself: an issuing certificate must not outlive it.
        if announced == nil, let active, now >= active.notAfter - 2 * AuthorityLimits.issuerLifetimeSeconds { steps.append(.announce(number: nextRootNumber)) }
        return steps
    }

    /// When nothing that this retiring root vouches for is alive by anybody's clock. Who is further off than a whole lifetime has no certificate anyway.
    func gone(_ root: Root) -> Int64 { root.since + longestLifetimeSeconds + min(AuthorityLimits.clockSkewSeconds, longestLifetimeSeconds) }

    mutating func announce(_ number: Int, notAfter: Int64, at now: Int64) {
        roots.append(Root(number: number, phase: .announced, since: now, notAfter: notAfter))
        generation += 1
    }

    /// The bundle stays as it is: both roots are in it.
    mutating func activate(_ number: Int, issuer: Int, at now: Int64) {
        for index in roots.indices {
            if roots[index].phase == .active { (roots[index].phase, roots[index].since) = (.retiring, now) }
            if roots[index].number == number { (roots[index].phase, roots[index].since) = (.active, now) }
        }
        self.issuer = issuer
    }

    mutating func remove(_ number: Int) {
        roots.removeAll { $0.number == number }
        generation += 1
    }
}
