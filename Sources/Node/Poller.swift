import CLinux
import Glibc

/// Who a readiness event is for.
enum EventSource: Hashable {
    case signals
    case namespaceThread
    case agent(incarnation: UInt32)
    case proxy(incarnation: UInt32)
    case stock(incarnation: UInt32, worker: Int)

    /// Eight bytes that epoll carries: kind, worker, incarnation.
    var token: UInt64 {
        switch self {
        case .signals: 1 << 56
        case .namespaceThread: 2 << 56
        case .agent(let incarnation): 3 << 56 | UInt64(incarnation)
        case .proxy(let incarnation): 4 << 56 | UInt64(incarnation)
        case .stock(let incarnation, let worker): 5 << 56 | UInt64(worker) << 32 | UInt64(incarnation)
        }
    }

    init?(token: UInt64) {
        let incarnation = UInt32(truncatingIfNeeded: token)
        switch token >> 56 {
        case 1: self = .signals
        case 2: self = .namespaceThread
        case 3: self = .agent(incarnation: incarnation)
        case 4: self = .proxy(incarnation: incarnation)
        case 5: self = .stock(incarnation: incarnation, worker: Int(token >> 32 & 0xffff))
        default: return nil
        }
    }
}

/// epoll, level-triggered: a source that is read only in part is reported again.
struct Poller: ~Copyable {
    struct Event { var source: EventSource, isReadable: Bool, isWritable: Bool }

    private let epoll: Descriptor

    init() throws(StartFault) {
        let number = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard number >= 0 else { throw .failed("cannot make an epoll: \(errorText(errno))") }
        epoll = Descriptor(adopting: number)
    }

    func watch(_ descriptor: Int32, for source: EventSource) {
        let result = clinux_epoll_add(epoll.number, descriptor, UInt32(CLINUX_EPOLLIN), source.token)
        precondition(result == 0, "watched twice")
    }

    /// For a descriptor that has ended and would be reported for ever.
    func forget(_ descriptor: Int32) { _ = clinux_epoll_remove(epoll.number, descriptor) }

    func setWritableInterest(_ isWanted: Bool, _ descriptor: Int32, for source: EventSource) {
        _ = clinux_epoll_modify(epoll.number, descriptor, UInt32(isWanted ? CLINUX_EPOLLIN | CLINUX_EPOLLOUT : CLINUX_EPOLLIN), source.token)
    }

    /// Waits until something is ready or the time is over.
    func wait(milliseconds: UInt64) -> [Event] {
        withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: 64) { buffer in
            let count = epoll_wait(epoll.number, buffer.baseAddress, 64, Int32(clamping: milliseconds))
            guard count > 0 else { return [] }      // EINTR: the loop comes back
            return (0..<count).compactMap { index in
                guard let source = EventSource(token: clinux_event_token(buffer.baseAddress, index)) else { return nil }
                let flags = clinux_event_flags(buffer.baseAddress, index)
                // Errors and hang-ups are found by reading.
                return Event(source: source, isReadable: flags & ~UInt32(CLINUX_EPOLLOUT) != 0, isWritable: flags & UInt32(CLINUX_EPOLLOUT) != 0)
            }
        }
    }
}
