import Glibc
import Testing

@testable import MutualTLS

@Suite struct HandshakeTests {
    let authority: Authority
    let spaces: Spaces

    init() throws {
        authority = try Authority()
        spaces = try Spaces()
    }

    @Test func twoWorkloadsKnowEachOther() throws {
        let roots = try authority.roots()
        let cart = try authority.credentials(cartURI, roots: roots), front = try authority.credentials(frontURI, roots: roots)
        var wire = try Wire.make(client: front, server: cart, in: spaces)
        let steps = wire.shakeHands()
        #expect(steps.client == .done && steps.server == .done)
        let seen = wire.server.peer, met = wire.client.peer
        #expect(seen.uri.string == frontURI && seen.trustDomain.string == "cluster.local")
        #expect(seen.namespace.string == "shop" && seen.serviceAccount.string == "front")
        #expect(Array(seen.serial) == [0x4d, 0x01] && seen.notAfter == testNow + 86_400)
        #expect(met.uri.string == cartURI)
        #expect(wire.client.applicationProtocol == .weft && wire.server.applicationProtocol == .weft)
        #expect(!wire.client.isResumed && !wire.server.isResumed)
    }

    @Test func bothEndsKnowTheSameChanceAndNoOtherSession() throws {
        let roots = try authority.roots()
        let cart = try authority.credentials(cartURI, roots: roots), front = try authority.credentials(frontURI, roots: roots)
        var wire = try Wire.make(client: front, server: cart, in: spaces), other = try Wire.make(client: front, server: cart, in: spaces)
        _ = wire.shakeHands()
        _ = other.shakeHands()
        #expect(wire.client.sharedChance == wire.server.sharedChance && wire.client.sharedChance != other.client.sharedChance)
        #expect(wire.client.sharedChance.0 != wire.client.sharedChance.1)
    }

    @Test func bytesPassBothWays() throws {
        let roots = try authority.roots()
        let cart = try authority.credentials(cartURI, roots: roots), front = try authority.credentials(frontURI, roots: roots)
        var wire = try Wire.make(client: front, server: cart, in: spaces)
        _ = wire.shakeHands()
        let sent = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        var got: [UInt8] = [], place = 0
        var room = [UInt8](repeating: 0, count: 65_536)
        while got.count < sent.count {
            if place < sent.count {
                let moved = sent.withUnsafeBytes { wire.client.transmit($0.baseAddress! + place, count: $0.count - place) }
                switch moved {
                case .moved(let n): place += n
                case .wantsWrite: break
                default: Issue.record("transmit says \(moved)")
                }
            }
            let moved = wire.server.receive(into: &room, count: room.count)
            switch moved {
            case .moved(let n): got += room[..<n]
            case .wantsRead: break
            default: Issue.record("receive says \(moved)")
            }
        }
        #expect(got == sent)
        wire.client.close()
        let last = wire.server.receive(into: &room, count: room.count)
        #expect(last == .ended)
    }

    /// The socket takes a few kilobytes at a time: of several records sealed at once the rest is kept, offered again in other pieces, and goes once.
    @Test func whatTheSocketDoesNotTakeGoesOnce() throws {
        let roots = try authority.roots()
        let cart = try authority.credentials(cartURI, roots: roots), front = try authority.credentials(frontURI, roots: roots)
        var wire = try Wire.make(client: front, server: cart, in: spaces)
        _ = wire.shakeHands()
        var least: Int32 = 4_608
        setsockopt(wire.clientEnd, SOL_SOCKET, SO_SNDBUF, &least, socklen_t(MemoryLayout<Int32>.size))
        var sent = (0..<400_000).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ $0 >> 9) }
        var got: [UInt8] = [], place = 0, round = 0, wasCutShort = false
        var room = [UInt8](repeating: 0, count: 3_000)
        while got.count < sent.count, round < 20_000 {
            round += 1
            if place < sent.count {
                let moved = sent.withUnsafeMutableBytes { bytes in
                    // Other pieces each time; the last one has the rest.
                    var pieces: [iovec] = [], from = place
                    for size in [0, 700 + round % 5, 20_000, 3, .max] {
                        let count = min(size, bytes.count - from)
                        pieces.append(iovec(iov_base: bytes.baseAddress! + from, iov_len: count))
                        from += count
                    }
                    return wire.client.transmit(pieces: pieces, count: pieces.count)
                }
                switch moved {
                case .moved(let n): place += n
                case .wantsWrite: wasCutShort = true
                default: Issue.record("transmit says \(moved)")
                }
            }
            // What has come is what was sent; nothing is told as moved that has not left.
            #expect(got.count <= place + 8 * 16_384)
            if case .moved(let n) = wire.server.receive(into: &room, count: 1 + round * 7 % room.count) { got += room[..<n] }
        }
        #expect(got == sent && place == sent.count && wasCutShort)
    }
}
