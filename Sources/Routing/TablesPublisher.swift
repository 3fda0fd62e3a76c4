import MeshModel
import Synchronization

/// Hands each new generation from the control thread to the workers, and frees the old ones when the last worker has left.
///
/// Epochs: every published table has a number. A worker notes, in a cache line of its own, the number of the table it
/// reads; it does so once per turn of its loop, with no request half looked up. A table is freed when every worker's
/// number is greater than its own. Workers never wait, and the control thread never waits for them: it looks again later.
///
/// `@unchecked Sendable`: workers use the two atomics, `newest` and `retired` are the control thread's.
public final class TablesPublisher: @unchecked Sendable {
    public let workers: Int
    private let states: EndpointStates
    @usableFromInline let current: Atomic<UnsafeMutablePointer<TablesRoot>>
    /// One line per worker: the epoch it has entered.
    @usableFromInline let entered: UnsafeMutableRawPointer
    private var newest: Tables
    private var retired: [Tables] = []

    @usableFromInline static let strideBytes = 64

    /// Starts with empty tables of generation 0. All workers count as being in them from now on, whether they have
    /// started or not, so none can miss the retirement of something it is about to read.
    public init(workers: Int, states: EndpointStates) {
        precondition((1...Limits.workersMax).contains(workers), "workers out of range")
        self.workers = workers
        self.states = states
        newest = Tables(generation: 0, shards: Array(repeating: nil, count: ShardID.count), states: states)
        current = Atomic(newest.root)
        entered = .allocate(byteCount: workers * TablesPublisher.strideBytes, alignment: TablesPublisher.strideBytes)
        entered.initializeMemory(as: UInt8.self, repeating: 0, count: workers * TablesPublisher.strideBytes)
    }

    /// Nobody reads any more: the workers have ended.
    deinit { entered.deallocate() }

    // MARK: A worker's side

    /// The tables to use from now until the next call. Once per turn of the loop; gives up the view returned before.
    @inlinable
    public func enter(worker: Int) -> TablesView {
        let root = current.load(ordering: .acquiring)
        // Until this store the worker counts as being in its older epoch, which keeps this one alive as well.
        // Release: all reads of the older tables come before it.
        line(worker).pointee.store(root.pointee.epoch, ordering: .releasing)
        return TablesView(root: UnsafePointer(root))
    }

    /// The worker ends and reads nothing any more.
    public func leave(worker: Int) { line(worker).pointee.store(.max, ordering: .releasing) }

    // MARK: The control thread's side

    /// The generation workers find at their next turn.
    public var generation: UInt64 { newest.generation }

    /// The newest tables, for reading on the control thread.
    public var currentView: TablesView { newest.view }

    /// Older generations that some worker may still read.
    public var retiredCount: Int { retired.count }

    /// Makes tables the current ones. The caller then wakes the workers, so that idle ones move on too.
    public func publish(_ tables: Tables) {
        tables.root.pointee.epoch = newest.root.pointee.epoch + 1
        retired.append(newest)
        newest = tables
        current.store(tables.root, ordering: .releasing)
        reclaim()
    }

    /// Frees the generations and endpoint slots that nobody uses any more. Call it now and then, and after a publish when
    /// the workers have answered their wake. True when nothing is left to free.
    @discardableResult
    public func reclaim() -> Bool {
        var oldest = UInt64.max
        for worker in 0..<workers { oldest = min(oldest, line(worker).pointee.load(ordering: .acquiring)) }
        retired.removeAll { $0.root.pointee.epoch < oldest }
        states.sweep()
        states.holds.sweep()
        return retired.isEmpty
    }

    /// Whether every worker has entered the newest tables: the snapshot is applied.
    public var isAppliedEverywhere: Bool {
        let epoch = newest.root.pointee.epoch
        return (0..<workers).allSatisfy { line($0).pointee.load(ordering: .acquiring) >= epoch }
    }

    @inlinable
    func line(_ worker: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
        precondition(worker >= 0 && worker < workers, "no such worker")
        return (entered + worker * TablesPublisher.strideBytes).assumingMemoryBound(to: Atomic<UInt64>.self)
    }
}
