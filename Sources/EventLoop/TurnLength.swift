/// How long the loop may serve without looking for news.
///
/// Looking costs a system call, so a flow (a pod) that is alone gets long turns. With company, the length of a turn is what a quiet flow
/// waits for each leg of its request; then turns are short. Company is another flow that was served a moment ago.
public struct TurnLength {
    public let aloneNanoseconds: Int64
    public let sharedNanoseconds: Int64
    /// Company that has been silent so long is gone. A flow that comes back after that waits for one long turn.
    public let memoryNanoseconds: Nanoseconds
    private var lastFlow = UInt32.max
    private var sharedUntil: Nanoseconds = 0

    public init(aloneNanoseconds: Int64, sharedNanoseconds: Int64, memoryNanoseconds: Nanoseconds) {
        self.aloneNanoseconds = aloneNanoseconds
        self.sharedNanoseconds = sharedNanoseconds
        self.memoryNanoseconds = memoryNanoseconds
    }

    /// `flow` has just been served.
    @inlinable public mutating func served(_ flow: UInt32, _ now: Nanoseconds) {
        if flow != lastServed { change(to: flow, now) }
    }

    @usableFromInline var lastServed: UInt32 { lastFlow }

    @usableFromInline mutating func change(to flow: UInt32, _ now: Nanoseconds) {
        if lastFlow != .max { sharedUntil = now + memoryNanoseconds }
        lastFlow = flow
    }

    public func isShared(_ now: Nanoseconds) -> Bool { now < sharedUntil }
}
