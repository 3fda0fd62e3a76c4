import CLinux
import Glibc

/// How the proxy is doing by its heartbeat.
enum ProxyPulse: Equatable {
    /// At least one worker accepts.
    case alive
    /// No worker has stamped for `Limits.heartbeatAgeMilliseconds`: the hooks have switched to each pod's `failure`.
    case stale
    /// A worker has not stamped for `Limits.hangMilliseconds`; its connections hang, and only a new proxy helps.
    case hung

    /// Judges by milliseconds of the monotonic clock.
    ///
    /// - Parameters:
    ///   - stamps: newest stamp of each worker.
    ///   - started: when this proxy was started; it cannot have stamped before.
    static func judge(stamps: [UInt64], started: UInt64, now: UInt64) -> ProxyPulse {
        func age(_ stamp: UInt64) -> UInt64 { now > stamp ? now - stamp : 0 }
        if stamps.contains(where: { age(max($0, started)) > Limits.hangMilliseconds }) { return .hung }
        return stamps.contains { $0 != 0 && age($0) <= Limits.heartbeatAgeMilliseconds } ? .alive : .stale
    }
}

/// The heartbeat map, mapped for reading.
struct HeartbeatMap: ~Copyable {
    private let slots: UnsafeMutableRawPointer
    private let workers: Int
    private static let bytes = 4096    // 16 slots of 8 bytes; maps are mapped by the page

    init(descriptor: Int32, workers: Int) throws(StartFault) {
        guard let mapped = mmap(nil, Self.bytes, PROT_READ, MAP_SHARED, descriptor, 0), mapped != MAP_FAILED else {
            throw .failed("cannot map the heartbeat: \(errorText(errno))")
        }
        slots = mapped
        self.workers = workers
    }

    deinit { munmap(slots, Self.bytes) }

    /// Milliseconds of the monotonic clock at which each worker stamped last.
    func stamps() -> [UInt64] {
        (0..<workers).map { clinux_load_relaxed(slots.assumingMemoryBound(to: UInt64.self) + $0) / 1_000_000 }
    }
}
