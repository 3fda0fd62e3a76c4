import Testing
import Bytes

@Suite struct ScanTests {
    /// Every byte value at every place of a run around the word size, beside neighbours that a borrow could spoil.
    @Test(arguments: [0x00, 0x1F, 0x20, 0x21, 0x41, 0x7E, 0x7F, 0x80, 0xFF] as [UInt8])
    func scansAgreeWithABytewiseWalk(_ filler: UInt8) {
        for length in 1...19 {
            for place in 0..<length {
                for value in 0...255 as ClosedRange<UInt8> {
                    var bytes = [UInt8](repeating: filler, count: length)
                    bytes[place] = value
                    bytes.withUnsafeBytes { raw in
                        let base = raw.baseAddress!
                        let control = raw.firstIndex { $0 < 0x20 || $0 == 0x7F } ?? length
                        let hidden = raw.firstIndex { $0 < 0x21 || $0 > 0x7E } ?? length
                        let same = raw.firstIndex(of: 0x3A) ?? length
                        let plain = raw.firstIndex { !Self.plainNameCharacters.contains($0) } ?? length
                        let token = raw.firstIndex { !Self.tokenCharacters.contains($0) } ?? length
                        #expect(firstControl(in: base, from: 0, to: length) == control)
                        #expect(firstNotVisible(in: base, from: 0, to: length) == hidden)
                        #expect(firstIndex(of: 0x3A, in: base, from: 0, to: length) == same)
                        #expect(firstNotPlainName(in: base, from: 0, to: length) == plain)
                        #expect(firstNotToken(in: base, from: 0, to: length) == token)
                    }
                }
            }
        }
    }

    static let plainNameCharacters = Set("-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".utf8)
    static let tokenCharacters = Set("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".utf8)

    @Test func tokenTableIsTheRFCs() {
        for byte in 0...255 as ClosedRange<UInt8> { #expect(isTokenCharacter(byte) == Self.tokenCharacters.contains(byte)) }
    }

    @Test(arguments: ["te", "Host", "HOST", "content-length", "Content-Lengtj", "transfer-encoding", "Transfer-encodinG", "x"])
    func tokensCompareInAnyCase(_ name: String) {
        let bytes = Array(name.utf8)
        bytes.withUnsafeBytes { raw in
            let base = raw.baseAddress!
            #expect(tokenEquals(base, raw.count, "te") == (name.lowercased() == "te"))
            #expect(tokenEquals(base, raw.count, "host") == (name.lowercased() == "host"))
            #expect(tokenEquals(base, raw.count, "content-length") == (name.lowercased() == "content-length"))
            #expect(tokenEquals(base, raw.count, "transfer-encoding") == (name.lowercased() == "transfer-encoding"))
        }
        let upper = Array(name.uppercased().utf8)
        #expect(bytes.withUnsafeBytes { left in upper.withUnsafeBytes { equalsIgnoringCase(left, $0) } })
    }

    @Test func bytesThatDifferInTheCaseBitOnlyAreNotEqual() {
        // "@" and "`" are 0x40 and 0x60, no letters.
        #expect(!Array("@".utf8).withUnsafeBytes { left in Array("`".utf8).withUnsafeBytes { equalsIgnoringCase(left, $0) } })
    }
}
