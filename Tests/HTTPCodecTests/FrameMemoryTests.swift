import Glibc
import Testing

@testable import HTTPCodec

@Suite struct FrameMemoryTests {
    /// What the library asks for with each session.
    private let frameBytes = 16_394

    @Test func aBufferAtRestComesAgainZeroed() throws {
        var memory = FrameMemory()
        defer { memory.tearDown() }
        let piece = memory.allocate(frameBytes)
        let frame = try #require(memory.lastFrame)
        memset(piece, 7, frameBytes)
        memory.rest(frame)
        let isZero = (0..<frameBytes).allSatisfy { piece.load(fromByteOffset: $0, as: UInt8.self) == 0 }
        #expect(isZero)
        memset(piece, 9, frameBytes)
        memory.rest(frame)
        // Given back while at rest, and had by the next session as any other.
        memory.release(piece)
        let next = memory.allocate(frameBytes)
        #expect(next == piece)
        memory.release(next)
        #expect(memory.allocate(frameBytes) == piece)
    }

    /// A session whose buffer the library has exchanged must not empty the one of whoever has it now.
    @Test func onlyItsOwnLifeRests() throws {
        var memory = FrameMemory()
        defer { memory.tearDown() }
        let piece = memory.allocate(frameBytes)
        let first = try #require(memory.lastFrame)
        memory.release(piece)
        memory.rest(first)
        let again = memory.allocate(frameBytes)
        #expect(again == piece)
        memset(again, 5, frameBytes)
        memory.rest(first)
        let isWhole = (0..<frameBytes).allSatisfy { again.load(fromByteOffset: $0, as: UInt8.self) == 5 }
        #expect(isWhole)
        memory.release(again)
    }

    @Test func nothingIsAPieceToo() {
        var memory = FrameMemory()
        defer { memory.tearDown() }
        let empty = memory.allocate(0)
        let grown = memory.resize(empty, 20)
        #expect(grown == empty)
        memory.release(grown)
        #expect(memory.allocate(32) == empty)
    }
}
