/// When one identity's next certificate is due. Knows no clock and no dice: both come as arguments, so that a day passes in a test's instant.
///
///     fresh ──ask──▶ asked ──issued──▶ resting ──half of its life──▶ due ──ask──▶ …
///                      └──failed──▶ waiting (1 s, 2 s, 4 s … 60 s) ──▶ due
///
/// Times are unix seconds with fractions; `dice` is uniform in 0 ..< 1.
public struct RotationClock: Sendable, Equatable {
    /// When to ask next.
    public private(set) var due: Double
    /// Attempts that failed since the last that did not.
    public private(set) var failures = 0
    /// Since when attempts fail.
    public private(set) var failingSince: Double?

    /// First pause after a failure; doubled each time.
    public static let pauseSecondsMin = 1.0
    public static let pauseSecondsMax = 60.0
    /// A certificate is renewed after half of its life, give or take this share of its life: nodes that start together do not ask together for ever.
    public static let jitterShare = 0.1

    /// Due at once.
    public init(at now: Double) { due = now }

    public func isDue(at now: Double) -> Bool { now >= due }

    /// A certificate has come.
    public mutating func issued(notAfter: Double, at now: Double, dice: Double) {
        let life = max(0, notAfter - now)
        due = now + life * (0.5 + Self.jitterShare * (2 * dice - 1))
        (failures, failingSince) = (0, nil)
    }

    /// None has come. Pauses grow, but never so long that the running certificate could end before several more attempts.
    /// - Parameter notAfter: end of the certificate in use; nil without one.
    public mutating func failed(notAfter: Double?, at now: Double, dice: Double) {
        if failures == 0 { failingSince = now }
        let doubled = Self.pauseSecondsMin * Double(1 << min(failures, 10))
        failures += 1
        var pause = min(doubled, Self.pauseSecondsMax)
        if let notAfter, notAfter > now { pause = min(pause, max(Self.pauseSecondsMin / 2, (notAfter - now) / 8)) }
        due = now + pause * (1 - 0.2 * dice)
    }

    /// Something changed that makes asking again worthwhile.
    public mutating func hurry(at now: Double) { due = min(due, now) }
}
