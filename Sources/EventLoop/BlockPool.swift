import Glibc

/// Equal blocks of raw memory for one worker, reserved once and touched when used; the last one given back is the next one lent, so it is
/// still in the cache. Lending costs a load and a store; nothing is allocated.
public struct BlockPool: ~Copyable {
    public let blockBytes: Int
    let base: UnsafeMutableRawPointer
    let nextFree: Region<UInt32>
    let capacity: Int
    var touched = 0
    var firstFree = BlockPool.none
    public private(set) var lent = 0

    /// No block.
    public static var none: UInt32 { .max }

    public init(blockBytes: Int, capacity: Int) {
        self.blockBytes = blockBytes
        self.capacity = capacity
        base = mapZeroed(byteCount: blockBytes * capacity)
        nextFree = Region(capacity: capacity)
    }

    /// A block, or `none` when all are lent.
    public mutating func lend() -> UInt32 {
        if firstFree != Self.none {
            let block = firstFree
            firstFree = nextFree[Int(block)]
            lent += 1
            return block
        }
        guard touched < capacity else { return Self.none }
        touched += 1
        lent += 1
        return UInt32(touched - 1)
    }

    /// The block may be lent again; what it holds is not erased.
    public mutating func giveBack(_ block: UInt32) {
        precondition(Int(block) < touched && lent > 0, "a block was given back that was never lent")
        nextFree[Int(block)] = firstFree
        firstFree = block
        lent -= 1
    }

    /// `blockBytes` bytes, the borrower's until it gives the block back.
    public func memory(of block: UInt32) -> UnsafeMutableRawPointer { base + Int(block) * blockBytes }

    deinit { munmap(base, blockBytes * capacity) }
}
