import CLinux
import Glibc
import MeshModel

/// The workers' heartbeats, as the hooks see them: CLOCK_MONOTONIC nanoseconds in a BPF map of one element.
/// Read by system call: the kernel maps BPF maps only for those who may write them.
final class HeartbeatStamps: Sendable {
    private let descriptor: Int32
    /// The map's only element holds them all, and is copied whole: no fewer may be asked for.
    private static let slots = Limits.workersMax

    /// Takes over the descriptor of the map.
    init(adopting descriptor: Int32) { self.descriptor = descriptor }

    deinit { close(descriptor) }

    /// Age of the oldest heartbeat in milliseconds; nil when no worker has stamped yet.
    ///
    /// - Parameter workers: how many there are now; stamps of an earlier, larger proxy stay behind. Nil when not known.
    func oldestAgeMilliseconds(workers: Int?) -> Int? {
        var stamps = [UInt64](repeating: 0, count: Self.slots)
        guard clinux_bpf_read(descriptor, &stamps) == 0 else { return nil }
        let live = stamps.prefix(workers ?? Self.slots).filter { $0 > 0 }
        guard let oldest = live.min() else { return nil }
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        let now = UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
        return Int((now > oldest ? now - oldest : 0) / 1_000_000)
    }
}
