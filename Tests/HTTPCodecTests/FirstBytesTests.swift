import Testing

@testable import HTTPCodec

@Suite struct FirstBytesTests {
    private func judge(_ bytes: some Collection<UInt8>) -> FirstBytes { Array(bytes).withUnsafeBytes { FirstBytes(judging: $0) } }
    private func judge(_ text: String) -> FirstBytes { judge(text.utf8) }

    static let spoken: [(String, FirstBytes)] = [
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", .http1), ("OPTIONS * HTTP/1.0\r\n", .http1), ("PROPFIND /x HTTP/1.1\r\n", .http1),
        ("\r\nGET / HTTP/1.1\r\n", .http1), ("GET /x", .undecided), ("GET words", .undecided), ("GET /x HTTP", .http1), ("GET /x http/1.1\r\n", .http1),
        ("GET /" + String(repeating: "a", count: 2_048), .http1), ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}", .http2),
        ("EHLO mail.example\r\n", .otherLine), ("USER root\r\n", .otherLine), ("GET key\r\n", .opaque), ("INVALID CONNECTION PREFACE\r\n\r\n", .otherLine),
        ("PING\r\n", .opaque), ("*1\r\n$4\r\nPING\r\n", .opaque), ("\0\0\0\u{8}\u{4}\u{d2}\u{16}/", .opaque), ("PRI * HTTP/1.1\r\n", .opaque),
        ("SSH-2.0-OpenSSH_9.2\r\n", .opaque), (String(repeating: "a", count: 40), .opaque),
    ]

    @Test(arguments: spoken)
    func knownOnes(_ text: String, _ expected: FirstBytes) { #expect(judge(text) == expected, "\(text.debugDescription)") }

    @Test func aClientHelloIsTLS() {
        #expect(judge(Hello(name: "db.shop.svc").wire()) == .tls)
        #expect(judge([0x16, 3, 1, 0, 200, 1]) == .tls)
        for other in [[0x16, 2, 1, 0, 200, 1], [0x16, 3, 9, 0, 200, 1], [0x16, 3, 1, 0xFF, 0xFF, 1], [0x16, 3, 1, 0, 0, 1], [0x16, 3, 1, 0, 50, 2]] as [[UInt8]] {
            #expect(judge(other) == .opaque, "\(other)")
        }
    }

    /// However a beginning is cut, it is first undecided and then what it is: a longer prefix never takes back what a shorter one said.
    @Test func everySplitAgrees() {
        for bytes in Self.spoken.map({ Array($0.0.utf8) }) + [Hello(name: "a.b").wire()] {
            let whole = judge(bytes)
            var last = FirstBytes.undecided
            for end in 1...bytes.count {
                let now = judge(bytes[..<end])
                #expect(last == .undecided || now == last, "\(bytes[..<end]): \(now) after \(last)")
                if now == .undecided { #expect(last == .undecided) }
                last = now
            }
            #expect(last == whole)
        }
    }

    @Test func onlyBeginningsOfKnownProtocolsAreWaitedForLonger() {
        for start in ["G", "GET", "GET /a/long/way", "DELETE words", "OPTION", "PR", "PRI * HTTP/2", "\u{16}", "\u{16}\u{3}"] {
            #expect(Array(start.utf8).withUnsafeBytes { FirstBytes.isKnownStart($0) && FirstBytes(judging: $0) == .undecided }, "\(start)")
        }
        for start in ["", "hello", "GETX", "stats", "g"] { #expect(!Array(start.utf8).withUnsafeBytes { FirstBytes.isKnownStart($0) }, "\(start)") }
    }

    @Test func whatAServerSaysFirst() {
        func judge(_ bytes: [UInt8]) -> ServerBytes { bytes.withUnsafeBytes { ServerBytes(judging: $0) } }
        #expect(judge([0, 0, 18, 4, 0, 0, 0, 0, 0]) == .http2)
        #expect(judge([0, 0, 0, 4, 0, 0, 0, 0, 0]) == .http2)
        #expect(judge(Array("HTTP/1.1 4".utf8)) == .http1)
        #expect(judge(Array("HTTP/1.".utf8)) == .other)
        for greeting in [Array("220 mail.example ESMTP\r\n".utf8), [0x4A, 0, 0, 0, 0x0A, 0x38, 0x2E, 0x30, 0x2E], [0], [0, 0, 18, 4, 1, 0, 0, 0, 0], [0, 0, 17, 4, 0, 0, 0, 0, 0]] as [[UInt8]] {
            #expect(judge(greeting) == .other, "\(greeting)")
        }
    }

    /// Whatever comes, detection answers; and bytes it calls undecided are few.
    @Test func randomBytesNeverTrap() {
        for seed in FuzzTests.firstSeed..<FuzzTests.firstSeed + UInt64(FuzzTests.iterations) {
            var random = SeededRandom(state: seed)
            var bytes = (0..<Int.random(in: 0...2_100, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
            if Bool.random(using: &random) { bytes = Array(Self.spoken.randomElement(using: &random)!.0.utf8) + bytes }
            let judged = judge(bytes)
            #expect(judged != .undecided || bytes.count < FirstBytes.bytesMax, "seed \(seed)")
            _ = bytes.withUnsafeBytes { ServerBytes(judging: $0) }
        }
    }
}

/// A ClientHello made by hand.
struct Hello {
    var name: String?
    var session = [UInt8](repeating: 7, count: 32)
    /// Extensions before the name's.
    var before: [(UInt16, [UInt8])] = [(10, [0, 2, 0, 29]), (51, [UInt8](repeating: 9, count: 1_200))]

    static func number(_ value: Int, _ count: Int) -> [UInt8] { (0..<count).reversed().map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) } }
    static func sized(_ bytes: [UInt8], _ count: Int) -> [UInt8] { number(bytes.count, count) + bytes }

    var message: [UInt8] {
        var extensions = before
        if let name { extensions.append((0, Self.sized([0] + Self.sized(Array(name.utf8), 2), 2))) }
        let all = extensions.flatMap { Self.number(Int($0.0), 2) + Self.sized($0.1, 2) }
        let body = [3, 3] + [UInt8](repeating: 1, count: 32) + Self.sized(session, 1) + Self.sized([0x13, 1, 0x13, 2], 2) + Self.sized([0], 1) + Self.sized(all, 2)
        return [1] + Self.sized(body, 3)
    }

    /// The message in records of at most `recordBytes`.
    func wire(recordBytes: Int = 16_384) -> [UInt8] {
        let message = message
        return stride(from: 0, to: message.count, by: recordBytes).flatMap { start in
            [0x16, 3, 1] + Self.sized(Array(message[start..<min(start + recordBytes, message.count)]), 2)
        }
    }
}

@Suite struct ClientHelloTests {
    private func read(_ bytes: some Collection<UInt8>) -> (ClientHello, String) {
        var memory = [UInt8](repeating: 0, count: ClientHello.nameBytesMax)
        let found = memory.withUnsafeMutableBytes { name in Array(bytes).withUnsafeBytes { ClientHello(reading: $0, name: name) } }
        guard case .named(let count) = found else { return (found, "") }
        return (found, String(decoding: memory[..<count], as: UTF8.self))
    }

    @Test func theNameIsFoundAcrossRecords() {
        for recordBytes in [1, 2, 3, 7, 64, 1_300, 16_384] {
            #expect(read(Hello(name: "Cart_1.shop.svc.cluster.local").wire(recordBytes: recordBytes)).1 == "Cart_1.shop.svc.cluster.local", "\(recordBytes)")
        }
    }

    /// A shorter prefix says "incomplete", never anything else.
    @Test func everySplit() {
        for wire in [Hello(name: "a.b").wire(), Hello(name: "a.b").wire(recordBytes: 5)] {
            let end = (1...wire.count).first { read(wire[..<$0]).0 != .incomplete }!
            #expect(read(wire[..<end]).1 == "a.b" && end == wire.count)
        }
    }

    @Test func withoutAUsableNameThereIsNone() {
        #expect(read(Hello(name: nil).wire()).0 == .unnamed)
        #expect(read(Hello(name: nil, before: []).wire()).0 == .unnamed)
        #expect(read(Hello(name: "").wire()).0 == .unnamed)
        #expect(read(Hello(name: "a b").wire()).0 == .unnamed)
        #expect(read(Hello(name: "ä.de").wire()).0 == .unnamed)
        #expect(read(Hello(name: String(repeating: "a", count: 254)).wire()).0 == .unnamed)
        #expect(read(Hello(name: String(repeating: "a", count: 253)).wire()).0 == .named(byteCount: 253))
        var other = Hello(name: "a.b").wire()
        other[5] = 2
        #expect(read(other).0 == .unnamed)
        // Another record in the middle of the handshake.
        let cut = Hello(name: "a.b").wire(recordBytes: 100)
        #expect(read(Array(cut[..<105]) + [0x17, 3, 3, 0, 1, 0]).0 == .unnamed)
    }

    @Test func itIsBounded() {
        let long = Hello(name: "a.b", before: [(35, [UInt8](repeating: 0, count: 20_000))]).wire()
        #expect(read(long[..<(ClientHello.bytesMax - 1)]).0 == .incomplete)
        #expect(read(long).0 == .unnamed)
    }

    /// Lengths that lie, bytes that are noise: an answer, never a trap, and a name only of letters that names have.
    @Test func mutatedHellos() {
        for seed in FuzzTests.firstSeed..<FuzzTests.firstSeed + UInt64(FuzzTests.iterations) {
            var random = SeededRandom(state: seed)
            var wire = Hello(name: "db-0.db.shop.svc").wire(recordBytes: Int.random(in: 1...2_000, using: &random))
            for _ in 0..<Int.random(in: 1...6, using: &random) { wire[Int.random(in: 0..<wire.count, using: &random)] = UInt8.random(in: 0...255, using: &random) }
            if Bool.random(using: &random) { wire.removeLast(Int.random(in: 0..<wire.count, using: &random)) }
            let (found, name) = read(wire)
            if case .named(let count) = found {
                #expect((1...253).contains(count) && name.utf8.allSatisfy { $0 == 0x2D || $0 == 0x2E || $0 == 0x5F || ($0 | 0x20) >= 0x61 && ($0 | 0x20) <= 0x7A || $0 >= 0x30 && $0 <= 0x39 }, "seed \(seed)")
            }
        }
    }
}
