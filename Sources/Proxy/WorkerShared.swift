import CLinux
import EventLoop
import Glibc
import Routing
import Synchronization
import Telemetry

/// What the threads of one proxy have in common. Made before the workers start; nothing in it changes but atomics.
final class WorkerShared: @unchecked Sendable {
    let publisher: TablesPublisher
    let mailboxes: [Mailbox<WorkerMessage>]
    let counters: CountersRegion
    let heartbeatArray: Int32
    let serverFirst = ServerFirstMemory()
    let states: EndpointStates
    /// Readable when an endpoint should be judged at once; an eventfd.
    let judgeBell: Int32
    let services = ServiceStates()
    let buckets = TokenBuckets()
    let retried = RetriedRequests()
    /// One per worker.
    let accessNotes: [AccessNotes]
    let connectionsPerWorkerMax: Int
    /// Descriptors that connections of all workers may take together.
    let connectionsMax: Int
    private let loads: UnsafeMutableRawPointer

    static let strideBytes = 64
    /// Descriptors kept for listeners, stock, mailboxes and control sockets.
    static let descriptorReserve = 1_024

    init(publisher: TablesPublisher, states: EndpointStates, counters: CountersRegion, heartbeatArray: Int32, workers: Int, descriptorLimit: Int) {
        self.publisher = publisher
        self.states = states
        self.counters = counters
        judgeBell = eventfd(0, Int32(EFD_NONBLOCK | EFD_CLOEXEC))
        precondition(judgeBell >= 0, "no descriptor for the judge's bell")
        self.heartbeatArray = heartbeatArray
        accessNotes = (0..<workers).map { _ in AccessNotes() }
        mailboxes = (0..<workers).map { _ in Mailbox<WorkerMessage>() }
        connectionsMax = max(descriptorLimit - min(Self.descriptorReserve, descriptorLimit / 4), 16)
        // Any worker may end up with all of them: the reservation is address space, not memory.
        connectionsPerWorkerMax = connectionsMax + Self.descriptorReserve
        loads = .allocate(byteCount: workers * Self.strideBytes, alignment: Self.strideBytes)
        loads.initializeMemory(as: UInt8.self, repeating: 0, count: workers * Self.strideBytes)
    }

    private func load(_ worker: Int) -> UnsafeMutablePointer<Atomic<Int>> {
        (loads + worker * Self.strideBytes).assumingMemoryBound(to: Atomic<Int>.self)
    }

    func connectionOpened(on worker: Int) { load(worker).pointee.wrappingAdd(1, ordering: .relaxed) }
    func connectionClosed(on worker: Int) { load(worker).pointee.wrappingSubtract(1, ordering: .relaxed) }
    func connectionCount(of worker: Int) -> Int { load(worker).pointee.load(ordering: .relaxed) }

    /// Sockets of either side that a worker holds: what the descriptor budget is spent on.
    private func sockets(_ worker: Int) -> UnsafeMutablePointer<Atomic<Int>> {
        (loads + worker * Self.strideBytes + 8).assumingMemoryBound(to: Atomic<Int>.self)
    }

    func socketOpened(on worker: Int) { sockets(worker).pointee.wrappingAdd(1, ordering: .relaxed) }
    func socketClosed(on worker: Int) { sockets(worker).pointee.wrappingSubtract(1, ordering: .relaxed) }

    /// The worker that has so many fewer connections that handing one over pays: a quarter less, and at least eight.
    func lessLoaded(than worker: Int) -> Int? {
        guard mailboxes.count > 1 else { return nil }
        let own = connectionCount(of: worker)
        guard own >= 8 else { return nil }
        var least = worker, leastCount = own
        for other in mailboxes.indices where other != worker {
            let count = connectionCount(of: other)
            if count < leastCount { least = other; leastCount = count }
        }
        return own - leastCount >= max(8, own / 4) ? least : nil
    }

    /// Both sides count. Without this, accept() would fail for lack of descriptors, and a level-triggered listener report for ever.
    var isDescriptorBudgetSpent: Bool {
        var total = 0
        for worker in mailboxes.indices { total += sockets(worker).pointee.load(ordering: .relaxed) }
        return total >= connectionsMax
    }

    private let finished = Atomic<Int>(0)
    func workerFinished() { finished.wrappingAdd(1, ordering: .releasing) }
    /// Workers that have drained and ended.
    var finishedWorkers: Int { finished.load(ordering: .acquiring) }

    /// An endpoint has failed by its own fault; where that was once too often, the control thread looks now.
    func endpointFailed(_ slot: UInt32) {
        guard states.failed(slot) else { return }
        var one: UInt64 = 1
        _ = write(judgeBell, &one, 8)
    }

    deinit {
        loads.deallocate()
        close(judgeBell)
    }
}
