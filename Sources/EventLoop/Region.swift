import Glibc

/// An anonymous mapping for `capacity` elements of a trivial type, zero-filled. Pages become resident when first touched, so a worker can
/// reserve for its descriptor limit and pay for what is used.
public struct Region<Element>: ~Copyable {
    public let base: UnsafeMutablePointer<Element>
    public let capacity: Int

    public init(capacity: Int) {
        precondition(capacity > 0 && _isPOD(Element.self), "a region holds trivial elements")
        self.capacity = capacity
        base = mapZeroed(byteCount: capacity * MemoryLayout<Element>.stride).bindMemory(to: Element.self, capacity: capacity)
    }

    @inlinable public subscript(_ index: Int) -> Element {
        get { base[index] }
        nonmutating set { base[index] = newValue }
    }

    deinit { munmap(base, capacity * MemoryLayout<Element>.stride) }
}

func mapZeroed(byteCount: Int) -> UnsafeMutableRawPointer {
    let memory = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    guard let memory, memory != MAP_FAILED else { preconditionFailure("no address space for \(byteCount) bytes") }
    return memory
}
