import EventLoop

/// What is known of the proxies behind addresses: which of them know CONNECT only, and which were not there a moment ago.
///
/// A fixed number of places, found by hash: one address may push out another, about which it is then found out again. Forgetting is never wrong.
public struct WireMemory: ~Copyable {
    /// How long a proxy's choice of protocol is believed: an update that teaches it another is found out within that time.
    public static let foreignLastsNanoseconds: Nanoseconds = 300_000_000_000
    /// How long a proxy that refused a connection counts as gone.
    public static let absenceLastsNanoseconds: Nanoseconds = 1_000_000_000
    /// Addresses remembered at a time.
    static let placeCount = 4_096

    struct Place {
        var high: UInt64 = 0, low: UInt64 = 0
        /// 0: not known to be so.
        var foreignUntil: Nanoseconds = 0, absentUntil: Nanoseconds = 0
    }

    private let places = Region<Place>(capacity: WireMemory.placeCount)

    public init() {}

    /// The proxy at the address agreed on HBONE (ALPN `h2`), or, when not `isForeign`, on Weft's own protocol.
    public mutating func remember(high: UInt64, low: UInt64, isForeign: Bool, now: Nanoseconds) {
        guard isForeign || place(high, low).pointee.foreignUntil != 0 else { return }
        claim(high, low).pointee.foreignUntil = isForeign ? now + Self.foreignLastsNanoseconds : 0
    }

    /// Nobody listens for mutual TLS at the address.
    public mutating func rememberAbsence(high: UInt64, low: UInt64, now: Nanoseconds) {
        claim(high, low).pointee.absentUntil = now + Self.absenceLastsNanoseconds
    }

    /// Whether the proxy at the address is known to speak HBONE.
    public func isForeign(high: UInt64, low: UInt64, now: Nanoseconds) -> Bool {
        let place = place(high, low)
        return now < place.pointee.foreignUntil && place.pointee.low == low && place.pointee.high == high
    }

    /// Whether nobody was there a moment ago.
    public func isAbsent(high: UInt64, low: UInt64, now: Nanoseconds) -> Bool {
        let place = place(high, low)
        return now < place.pointee.absentUntil && place.pointee.low == low && place.pointee.high == high
    }

    private func claim(_ high: UInt64, _ low: UInt64) -> UnsafeMutablePointer<Place> {
        let place = place(high, low)
        if place.pointee.low != low || place.pointee.high != high { place.pointee = Place(high: high, low: low) }
        return place
    }

    private func place(_ high: UInt64, _ low: UInt64) -> UnsafeMutablePointer<Place> {
        var mixed = (low ^ high &* 0x9E37_79B9_7F4A_7C15) &* 0xFF51_AFD7_ED55_8CCD
        mixed ^= mixed >> 32
        return places.base + (Int(truncatingIfNeeded: mixed) & (Self.placeCount - 1))
    }
}
