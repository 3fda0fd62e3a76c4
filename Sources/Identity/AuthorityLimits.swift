/// What the authority and those who ask it take on at most.
public enum AuthorityLimits {
    /// A signing request in DER. One with a key of RSA 4096 has 1.7 KB.
    public static let requestBytesMax = 8 * 1024
    /// The largest RSA key: checking a signature by it costs the authority time that the asker chooses.
    public static let rsaBitsMax = 8_192
    public static let rsaBitsMin = 2_048
    /// PEM of all roots in force; as much as fits a control packet.
    public static let bundleBytesMax = 60 * 1024
    /// PEM of a leaf and what leads to a root.
    public static let chainBytesMax = 32 * 1024
    /// Clocks of two machines may differ by this much: certificates begin so much earlier, and the wire takes those that ended no longer ago.
    public static let clockSkewSeconds: Int64 = 300
    /// Roots in force at a time. More would mean that rotations overtake each other.
    public static let rootsMax = 4
    public static let rootLifetimeSeconds: Int64 = 3_650 * 86_400
    /// The issuing certificate; renewed at half of it.
    public static let issuerLifetimeSeconds: Int64 = 180 * 86_400
    public static let workloadLifetimeSeconds: Int64 = 86_400
    /// A node that was off for longer must join again.
    public static let nodeLifetimeSeconds: Int64 = 30 * 86_400
    public static let serialBytes = 16
    /// What a log line quotes of what somebody sent.
    public static let quotedBytesMax = 256
    public static let tokenLifetimeSeconds: Int64 = 3_600
    /// Tokens that wait for their node.
    public static let tokensMax = 10_000
}
