import CLinux
import Glibc

/// What epoll reported about a socket, kept as bits until the socket is served.
public struct Readiness: OptionSet, Sendable {
    public let rawValue: UInt8
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    @inlinable public static var readable: Readiness { Readiness(rawValue: 1) }
    @inlinable public static var writable: Readiness { Readiness(rawValue: 2) }
    /// The peer will send nothing more (EPOLLRDHUP).
    @inlinable public static var ended: Readiness { Readiness(rawValue: 4) }
    /// Urgent data is there or announced (EPOLLPRI): reads stop short at it.
    @inlinable public static var urgent: Readiness { Readiness(rawValue: 16) }
    /// The connection is dead in both directions (EPOLLERR, EPOLLHUP).
    @inlinable public static var broken: Readiness { Readiness(rawValue: 8) }

    @inlinable public init(epoll events: UInt32) {
        var bits: UInt8 = 0
        if events & EPOLLIN.rawValue != 0 { bits |= 1 }
        if events & EPOLLOUT.rawValue != 0 { bits |= 2 }
        if events & EPOLLRDHUP.rawValue != 0 { bits |= 4 }
        if events & (EPOLLERR.rawValue | EPOLLHUP.rawValue) != 0 { bits |= 8 }
        if events & EPOLLPRI.rawValue != 0 { bits |= 16 }
        rawValue = bits
    }
}

/// An epoll instance and the events of its last wait.
public struct Poller: ~Copyable {
    /// Enough for every connection of a busy worker to report once per wait; 12 bytes each.
    static let eventsMax = 512
    static let edgeTriggered: UInt32 = 1 << 31
    static let exclusive: UInt32 = 1 << 28

    let epoll: Int32
    @usableFromInline let events: UnsafeMutablePointer<epoll_event>

    public init() {
        epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        precondition(epoll >= 0, "no descriptor for epoll")
        events = .allocate(capacity: Self.eventsMax)
    }

    /// Registers a connection once for its whole life: edge-triggered, both directions.
    /// - Returns: false when the kernel refused (no memory, watch limit).
    public func watch(_ descriptor: Int32, as token: Token) -> Bool {
        let interest = EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLRDHUP.rawValue | EPOLLPRI.rawValue | Self.edgeTriggered
        return clinux_epoll_add(epoll, descriptor, interest, token.raw) == 0
    }

    /// Registers a listener that several workers share: level-triggered, and a connection wakes one of them (EPOLLEXCLUSIVE).
    public func watchShared(_ listener: Int32, as token: Token) -> Bool {
        clinux_epoll_add(epoll, listener, EPOLLIN.rawValue | Self.exclusive, token.raw) == 0
    }

    /// Registers a descriptor of our own (bell, control socket): level-triggered, readable only.
    public func watchReadable(_ descriptor: Int32, as token: Token) -> Bool {
        clinux_epoll_add(epoll, descriptor, EPOLLIN.rawValue, token.raw) == 0
    }

    /// Needed where the file stays open elsewhere (a listener that the node holds too): closing our descriptor would not end the watch.
    public func forget(_ descriptor: Int32) { _ = clinux_epoll_remove(epoll, descriptor) }

    /// Waits at most `milliseconds` (0: only looks).
    /// - Returns: the number of events that can now be read with `event(_:)`.
    public func wait(milliseconds: Int32) -> Int {
        let count = epoll_wait(epoll, events, Int32(Self.eventsMax), milliseconds)
        return count < 0 ? 0 : Int(count)      // EINTR: nothing happened
    }

    /// Event `index` of the last `wait`: whose it is, and what has happened.
    @inlinable public func event(_ index: Int) -> (token: Token, readiness: Readiness) {
        (Token(raw: clinux_event_token(events, Int32(truncatingIfNeeded: index))),
         Readiness(epoll: clinux_event_flags(events, Int32(truncatingIfNeeded: index))))
    }

    deinit {
        events.deallocate()
        close(epoll)
    }
}
