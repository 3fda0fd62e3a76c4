/// How long an upstream connection may rest in its pool.
///
/// A request sent on a connection that the peer is just closing is lost or must be repeated, so we retire it first. Servers close after
/// 75 s (nginx), 60 s (Envoy), 5 s (Node.js, Apache), 2 s (gunicorn): the default stays 1 s below the shortest common one. A server that says
/// `Keep-Alive: timeout=` is believed, and one that closed an idle connection on us is remembered.
public struct IdleLimit: Equatable, Sendable {
    public static let millisecondsDefault: UInt32 = 4_000
    /// A connection may rest longer than the default only when the server has promised it.
    public static let millisecondsMax: UInt32 = 60_000
    static let millisecondsMin: UInt32 = 100

    public private(set) var milliseconds = IdleLimit.millisecondsDefault

    public init() {}

    /// The server said `Keep-Alive: timeout=seconds`. It counts from its last byte, so the way there and back comes off: a second, or half
    /// of a promise too short for that.
    public mutating func heard(timeoutSeconds seconds: Int) {
        guard seconds > 0 else { milliseconds = Self.millisecondsMin; return }
        let promised = UInt32(clamping: min(seconds, 3_600) * 1_000)
        let safe = promised > 2_000 ? promised - 1_000 : promised / 2
        milliseconds = min(max(safe, Self.millisecondsMin), Self.millisecondsMax)
    }

    /// The server closed a connection that had rested for `restedMilliseconds`.
    public mutating func sawClose(restedMilliseconds: UInt64) {
        // Three quarters: its clock started before ours. A close right after a reply says nothing about idling.
        guard restedMilliseconds >= UInt64(Self.millisecondsMin), restedMilliseconds < UInt64(milliseconds) else { return }
        milliseconds = max(UInt32(restedMilliseconds * 3 / 4), Self.millisecondsMin)
    }
}
