import Glibc
import Testing
import HTTPCodec

/// Seeded, so that a failure is replayed by its seed alone. `WEFT_FUZZ_ITERATIONS` runs longer (per generator),
/// `WEFT_FUZZ_SEED` starts elsewhere; a failing input becomes a fixture in `RefusedShapes` or in the corpus below.
@Suite struct FuzzTests {
    static let iterations = environment("WEFT_FUZZ_ITERATIONS") ?? 1_500
    static let firstSeed = UInt64(environment("WEFT_FUZZ_SEED") ?? 1)

    private static func environment(_ name: String) -> Int? { getenv(name).flatMap { Int(String(cString: $0)) } }

    /// Pieces are refused for the same reason as the whole. Only while a head has no end may its fault still be unseen: parsing
    /// a partial head again is put off until it has doubled.
    private func agree(_ pieces: Crossing, _ whole: Crossing, _ wire: [UInt8]) -> Bool {
        if pieces.fault == whole.fault { return true }
        let unread = wire[pieces.consumed...]
        return pieces.fault == nil && !unread.indices.contains { unread[$0...].starts(with: [13, 10, 13, 10]) }
    }

    /// The desync property: the next server, reading what was forwarded, sees exactly the requests that were judged.
    private func expectNoDesync(_ wire: [UInt8], _ seed: UInt64, _ random: inout SeededRandom) {
        let whole = Crossing.ofRequests(wire, cuts: [])
        let cuts = (0..<Int.random(in: 0...6, using: &random)).map { _ in Int.random(in: 0...wire.count, using: &random) }.sorted()
        let pieces = Crossing.ofRequests(wire, cuts: cuts)
        #expect(pieces.judged == whole.judged && agree(pieces, whole, wire), "seed \(seed), cuts \(cuts): \(text(wire).debugDescription)")
        for crossing in [whole, pieces] {
            do {
                var reader = StrictReader(crossing.forwarded)
                var seen: [StrictReader.Message] = []
                while let message = try reader.nextRequest() { seen.append(message) }
                #expect(seen == crossing.judged, "seed \(seed): \(text(wire).debugDescription) forwarded as \(text(crossing.forwarded).debugDescription)")
            } catch {
                Issue.record("seed \(seed): \(error) in \(text(crossing.forwarded).debugDescription) from \(text(wire).debugDescription)")
            }
        }
    }

    @Test func requestsOfRandomFragments() {
        for seed in Self.firstSeed..<Self.firstSeed + UInt64(Self.iterations) {
            var random = SeededRandom(state: seed)
            var wire: [UInt8] = []
            for _ in 0..<Int.random(in: 0...40, using: &random) { wire += Self.fragments.randomElement(using: &random)!.utf8 }
            expectNoDesync(wire, seed, &random)
        }
    }

    @Test func mutatedRequests() {
        let corpus = (Self.requests + RefusedShape.requests.map(\.wire) + RefusedShape.bodies.map { Self.chunkedStart + $0.wire })
            .filter { $0.utf8.count < 600 }.map { Array($0.utf8) }
        for seed in Self.firstSeed..<Self.firstSeed + UInt64(Self.iterations) {
            var random = SeededRandom(state: seed)
            var wire = corpus.randomElement(using: &random)!
            if Bool.random(using: &random) { wire += corpus.randomElement(using: &random)! }
            mutate(&wire, corpus, &random)
            expectNoDesync(wire, seed, &random)
        }
    }

    @Test func requestsByGrammarCrossWhole() {
        for seed in Self.firstSeed..<Self.firstSeed + UInt64(Self.iterations) {
            var random = SeededRandom(state: seed)
            var grammar = RequestGrammar(random: random)
            let requests = (0..<Int.random(in: 1...4, using: &random)).map { _ in grammar.request() }
            let wire = requests.flatMap(\.wire)
            let crossing = Crossing.ofRequests(wire, cuts: [])
            #expect(crossing.fault == nil && crossing.consumed == wire.count, "seed \(seed): \(text(wire).debugDescription)")
            #expect(crossing.judged == requests.map(\.meaning), "seed \(seed): \(text(wire).debugDescription)")
            expectNoDesync(wire, seed, &random)
        }
    }

    @Test func mutatedResponses() {
        let corpus = (Self.responses + RefusedShape.responses.map(\.wire)).map { Array($0.utf8) }
        for seed in Self.firstSeed..<Self.firstSeed + UInt64(Self.iterations) {
            var random = SeededRandom(state: seed)
            var wire = corpus.randomElement(using: &random)!
            if Bool.random(using: &random) { wire += corpus.randomElement(using: &random)! }
            if Int.random(in: 0..<8, using: &random) > 0 { mutate(&wire, corpus, &random) }
            let method: HTTPMethod = Bool.random(using: &random) ? .get : .head
            let minorVersion = Int.random(in: 0...1, using: &random)
            let cuts = (0..<Int.random(in: 0...6, using: &random)).map { _ in Int.random(in: 0...wire.count, using: &random) }.sorted()
            let whole = Crossing.ofResponses(wire, answering: method, minorVersion: minorVersion, cuts: [], closes: true)
            let pieces = Crossing.ofResponses(wire, answering: method, minorVersion: minorVersion, cuts: cuts, closes: true)
            #expect(pieces.judged == whole.judged && agree(pieces, whole, wire), "seed \(seed), cuts \(cuts): \(text(wire).debugDescription)")
            // To HTTP/1.0 what has no length ends with the connection: only the first such response can be read back.
            guard minorVersion == 1 else { continue }
            do {
                var reader = StrictReader(pieces.forwarded)
                var seen: [StrictReader.Message] = []
                while let message = try reader.nextResponse(answering: method == .head ? "HEAD" : "GET", untilClose: false) { seen.append(message) }
                #expect(seen == pieces.judged, "seed \(seed): \(text(wire).debugDescription)")
            } catch {
                Issue.record("seed \(seed): \(error) in \(text(pieces.forwarded).debugDescription) from \(text(wire).debugDescription)")
            }
        }
    }

    /// Whatever comes first on a connection, it is judged without a trap.
    @Test func randomFirstBytes() {
        var random = SeededRandom(state: Self.firstSeed)
        for _ in 0..<Self.iterations {
            var wire: [UInt8] = (0..<Int.random(in: 0...40, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
            if Bool.random(using: &random) { wire = Array(Self.fragments.randomElement(using: &random)!.utf8) + wire }
            wire.withUnsafeBytes { _ = FirstBytes(judging: $0) }
            _ = parse(wire)
            _ = parse(wire, .response)
        }
    }

    private func mutate(_ wire: inout [UInt8], _ corpus: [[UInt8]], _ random: inout SeededRandom) {
        for _ in 0..<Int.random(in: 1...4, using: &random) where !wire.isEmpty {
            let place = Int.random(in: 0..<wire.count, using: &random)
            let end = min(wire.count, place + Int.random(in: 1...12, using: &random))
            switch Int.random(in: 0..<7, using: &random) {
            case 0: wire.remove(at: place)
            case 1: wire[place] = Self.sharpBytes.randomElement(using: &random)!
            case 2: wire.insert(Self.sharpBytes.randomElement(using: &random)!, at: place)
            case 3: wire.insert(contentsOf: Array(wire[place..<end]), at: place)
            case 4: wire.removeSubrange(place..<end)
            case 5: wire[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            default: wire.insert(contentsOf: Self.fragments.randomElement(using: &random)!.utf8, at: place)
            }
        }
    }

    static let sharpBytes: [UInt8] = [0, 9, 10, 11, 12, 13, 32, 0x22, 0x23, 0x2B, 0x2C, 0x2D, 0x2F, 0x30, 0x35, 0x3A, 0x3B, 0x40, 0x5B, 0x7F, 0x80, 0xFF]

    static let chunkedStart = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

    static let fragments = [
        "GET", "POST", "HEAD", "OPTIONS", "CONNECT", " ", " ", "/", "/a", "*", "http://b/", "HTTP/1.1", "HTTP/1.0", "\r\n", "\r\n", "\r\n", "\r\n\r\n", "\n", "\r",
        ":", ": ", "Host", "Host: a", "Host: a\r\n", "Content-Length", "Content-Length: 5\r\n", "Transfer-Encoding", "Transfer-Encoding: chunked\r\n", "chunked", "5",
        "0", "0\r\n\r\n", "5\r\nhello\r\n", "hello", ";", ";x=y", "\t", "\0", ",", "Connection", "Connection: close\r\n", "X: y\r\n", "GET / HTTP/1.1\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\n", chunkedStart, "Trailer: X\r\n", "TE: trailers\r\n", "x-request-id: a\r\n", "HTTP/1.1 200 OK\r\n", "ffffffffffffffff", "é",
    ]

    static let requests = RequestParserTests.examples + [
        chunkedStart + "5;ext=1\r\nhello\r\n1\r\n!\r\n0\r\nX-Sum: 1\r\n\r\nGET /next HTTP/1.1\r\nHost: b\r\n\r\n",
        "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 46\r\n\r\nGET /hidden HTTP/1.1\r\nHost: never-a-request\r\n\r\n",
        "POST /x HTTP/1.1\r\nhost:a\r\nconnection: te, x-hop\r\nte: trailers\r\nx-hop: 1\r\ncontent-length:5\r\n\r\nhelloPOST /y HTTP/1.0\r\ncontent-length: 0\r\n\r\n",
        "GET /t HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Request-Id: i\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: x=y\r\n\r\n",
    ]

    static let responses = [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nall of it", "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", "HTTP/1.1 200\r\nKeep-Alive: x\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nContent-Length: 02\r\n\r\nhi",
    ]
}
