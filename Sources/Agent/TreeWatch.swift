import Glibc

/// Tells that something changed in one of some directories (inotify). One thread sleeps in `read`.
final class TreeWatch: Sendable {
    /// One element for any number of changes since the last.
    let changes: AsyncStream<Void>
    private let inotify: Int32
    private let stop: Int32

    private static let interest = UInt32(IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF)

    /// - Parameter rescanMilliseconds: a change is told at least so often: network file systems tell inotify nothing of what others do.
    init(rescanMilliseconds: Int32 = 15_000) throws(TreeWatchError) {
        inotify = inotify_init1(Int32(IN_CLOEXEC) | Int32(IN_NONBLOCK))
        guard inotify >= 0 else { throw TreeWatchError(call: "inotify_init1", code: errno) }
        var ends: [Int32] = [0, 0]
        guard pipe(&ends) == 0 else {
            let code = errno
            close(inotify)
            throw TreeWatchError(call: "pipe", code: code)
        }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        stop = ends[1]
        let (changes, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        self.changes = changes
        let watcher = Watcher(inotify: inotify, stop: ends[0], rescanMilliseconds: rescanMilliseconds, continuation: continuation)
        var thread = pthread_t()
        let context = Unmanaged.passRetained(watcher)
        let code = pthread_create(&thread, nil, { context in
            Unmanaged<Watcher>.fromOpaque(context!).takeRetainedValue().run()
            return nil
        }, context.toOpaque())
        guard code == 0 else {
            context.release()
            close(stop)
            throw TreeWatchError(call: "pthread_create", code: code)
        }
        pthread_detach(thread)
    }

    deinit { close(stop) }

    /// Watches these directories too; one that is missing is told of by its parent's change. Repeating it changes nothing.
    func add(_ paths: some Sequence<String>) {
        for path in paths { inotify_add_watch(inotify, path, Self.interest | UInt32(IN_ONLYDIR)) }
    }

    private final class Watcher {
        let inotify: Int32, stop: Int32
        let rescanMilliseconds: Int32
        let continuation: AsyncStream<Void>.Continuation

        init(inotify: Int32, stop: Int32, rescanMilliseconds: Int32, continuation: AsyncStream<Void>.Continuation) {
            (self.inotify, self.stop, self.rescanMilliseconds, self.continuation) = (inotify, stop, rescanMilliseconds, continuation)
        }

        deinit {
            close(inotify)
            close(stop)
            continuation.finish()
        }

        func run() {
            var buffer = [UInt8](repeating: 0, count: 16 * 1024)
            while true {
                var descriptors = [
                    pollfd(fd: inotify, events: Int16(POLLIN), revents: 0),
                    pollfd(fd: stop, events: 0, revents: 0),  // its other end closes: POLLHUP comes unasked
                ]
                if poll(&descriptors, 2, rescanMilliseconds) < 0, errno != EINTR { return }
                if descriptors[1].revents != 0 { return }
                while read(inotify, &buffer, buffer.count) > 0 {}
                continuation.yield()
            }
        }
    }
}

/// The system refused a watch: usually `fs.inotify.max_user_instances` is used up.
struct TreeWatchError: Error, CustomStringConvertible {
    let call: String
    let code: Int32
    var description: String { "cannot watch the identity files: \(call): \(String(cString: strerror(code)))" }
}
