import EventLoop

/// Endpoints that answered HTTP/2 with something else: for a while, requests go to them as HTTP/1.1.
///
/// A fixed number of places, found by hash: one endpoint may push out another, which is then asked again. Forgetting is never wrong.
public struct HTTP1Memory: ~Copyable {
    /// How long an answer is believed: a server that has learned HTTP/2 with an update is found out within that time.
    public static let answerLastsNanoseconds: Nanoseconds = 300_000_000_000
    /// How long a connection closed without a word is: some servers mean the same by it, others were just about to end.
    public static let silenceLastsNanoseconds: Nanoseconds = 10_000_000_000
    /// Endpoints remembered at a time.
    static let placeCount = 4_096

    struct Place {
        var high: UInt64 = 0, low: UInt64 = 0
        var port: UInt16 = 0
        /// 0: free.
        var until: Nanoseconds = 0
    }

    private let places = Region<Place>(capacity: HTTP1Memory.placeCount)

    public init() {}

    /// The endpoint speaks HTTP/1.1 only, as seen at `now`.
    /// - Parameter hasAnswered: it has said something that is not HTTP/2; otherwise it has only closed the connection.
    public mutating func remember(high: UInt64, low: UInt64, port: UInt16, hasAnswered: Bool, now: Nanoseconds) {
        let lasts = hasAnswered ? Self.answerLastsNanoseconds : Self.silenceLastsNanoseconds
        places[Self.place(high, low, port)] = Place(high: high, low: low, port: port, until: now + lasts)
    }

    /// The endpoint does not speak HTTP/1.1 either: it is asked anew.
    public mutating func forget(high: UInt64, low: UInt64, port: UInt16) {
        let place = places.base + Self.place(high, low, port)
        if place.pointee.port == port && place.pointee.low == low && place.pointee.high == high { place.pointee = Place() }
    }

    /// Whether that is known of the endpoint at this time.
    public func knows(high: UInt64, low: UInt64, port: UInt16, now: Nanoseconds) -> Bool {
        let place = places.base + Self.place(high, low, port)
        return now < place.pointee.until && place.pointee.port == port && place.pointee.low == low && place.pointee.high == high
    }

    private static func place(_ high: UInt64, _ low: UInt64, _ port: UInt16) -> Int {
        // The port must reach the bits that are used: a product carries upwards only, and ports of one address are what is asked for in turn.
        var mixed = (low ^ high &* 0x9E37_79B9_7F4A_7C15) &+ UInt64(port) &* 0xC2B2_AE3D_27D4_EB4F
        mixed ^= mixed >> 32
        mixed &*= 0xFF51_AFD7_ED55_8CCD
        mixed ^= mixed >> 32
        return Int(truncatingIfNeeded: mixed) & (placeCount - 1)
    }
}
