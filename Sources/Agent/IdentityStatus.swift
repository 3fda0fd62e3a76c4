import Identity

extension Status {
    /// Who signs for this node, and how every identity stands.
    public struct Identities: Codable, Sendable, Equatable {
        public var trustDomain: String
        /// `embedded`, the controller's address, or the directory of identity files.
        public var source: String
        /// Whether it answered when it was last asked.
        public var isReachable: Bool
        /// Seconds for which that has been so; absent before the first answer.
        public var sinceSeconds: Double?
        /// Why it cannot be reached; empty when it can.
        public var reason: String
        /// 0 without a bundle.
        public var bundleGeneration: UInt64
        /// Fingerprints (SHA-256, hex) of the roots in force.
        public var roots: [String]
        public var workloads: [Identity]
    }

    /// One identity of this node's pods.
    public struct Identity: Codable, Sendable, Equatable {
        /// `spiffe://…`
        public var identity: String
        /// `pending` (none yet), `active`, `rotating` (in force, the next is under way), `expired`, or `refused` (none, and asking as before will not help).
        public var state: String
        /// Why the last attempt came to nothing; empty when it did not.
        public var reason: String
        /// End of the certificate in force, unix seconds; absent without one.
        public var notAfter: Int64?
        /// Seconds until the next certificate is asked for; absent while one is under way, and with identity files.
        public var renewalSeconds: Double?
        /// Attempts in a row that failed.
        public var failures: Int
    }
}

extension Status.Identity {
    init(_ identity: SPIFFEIdentity, _ entry: IdentityLedger.Entry, at now: Double) {
        let isUnderWay = entry.progress != .resting
        let state: String
        if let inForce = entry.inForce {
            state = inForce.notAfter <= now ? "expired" : isUnderWay ? "rotating" : "active"
        } else {
            state = entry.failure?.isFinal == true && !isUnderWay ? "refused" : "pending"
        }
        self.init(
            identity: identity.description, state: state, reason: entry.failure?.reason ?? "", notAfter: entry.inForce.map { Int64($0.notAfter) },
            renewalSeconds: isUnderWay || entry.isFromFiles ? nil : max(0, entry.clock.due - now).rounded(), failures: entry.clock.failures)
    }

    static let states = ["pending", "active", "rotating", "expired", "refused"]
}
