import CNGHTTP2
import Glibc

/// Memory for streams, their queues and everything the library allocates: lists of free pieces by size, for one worker.
///
/// A stream costs the library about ten allocations; from these lists each is a few instructions. Pieces up to 4 KiB are cut
/// from slabs of 64 KiB that stay until the workspace ends; larger ones come from the system and go back to it.
struct FrameMemory {
    private static let classes = 9             // 32 … 8,192 bytes, header included
    private static let headerBytes = 16
    private static let slabBytes = 64 * 1024
    private static let pieceBytesMax = 32 << (classes - 1)

    private let free: UnsafeMutablePointer<UnsafeMutableRawPointer?>
    private var slabs: UnsafeMutableRawPointer?
    private var cursor: UnsafeMutableRawPointer?
    private var left = 0

    init() {
        free = .allocate(capacity: Self.classes)
        free.initialize(repeating: nil, count: Self.classes)
    }

    mutating func tearDown() {
        while let slab = slabs {
            slabs = slab.load(as: UnsafeMutableRawPointer?.self)
            slab.deallocate()
        }
        free.deallocate()
    }

    /// The class of a piece of `bytes`, header included; `classes` for one that is too large.
    @inline(__always) private static func sizeClass(_ bytes: Int) -> Int {
        bytes <= 32 ? 0 : bytes > pieceBytesMax ? classes : 59 &- (bytes &- 1).leadingZeroBitCount
    }

    /// Never nil: what cannot go on without memory ends the process, and the supervisor starts another.
    mutating func allocate(_ bytes: Int) -> UnsafeMutableRawPointer {
        let kind = Self.sizeClass(bytes &+ Self.headerBytes)
        let piece: UnsafeMutableRawPointer
        if kind == Self.classes {
            piece = .allocate(byteCount: bytes &+ Self.headerBytes, alignment: 16)
        } else if let reused = free[kind] {
            free[kind] = (reused + Self.headerBytes).load(as: UnsafeMutableRawPointer?.self)
            piece = reused
        } else {
            piece = cut(32 &<< kind)
        }
        piece.storeBytes(of: kind, as: Int.self)
        (piece + 8).storeBytes(of: bytes, as: Int.self)
        return piece + Self.headerBytes
    }

    mutating func release(_ memory: UnsafeMutableRawPointer) {
        let piece = memory - Self.headerBytes
        let kind = piece.load(as: Int.self)
        guard kind < Self.classes else { piece.deallocate(); return }
        memory.storeBytes(of: free[kind], as: UnsafeMutableRawPointer?.self)
        free[kind] = piece
    }

    mutating func resize(_ memory: UnsafeMutableRawPointer, _ bytes: Int) -> UnsafeMutableRawPointer {
        let piece = memory - Self.headerBytes
        let held = (piece + 8).load(as: Int.self)
        let kind = piece.load(as: Int.self)
        if kind < Self.classes, bytes &+ Self.headerBytes <= 32 &<< kind {
            (piece + 8).storeBytes(of: bytes, as: Int.self)
            return memory
        }
        let larger = allocate(bytes)
        larger.copyMemory(from: memory, byteCount: min(held, bytes))
        release(memory)
        return larger
    }

    private mutating func cut(_ bytes: Int) -> UnsafeMutableRawPointer {
        if left < bytes {
            // What is left of the old slab is given up: at most one piece's worth in 64 KiB.
            let slab = UnsafeMutableRawPointer.allocate(byteCount: Self.slabBytes, alignment: 16)
            slab.storeBytes(of: slabs, as: UnsafeMutableRawPointer?.self)
            slabs = slab
            cursor = slab + Self.headerBytes
            left = Self.slabBytes &- Self.headerBytes
        }
        guard let start = cursor else { preconditionFailure("a slab was just made sure of") }
        cursor = start + bytes
        left &-= bytes
        return start
    }
}

/// The library's allocator over a workspace's memory.
func libraryMemory(_ memory: UnsafeMutablePointer<FrameMemory>) -> nghttp2_mem {
    nghttp2_mem(
        mem_user_data: UnsafeMutableRawPointer(memory),
        malloc: { bytes, memory in frameMemory(memory).pointee.allocate(bytes) },
        free: { piece, memory in if let piece { frameMemory(memory).pointee.release(piece) } },
        calloc: { count, each, memory in
            let (bytes, overflow) = count.multipliedReportingOverflow(by: each)
            guard !overflow else { return nil }
            let piece = frameMemory(memory).pointee.allocate(bytes)
            memset(piece, 0, bytes)
            return piece
        },
        realloc: { piece, bytes, memory in
            guard let piece else { return frameMemory(memory).pointee.allocate(bytes) }
            return frameMemory(memory).pointee.resize(piece, bytes)
        })
}

@inline(__always) private func frameMemory(_ pointer: UnsafeMutableRawPointer?) -> UnsafeMutablePointer<FrameMemory> {
    pointer!.assumingMemoryBound(to: FrameMemory.self)
}
