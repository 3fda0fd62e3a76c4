import Glibc
import Synchronization

/// Which pod each slot of the per-pod counters belongs to. Written by the proxy's control thread.
///
/// A pod's slot carries over restarts: the next incarnation finds it by the pod's number and goes on counting.
public final class PodDirectory {
    private let region: CountersRegion
    private var slots: [UInt32: Int] = [:]
    private var claimed = Set<Int>()

    /// Reads what an earlier incarnation left; nothing of it is claimed yet.
    public init(_ region: CountersRegion) {
        self.region = region
        for slot in 0..<CountersLayout.podsMax {
            let number = number(slot).pointee.load(ordering: .relaxed)
            if number != 0 { slots[UInt32(truncatingIfNeeded: number &- 1)] = slot }
        }
    }

    /// The slot of a pod, for the workers to count in; `nil` when `CountersLayout.podsMax` are taken.
    /// Until it is labelled, the pod is counted but not shown.
    public func add(pod: UInt32) -> PodSlot? {
        if let slot = slots[pod] {
            claimed.insert(slot)
            return PodSlot(number: UInt32(slot))
        }
        guard let slot = freeSlot() else { return nil }
        clear(slot)
        number(slot).pointee.store(UInt64(pod) + 1, ordering: .releasing)
        slots[pod] = slot
        claimed.insert(slot)
        return PodSlot(number: UInt32(slot))
    }

    /// Names a pod in the metrics; call it again when the names change. Texts that are too long are cut.
    public func label(pod: UInt32, namespace: UnsafeRawBufferPointer, workload: UnsafeRawBufferPointer, name: UnsafeRawBufferPointer) {
        guard let slot = slots[pod] else { return }
        let record = region.base + region.podRecordOffset(slot)
        let version = region.word(region.podRecordOffset(slot) + CountersLayout.podVersionOffset)
        let before = version.pointee.load(ordering: .relaxed)
        // Odd while the texts change: a reader that meets it tries again, a writer that dies in it leaves no label.
        version.pointee.store(before | 1, ordering: .relaxed)
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        var end = CountersLayout.podTextOffset
        let parts = [
            (namespace, CountersLayout.podNamespaceBytesMax), (workload, CountersLayout.podWorkloadBytesMax),
            (name, CountersLayout.podNameBytesMax),
        ]
        for (place, part) in parts.enumerated() {
            let count = min(part.0.count, part.1)
            record.storeBytes(of: UInt16(count), toByteOffset: CountersLayout.podCountsOffset + 2 * place, as: UInt16.self)
            if count > 0, let start = part.0.baseAddress { memcpy(record + end, start, count) }
            end += count
        }
        version.pointee.store((before | 1) &+ 1, ordering: .releasing)
    }

    /// Takes a pod out. Only after every worker has dropped it: the slot, zeroed, may go to another pod.
    public func remove(pod: UInt32) {
        guard let slot = slots.removeValue(forKey: pod) else { return }
        claimed.remove(slot)
        clear(slot)
    }

    /// Takes out what an earlier incarnation left and this one did not add: call it once, when all pods are known.
    public func removeUnclaimed() {
        for (pod, slot) in slots where !claimed.contains(slot) { remove(pod: pod) }
    }

    private func freeSlot() -> Int? {
        let used = Set(slots.values)
        if let slot = (0..<CountersLayout.podsMax).first(where: { !used.contains($0) }) { return slot }
        guard let (pod, slot) = slots.first(where: { !claimed.contains($0.value) }) else { return nil }
        remove(pod: pod)
        return slot
    }

    /// Frees the slot first, so that a reader does not take the zeros for the old pod's.
    private func clear(_ slot: Int) {
        number(slot).pointee.store(0, ordering: .releasing)
        let version = region.word(region.podRecordOffset(slot) + CountersLayout.podVersionOffset)
        version.pointee.store(version.pointee.load(ordering: .relaxed) | 1, ordering: .releasing)
        for worker in 0..<CountersLayout.areasMax {
            for counter in PodCounter.allCases {
                let word = region.word(region.podCounterOffset(slot, counter, worker: worker))
                if word.pointee.load(ordering: .relaxed) != 0 { word.pointee.store(0, ordering: .relaxed) }
            }
        }
    }

    private func number(_ slot: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
        region.word(region.podRecordOffset(slot) + CountersLayout.podNumberOffset)
    }
}
