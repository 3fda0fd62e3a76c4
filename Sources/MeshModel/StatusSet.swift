/// Statuses of replies between 400 and 599, each a bit: what calls for another attempt can be anything of them (GEP-1731).
public struct StatusSet: Sendable, Equatable {
    @usableFromInline var words: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)

    public init() {}

    /// Statuses outside the range are left out: a reply that has one is never sent again.
    public init(_ statuses: [UInt16]) {
        for status in statuses { insert(status) }
    }

    public mutating func insert(_ status: UInt16) {
        guard Self.range.contains(status) else { return }
        let bit = Int(status - Self.range.lowerBound)
        withUnsafeMutableBytes(of: &words) { $0[bit >> 3] |= 1 << UInt8(bit & 7) }
    }

    @usableFromInline static let range: ClosedRange<UInt16> = 400...599

    @inlinable
    public func contains(_ status: UInt16) -> Bool {
        guard status >= 400, status <= 599 else { return false }
        let bit = Int(status) - 400
        let word = bit < 128 ? (bit < 64 ? words.0 : words.1) : (bit < 192 ? words.2 : words.3)
        return word >> UInt64(bit & 63) & 1 != 0
    }

    @inlinable public var isEmpty: Bool { words.0 | words.1 | words.2 | words.3 == 0 }

    @inlinable
    public static func == (left: StatusSet, right: StatusSet) -> Bool {
        left.words.0 == right.words.0 && left.words.1 == right.words.1 && left.words.2 == right.words.2 && left.words.3 == right.words.3
    }
}
