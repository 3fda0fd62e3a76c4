import Glibc

/// Names one life of one slab place. A token outlives its element safely: the next tenant has another generation.
public struct Token: Equatable, Sendable {
    public let raw: UInt64
    @inlinable public init(raw: UInt64) { self.raw = raw }
    @inlinable public init(index: UInt32, generation: UInt32) { raw = UInt64(generation) &<< 32 | UInt64(index) }
    @inlinable public var index: UInt32 { UInt32(truncatingIfNeeded: raw) }
    @inlinable public var generation: UInt32 { UInt32(truncatingIfNeeded: raw &>> 32) }

    /// Names nothing: generation 0 is even, and live generations are odd.
    public static var none: Token { Token(raw: 0) }
}

/// Elements that never move, in one mapping; places are reused last-in first-out so that the resident set follows the number alive.
///
/// A place's generation is odd while it is occupied and even while it is free; both moves increment it, so a token matches exactly one
/// occupation (until 2^31 reuses of the same place, far beyond the life of an epoll event or a mailbox message).
public struct Slab<Element: ~Copyable>: ~Copyable {
    @usableFromInline let base: UnsafeMutablePointer<Element>
    @usableFromInline let generations: Region<UInt32>
    @usableFromInline let nextFree: Region<UInt32>
    public let capacity: Int
    @usableFromInline var touched = 0
    @usableFromInline var firstFree = UInt32.max
    public private(set) var occupied = 0

    public init(capacity: Int) {
        self.capacity = capacity
        base = mapZeroed(byteCount: capacity * MemoryLayout<Element>.stride).bindMemory(to: Element.self, capacity: capacity)
        generations = Region(capacity: capacity)
        nextFree = Region(capacity: capacity)
    }

    /// Moves `element` into a free place. Nil when all are taken.
    public mutating func insert(_ element: consuming Element) -> Token? {
        let index: UInt32
        if firstFree != .max {
            index = firstFree
            firstFree = nextFree[Int(index)]
        } else {
            guard touched < capacity else { return nil }
            index = UInt32(touched)
            touched += 1
        }
        generations[Int(index)] &+= 1
        (base + Int(index)).initialize(to: element)
        occupied += 1
        return Token(index: index, generation: generations[Int(index)])
    }

    /// Ends the life of the element at `index`.
    public mutating func remove(at index: UInt32) {
        precondition(isOccupied(index), "a slab place was freed twice")
        (base + Int(index)).deinitialize(count: 1)
        generations[Int(index)] &+= 1
        nextFree[Int(index)] = firstFree
        firstFree = index
        occupied -= 1
    }

    /// Whether an element lives at `index` now; a token also tells whether it is still the same one.
    @inlinable public func isOccupied(_ index: UInt32) -> Bool { Int(index) < touched && generations[Int(index)] & 1 == 1 }

    /// The token of the element now living at `index`.
    @inlinable public func token(at index: UInt32) -> Token { Token(index: index, generation: generations[Int(index)]) }

    /// The element's place, if this life of it goes on.
    @inlinable public func find(_ token: Token) -> UnsafeMutablePointer<Element>? {
        let index = Int(token.index)
        guard index < touched, token.generation & 1 == 1, generations[index] == token.generation else { return nil }
        return base + index
    }

    /// The place at `index`, whose occupation the caller knows.
    @inlinable public func at(_ index: UInt32) -> UnsafeMutablePointer<Element> { base + Int(index) }

    /// One more than the highest index ever used.
    @inlinable public var highWater: UInt32 { UInt32(touched) }

    deinit {
        for index in 0..<touched where generations[index] & 1 == 1 { (base + index).deinitialize(count: 1) }
        munmap(base, capacity * MemoryLayout<Element>.stride)
    }
}
