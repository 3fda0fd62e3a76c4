import Glibc

/// Memory of a session that is only in use while something happens on it: the library's map of streams, 4 KiB of which a slot or two are taken, and
/// its buffer for frames, 16 KiB of which a few hundred bytes are written to. Each session has both on pages of its own, which cost nothing
/// while it rests.
///
///     unit: | header 16 | map 4,096 | header 16 | frames 16,394 … |      begins on a multiple of 32 KiB, by which its parts are told apart
struct SessionPages {
    /// A unit in one life of it: both parts may be given back and another session have them, which must not be taken from that one.
    struct Lease {
        let unit: UnsafeMutableRawPointer
        let life: UInt32
    }
    private struct Tenancy {
        var life: UInt32 = 0
        var hasMap = false, hasFrames = false
    }

    static let mapBytes = 4_096
    static let framesBytesMin = 4 * pageBytes, framesBytesMax = 6 * pageBytes - framesOffset - FrameMemory.headerBytes
    private static let pageBytes = 4_096
    private static let framesOffset = FrameMemory.headerBytes + mapBytes
    private static let unitBytes = 6 * pageBytes, spacing = 32 * 1024, unitsPerMapping = 64
    private static let mappingBytes = (unitsPerMapping + 1) * spacing

    private var mappings: [UnsafeMutableRawPointer] = []
    private var free: [UnsafeMutableRawPointer] = []
    private var tenancies: [UnsafeMutableRawPointer: Tenancy] = [:]
    /// Units of the last mapping that have been in use.
    private var unitsCut = SessionPages.unitsPerMapping
    /// The one that was handed out last, and whether its frames are still to be had.
    private(set) var last: Lease?
    private var owesFrames = false

    mutating func tearDown() {
        for mapping in mappings { munmap(mapping, Self.mappingBytes) }
    }

    mutating func forgetLast() {
        last = nil
        owesFrames = false
    }

    /// Room for a map and its header. Nil, here and below: there is no address space for one more.
    mutating func takeMap() -> UnsafeMutableRawPointer? {
        guard let unit = takeUnit() else { return nil }
        tenancies[unit]?.hasMap = true
        owesFrames = true
        return unit
    }

    /// Room for a frame buffer and its header: beside the map that was taken last, if that has none yet.
    mutating func takeFrames() -> UnsafeMutableRawPointer? {
        let beside = owesFrames ? last.flatMap { tenancies[$0.unit]?.life == $0.life ? $0.unit : nil } : nil
        guard let unit = beside ?? takeUnit() else { return nil }
        owesFrames = false
        tenancies[unit]?.hasFrames = true
        return unit + Self.framesOffset
    }

    mutating func giveBack(_ part: UnsafeMutableRawPointer) {
        let offset = Int(bitPattern: part) & (Self.spacing - 1)
        let unit = part - offset
        guard var tenancy = tenancies[unit] else { return }
        if offset == 0 { tenancy.hasMap = false } else { tenancy.hasFrames = false }
        if !tenancy.hasMap, !tenancy.hasFrames {
            tenancy.life &+= 1
            free.append(unit)
        }
        tenancies[unit] = tenancy
    }

    /// Gives the pages back, unless the map has something in it. They come again, zeroed, when they are written to: what nobody needs, and an empty map.
    mutating func rest(_ lease: Lease) {
        guard let tenancy = tenancies[lease.unit], tenancy.life == lease.life else { return }
        if tenancy.hasMap, !Self.isZero(lease.unit + FrameMemory.headerBytes) { return }
        madvise(lease.unit, Self.unitBytes, MADV_DONTNEED)
    }

    private static func isZero(_ map: UnsafeMutableRawPointer) -> Bool {
        for offset in stride(from: 0, to: mapBytes, by: 8) where map.load(fromByteOffset: offset, as: UInt64.self) != 0 { return false }
        return true
    }

    private mutating func takeUnit() -> UnsafeMutableRawPointer? {
        guard let unit = free.popLast() ?? cutUnit() else { return nil }
        let life = (tenancies[unit]?.life ?? 0) &+ 1
        tenancies[unit] = Tenancy(life: life)
        last = Lease(unit: unit, life: life)
        return unit
    }

    private mutating func cutUnit() -> UnsafeMutableRawPointer? {
        if unitsCut == Self.unitsPerMapping {
            guard let mapping = mmap(nil, Self.mappingBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), mapping != MAP_FAILED
            else { return nil }
            mappings.append(mapping)
            unitsCut = 0
        }
        guard let mapping = mappings.last else { preconditionFailure("a mapping was just made sure of") }
        defer { unitsCut += 1 }
        let first = (Int(bitPattern: mapping) + Self.spacing - 1) & ~(Self.spacing - 1)
        return mapping + (first - Int(bitPattern: mapping) + unitsCut * Self.spacing)
    }
}
