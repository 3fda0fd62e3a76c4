import Bytes
import HTTPCodec
import Testing

/// Sessions against whatever comes: seeded, `WEFT_FUZZ_ITERATIONS` and `WEFT_FUZZ_SEED` as in `FuzzTests`.
@Suite struct HTTP2FuzzTests {
    /// Frames that a peer of either kind may send, right and wrong ones.
    private func anyFrame(_ random: inout SeededRandom) -> [UInt8] {
        let stream = UInt32([0, 1, 1, 1, 2, 3, 3, 5, 7, 9, 0x7FFF_FFFF].randomElement(using: &random)!)
        let flags = UInt8([0, 1, 4, 5, 5, 8, 9, 0x0D, 0x20, 0x25, 0xFF].randomElement(using: &random)!)
        func bytes(_ most: Int) -> [UInt8] { (0..<Int.random(in: 0...most, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) } }
        switch Int.random(in: 0..<14, using: &random) {
        case 0: return frame(0, flags, stream, bytes(40))
        case 1, 2: return headers(stream, plainRequest, ends: Bool.random(using: &random))
        case 3: return headers(stream, [(":status", ["100", "200", "204", "304", "101"].randomElement(using: &random)!), ("content-length", "3")], ends: Bool.random(using: &random))
        case 4: return headers(stream, [("grpc-status", "0")])
        case 5: return frame(1, flags, stream, block(plainRequest))
        case 6: return frame(2, flags, stream, bytes(6))
        case 7: return frame(3, flags, stream, [0, 0, 0, UInt8.random(in: 0...15, using: &random)])
        case 8: return frame(4, flags & 1, 0, Bool.random(using: &random) ? [] : [0, UInt8.random(in: 0...9, using: &random)] + [0, 0] + bytes(1) + [1])
        case 9: return frame(6, flags & 1, 0, [UInt8](repeating: 1, count: 8))
        case 10: return frame(7, 0, 0, [0, 0, 0, UInt8.random(in: 0...9, using: &random), 0, 0, 0, UInt8.random(in: 0...9, using: &random)])
        case 11: return frame(8, 0, stream, [0, 0, UInt8.random(in: 0...255, using: &random), UInt8.random(in: 0...255, using: &random)])
        case 12: return frame(9, flags, stream, bytes(20))
        default: return frame(UInt8.random(in: 0...255, using: &random), flags, stream, bytes(20))
        }
    }

    /// The session answers, resets and drains at random while frames come in random pieces. It never traps, what it writes are
    /// whole frames, and nothing is told of a stream that was told to be gone.
    private func play(_ role: HTTP2Session.Role, _ seed: UInt64) throws {
        var random = SeededRandom(state: seed)
        let end = End(role)
        var wire = role == .server ? preface : []
        if Int.random(in: 0..<10, using: &random) > 0 { wire += frame(4, 0, 0) }
        for _ in 0..<Int.random(in: 1...40, using: &random) { wire += anyFrame(&random) }
        if Bool.random(using: &random) {
            for _ in 0..<Int.random(in: 1...4, using: &random) { wire[Int.random(in: 0..<wire.count, using: &random)] = UInt8.random(in: 0...255, using: &random) }
        }
        var gone: Set<Int32> = [], sent: [UInt8] = []
        var rest = wire[...]
        while !rest.isEmpty {
            let piece = rest.prefix(Int.random(in: 1...60, using: &random))
            rest = rest.dropFirst(piece.count)
            end.receive(piece)
            for told in end.news() {
                switch told {
                case .head(let id, _, _), .interim(let id, _), .trailers(let id, _), .data(let id, _, _), .ended(let id):
                    #expect(!gone.contains(id), "seed \(seed): \(told) after its end")
                case .reset(let id, _, _), .refused(let id, _, isOpen: false): gone.insert(id)
                case .refused(let id, let fault, isOpen: true): end.session.submitReply(id, Reply(refusing: fault))
                default: break
                }
            }
            let stream = Int32([1, 3, 5, 7].randomElement(using: &random)!)
            switch Int.random(in: 0..<13, using: &random) {
            case 0 where role == .client:
                _ = try? end.request("POST / HTTP/1.1\r\nHost: a\r\nCookie: a=b; c=d\r\n\r\n", ends: Bool.random(using: &random))
            case 1 where role == .server: try? end.respond(stream, "HTTP/1.1 200 OK\r\nx: y\r\n\r\n", ends: Bool.random(using: &random))
            case 2: end.append(stream, "some content")
            case 11: sent += end.lend(stream, String(repeating: "l", count: Int.random(in: 1...30_000, using: &random)), ends: Bool.random(using: &random))
            case 3: end.session.end(stream)
            case 4:
                if end.session.owner(stream) != 0 { gone.insert(stream) }
                end.session.reset(stream, .cancel)
            case 5: try? end.trail(stream, "a: b\r\n")
            case 6: end.session.submitReply(stream, GRPCReply(status: .internal, reason: "why"))
            case 7: end.session.beginDrain()
            case 8: end.now += 200_000_000; end.check()
            case 9: end.session.ping(now: end.now)
            case 10: if Int.random(in: 0..<20, using: &random) == 0 { end.session.finishDrain() }
            default: sent += end.written(piece: Int.random(in: 20...400, using: &random))
            }
            while end.nextWritable() != nil {}
        }
        sent += end.written()
        end.receive([])
        sent += end.written()
        let whole = role == .server ? sent : Array(sent.dropFirst(24))
        _ = frames(whole)
    }

    @Test func anythingMayComeToAServer() throws {
        for seed in FuzzTests.firstSeed..<FuzzTests.firstSeed + UInt64(FuzzTests.iterations) { try play(.server, seed) }
    }

    @Test func anythingMayComeToAClient() throws {
        for seed in FuzzTests.firstSeed..<FuzzTests.firstSeed + UInt64(FuzzTests.iterations) { try play(.client, seed) }
    }
}
