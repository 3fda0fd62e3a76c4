import Glibc

/// Watches a manifests directory with inotify and hands out complete readings of it.
///
/// A reading is atomic: it is taken after changes have settled, and taken again when anything changed while it was
/// taken. So many files copied together, an editor's write-and-rename, and the symbolic-link swap of a mounted
/// ConfigMap each arrive as one reading. All of it happens on one thread that sleeps in `poll`.
public final class DirectoryWatch: Sendable {
    /// Readings that differ from the one before; the first comes at once. A reader that is late gets the newest only.
    public let readings: AsyncStream<DirectoryReading>
    private let wake: Int32

    /// How long changes may take to settle.
    public struct Timing: Sendable {
        /// Changes belong together when less than this passes between them.
        public var quietMilliseconds: Int32 = 50
        /// A file that stays open for writing, or changes without end, delays a reading no longer than this.
        public var settleMillisecondsMax: Int64 = 2_000
        /// Network file systems tell inotify nothing of changes made elsewhere.
        public var rescanMilliseconds: Int32 = 15_000

        public init() {}
    }

    /// Starts watching. The directory may be missing; it is then reported as such and picked up when it appears.
    public init(_ path: String, timing: Timing = Timing()) throws(WatchError) {
        var ends: [Int32] = [0, 0]
        guard pipe(&ends) == 0 else { throw WatchError(call: "pipe", code: errno) }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        let inotify = inotify_init1(Int32(IN_CLOEXEC) | Int32(IN_NONBLOCK))
        guard inotify >= 0 else {
            let code = errno
            close(ends[0])
            close(ends[1])
            throw WatchError(call: "inotify_init1", code: code)
        }
        let (readings, continuation) = AsyncStream.makeStream(of: DirectoryReading.self, bufferingPolicy: .bufferingNewest(1))
        self.readings = readings
        wake = ends[1]
        let loop = WatchLoop(path: path, timing: timing, inotify: inotify, stop: ends[0], continuation: continuation)
        try Self.start(loop)
    }

    /// Ends the thread and the stream.
    deinit { close(wake) }

    private static func start(_ loop: WatchLoop) throws(WatchError) {
        var thread = pthread_t()
        let context = Unmanaged.passRetained(loop)
        let code = pthread_create(&thread, nil, { context in
            Unmanaged<WatchLoop>.fromOpaque(context!).takeRetainedValue().run()
            return nil
        }, context.toOpaque())
        guard code == 0 else {
            context.release()
            throw WatchError(call: "pthread_create", code: code)
        }
        pthread_detach(thread)
    }
}

/// The system refused a watch: usually `fs.inotify.max_user_instances` is used up.
public struct WatchError: Error, CustomStringConvertible {
    public let call: String
    public let code: Int32
    public var description: String { "cannot watch the manifests: \(call): \(String(cString: strerror(code)))" }
}

/// The thread of a DirectoryWatch; all state is the thread's own.
private final class WatchLoop {
    private let path: String
    private let timing: DirectoryWatch.Timing
    private let inotify: Int32
    private let stop: Int32
    private let continuation: AsyncStream<DirectoryReading>.Continuation
    /// Files that were created or written but not yet closed by their writer.
    private var unfinished: Set<String> = []
    private var directoryWatches: Set<Int32> = []

    private static let interest = UInt32(IN_CREATE | IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ATTRIB)
        | UInt32(IN_DELETE_SELF | IN_MOVE_SELF)

    init(
        path: String, timing: DirectoryWatch.Timing, inotify: Int32, stop: Int32, continuation: AsyncStream<DirectoryReading>.Continuation
    ) {
        (self.path, self.timing, self.inotify, self.stop, self.continuation) = (path, timing, inotify, stop, continuation)
    }

    deinit {
        close(inotify)
        close(stop)
        continuation.finish()
    }

    func run() {
        var delivered: DirectoryReading?
        while true {
            let reading = settledReading()
            if reading != delivered {
                continuation.yield(reading)
                delivered = reading
            }
            guard wait(milliseconds: timing.rescanMilliseconds) != .stopped else { return }
            guard settle() else { return }
        }
    }

    /// Reads the directory until a reading passes without a change in between.
    private func settledReading() -> DirectoryReading {
        var reading = DirectoryReading()
        for _ in 0..<8 {
            watchEverything()
            reading = ManifestDirectory.read(path)
            guard wait(milliseconds: 0) == .changed, settle() else { break }
        }
        return reading
    }

    /// Waits until nothing changes any more and no file is half written; false when told to stop.
    private func settle() -> Bool {
        let start = Self.nowMilliseconds()
        while true {
            switch wait(milliseconds: timing.quietMilliseconds) {
            case .stopped: return false
            case .quiet where unfinished.isEmpty: return true
            case .quiet, .changed: break
            }
            guard Self.nowMilliseconds() - start < timing.settleMillisecondsMax else {
                unfinished = []
                return true
            }
        }
    }

    private enum Wake { case quiet, changed, stopped }

    private func wait(milliseconds: Int32) -> Wake {
        var descriptors = [
            pollfd(fd: inotify, events: Int16(POLLIN), revents: 0),
            pollfd(fd: stop, events: 0, revents: 0),  // its other end closes: POLLHUP comes unasked
        ]
        let count = poll(&descriptors, 2, milliseconds)
        if count <= 0 { return .quiet }
        if descriptors[1].revents != 0 { return .stopped }
        return takeEvents() ? .changed : .quiet
    }

    /// Empties inotify's queue; true when anything concerned a manifest or a directory on the way to one.
    private func takeEvents() -> Bool {
        var changed = false
        let headBytes = MemoryLayout<inotify_event>.size
        withUnsafeTemporaryAllocation(byteCount: 64 * 1024, alignment: 8) { buffer in
            while true {
                let count = Glibc.read(inotify, buffer.baseAddress, buffer.count)
                if count <= 0 { return }
                var offset = 0
                while offset + headBytes <= count {
                    let event = buffer.loadUnaligned(fromByteOffset: offset, as: inotify_event.self)
                    let name = String(cString: (buffer.baseAddress! + offset + headBytes).assumingMemoryBound(to: CChar.self))
                    offset += headBytes + Int(event.len)
                    take(mask: event.mask, name: event.len > 0 ? name : "", watch: event.wd)
                    changed = true
                }
            }
        }
        return changed
    }

    private func take(mask: UInt32, name: String, watch: Int32) {
        guard directoryWatches.contains(watch), ManifestDirectory.isManifest(name) else { return }
        if mask & UInt32(IN_CREATE) != 0 {
            // A new link has no writer to wait for.
            var status = stat()
            if lstat("\(path)/\(name)", &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_nlink == 1 { unfinished.insert(name) }
        } else if mask & UInt32(IN_MODIFY) != 0 {
            unfinished.insert(name)
        } else if mask & UInt32(IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE) != 0 {
            unfinished.remove(name)
        }
    }

    /// Watches the directory, its parent (the directory may be replaced as a whole), and the places its links lead to.
    /// Adding a watch that exists changes nothing, so this may be repeated.
    private func watchEverything() {
        directoryWatches = []
        let own = inotify_add_watch(inotify, path, Self.interest | UInt32(IN_ONLYDIR))
        if own >= 0 { directoryWatches.insert(own) }
        inotify_add_watch(inotify, Self.parent(of: path), UInt32(IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE))
        guard let directory = opendir(path) else { return }
        defer { closedir(directory) }
        while let entry = Glibc.readdir(directory) {
            guard entry.pointee.d_type == UInt8(DT_LNK) else { continue }
            let name = withUnsafePointer(to: &entry.pointee.d_name) { tuple in
                tuple.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            guard ManifestDirectory.isManifest(name), let target = realpath("\(path)/\(name)", nil) else { continue }
            inotify_add_watch(inotify, Self.parent(of: String(cString: target)), Self.interest)
            free(target)
        }
    }

    private static func parent(of path: String) -> String {
        var parts = path.split(separator: "/", omittingEmptySubsequences: true)
        if parts.isEmpty || parts.last == ".." { return "\(path)/.." }
        parts.removeLast()
        let joined = parts.joined(separator: "/")
        return path.hasPrefix("/") ? "/\(joined)" : joined.isEmpty ? "." : joined
    }

    private static func nowMilliseconds() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1_000 + Int64(time.tv_nsec) / 1_000_000
    }
}
