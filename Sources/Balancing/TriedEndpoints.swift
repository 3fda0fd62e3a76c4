/// The endpoints one request has been tried on, by their slots, which stay the same when a new generation of tables
/// arrives between two tries. Four words, no allocation; holds more tries than any request has.
public struct TriedEndpoints: Sendable {
    /// More than `Limits.attemptsPerRequestMax`; a further slot replaces the oldest.
    public static let capacity = 4

    @usableFromInline var slots = InlineArray<4, UInt32>(repeating: .max)
    public private(set) var count = 0

    @inlinable
    public init() {}

    @inlinable public var isEmpty: Bool { slots[0] == .max }

    /// Notes that an endpoint was tried. `UInt32.max` is no slot.
    public mutating func insert(_ slot: UInt32) {
        precondition(slot != .max, "no endpoint has this slot")
        slots[count % TriedEndpoints.capacity] = slot
        count += 1
    }

    @inlinable
    public func contains(_ slot: UInt32) -> Bool {
        slots[0] == slot || slots[1] == slot || slots[2] == slot || slots[3] == slot
    }
}
