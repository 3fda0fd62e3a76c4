import ControlChannel
import EventLoop
import Glibc

/// What a stock socket is for: one shelf each.
public struct ShelfKey: Equatable, Sendable {
    public var pod: UInt32
    public var family: SocketFamily
    public var kind: SocketKind

    public init(pod: UInt32, family: SocketFamily, kind: SocketKind) {
        self.pod = pod
        self.family = family
        self.kind = kind
    }
}

/// Sockets that `node` has made inside pod namespaces for this worker, and the queue of those who wait for one.
///
/// A shelf is empty until its pod first connects. It is refilled before it is empty, in batches that double each time it ran dry all the same,
/// and it is cleared when nobody has taken from it for a while. One batch of each shelf is under way at a time: node makes them in the order
/// in which they were asked for, and a pod that wants a thousand must not keep the others waiting for more than one of its batches. The stock decides;
/// whoever owns the channel sends what `refill` says and hands in what arrives.
public struct SocketStock: ~Copyable {
    static let batchMin: UInt32 = 4
    static let batchMax: UInt32 = SocketsWanted.countMax
    public static let clearAfterNanoseconds: Nanoseconds = 30_000_000_000
    /// An answer that has not come by then was lost, for its channel was full.
    static let answerNanoseconds: Nanoseconds = 1_000_000_000

    struct Shelf {
        let key: ShelfKey
        var sockets: [Int32] = []
        /// First come, first served. Tokens of those that gave up in the meantime name nobody and are skipped.
        var waiting: [Token] = []
        /// Behind all of them: those of clients that are served apart.
        var waitingApart: [Token] = []
        /// What was asked for and not answered yet, 0: nothing; node answers a request once, with as many or fewer.
        var onTheWay: UInt32 = 0
        var askedAt: Nanoseconds = 0
        var batch = SocketStock.batchMin
        var lastTaken: Nanoseconds = 0
    }

    var shelves: [Shelf] = []
    public private(set) var socketCount = 0

    public init() {}

    private mutating func shelf(_ key: ShelfKey) -> Int {
        // A node has at most a few hundred shelves and a worker meets a new connection's shelf only, so a walk is fine.
        for index in shelves.indices where shelves[index].key == key { return index }
        shelves.append(Shelf(key: key))
        return shelves.count - 1
    }

    /// A socket from the shelf, now the caller's.
    public mutating func take(_ key: ShelfKey, now: Nanoseconds) -> Int32? {
        let index = shelf(key)
        shelves[index].lastTaken = now
        guard let socket = shelves[index].sockets.popLast() else { return nil }
        socketCount -= 1
        return socket
    }

    /// Queues up for the next delivery.
    /// - Parameter isApart: behind everybody who is not.
    public mutating func wait(_ waiter: Token, at key: ShelfKey, isApart: Bool = false) {
        let index = shelf(key)
        if isApart { shelves[index].waitingApart.append(waiter) } else { shelves[index].waiting.append(waiter) }
    }

    /// How many sockets to ask for now; 0 for none. What is asked for counts as on its way until delivered or refused.
    public mutating func refill(_ key: ShelfKey) -> UInt32 {
        let index = shelf(key)
        guard shelves[index].onTheWay == 0 || shelves[index].lastTaken >= shelves[index].askedAt + Self.answerNanoseconds else { return 0 }
        let waiting = UInt32(shelves[index].waiting.count + shelves[index].waitingApart.count), held = UInt32(shelves[index].sockets.count)
        if waiting > 0, held == 0 { shelves[index].batch = min(shelves[index].batch * 2, Self.batchMax) }
        // Half a batch left: the rest must last for the way to node and back (some 50 µs, several turns of the loop).
        guard held < waiting + shelves[index].batch / 2 else { return 0 }
        let count = min(waiting + shelves[index].batch - held, Self.batchMax)
        shelves[index].onTheWay = count
        shelves[index].askedAt = shelves[index].lastTaken
        return count
    }

    /// Puts a delivery on its shelf: the answer to the oldest request.
    public mutating func deliver(_ key: ShelfKey, _ sockets: [Int32]) {
        let index = shelf(key)
        shelves[index].sockets.append(contentsOf: sockets)
        socketCount += sockets.count
        shelves[index].onTheWay = 0
    }

    /// The next waiter together with a socket for it, while there are both.
    public mutating func match(_ key: ShelfKey) -> (waiter: Token, socket: Int32)? {
        let index = shelf(key)
        guard !shelves[index].waiting.isEmpty || !shelves[index].waitingApart.isEmpty, let socket = shelves[index].sockets.popLast() else { return nil }
        socketCount -= 1
        return (shelves[index].waiting.isEmpty ? shelves[index].waitingApart.removeFirst() : shelves[index].waiting.removeFirst(), socket)
    }

    /// Whether `match` would find a pair.
    public func hasMatch(_ key: ShelfKey) -> Bool { owes(key, beforeApart: true) }

    /// Whether those who wait already have a right to the sockets on the shelf before anyone new.
    /// - Parameter beforeApart: before someone new who is served apart.
    public func owes(_ key: ShelfKey, beforeApart: Bool) -> Bool {
        for shelf in shelves where shelf.key == key { return !shelf.sockets.isEmpty && (!shelf.waiting.isEmpty || beforeApart && !shelf.waitingApart.isEmpty) }
        return false
    }

    /// Gives a socket back that its taker did not use.
    public mutating func putBack(_ key: ShelfKey, _ socket: Int32) {
        shelves[shelf(key)].sockets.append(socket)
        socketCount += 1
    }

    /// The request was refused, or could not be sent: the waiters to be told.
    public mutating func refused(_ key: ShelfKey) -> [Token] {
        let index = shelf(key)
        shelves[index].onTheWay = 0
        defer {
            shelves[index].waiting.removeAll()
            shelves[index].waitingApart.removeAll()
        }
        return shelves[index].waiting + shelves[index].waitingApart
    }

    /// Closes what lies unused on shelves that nobody has visited for a while.
    public mutating func trim(now: Nanoseconds) {
        for index in shelves.indices where !shelves[index].sockets.isEmpty && shelves[index].lastTaken + Self.clearAfterNanoseconds < now {
            clear(index)
            shelves[index].batch = Self.batchMin
        }
    }

    /// The pod is gone: an open socket would keep its namespace alive. Returns who waited for one.
    public mutating func remove(pod: UInt32) -> [Token] {
        var waiters: [Token] = []
        for index in shelves.indices.reversed() where shelves[index].key.pod == pod {
            clear(index)
            waiters += shelves[index].waiting + shelves[index].waitingApart
            shelves.remove(at: index)
        }
        return waiters
    }

    private mutating func clear(_ index: Int) {
        socketCount -= shelves[index].sockets.count
        for socket in shelves[index].sockets { close(socket) }
        shelves[index].sockets.removeAll()
    }

    deinit { for shelf in shelves { for socket in shelf.sockets { close(socket) } } }
}
