import Glibc
import Synchronization

/// A read-only mapping of an array of 64-bit numbers that others write: the hooks' verdict counters.
final class MappedNumbers: Sendable {
    let count: Int
    private let address: UInt

    /// Maps the first `count` numbers of a descriptor, which is closed in every case. Nil when it cannot be mapped.
    init?(adopting descriptor: Int32, count: Int) {
        defer { close(descriptor) }
        guard count > 0 else { return nil }
        guard let start = mmap(nil, count * MemoryLayout<UInt64>.size, PROT_READ, MAP_SHARED, descriptor, 0), start != MAP_FAILED else { return nil }
        self.count = count
        address = UInt(bitPattern: start)
    }

    deinit { munmap(UnsafeMutableRawPointer(bitPattern: address), count * MemoryLayout<UInt64>.size) }

    /// A number as it is now. Each is written by one 64-bit store or atomic addition, so it is never seen half written.
    subscript(index: Int) -> UInt64 {
        precondition(index >= 0 && index < count, "there are \(count) numbers")
        let numbers = UnsafePointer<Atomic<UInt64>>(bitPattern: address)!
        return numbers[index].load(ordering: .relaxed)
    }
}
