import Foundation
import Synchronization

/// Stamps the first worker's slot every 100 ms, as the proxy would.
final class Heart: Sendable {
    private let isBeating = Atomic<Bool>(false)
    private let stopped = DispatchSemaphore(value: 0)

    func start(stamping map: Int32) {
        let page = Page(map)
        page.stamp(Heart.now(), slot: 0)
        isBeating.store(true, ordering: .relaxed)
        Thread.detachNewThread { [self] in
            while isBeating.load(ordering: .relaxed) {
                page.stamp(Heart.now(), slot: 0)
                usleep(100_000)
            }
            stopped.signal()
        }
    }

    /// Returns when the last stamp is written.
    func stop() {
        if isBeating.exchange(false, ordering: .relaxed) { stopped.wait() }
    }

    static func leave(_ stamp: Int64, in map: Int32, slot: Int) { Page(map).stamp(UInt64(stamp), slot: slot) }

    static func now() -> UInt64 {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
    }

    /// The heartbeat map, mapped for writing.
    private final class Page: Sendable {
        private let address: UInt

        init(_ map: Int32) { address = UInt(bitPattern: mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0)!) }
        deinit { munmap(UnsafeMutableRawPointer(bitPattern: address), 4096) }

        func stamp(_ time: UInt64, slot: Int) {
            UnsafePointer<Atomic<UInt64>>(bitPattern: address)![slot].store(time, ordering: .relaxed)
        }
    }
}
