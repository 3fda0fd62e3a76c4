import CNGHTTP2
import Glibc

/// Memory for streams, their queues and everything the library allocates: lists of free pieces by size, for one worker.
///
/// A stream costs the library about ten allocations; from these lists each is a few instructions. Pieces up to 4 KiB are cut
/// from slabs of 64 KiB that stay until the workspace ends; larger ones come from the system and go back to it. Two sizes to
/// each power of two: a session at rest takes 15 KiB, with one size to each it took 23.
///
/// Each session has one buffer for frames of 16 KiB, of which it fills a few hundred bytes. From the heap that would be memory that others have
/// written to before, resident to its end; so those buffers begin on a page of their own in mappings that hold nothing else, and cost the pages
/// they need; none while their session rests.
struct FrameMemory {
    /// Pieces of 32, 48, 64, 96 … 3,072 and 4,096 bytes.
    private static let classes = 15
    private static let headerBytes = 16
    private static let slabBytes = 64 * 1024
    static let pieceBytesMax = 4_096
    /// The library's frame buffers: pages for 16 KiB, the frame's header and what the library adds.
    private static let frameClass = classes + 1
    private static let frameBytesMax = 5 * pageBytes - headerBytes, framesPerMapping = 64
    private static let pageBytes = 4_096

    private var frames: UnsafeMutableRawPointer?
    private var mappings: [UnsafeMutableRawPointer] = []
    /// A frame buffer in one life of it: the library may give it back and another session have it, which must not be taken from that one.
    struct Frame {
        let piece: UnsafeMutableRawPointer
        let life: UInt32
    }
    /// The one that was handed out last.
    var lastFrame: Frame?
    /// How often each has been handed out and given back.
    private var lives: [UnsafeMutableRawPointer: UInt32] = [:]
    /// Buffers of the last mapping that have been in use.
    private var framesCut = 0
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
        for mapping in mappings { munmap(mapping, Self.framesPerMapping * 5 * Self.pageBytes) }
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

    /// Never nil: what cannot go on without memory ends the process, and the supervisor starts another.
    mutating func allocate(_ bytes: Int) -> UnsafeMutableRawPointer {
        var kind = Self.sizeClass(bytes)
        let piece: UnsafeMutableRawPointer
        if kind == Self.classes, bytes > 4 * Self.pageBytes - Self.headerBytes, bytes <= Self.frameBytesMax {
            kind = Self.frameClass
            piece = takeFrame()
            let life = lives[piece, default: 0] &+ 1
            lives[piece] = life
            lastFrame = Frame(piece: piece, life: life)
        } else if kind == Self.classes {
            piece = .allocate(byteCount: bytes &+ Self.headerBytes, alignment: 16)
        } else if let reused = free[kind] {
            free[kind] = (reused + Self.headerBytes).load(as: UnsafeMutableRawPointer?.self)
            piece = reused
        } else {
            piece = cut(Self.bytes(of: kind) &+ Self.headerBytes)
        }
        piece.storeBytes(of: kind, as: Int.self)
        // Never 0: that is what a frame buffer at rest reads as.
        (piece + 8).storeBytes(of: max(bytes, 1), as: Int.self)
        return piece + Self.headerBytes
    }

    /// Gives the pages of a frame buffer back whose content nobody needs. They come again, zeroed, when they are written to.
    mutating func rest(_ frame: Frame) {
        guard lives[frame.piece] == frame.life else { return }
        madvise(frame.piece, 5 * Self.pageBytes, MADV_DONTNEED)
    }

    /// A buffer whose pages were given back has lost what stands before it.
    @inline(__always) private static func isAtRest(_ piece: UnsafeMutableRawPointer, kind: Int) -> Bool {
        kind == 0 && (piece + 8).load(as: Int.self) == 0
    }

    mutating func release(_ memory: UnsafeMutableRawPointer) {
        let piece = memory - Self.headerBytes
        let kind = piece.load(as: Int.self)
        if kind == Self.frameClass || Self.isAtRest(piece, kind: kind) {
            lives[piece, default: 0] &+= 1
            piece.storeBytes(of: frames, as: UnsafeMutableRawPointer?.self)
            frames = piece
            return
        }
        guard kind < Self.classes else { piece.deallocate(); return }
        memory.storeBytes(of: free[kind], as: UnsafeMutableRawPointer?.self)
        free[kind] = piece
    }

    mutating func resize(_ memory: UnsafeMutableRawPointer, _ bytes: Int) -> UnsafeMutableRawPointer {
        let piece = memory - Self.headerBytes
        let held = (piece + 8).load(as: Int.self)
        let kind = piece.load(as: Int.self)
        if kind < Self.classes, held > 0, bytes <= Self.bytes(of: kind) {
            (piece + 8).storeBytes(of: max(bytes, 1), as: Int.self)
            return memory
        }
        let larger = allocate(bytes)
        larger.copyMemory(from: memory, byteCount: min(held, bytes))
        release(memory)
        return larger
    }

    private mutating func takeFrame() -> UnsafeMutableRawPointer {
        if let piece = frames {
            frames = piece.load(as: UnsafeMutableRawPointer?.self)
            return piece
        }
        let bytes = 5 * Self.pageBytes
        if framesCut < Self.framesPerMapping, let last = mappings.last {
            defer { framesCut += 1 }
            return last + framesCut * bytes
        }
        guard let mapping = mmap(nil, Self.framesPerMapping * bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
            mapping != MAP_FAILED
        else { preconditionFailure("no address space for frames") }
        mappings.append(mapping)
        framesCut = 1
        return mapping
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
