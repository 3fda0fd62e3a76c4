import EventLoop

/// The HTTP/2 sessions of one worker towards its upstreams, by key, and who waits for a stream on one of them. It knows sessions and
/// exchanges by their slab places only.
///
///     opening ──opened──▶ open ──retire──▶ retiring ──last stream ended──▶ (closed)        any ──remove──▶ (closed)
///
/// A stream goes to the least busy session that has one free. Another session is opened when none has, and ahead of that when all are
/// nearly full; one at a time per key, and whoever finds no stream waits for it: a burst of requests does not become a burst of connections.
public struct SessionTable: ~Copyable {
    /// Sessions with one key. Past it, exchanges wait for a stream to end.
    public static let sessionsPerKeyMax: UInt32 = 64
    /// Streams of one session at a time, whatever its peer would take: when it dies, all of them fail in one turn of the worker.
    public static let streamsAtOnceMax = 256
    /// Another session is opened when every one has so many of its streams in use, in percent.
    static let openAheadPercent: UInt64 = 75
    /// Streams that one session carries in its life: their numbers are the odd ones below 2^31 (RFC 9113, 5.1.1).
    static let streamsPerSessionMax: UInt32 = 1 << 30
    /// Streams that a peer is believed to take before it has said how many: what RFC 9113, 6.5.2 asks of everyone.
    static let streamsMaxUnsaid: UInt32 = 100
    /// After a session could not be opened ahead, in nanoseconds: so long nobody tries again, unless there is none at all.
    static let openAheadPauseNanoseconds: Nanoseconds = 1_000_000_000
    static let nobody = UInt32.max

    enum Standing: UInt8 { case absent, opening, open, retiring }

    struct Session {
        var standing = Standing.absent
        var group: UInt32 = 0
        var streams: UInt32 = 0
        var streamsMax: UInt32 = 0
        /// Streams ever begun.
        var carried: UInt32 = 0
        /// Neighbours in the group's list.
        var next: UInt32 = 0, previous: UInt32 = 0
    }

    struct Group {
        var firstSession = SessionTable.nobody, lastSession = SessionTable.nobody
        var sessions: UInt32 = 0
        var opening: UInt32 = 0
        var firstWaiter = SessionTable.nobody, lastWaiter = SessionTable.nobody
        var waiters: UInt32 = 0
        var pauseUntil: Nanoseconds = 0
        /// What the peers of the key have last said they take at a time.
        var streamsMax = SessionTable.streamsMaxUnsaid
    }

    struct Waiter {
        /// The group + 1, or 0.
        var groupPlusOne: UInt32 = 0
        var next: UInt32 = 0, previous: UInt32 = 0
    }

    /// What becomes of a session whose stream has ended.
    public enum Remainder: Equatable, Sendable {
        /// Other streams go on, or someone waits.
        case busy
        /// It is at rest.
        case resting
        /// It was retiring and is now empty: to be closed.
        case finished
    }

    private var numbers = KeyNumbers()
    private var groups: [Group] = []
    let sessions: Region<Session>
    private let waiters: Region<Waiter>
    /// Exchanges that wait for a stream.
    public private(set) var waiting = 0
    /// Streams in use.
    public private(set) var streams = 0
    /// Sessions, the opening and retiring ones included.
    public private(set) var count = 0
    /// Sessions that are being opened.
    public private(set) var opening = 0

    /// - Parameters:
    ///   - sessionCapacity: one more than the highest place of a session.
    ///   - exchangeCapacity: one more than the highest place of an exchange.
    public init(sessionCapacity: Int, exchangeCapacity: Int) {
        sessions = Region(capacity: sessionCapacity)
        waiters = Region(capacity: exchangeCapacity)
    }

    // MARK: Streams

    /// The least busy session of that key with a free stream, which is now taken.
    public mutating func take(_ key: PoolKey) -> UInt32? {
        guard let group = numbers.find(key) else { return nil }
        var best = Self.nobody
        var least = UInt32.max
        var session = groups[group].firstSession
        while session != Self.nobody {
            let place = sessions.base + Int(session)
            if place.pointee.standing == .open, place.pointee.streams < place.pointee.streamsMax, place.pointee.streams < least {
                best = session
                least = place.pointee.streams
            }
            session = place.pointee.next
        }
        guard best != Self.nobody else { return nil }
        begin(best)
        return best
    }

    /// Whether one more session should be opened now for the key: for those who wait (or are about to), or ahead of need.
    public func wantsOpening(_ key: PoolKey, now: Nanoseconds) -> Bool {
        guard let number = numbers.find(key) else { return true }
        let group = groups[number]
        guard group.opening == 0, group.sessions < Self.sessionsPerKeyMax else { return false }
        var open: UInt32 = 0
        var session = group.firstSession
        while session != Self.nobody {
            let place = sessions.base + Int(session)
            if place.pointee.standing == .open {
                open += 1
                // A peer that takes none for now would take none on another connection either.
                if place.pointee.streamsMax == 0 { return false }
                if UInt64(place.pointee.streams) * 100 < UInt64(place.pointee.streamsMax) * Self.openAheadPercent { return false }
            }
            session = place.pointee.next
        }
        return open == 0 || now >= group.pauseUntil
    }

    private mutating func begin(_ session: UInt32) {
        let place = sessions.base + Int(session)
        place.pointee.streams += 1
        place.pointee.carried += 1
        streams += 1
        if place.pointee.carried == Self.streamsPerSessionMax { place.pointee.standing = .retiring }
    }

    /// A stream of the session is over, or was never begun after all.
    public mutating func streamEnded(_ session: UInt32) -> Remainder {
        let place = sessions.base + Int(session)
        precondition(place.pointee.streams > 0, "more streams ended than had begun")
        place.pointee.streams -= 1
        streams -= 1
        guard place.pointee.streams == 0 else { return .busy }
        return place.pointee.standing == .retiring ? .finished : groups[Int(place.pointee.group)].waiters > 0 ? .busy : .resting
    }

    // MARK: Sessions

    /// A session for the key is being opened. It has no streams until `opened`.
    public mutating func open(_ session: UInt32, _ key: PoolKey) {
        let group = group(key)
        sessions[Int(session)] = Session(standing: .opening, group: group, next: Self.nobody, previous: groups[Int(group)].lastSession)
        let last = groups[Int(group)].lastSession
        if last == Self.nobody { groups[Int(group)].firstSession = session } else { sessions.base[Int(last)].next = session }
        groups[Int(group)].lastSession = session
        groups[Int(group)].sessions += 1
        groups[Int(group)].opening += 1
        opening += 1
        count += 1
    }

    /// The session can carry streams.
    /// - Parameter streamsMax: how many at a time its peer takes; nil when it has not said so yet: then as many as the others of its key take.
    public mutating func opened(_ session: UInt32, streamsMax: Int?) {
        let place = sessions.base + Int(session)
        guard place.pointee.standing == .opening else { return }
        place.pointee.standing = .open
        groups[Int(place.pointee.group)].opening -= 1
        opening -= 1
        allow(session, streamsMax: streamsMax ?? Int(groups[Int(place.pointee.group)].streamsMax))
    }

    /// The peer has changed how many streams it takes at a time. More may be in use; they go on.
    public mutating func allow(_ session: UInt32, streamsMax: Int) {
        let place = sessions.base + Int(session)
        place.pointee.streamsMax = UInt32(clamping: min(streamsMax, Self.streamsAtOnceMax))
        groups[Int(place.pointee.group)].streamsMax = place.pointee.streamsMax
    }

    /// No new streams: the peer is going away, or the session has been refused. True when none is in use either, so that it can be closed.
    public mutating func retire(_ session: UInt32) -> Bool {
        let place = sessions.base + Int(session)
        if place.pointee.standing == .opening {
            groups[Int(place.pointee.group)].opening -= 1
            opening -= 1
        }
        place.pointee.standing = .retiring
        return place.pointee.streams == 0
    }

    /// The session could not be opened, or has broken: it takes no more streams, and if it never did, its key gets a pause.
    public mutating func giveUp(_ session: UInt32, now: Nanoseconds) {
        let place = sessions.base + Int(session)
        if place.pointee.standing == .opening { groups[Int(place.pointee.group)].pauseUntil = now + Self.openAheadPauseNanoseconds }
        _ = retire(session)
    }

    /// Streams of the session in use.
    public func streams(of session: UInt32) -> Int { Int(sessions[Int(session)].streams) }

    /// Whether the session has not been opened yet.
    public func isOpening(_ session: UInt32) -> Bool { sessions[Int(session)].standing == .opening }

    /// What all sessions that could stand in for this one have in common.
    public func key(of session: UInt32) -> PoolKey { numbers.keys[Int(sessions[Int(session)].group)] }

    /// The session is gone, whatever it was, and with it its streams. One that had not opened yet gives its key a pause.
    public mutating func remove(_ session: UInt32, now: Nanoseconds) {
        let place = sessions.base + Int(session)
        let group = Int(place.pointee.group)
        precondition(place.pointee.standing != .absent, "a session was removed twice")
        if place.pointee.standing == .opening {
            groups[group].opening -= 1
            opening -= 1
            groups[group].pauseUntil = now + Self.openAheadPauseNanoseconds
        }
        let next = place.pointee.next, previous = place.pointee.previous
        if previous == Self.nobody { groups[group].firstSession = next } else { sessions.base[Int(previous)].next = next }
        if next == Self.nobody { groups[group].lastSession = previous } else { sessions.base[Int(next)].previous = previous }
        groups[group].sessions -= 1
        streams -= Int(place.pointee.streams)
        place.pointee = Session()
        count -= 1
        eraseIfEmpty(group)
    }

    // MARK: Waiting

    /// The exchange waits for a stream, behind those who came before.
    /// - Parameter first: before them all, for a session has given it back.
    public mutating func wait(_ exchange: UInt32, for key: PoolKey, first: Bool = false) {
        let group = group(key)
        let last = first ? Self.nobody : groups[Int(group)].lastWaiter
        let next = first ? groups[Int(group)].firstWaiter : Self.nobody
        waiters[Int(exchange)] = Waiter(groupPlusOne: group + 1, next: next, previous: last)
        if last == Self.nobody { groups[Int(group)].firstWaiter = exchange } else { waiters.base[Int(last)].next = exchange }
        if next == Self.nobody { groups[Int(group)].lastWaiter = exchange } else { waiters.base[Int(next)].previous = exchange }
        groups[Int(group)].waiters += 1
        waiting += 1
    }

    /// The exchange waits no longer; nothing happens if it did not wait.
    public mutating func stopWaiting(_ exchange: UInt32) {
        let place = waiters.base + Int(exchange)
        guard place.pointee.groupPlusOne != 0 else { return }
        let group = Int(place.pointee.groupPlusOne) - 1
        let next = place.pointee.next, previous = place.pointee.previous
        if previous == Self.nobody { groups[group].firstWaiter = next } else { waiters.base[Int(previous)].next = next }
        if next == Self.nobody { groups[group].lastWaiter = previous } else { waiters.base[Int(next)].previous = previous }
        place.pointee = Waiter()
        groups[group].waiters -= 1
        waiting -= 1
        eraseIfEmpty(group)
    }

    /// The first who waits, with a stream of this session taken for it; nil when nobody waits or the session has no free stream.
    public mutating func serveWaiter(with session: UInt32) -> UInt32? {
        let place = sessions.base + Int(session)
        guard place.pointee.standing == .open, place.pointee.streams < place.pointee.streamsMax else { return nil }
        let exchange = groups[Int(place.pointee.group)].firstWaiter
        guard exchange != Self.nobody else { return nil }
        stopWaiting(exchange)
        begin(session)
        return exchange
    }

    /// Whether anybody waits for a session like this one.
    public func hasWaiters(_ session: UInt32) -> Bool { groups[Int(sessions[Int(session)].group)].waiters > 0 }

    /// The first of those who wait for nothing any more, because this opening has failed and there is no other session; nil when there is
    /// none, or another session may still serve it. The caller takes it, and asks again.
    public mutating func takeStranded(by session: UInt32) -> UInt32? {
        let group = Int(sessions[Int(session)].group)
        let exchange = groups[group].firstWaiter
        guard exchange != Self.nobody else { return nil }
        var other = groups[group].firstSession
        while other != Self.nobody {
            if other != session, sessions[Int(other)].standing == .open || sessions[Int(other)].standing == .opening { return nil }
            other = sessions[Int(other)].next
        }
        stopWaiting(exchange)
        return exchange
    }

    // MARK: Groups

    private mutating func group(_ key: PoolKey) -> UInt32 {
        if let known = numbers.find(key) { return UInt32(known) }
        let number = numbers.insert(key)
        if number == groups.count { groups.append(Group()) } else { groups[number] = Group() }
        return UInt32(number)
    }

    private mutating func eraseIfEmpty(_ group: Int) {
        if groups[group].sessions == 0 && groups[group].waiters == 0 { numbers.erase(group) }
    }
}
