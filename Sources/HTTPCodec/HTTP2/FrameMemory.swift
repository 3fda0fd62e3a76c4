import CNGHTTP2
import Glibc

/// Memory for streams, their queues and everything the library allocates: lists of free pieces by size, for one worker.
///
/// A stream costs the library about ten allocations; from these lists each is a few instructions. Pieces up to 4 KiB are cut
/// from slabs of 64 KiB that stay until the workspace ends; larger ones come from the system and go back to it. Two sizes to
/// each power of two: a session at rest takes 15 KiB, with one size to each it took 23.
///
/// What of a session may rest lies on pages of its own (`SessionPages`).
struct FrameMemory {
    /// Pieces of 32, 48, 64, 96 … 3,072 and 4,096 bytes.
    private static let classes = 15
    static let headerBytes = 16
    private static let slabBytes = 64 * 1024
    static let pieceBytesMax = 4_096
    /// What lies on pages of its session.
    private static let pageClass = classes + 1

    private var pages = SessionPages()
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
        pages.tearDown()
        free.deallocate()
    }

    /// The class of a piece that holds `bytes`; `classes` for one that is too large.
    @inline(__always) private static func sizeClass(_ bytes: Int) -> Int {
        if bytes <= 32 { return 0 }
        if bytes > pieceBytesMax { return classes }
        let last = bytes &- 1, top = 63 &- last.leadingZeroBitCount
        return (top &- 5) &* 2 &+ (last &>> (top &- 1) & 1) &+ 1
    }

    /// The bytes a piece of a class holds.
    @inline(__always) private static func bytes(of kind: Int) -> Int {
        kind == 0 ? 32 : (3 &+ (kind &- 1) & 1) &<< (4 &+ (kind &- 1) &>> 1)
    }

    /// For the library, whose buffers for frames are told by their size. Nil: there is no address space for one more; then the library refuses
    /// what it needs it for, a session or a head.
    mutating func allocateForLibrary(_ bytes: Int) -> UnsafeMutableRawPointer? {
        guard bytes >= SessionPages.framesBytesMin, bytes <= SessionPages.framesBytesMax else { return allocate(bytes) }
        return pages.takeFrames().map { label($0, Self.pageClass, bytes) }
    }

    /// Never nil: what cannot go on without a few bytes ends the process, and the supervisor starts another.
    mutating func allocate(_ bytes: Int) -> UnsafeMutableRawPointer {
        let kind = Self.sizeClass(bytes)
        let piece: UnsafeMutableRawPointer
        if kind == Self.classes {
            piece = .allocate(byteCount: bytes &+ Self.headerBytes, alignment: 16)
        } else if let reused = free[kind] {
            free[kind] = (reused + Self.headerBytes).load(as: UnsafeMutableRawPointer?.self)
            piece = reused
        } else {
            piece = cut(Self.bytes(of: kind) &+ Self.headerBytes)
        }
        return label(piece, kind, bytes)
    }

    /// The same, zeroed. Of the size of a map of streams it is one.
    mutating func allocateZeroed(_ bytes: Int) -> UnsafeMutableRawPointer? {
        guard let memory = bytes == SessionPages.mapBytes ? pages.takeMap().map({ label($0, Self.pageClass, bytes) }) : allocateForLibrary(bytes) else { return nil }
        memset(memory, 0, bytes)
        return memory
    }

    @inline(__always) private func label(_ piece: UnsafeMutableRawPointer, _ kind: Int, _ bytes: Int) -> UnsafeMutableRawPointer {
        piece.storeBytes(of: kind, as: Int.self)
        // Never 0: that is what a page at rest reads as.
        (piece + 8).storeBytes(of: max(bytes, 1), as: Int.self)
        return piece + Self.headerBytes
    }

    /// A session that is made from here on has the pages that `madePages` names then.
    mutating func beginSession() { pages.forgetLast() }
    var madePages: SessionPages.Lease? { pages.last }

    /// Gives the pages of a session back on which nothing happens.
    mutating func rest(_ lease: SessionPages.Lease) { pages.rest(lease) }

    /// What lies on pages that were given back has lost what stands before it.
    @inline(__always) private static func isAtRest(_ piece: UnsafeMutableRawPointer, kind: Int) -> Bool {
        kind == 0 && (piece + 8).load(as: Int.self) == 0
    }

    mutating func release(_ memory: UnsafeMutableRawPointer) {
        let piece = memory - Self.headerBytes
        let kind = piece.load(as: Int.self)
        if kind == Self.pageClass || Self.isAtRest(piece, kind: kind) { return pages.giveBack(piece) }
        guard kind < Self.classes else { piece.deallocate(); return }
        memory.storeBytes(of: free[kind], as: UnsafeMutableRawPointer?.self)
        free[kind] = piece
    }

    /// For the library, too. Nil: as above, and the memory stays as it is.
    mutating func resize(_ memory: UnsafeMutableRawPointer, _ bytes: Int) -> UnsafeMutableRawPointer? {
        let piece = memory - Self.headerBytes
        let held = (piece + 8).load(as: Int.self)
        let kind = piece.load(as: Int.self)
        if kind < Self.classes, held > 0, bytes <= Self.bytes(of: kind) {
            (piece + 8).storeBytes(of: max(bytes, 1), as: Int.self)
            return memory
        }
        guard let larger = allocateForLibrary(bytes) else { return nil }
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
        malloc: { bytes, memory in frameMemory(memory).pointee.allocateForLibrary(bytes) },
        free: { piece, memory in if let piece { frameMemory(memory).pointee.release(piece) } },
        calloc: { count, each, memory in
            let (bytes, overflow) = count.multipliedReportingOverflow(by: each)
            guard !overflow else { return nil }
            return frameMemory(memory).pointee.allocateZeroed(bytes)
        },
        realloc: { piece, bytes, memory in
            guard let piece else { return frameMemory(memory).pointee.allocateForLibrary(bytes) }
            return frameMemory(memory).pointee.resize(piece, bytes)
        })
}

@inline(__always) private func frameMemory(_ pointer: UnsafeMutableRawPointer?) -> UnsafeMutablePointer<FrameMemory> {
    pointer!.assumingMemoryBound(to: FrameMemory.self)
}
