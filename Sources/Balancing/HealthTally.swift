/// What a health check has found lately: so many answers of a kind in a row change its mind.
public struct HealthTally: Sendable, Equatable {
    public private(set) var isWell: Bool
    private var against: UInt8 = 0

    /// An endpoint counts as well until it is found not to be.
    public init(isWell: Bool = true) { self.isWell = isWell }

    /// Notes an answer. True when it has changed the conclusion.
    public mutating func heard(_ good: Bool, unhealthyAfter: UInt8, healthyAfter: UInt8) -> Bool {
        guard good != isWell else {
            against = 0
            return false
        }
        against = against == .max ? .max : against + 1
        guard against >= max(1, isWell ? unhealthyAfter : healthyAfter) else { return false }
        isWell = good
        against = 0
        return true
    }
}
