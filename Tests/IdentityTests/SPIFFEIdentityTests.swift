@testable import Identity
import Testing

@Suite struct SPIFFEIdentityTests {
    @Test(arguments: [
        "spiffe://cluster.local/ns/shop/sa/web", "spiffe://a/ns/b/sa/c", "spiffe://cluster.local/node/node-a.example", "spiffe://my_domain-1/controller",
        "spiffe://cluster.local/ns/Shop_1/sa/web.2",
    ])
    func whatIsReadIsWrittenTheSame(text: String) { #expect(SPIFFEIdentity(text)?.description == text) }

    @Test(arguments: [
        "", "spiffe://", "spiffe:///ns/a/sa/b", "SPIFFE://cluster.local/ns/a/sa/b", "spiffe:/cluster.local/ns/a/sa/b", "https://cluster.local/ns/a/sa/b",
        "spiffe://Cluster.local/ns/a/sa/b", "spiffe://cluster.local:80/ns/a/sa/b", "spiffe://me@cluster.local/ns/a/sa/b", "spiffe://cluster.local/ns/a/sa/b/",
        "spiffe://cluster.local/ns/a/sa/", "spiffe://cluster.local/ns//sa/b", "spiffe://cluster.local//ns/a/sa/b", "spiffe://cluster.local/ns/a/sa/b?x",
        "spiffe://cluster.local/ns/a/sa/b#x", "spiffe://cluster.local/ns/a/sa/%62", "spiffe://cluster.local/ns/./sa/b", "spiffe://cluster.local/ns/../sa/b",
        "spiffe://cluster.local/ns/a/sa/..", "spiffe://cluster.local/ns/a/sa/b c", "spiffe://cluster.local/ns/a/sa/b\n", "spiffe://cluster.local/ns/a/sa/b\0",
        "spiffe://cluster.local/ns/a/sa/ü", "spiffe://cluster.local", "spiffe://cluster.local/", "spiffe://cluster.local/ns/a", "spiffe://cluster.local/ns/a/b/c",
        "spiffe://cluster.local/NS/a/sa/b", "spiffe://cluster.local/node/", "spiffe://cluster.local/node/a/b", "spiffe://cluster.local/controller/x",
        "spiffe://cluster.local/ns/a/sa/" + String(repeating: "b", count: 2_048), "spiffe://" + String(repeating: "a", count: 256) + "/ns/a/sa/b",
        " spiffe://cluster.local/ns/a/sa/b",
    ])
    func whatIsGivenToNobodyIsNotRead(text: String) { #expect(SPIFFEIdentity(text) == nil) }

    @Test func partsThatCouldEscapeTheirPlaceAreRefused() {
        #expect(SPIFFEIdentity(trustDomain: "cluster.local", namespace: "a/sa/b", serviceAccount: "c") == nil)
        #expect(SPIFFEIdentity(trustDomain: "cluster.local", namespace: "..", serviceAccount: "c") == nil)
        #expect(SPIFFEIdentity(trustDomain: "cluster.local/ns", namespace: "a", serviceAccount: "c") == nil)
        #expect(SPIFFEIdentity(trustDomain: "cluster.local", node: "a/b") == nil)
        #expect(SPIFFEIdentity(trustDomain: "cluster.local", node: "") == nil)
    }

    /// Anything that is read is one text exactly: two readers cannot take it for two parties.
    @Test func mangledNamesNeverBecomeOtherNames() {
        var generator = SplitMix(state: 7)
        let alphabet = Array("spife:/nsadoctrl.-_%?#@ AZ09\0ü".utf8) + [0xFF]
        var readCount = 0
        for _ in 0..<200_000 {
            var bytes = Array("spiffe://cluster.local/ns/shop/sa/web".utf8)
            for _ in 0..<Int.random(in: 0...3, using: &generator) {
                let place = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: bytes[place] = alphabet.randomElement(using: &generator)!
                case 1: bytes.insert(alphabet.randomElement(using: &generator)!, at: place)
                default: bytes.remove(at: place)
                }
            }
            let text = String(decoding: bytes, as: UTF8.self)
            guard let identity = SPIFFEIdentity(text) else { continue }
            readCount += 1
            guard Array(identity.description.utf8) == Array(text.utf8), SPIFFEIdentity(identity.description) == identity else {
                Issue.record("“\(text)” was read as \(identity)")
                return
            }
        }
        #expect(readCount > 10_000, "the mangling leaves enough that is still a name")
    }
}

struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }
}
