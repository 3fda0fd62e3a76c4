import Balancing
import Bytes
import CLinux
import ControlChannel
import EventLoop
import Glibc
import HTTPCodec
import MeshModel
import Routing
import Telemetry
import Upstream

/// One thread's share of the data plane: its connections, pools, stock and counters, and the loop that serves them.
///
/// The journey of a connection reads in the extensions, in this order: Accept, Claim, Detect, RequestHead, Forward, Connect, RequestBody,
/// ReplyHead, ReplyBody, Finish; beside them Relay (opaque bytes), Output (what the peer's window does not take), Failures
/// (retries, and every reply we invent), Close, Deadlines, Mail.
struct Worker: ~Copyable {
    let number: Int
    let limits: ProxyLimits
    let shared: WorkerShared

    let poller = Poller()
    var connections: Slab<Connection>
    var exchanges: Slab<Exchange>
    var sessions: Slab<Session>
    var secures: Slab<Secure>
    var callers: Slab<ProvenCaller>
    /// Where the walk over the secure sessions stands, and how many it has told to go elsewhere.
    var secureWalk = UInt32.max
    var secureDrains = 0
    var identities = Identities()
    /// Exchanges whose downstream is a stream.
    var streamExchanges = 0
    var scheduler: DeficitRoundRobin
    /// Of connections, and of the exchange that an HTTP/1 connection has.
    var deadlines: TimerWheel
    /// Of exchanges whose downstream is a stream.
    var exchangeDeadlines: TimerWheel
    /// Of exchanges whose route or policy sets times.
    var alarms: TimerWheel
    var heartbeat: Heartbeat
    var pods = PodPlaces()
    var pools: PoolTable
    var sessionTable: SessionTable
    var http1Memory = HTTP1Memory()
    var wireMemory = WireMemory()
    let tickets = TicketShelf()
    var stock = SocketStock()
    var stockChannel: ControlSocket
    /// Shelves that have both sockets and waiters; see Connect.
    var owedShelves: [ShelfKey] = []
    var replays: BlockPool
    /// Origins of requests under way whose route speaks of them.
    var origins: BlockPool
    var pipes: PipeStock
    var random: SplitMix64
    var ledger: Ledger

    /// The tables of this turn. Views from them end with the turn.
    var tables: TablesView
    /// When this turn began. Read once per turn; whatever needs the time uses this.
    var now: Nanoseconds
    /// When to stop, once draining.
    var drainUntil: Nanoseconds?
    var isFinished = false
    var nextHousekeeping: Nanoseconds = 0

    /// Sessions that write when those waiting for their turn have read.
    var writers: [UInt32] = []
    /// Content may be lent: the memory where it lies stays as it is until the frames at hand are dealt with.
    var lends = false
    /// Connections whose sessions have borrowed content meanwhile.
    var borrowers: [UInt32] = []

    /// What recv fills, with headroom before it (see WorkerSizes).
    let receiveMemory: UnsafeMutableRawPointer
    /// What a turn writes: heads, re-framed bodies.
    let writeMemory: UnsafeMutableRawBufferPointer
    var head = Head()
    /// For requests that policy must see and that are framed already.
    var accessHead = Head()
    let accessNotes: AccessNotes
    /// For what routes change.
    var room = SteerRoom()
    /// What is under way was asked about under these tables, from the first exchange up to this one; `nobody`: all of it.
    var rejudgedGeneration: UInt64 = 0
    var rejudgedTo = nobody
    let workspace = HTTP2Workspace()

    /// Tokens of our own descriptors; no slab index reaches them.
    static let bellToken = Token(index: .max, generation: 1)
    static let stockToken = Token(index: .max - 1, generation: 1)
    /// What a busy pod may spend before it is another's turn, and how long the loop serves before it asks epoll again. Alone: about thirty
    /// small requests. With company: about four, for a quiet pod waits that long twice per request, for its head and for its reply.
    var turnLength = TurnLength(aloneNanoseconds: 200_000, sharedNanoseconds: 25_000, memoryNanoseconds: 1_000_000_000)
    /// Several pods are at work: whatever one of them does in one go is kept short.
    var isShared = false
    /// What was just done cost as much as a turn may.
    var turnIsSpent = false
    static let housekeepingNanoseconds: Nanoseconds = 1_000_000_000

    init(number: Int, limits: ProxyLimits, shared: WorkerShared, stockDescriptor: Int32, seed: UInt64) {
        self.number = number
        var limits = limits
        // A quarter of the process's descriptors is always there for the other pods, whatever one pod opens.
        limits.connectionsPerPodMax = min(limits.connectionsPerPodMax, shared.connectionsMax * 3 / 4 / shared.mailboxes.count)
        self.limits = limits
        self.shared = shared
        let capacity = shared.connectionsPerWorkerMax
        let start = monotonicNow()
        now = start
        connections = Slab(capacity: capacity)
        // An HTTP/1 connection finds a place for its exchange whatever streams there are.
        let exchangeCapacity = capacity + Limits.streamsPerWorkerMax
        exchanges = Slab(capacity: exchangeCapacity)
        sessions = Slab(capacity: capacity)
        secures = Slab(capacity: capacity)
        callers = Slab(capacity: capacity)
        // Connections first, then exchanges.
        scheduler = DeficitRoundRobin(itemCapacity: capacity + exchangeCapacity, quantumNanoseconds: turnLength.aloneNanoseconds, hasPairs: true)
        deadlines = TimerWheel(capacity: capacity, now: start)
        exchangeDeadlines = TimerWheel(capacity: exchangeCapacity, now: start)
        alarms = TimerWheel(capacity: exchangeCapacity, now: start)
        heartbeat = Heartbeat(array: shared.heartbeatArray, worker: number)
        pools = PoolTable(connectionCapacity: capacity)
        sessionTable = SessionTable(sessionCapacity: capacity, exchangeCapacity: exchangeCapacity)
        stockChannel = ControlSocket(adopting: stockDescriptor)
        pipes = PipeStock(pipesMax: limits.pipesMax / shared.mailboxes.count, bytes: UInt32(clamping: limits.pipeBytes))
        replays = BlockPool(blockBytes: WorkerSizes.replayBytes, capacity: exchangeCapacity)
        origins = BlockPool(blockBytes: SteerSizes.originBytesMax, capacity: exchangeCapacity)
        random = SplitMix64(seed: seed)
        accessNotes = shared.accessNotes[number]
        ledger = Ledger(counters: shared.counters, worker: number)
        tables = shared.publisher.enter(worker: number)
        receiveMemory = UnsafeMutableRawPointer.allocate(byteCount: WorkerSizes.headroomBytes + (1 << Int(WorkerSizes.frameShiftMax)), alignment: 4096)
            + WorkerSizes.headroomBytes
        writeMemory = UnsafeMutableRawBufferPointer.allocate(byteCount: WorkerSizes.readBytesMax + 160 * 1024, alignment: 4096)
        let watches = poller.watchReadable(shared.mailboxes[number].bell, as: Self.bellToken) && poller.watchReadable(stockDescriptor, as: Self.stockToken)
        precondition(watches, "epoll refuses our own descriptors")
    }

    deinit {
        (receiveMemory - WorkerSizes.headroomBytes).deallocate()
        writeMemory.deallocate()
    }

    // MARK: The loop

    mutating func run() {
        now = monotonicNow()
        while !isFinished {
            heartbeat.beat(now)
            tables = shared.publisher.enter(worker: number)
            isShared = turnLength.isShared(now)
            scheduler.quantumNanoseconds = isShared ? turnLength.sharedNanoseconds : turnLength.aloneNanoseconds
            if tables.generation != rejudgedGeneration { (rejudgedGeneration, rejudgedTo) = (tables.generation, 0) }
            collectEvents(wait: scheduler.isEmpty && owedShelves.isEmpty && !isWalkingSecure && rejudgedTo == nobody)
            if deadlines.isDue(now) || exchangeDeadlines.isDue(now) || alarms.isDue(now) { expireDeadlines() }
            serveTurns()
            if !writers.isEmpty { writeWaiting() }
            if !owedShelves.isEmpty { matchOwed() }
            if rejudgedTo != nobody { rejudgeSome() }
            if now >= nextHousekeeping { keepHouse() }
            if isWalkingSecure { walkSecure() }
        }
        shared.publisher.leave(worker: number)
    }

    /// Asks epoll what has happened and lets it wait in its pod's queue. Nothing is served here: epoll's order is not ours.
    private mutating func collectEvents(wait: Bool) {
        var milliseconds: Int32 = 0
        if wait {
            let rest = alarms.untilNext(now, limit: exchangeDeadlines.untilNext(now, limit: deadlines.untilNext(now, limit: Heartbeat.intervalNanoseconds)))
            milliseconds = Int32((rest + 999_999) / 1_000_000)
        }
        let count = poller.wait(milliseconds: milliseconds)
        if wait { now = monotonicNow() }
        var index = 0
        while index < count {
            let (token, readiness) = poller.event(index)
            index &+= 1
            if let place = connections.find(token) {
                note(readiness, place, token.index)
            } else if token == Self.bellToken {
                collectMail()
            } else if token == Self.stockToken {
                collectSockets()
            }
        }
    }

    @inline(__always) private mutating func note(_ readiness: Readiness, _ connection: ConnectionPlace, _ index: UInt32) {
        if !readiness.isDisjoint(with: [.readable, .ended, .broken, .urgent]) { connection.pointee.canRead = true }
        if readiness.contains(.ended) { connection.pointee.hasEnded = true }
        if readiness.contains(.broken) { connection.pointee.isBroken = true }
        if readiness.contains(.urgent) { connection.pointee.hasUrgent = true }
        // TLS may have to write before it can read.
        if connection.pointee.secure != nobody { connection.pointee.canRead = true }
        // The very first edge of an accepted or idle connection says only "writable": nothing to do.
        if !connection.pointee.canRead && connection.pointee.output.isEmpty && !connection.pointee.hasPipedOutput && connection.pointee.stage != .connecting { return }
        scheduler.enqueue(index, flow: flow(of: connection))
    }

    /// Gives pods their turns until nothing waits or a quantum has passed; then epoll is asked again, so that a pod that was quiet until now
    /// is known, and first, within that time.
    private mutating func serveTurns() {
        let begun = now
        while let turn = scheduler.next() {
            var served = 0
            while served < turn.items, let index = scheduler.take(from: turn.flow) {
                serve(index)
                served += 1
                // The mean cost of an item, by which the turn was measured out, says little where a head may follow a megabyte.
                if isShared && monotonicNow() - now >= UInt64(scheduler.quantumNanoseconds) { break }
                if turnIsSpent { break }
            }
            turnIsSpent = false
            let after = monotonicNow()
            scheduler.settle(turn.flow, items: served, nanoseconds: after - now)
            ledger.chargeTime(after - now, to: pods.budgets.base[Int(Self.pod(of: turn.flow))].slot)
            now = after
            turnLength.served(turn.flow, now)
            if now - begun >= UInt64(scheduler.quantumNanoseconds) { return }
        }
    }

    /// One connection's turn: whatever its socket is ready for, once each way. Or that of an exchange whose deadline has passed.
    private mutating func serve(_ index: UInt32) {
        if index >= UInt32(truncatingIfNeeded: connections.capacity) { return serveDueExchange(index - UInt32(truncatingIfNeeded: connections.capacity)) }
        let connection = connections.at(index)
        if connection.pointee.stage == .dead { return release(connection, index) }
        if connection.pointee.isDue {
            connection.pointee.isDue = false
            // What moved since then has set another deadline.
            if !deadlines.isSet(index) { expire(connection, index) }
        }
        if !connection.pointee.output.isEmpty && connection.pointee.stage != .connecting { flush(connection, index) }
        if connection.pointee.hasPipedOutput { flushPipe(connection, index) }
        switch connection.pointee.stage {
        case .accepting: acceptSome(connection, index)
        case .detecting: readFirstBytes(connection, index)
        case .awaitingHead: readRequestHead(connection, index)
        case .connecting: finishConnect(connection, index)
        case .securing: serveSecuring(connection, index)
        case .exchanging:
            if connection.pointee.role == .downstream { readRequestBody(connection, index) } else { readReply(connection, index) }
        case .relaying: relay(connection, index)
        case .resetting: watchResetting(connection, index)
        case .multiplexing: serveSession(connection, index)
        case .idle: readIdle(connection, index)
        case .flushing:
            endSession(connection, index)
            watchFlushing(connection, index)
        case .lingering:
            endSession(connection, index)
            readLingering(connection, index)
        case .dead: return      // just now, in flush: it has queued for its release
        }
        charge(connection)
    }

    // A pod has two flows: its own, and beside it that of its clients who are served apart. Both together have the share of one pod.

    @inline(__always) static func flow(of pod: UInt32, isApart: Bool) -> UInt32 { pod &<< 1 | (isApart ? 1 : 0) }
    @inline(__always) static func pod(of flow: UInt32) -> UInt32 { flow &>> 1 }

    /// Whose turn pays for the connection's work: its pod's, or its client's where that one is served apart.
    @inline(__always) func flow(of connection: ConnectionPlace) -> UInt32 {
        var isApart = connection.pointee.isApart
        if connection.pointee.role == .upstream, connection.pointee.exchange != nobody {
            isApart = connections.at(exchanges.at(connection.pointee.exchange).pointee.downstream).pointee.isApart
        }
        return Self.flow(of: connection.pointee.pod, isApart: isApart)
    }

    /// Lets a connection have another turn of its own pod's time.
    mutating func again(_ connection: ConnectionPlace, _ index: UInt32) { scheduler.enqueue(index, flow: flow(of: connection)) }

    /// Keeps the pod's account of buffered memory true.
    @inline(__always) func charge(_ connection: ConnectionPlace) {
        var bytes = connection.pointee.input.capacity &+ connection.pointee.output.capacity
        if connection.pointee.session != nobody { bytes &+= sessions.at(connection.pointee.session).pointee.codec.queuedBytes }
        if connection.pointee.secure != nobody { bytes &+= secures.at(connection.pointee.secure).pointee.tls.heldBytes }
        let held = Int32(truncatingIfNeeded: bytes)
        guard held != connection.pointee.charged else { return }
        let budget = pods.budgets.base + Int(connection.pointee.pod)
        budget.pointee.bufferedBytes &+= Int(held &- connection.pointee.charged)
        ledger.showBuffered(Int(held &- connection.pointee.charged), of: budget.pointee.slot)
        connection.pointee.charged = held
    }

    /// The same for a stream's request that waits with its exchange.
    @inline(__always) func chargeHeld(_ exchange: ExchangePlace, _ connection: ConnectionPlace) {
        charge(exchange, connection, Int32(truncatingIfNeeded: exchange.pointee.unsent.capacity &+ exchange.pointee.early.capacity))
    }

    @inline(__always) func charge(_ exchange: ExchangePlace, _ connection: ConnectionPlace, _ held: Int32) {
        guard held != exchange.pointee.charged else { return }
        let budget = pods.budgets.base + Int(connection.pointee.pod)
        budget.pointee.bufferedBytes &+= Int(held &- exchange.pointee.charged)
        ledger.showBuffered(Int(held &- exchange.pointee.charged), of: budget.pointee.slot)
        exchange.pointee.charged = held
    }

    func isOverBudget(_ pod: UInt32) -> Bool { pods.budgets.base[Int(pod)].bufferedBytes >= limits.bufferedBytesPerPodMax }

    /// What a client may have its pod hold altogether before more is refused to it: half, if it is served apart, so that its neighbours have the rest.
    func share(of limit: Int, _ connection: ConnectionPlace) -> Int { connection.pointee.isApart ? limit / 2 : limit }

    func isOverBudget(_ connection: ConnectionPlace) -> Bool {
        pods.budgets.base[Int(connection.pointee.pod)].bufferedBytes >= share(of: limits.bufferedBytesPerPodMax, connection)
    }

    /// How much of a body one go may read.
    ///
    /// With company, an item that costs more than a turn makes others wait, so it shrinks. By its measured cost, not by its size: 64 KiB cost
    /// 20 to 35 µs when the reader keeps up and 200 µs when its socket's queue grows into memory that nobody has touched yet.
    func readBytes(_ pod: UInt32, isApart: Bool = false, shift: UInt8) -> Int {
        if isOverBudget(pod) { return 1 << Int(WorkerSizes.readShiftMin) }
        guard isShared else { return 1 << Int(shift) }
        let cost = scheduler.itemCost(of: Self.flow(of: pod, isApart: isApart))
        let most = cost > 2 * turnLength.sharedNanoseconds ? WorkerSizes.readShiftMin : cost > turnLength.sharedNanoseconds ? WorkerSizes.readShiftMax - 1 : WorkerSizes.readShiftMax
        return 1 << Int(min(shift, most))
    }

    func after(milliseconds: Int) -> Nanoseconds { now + UInt64(milliseconds) * 1_000_000 }
}
