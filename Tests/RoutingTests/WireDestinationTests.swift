import MeshModel
import Testing
import Routing

@Suite struct WireDestinationTests {
    private func read(_ text: [UInt8]) -> WireDestination? { text.withUnsafeBytes { WireDestination($0) } }
    private func target(_ text: [UInt8]) -> TunnelTarget { text.withUnsafeBytes { TunnelTarget(authority: $0) } }
    private func target(_ text: String) -> TunnelTarget { target(Array(text.utf8)) }

    @Test(arguments: [(80, .http1), (1, .http2), (65_535, .grpc), (8_080, .bridge)] as [(UInt16, WireDestination.Spoken)])
    func whatIsWrittenIsRead(_ port: UInt16, _ spoken: WireDestination.Spoken) {
        #expect(read(Array("\(port);\(spoken.name)".utf8)) == WireDestination(port: port, spoken: spoken))
    }

    @Test(arguments: [
        "", ";", "80", "80;", ";http1", "0;http1", "080;http1", "65536;http1", "4294967376;http1", "-80;http1", "+80;http1", " 80;http1", "80 ;http1",
        "80; http1", "80;http1 ", "80;HTTP1", "80;http", "80;http3", "80;http1;", "80;http1,81;http1", "80;grpc-web", "80,http1", "0x50;http1", "８０;http1",
        "10.0.0.1:80;http1",
    ])
    func anythingElseIsRefused(_ text: String) { #expect(read(Array(text.utf8)) == nil) }

    @Test(arguments: [
        ("10.1.2.3:80", "10.1.2.3", 80), ("[fd00::1]:8443", "fd00::1", 8443), ("[::]:1", "::", 1), ("0.0.0.0:65535", "0.0.0.0", 65_535),
        ("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", 65_535),
    ] as [(String, String, UInt16)])
    func literalsAreAddresses(_ text: String, _ address: String, _ port: UInt16) {
        #expect(target(text) == .address(IPAddress(address)!, port: port))
    }

    @Test(arguments: ["cart:80", "localhost:80", "cart.shop.svc.cluster.local:8080", "10.1.2.3.nip.io:80", "0x0a010203:80", "a%31:80", "10.1.2.a:80"])
    func namesAreTold(_ text: String) { #expect(target(text) == .name) }

    @Test(arguments: [
        "", ":", ":80", "10.1.2.3", "10.1.2.3:", "10.1.2.3:0", "10.1.2.3:080", "10.1.2.3:65536", "10.1.2.3:80 ", "10.1.2:80", "10.1.2.3.4:80",
        "010.1.2.3:80", "167838211:80", "10.1.2.256:80", "fd00::1:80", "[fd00::1]", "[fd00::1]80", "[fd00::1:80", "fd00::1]:80", "[]:80", "[10.1.2.3]:80",
        "[::ffff:10.1.2.3]:80", "[fe80::1%eth0]:80", "[[::1]]:80", "user@10.1.2.3:x", "cart:80:80", "cart",
    ])
    func anythingElseIsMalformed(_ text: String) { #expect(target(text) == .malformed) }

    /// Whatever bytes come: no trap, and an address only for text that spells that address and nothing else.
    @Test func fuzzed() {
        var state: UInt64 = 0x9E37_79B9_7F4A_7C15
        func next() -> UInt64 {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return state
        }
        let seeds = ["10.1.2.3:80", "[fd00::1]:8443", "80;http1", "65535;grpc", "cart.shop:8080"].map { Array($0.utf8) }
        let alphabet = Array("0123456789abcdef:.[];htpgrc%@ \0\u{7f}".utf8) + [0xFF, 0x80]
        for _ in 0..<200_000 {
            var text = seeds[Int(next() % UInt64(seeds.count))]
            for _ in 0..<(next() % 4) {
                let place = Int(next() % UInt64(text.count + 1)), byte = alphabet[Int(next() % UInt64(alphabet.count))]
                switch next() % 3 {
                case 0: text.insert(byte, at: place)
                case 1: if place < text.count { text[place] = byte }
                default: if place < text.count, text.count > 1 { text.remove(at: place) }
                }
            }
            if case .address(let address, let port) = target(text) {
                let spelled = String(decoding: text, as: UTF8.self)
                let host = String(spelled[..<spelled.lastIndex(of: ":")!])
                #expect(spelled.hasSuffix(":\(port)") && IPAddress(host.filter { $0 != "[" && $0 != "]" }) == address)
            }
            if let read = read(text) { #expect(Array("\(read.port);\(read.spoken.name)".utf8) == text) }
        }
    }
}
