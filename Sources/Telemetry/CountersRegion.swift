import CLinux
import Glibc
import Synchronization

/// Why a counters' memory cannot be used.
public enum CountersFault: Error {
    /// Its size is not this build's, or it could still be resized: a reader could be cut off in mid-read.
    case notSealed
    /// It was made by a build with another layout.
    case otherLayout
    case system(call: StaticString, errno: Int32)
}

/// The memory of all counters, mapped. Made by `weft node`, written by `weft-proxy`, read by `weft agent`.
///
/// It outlives the proxy: totals go on with the next incarnation, gauges start anew. `@unchecked Sendable`: `beginIncarnation` comes
/// before the threads, and what several of them touch afterwards are atomics in the mapping.
public final class CountersRegion: @unchecked Sendable {
    let base: UnsafeMutableRawPointer
    /// The running workers' counters, then the control thread's. Made by `beginIncarnation`, only read afterwards.
    private var writers: [WorkerCounters] = []

    private init(base: UnsafeMutableRawPointer) { self.base = base }

    deinit {
        for counters in writers { counters.index.release() }
        munmap(base, CountersLayout.byteCount)
    }

    /// A new, empty memory: a memfd of fixed size. The caller closes it.
    public static func create() throws(CountersFault) -> Int32 {
        let descriptor = clinux_memory_sealed("weft-counters", nil, CountersLayout.byteCount, false)
        guard descriptor >= 0 else { throw .system(call: "memfd_create", errno: -descriptor) }
        var header = (CountersLayout.magic, CountersLayout.fingerprint)
        guard pwrite(descriptor, &header, 16, 0) == 16 else {
            let error = errno
            close(descriptor)
            throw .system(call: "pwrite", errno: error)
        }
        return descriptor
    }

    /// Maps a memory that `create` made; the descriptor stays the caller's.
    ///
    /// A reader maps with `writable: false`; its descriptor may be read-only.
    public static func map(_ descriptor: Int32, writable: Bool) throws(CountersFault) -> CountersRegion {
        guard clinux_memory_is_sealed(descriptor, false) == 1, clinux_memory_size(descriptor) == Int64(CountersLayout.byteCount)
        else { throw .notSealed }
        let protection = writable ? PROT_READ | PROT_WRITE : PROT_READ
        guard let start = mmap(nil, CountersLayout.byteCount, protection, MAP_SHARED, descriptor, 0), start != MAP_FAILED
        else { throw .system(call: "mmap", errno: errno) }
        let region = CountersRegion(base: start)
        guard region.word(CountersLayout.magicOffset).pointee.load(ordering: .relaxed) == CountersLayout.magic,
            region.word(CountersLayout.fingerprintOffset).pointee.load(ordering: .relaxed) == CountersLayout.fingerprint
        else { throw .otherLayout }
        return region
    }

    // MARK: The proxy's side

    /// A new proxy takes over the memory: gauges of all workers and pods become 0, totals stay, known series are found again.
    /// Once, on the control thread, before any worker starts.
    public func beginIncarnation(_ number: UInt32, workers count: Int) {
        precondition((1...CountersLayout.workersMax).contains(count), "workers out of range")
        precondition(writers.isEmpty, "an incarnation begins once")
        for area in 0..<CountersLayout.areasMax {
            for counter in Counter.allCases where counter.definition.kind == .gauge {
                zero(areaOffset(area) + Int(counter.rawValue) * 8)
            }
            for pod in 0..<CountersLayout.podsMax where podIsKnown(pod) {
                for counter in PodCounter.allCases where counter.isGauge {
                    zero(podCounterOffset(pod, counter, worker: area))
                }
            }
        }
        for area in Array(0..<count) + [CountersLayout.workersMax] {
            let counters = WorkerCounters(area: base + areaOffset(area))
            counters.adopt()
            writers.append(counters)
        }
        word(CountersLayout.workersOffset).pointee.store(UInt64(count), ordering: .relaxed)
        word(CountersLayout.incarnationOffset).pointee.store(UInt64(number), ordering: .releasing)
    }

    /// A worker's own counters, valid as long as the region. Any thread, after `beginIncarnation`.
    public func worker(_ number: Int) -> WorkerCounters {
        precondition(number >= 0 && number < writers.count - 1, "no such worker in this incarnation")
        return writers[number]
    }

    /// The control thread's own counters: it must not write into a worker's.
    public var control: WorkerCounters {
        precondition(!writers.isEmpty, "the incarnation has not begun")
        return writers[writers.count - 1]
    }

    // MARK: Places

    func areaOffset(_ worker: Int) -> Int { CountersLayout.areasOffset + worker * CountersLayout.areaBytes }

    func podCounterOffset(_ pod: Int, _ counter: PodCounter, worker: Int) -> Int {
        areaOffset(worker) + CountersLayout.podCountersOffset + pod * CountersLayout.podCountersStride + Int(counter.rawValue) * 8
    }

    func podRecordOffset(_ slot: Int) -> Int { CountersLayout.podsOffset + slot * CountersLayout.podRecordBytes }

    func word(_ offset: Int) -> UnsafeMutablePointer<Atomic<UInt64>> { (base + offset).assumingMemoryBound(to: Atomic<UInt64>.self) }

    private func podIsKnown(_ slot: Int) -> Bool {
        word(podRecordOffset(slot) + CountersLayout.podNumberOffset).pointee.load(ordering: .relaxed) != 0
    }

    private func zero(_ offset: Int) {
        let word = word(offset)
        // Storing 0 over 0 would make pages of workers that never ran.
        if word.pointee.load(ordering: .relaxed) != 0 { word.pointee.store(0, ordering: .relaxed) }
    }
}
