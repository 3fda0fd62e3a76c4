import Bytes
import MeshModel
import Testing

@testable import Proxy

/// The token of a session: what was written is read again, and nothing else is.
@Suite struct SessionTokenTests {
    private let token = SessionToken(address: IPAddress("10.1.2.3")!, port: 8080, backend: 0xDEAD_BEEF, begun: 1_700_000_000, used: 1_700_000_100)

    private func written(_ token: SessionToken) -> [UInt8] {
        withUnsafeTemporaryAllocation(byteCount: 128, alignment: 1) { memory in
            var writer = ByteWriter(memory)
            token.write(to: &writer)
            return Array(writer.written)
        }
    }

    private func read(_ bytes: [UInt8]) -> SessionToken? { bytes.withUnsafeBytes { SessionToken($0) } }

    @Test func whatIsWrittenIsRead() {
        let bytes = written(token)
        #expect(bytes.count == SessionToken.digitCount)
        #expect(read(bytes) == token)
    }

    @Test func nothingElseIs() {
        let bytes = written(token)
        #expect(read([]) == nil && read(Array(bytes.dropLast())) == nil && read(bytes + [0x30]) == nil)
        for place in bytes.indices {
            var broken = bytes
            broken[place] = UInt8(ascii: "g")
            #expect(read(broken) == nil)
        }
    }

    @Test func aSessionEndsByAgeAndByRest() {
        #expect(token.isAlive(now: 1_700_000_200, absoluteSeconds: 0, idleSeconds: 0))
        #expect(token.isAlive(now: 1_700_000_199, absoluteSeconds: 200, idleSeconds: 100))
        #expect(!token.isAlive(now: 1_700_000_200, absoluteSeconds: 200, idleSeconds: 0))
        #expect(!token.isAlive(now: 1_700_000_200, absoluteSeconds: 0, idleSeconds: 100))
        // A clock behind the one that wrote it.
        #expect(token.isAlive(now: 1_600_000_000, absoluteSeconds: 1, idleSeconds: 1))
    }
}
