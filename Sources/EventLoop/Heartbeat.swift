import CLinux
import Glibc

/// One worker's slot in the BPF array by which the capture hooks tell a live proxy from a stopped one. The hooks tolerate 2 s of
/// silence; a stamp every 100 ms leaves twenty chances.
public struct Heartbeat: ~Copyable {
    public static let intervalNanoseconds: Nanoseconds = 100_000_000
    let slot: UnsafeMutablePointer<UInt64>?
    private var nextStamp: Nanoseconds = 0

    /// Maps slot `worker` of the array behind `descriptor` (u64 per worker, BPF_F_MMAPABLE; a memfd serves as well).
    /// With an unmappable descriptor the heart stays silent and the hooks treat the proxy as absent.
    public init(array descriptor: Int32, worker: Int) {
        let memory = mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
        slot = memory == MAP_FAILED ? nil : memory?.bindMemory(to: UInt64.self, capacity: 512).advanced(by: worker)
    }

    public var isMapped: Bool { slot != nil }

    /// Stamps when the last stamp is due for renewal.
    @inline(__always) public mutating func beat(_ now: Nanoseconds) {
        guard now >= nextStamp else { return }
        nextStamp = now + Self.intervalNanoseconds
        if let slot { clinux_store_relaxed(slot, now) }
    }
}
