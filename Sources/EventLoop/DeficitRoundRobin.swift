/// Whose turn it is. Ready items (connections) wait in one queue per flow (a pod); flows take turns by deficit round robin, where the
/// cost of a turn is the time it took. Two lists, as in fq_codel (RFC 8290, 4.2): a flow that wakes up is *fresh* and goes before the
/// flows that have been busy, once; so a quiet pod waits for the turn in progress and no longer, and a pod that is never
/// quiet cannot use the privilege.
///
///     asleep ──enqueue──▶ fresh ──credit spent or queue empty──▶ busy ──queue empty──▶ asleep
///
/// Time is an argument: tests settle turns at made-up costs.
public struct DeficitRoundRobin: ~Copyable {
    static let nobody = UInt32.max

    enum Standing: UInt8 { case asleep, fresh, busy }

    struct Flow {
        var firstItem = DeficitRoundRobin.nobody
        var lastItem = DeficitRoundRobin.nobody
        var nextFlow = DeficitRoundRobin.nobody
        var standing = Standing.asleep
        /// Nanoseconds this flow may still spend before it goes to the back; negative is debt, which survives sleep.
        var credit: Int64 = 0
        /// Running mean of what serving one item costs, which turns credit into a number of items without a clock read per item.
        var itemCost: Int64 = 5_000
        var spent: UInt64 = 0
        var queued: UInt32 = 0
    }

    struct List {
        var first = DeficitRoundRobin.nobody
        var last = DeficitRoundRobin.nobody
    }

    /// One flow's permission to have up to `items` items served.
    public struct Turn: Equatable {
        public let flow: UInt32
        public let items: Int
    }

    /// What a busy flow may spend per round; may change between turns.
    public var quantumNanoseconds: Int64
    /// Flows 2n and 2n + 1 are two queues of one party: while both are awake, each has half a quantum.
    let hasPairs: Bool
    let itemsPerTurnMax: Int
    /// The most that one turn is charged with, in nanoseconds.
    static let chargeMax: Int64 = 6_400_000
    /// Per item: the next one in its queue + 1, with `queuedMark` set while the item waits.
    let links: Region<UInt32>
    static let queuedMark: UInt32 = 1 << 31
    var flows: [Flow] = []
    var fresh = List()
    var busy = List()
    public private(set) var queuedItems = 0

    /// - Parameters:
    ///   - quantumNanoseconds: what a busy flow may spend per round.
    ///   - hasPairs: flows 2n and 2n + 1 share one.
    public init(itemCapacity: Int, quantumNanoseconds: Int64, itemsPerTurnMax: Int = 64, hasPairs: Bool = false) {
        precondition(itemCapacity < Int(Self.queuedMark) - 1)
        links = Region(capacity: itemCapacity)
        self.quantumNanoseconds = quantumNanoseconds
        self.itemsPerTurnMax = itemsPerTurnMax
        self.hasPairs = hasPairs
    }

    /// Makes room for flows 0...flow.
    public mutating func admit(flow: UInt32) {
        while flows.count <= Int(flow) { flows.append(Flow()) }
    }

    public var isEmpty: Bool { queuedItems == 0 }

    /// Whether the item waits for its turn.
    public func isQueued(_ item: UInt32) -> Bool { links[Int(item)] & Self.queuedMark != 0 }

    /// Nanoseconds charged to `flow` so far.
    public func spent(by flow: UInt32) -> UInt64 { flows[Int(flow)].spent }

    /// What serving one item of `flow` has cost lately, in nanoseconds.
    public func itemCost(of flow: UInt32) -> Int64 { flows[Int(flow)].itemCost }

    /// Items of `flow` that wait.
    public func queued(in flow: UInt32) -> UInt32 { flows[Int(flow)].queued }

    /// Puts `item` at the end of its flow's queue, unless it waits already.
    public mutating func enqueue(_ item: UInt32, flow: UInt32) {
        guard !isQueued(item) else { return }
        links[Int(item)] = Self.queuedMark
        queuedItems += 1
        let index = Int(flow)
        if flows[index].lastItem == Self.nobody {
            flows[index].firstItem = item
        } else {
            links[Int(flows[index].lastItem)] = Self.queuedMark | (item + 1)
        }
        flows[index].lastItem = item
        flows[index].queued += 1
        if flows[index].standing == .asleep {
            flows[index].standing = .fresh
            flows[index].credit += quantum(of: index)       // was at most zero: credit is not saved up in sleep
            append(flow, toFresh: true)
        }
    }

    @inline(__always) private func quantum(of index: Int) -> Int64 {
        guard hasPairs else { return quantumNanoseconds }
        let other = index ^ 1
        return other < flows.count && flows[other].standing != .asleep ? quantumNanoseconds / 2 : quantumNanoseconds
    }

    /// The next turn, or nil when nothing waits.
    public mutating func next() -> Turn? {
        guard queuedItems > 0 else { return nil }
        while true {
            let fromFresh = fresh.first != Self.nobody
            let flow = fromFresh ? fresh.first : busy.first
            precondition(flow != Self.nobody, "items wait, but no flow is awake")
            let index = Int(flow)
            if flows[index].firstItem == Self.nobody {
                if fromFresh && busy.first != Self.nobody {
                    // Without this a flow that empties and wakes at once would be fresh again and again (RFC 8290, 4.2).
                    move(flow, toBusyFrom: true)
                } else {
                    removeFirst(ofFresh: fromFresh)
                    flows[index].standing = .asleep
                    flows[index].credit = min(flows[index].credit, 0)
                }
                continue
            }
            if flows[index].credit <= 0 {
                flows[index].credit += quantum(of: index)
                move(flow, toBusyFrom: fromFresh)
                continue
            }
            let affordable = Int(flows[index].credit / max(1, flows[index].itemCost)) + 1
            return Turn(flow: flow, items: min(affordable, itemsPerTurnMax))
        }
    }

    /// The next item of the turn's flow.
    public mutating func take(from flow: UInt32) -> UInt32? {
        let index = Int(flow)
        let item = flows[index].firstItem
        guard item != Self.nobody else { return nil }
        let next = links[Int(item)] & ~Self.queuedMark
        links[Int(item)] = 0
        if next == 0 {
            flows[index].firstItem = Self.nobody
            flows[index].lastItem = Self.nobody
        } else {
            flows[index].firstItem = next - 1
        }
        flows[index].queued -= 1
        queuedItems -= 1
        return item
    }

    /// Charges a turn in which `items` items took `nanoseconds`.
    public mutating func settle(_ flow: UInt32, items: Int, nanoseconds: UInt64) {
        guard items > 0 else { return }
        let index = Int(flow)
        let cost = Int64(clamping: nanoseconds)
        flows[index].spent &+= nanoseconds
        // A turn in which the kernel gave the processor to others must not condemn the pod for seconds.
        flows[index].credit -= min(cost, Self.chargeMax)
        flows[index].itemCost += (cost / Int64(items) - flows[index].itemCost) / 8
    }

    private mutating func move(_ flow: UInt32, toBusyFrom fromFresh: Bool) {
        removeFirst(ofFresh: fromFresh)
        flows[Int(flow)].standing = .busy
        append(flow, toFresh: false)
    }

    private mutating func append(_ flow: UInt32, toFresh: Bool) {
        flows[Int(flow)].nextFlow = Self.nobody
        var list = toFresh ? fresh : busy
        if list.last == Self.nobody { list.first = flow } else { flows[Int(list.last)].nextFlow = flow }
        list.last = flow
        if toFresh { fresh = list } else { busy = list }
    }

    private mutating func removeFirst(ofFresh: Bool) {
        var list = ofFresh ? fresh : busy
        list.first = flows[Int(list.first)].nextFlow
        if list.first == Self.nobody { list.last = Self.nobody }
        if ofFresh { fresh = list } else { busy = list }
    }
}
