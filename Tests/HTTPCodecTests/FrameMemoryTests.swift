import Glibc
import Testing

@testable import HTTPCodec

@Suite struct FrameMemoryTests {
    /// What the library asks for with each session.
    private let frameBytes = 16_394
    private struct NoAddressSpace: Error {}

    private func found(_ piece: UnsafeMutableRawPointer?) throws -> UnsafeMutableRawPointer {
        guard let piece else { throw NoAddressSpace() }
        return piece
    }

    @Test func aBufferAtRestComesAgainZeroed() throws {
        var memory = FrameMemory()
        defer { memory.tearDown() }
        let piece = try found(memory.allocateForLibrary(frameBytes))
        let frame = try #require(memory.madePages)
        memset(piece, 7, frameBytes)
        memory.rest(frame)
        let isZero = (0..<frameBytes).allSatisfy { piece.load(fromByteOffset: $0, as: UInt8.self) == 0 }
        #expect(isZero)
        memset(piece, 9, frameBytes)
        memory.rest(frame)
        // Given back while at rest, and had by the next session as any other.
        memory.release(piece)
        let next = try found(memory.allocateForLibrary(frameBytes))
        #expect(next == piece)
        memory.release(next)
        #expect(memory.allocateForLibrary(frameBytes) == piece)
    }

    /// A session whose buffer the library has exchanged must not empty the one of whoever has it now.
    @Test func onlyItsOwnLifeRests() throws {
        var memory = FrameMemory()
        defer { memory.tearDown() }
        let piece = try found(memory.allocateForLibrary(frameBytes))
        let first = try #require(memory.madePages)
        memory.release(piece)
        memory.rest(first)
        let again = try found(memory.allocateForLibrary(frameBytes))
        #expect(again == piece)
        memset(again, 5, frameBytes)
        memory.rest(first)
        let isWhole = (0..<frameBytes).allSatisfy { again.load(fromByteOffset: $0, as: UInt8.self) == 5 }
        #expect(isWhole)
        memory.release(again)
    }

    /// An empty map of streams rests with the buffer beside it; one that has something in it keeps what it has.
    @Test func onlyAnEmptyMapRests() throws {
        var memory = FrameMemory()
        defer { memory.tearDown() }
        let map = try found(memory.allocateZeroed(SessionPages.mapBytes)), frames = try found(memory.allocateForLibrary(frameBytes))
        let pages = try #require(memory.madePages)
        #expect(frames - map == SessionPages.mapBytes + FrameMemory.headerBytes)
        memset(frames, 7, frameBytes)
        // The last slot lies on the frames' page.
        let slot = map + SessionPages.mapBytes - 8
        slot.storeBytes(of: 1, as: Int.self)
        memory.rest(pages)
        #expect(slot.load(as: Int.self) == 1 && frames.load(as: UInt8.self) == 7)
        slot.storeBytes(of: 0, as: Int.self)
        memory.rest(pages)
        #expect(frames.load(as: UInt8.self) == 0)
        // A map that has grown is another's; what is left in its old place keeps nothing awake.
        memset(map, 3, SessionPages.mapBytes)
        memory.release(map)
        memset(frames, 7, frameBytes)
        memory.rest(pages)
        #expect(frames.load(as: UInt8.self) == 0)
        // Only when both are given back another session has them, zeroed.
        #expect(memory.allocateZeroed(SessionPages.mapBytes) != map)
        memory.beginSession()
        memory.release(frames)
        let next = try found(memory.allocateZeroed(SessionPages.mapBytes))
        let isZero = (0..<SessionPages.mapBytes).allSatisfy { next.load(fromByteOffset: $0, as: UInt8.self) == 0 }
        #expect(next == map && isZero)
        memory.rest(pages)
        #expect(memory.allocateForLibrary(frameBytes) == frames)
    }

    @Test func nothingIsAPieceToo() throws {
        var memory = FrameMemory()
        defer { memory.tearDown() }
        let empty = memory.allocate(0)
        let grown = try found(memory.resize(empty, 20))
        #expect(grown == empty)
        memory.release(grown)
        #expect(memory.allocate(32) == empty)
    }
}
