/// A growable first-in-first-out run of bytes in one piece of raw memory.
///
/// For bytes that must wait: an unfinished head, output that the peer's window does not take yet. Memory is taken at the
/// first write, grows by doubling up to `capacityMax` and is given back by `releaseIfEmpty()`, so that a connection at
/// rest holds none. `readable` and `writable` point into that memory and are valid until the next mutating call.
public struct ByteQueue: ~Copyable {
    /// The first allocation. Two of them with malloc's header still fit in one page.
    public static let firstCapacity = 2_000

    @usableFromInline var memory: UnsafeMutableRawPointer?
    @usableFromInline var start = 0
    @usableFromInline var end = 0
    /// Bytes of memory held now.
    public private(set) var capacity = 0
    /// Bytes of memory never exceeded.
    public let capacityMax: Int

    public init(capacityMax: Int) {
        precondition(capacityMax > 0, "a queue that may hold nothing holds nothing")
        self.capacityMax = capacityMax
    }

    deinit { memory?.deallocate() }

    /// Bytes that wait to be read.
    @inlinable public var count: Int { end &- start }
    @inlinable public var isEmpty: Bool { end == start }
    /// Bytes that may still be appended before the queue is at its cap.
    @inlinable public var room: Int { capacityMax &- count }

    /// The bytes that wait, oldest first.
    @inlinable public var readable: UnsafeRawBufferPointer {
        guard let memory else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        return UnsafeRawBufferPointer(start: memory + start, count: end &- start)
    }

    /// The memory behind the last byte, as much of it as `reserve(_:)` has made sure of, or more.
    @inlinable public var writable: UnsafeMutableRawBufferPointer {
        guard let memory else { return UnsafeMutableRawBufferPointer(start: nil, count: 0) }
        return UnsafeMutableRawBufferPointer(start: memory + end, count: capacity &- end)
    }

    /// Makes sure that `writable` holds at least `count` bytes. False, and nothing changed, when the cap forbids it.
    @inlinable public mutating func reserve(_ count: Int) -> Bool {
        precondition(count >= 0, "a negative amount of memory")
        return count <= capacity &- end ? true : makeRoom(count)
    }

    /// Tells that `count` bytes of `writable` now hold data.
    @inlinable public mutating func commit(_ count: Int) {
        precondition(count >= 0 && count <= capacity &- end, "more bytes committed than were reserved")
        end &+= count
    }

    /// Copies bytes to the end. False, and nothing copied, when the cap forbids it.
    @inlinable public mutating func append(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard reserve(bytes.count) else { return false }
        if let source = bytes.baseAddress, let memory {
            (memory + end).copyMemory(from: source, byteCount: bytes.count)
            end &+= bytes.count
        }
        return true
    }

    /// Drops the `count` oldest bytes.
    @inlinable public mutating func consume(_ count: Int) {
        precondition(count >= 0 && count <= end &- start, "more bytes consumed than were there")
        start &+= count
        if start == end { start = 0; end = 0 }
    }

    /// Drops everything; keeps the memory.
    @inlinable public mutating func removeAll() { start = 0; end = 0 }

    /// Gives the memory back when nothing waits. Returns the number of bytes given back.
    @discardableResult
    public mutating func releaseIfEmpty() -> Int {
        guard start == end, let held = memory else { return 0 }
        held.deallocate()
        memory = nil
        defer { capacity = 0; start = 0; end = 0 }
        return capacity
    }

    /// Moves the bytes to the front of this memory, or of larger memory when that is not enough.
    @usableFromInline mutating func makeRoom(_ wanted: Int) -> Bool {
        let waiting = end &- start
        guard wanted <= capacityMax &- waiting else { return false }
        let needed = waiting &+ wanted
        if let memory, needed <= capacity {
            memory.copyMemory(from: memory + start, byteCount: waiting)
        } else {
            var larger = max(capacity, min(Self.firstCapacity, capacityMax))
            while larger < needed { larger = larger > capacityMax / 2 ? capacityMax : larger &* 2 }
            let fresh = UnsafeMutableRawPointer.allocate(byteCount: larger, alignment: 16)
            if let memory {
                fresh.copyMemory(from: memory + start, byteCount: waiting)
                memory.deallocate()
            }
            memory = fresh
            capacity = larger
        }
        start = 0
        end = waiting
        return true
    }
}

extension ByteQueue {
    /// Writes with a cursor of at least `bytesMax` bytes onto the end of the queue. The bytes become readable only when
    /// none of the writes overflowed; false otherwise, and when the cap forbids `bytesMax`.
    @inlinable public mutating func write(upTo bytesMax: Int, _ body: (inout ByteWriter) -> Void) -> Bool {
        guard reserve(bytesMax) else { return false }
        var writer = ByteWriter(writable)
        body(&writer)
        guard !writer.overflowed else { return false }
        commit(writer.count)
        return true
    }
}
