import MutualTLS
import Upstream

/// The newest ticket of each destination, so that the next session towards it need not show and check certificates again (RFC 8446, 2.2).
///
/// A fixed number of places, found by the pool key's hash, which names the calling identity and the expected one; a ticket serves sessions of the
/// credentials that it was got with. One destination may push out another, whose next handshake is a full one.
struct TicketShelf: ~Copyable {
    static let placeCount = 512

    private struct Place: ~Copyable {
        var key: PoolKey?
        var generation: UInt64 = 0
        var ticket: TLSTicket?
    }

    private let places: UnsafeMutablePointer<Place>

    init() {
        places = .allocate(capacity: Self.placeCount)
        for index in 0..<Self.placeCount { (places + index).initialize(to: Place()) }
    }

    /// Keeps the ticket in place of what is there.
    func keep(_ ticket: consuming TLSTicket, for key: PoolKey, generation: UInt64) {
        let place = places + Self.place(key)
        place.pointee.key = key
        place.pointee.generation = generation
        place.pointee.ticket = consume ticket
    }

    /// Hands the ticket of the destination, if there is one of these credentials, to `body`.
    func withTicket<Result: ~Copyable>(_ key: PoolKey, generation: UInt64, _ body: (borrowing TLSTicket?) -> Result) -> Result {
        let place = places + Self.place(key)
        guard place.pointee.key == key, place.pointee.generation == generation else { return body(nil) }
        return body(place.pointee.ticket)
    }

    private static func place(_ key: PoolKey) -> Int { key.hash & (placeCount - 1) }

    deinit {
        places.deinitialize(count: Self.placeCount)
        places.deallocate()
    }
}
