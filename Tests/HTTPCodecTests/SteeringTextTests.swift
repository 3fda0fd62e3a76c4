import Bytes
import Testing

@testable import HTTPCodec

/// What clients say about where they come from and where they were, as routes read it.
@Suite struct SteeringTextTests {
    private func matches(_ origin: String, _ pattern: String) -> Bool? {
        Array(origin.utf8).withUnsafeBytes { origin in Array(pattern.utf8).withUnsafeBytes { pattern in Origin(origin)?.matches(pattern) } }
    }

    @Test(arguments: [
        ("https://a.test", "https://a.test", true), ("https://a.test:443", "https://a.test", true), ("https://a.test", "https://a.test:443", true),
        ("http://a.test", "http://a.test:80", true), ("https://a.test", "http://a.test", false), ("https://a.test:8443", "https://a.test", false),
        ("HTTPS://A.Test", "https://a.test", true), ("https://b.a.test", "https://*.a.test", true), ("https://c.b.a.test", "https://*.a.test", true),
        ("https://a.test", "https://*.a.test", false), ("https://evila.test", "https://*.a.test", false), ("https://x.test:8443", "https://*:8443", true),
        ("https://x.test", "https://*:8443", false), ("https://x.test", "https://*", true), ("http://x.test", "https://*", false),
        ("http://[::1]:8080", "http://[::1]:8080", true), ("http://[::1]", "http://[::1]:80", true), ("https://a.test", "*", true),
        ("https://a.test", "nonsense", false), ("https://a.test", "", false),
    ])
    func originsMatch(origin: String, pattern: String, expected: Bool) { #expect(matches(origin, pattern) == expected) }

    @Test(arguments: ["null", "", "https", "https:", "https://", "https:a.test", "://a", "ftp://a.test", "https://a:b", "https://a:99999", "http://[::1", "http://[::1]x", "https://evil/.a.test", "https://me@a.test"])
    func whatIsNoOrigin(text: String) { #expect(matches(text, "*") == nil) }

    private func cookie(_ name: String, _ field: String) -> String? {
        Array(name.utf8).withUnsafeBytes { name in
            Array(field.utf8).withUnsafeBytes { field in CookieReader.value(of: name, in: field).map { text($0) } }
        }
    }

    @Test func cookiesAreFound() {
        #expect(cookie("b", "a=1; b=2; b=3") == "2")
        #expect(cookie("b", "ab=1; b =2;  b=\"x y\"; c") == "x y")
        #expect(cookie("c", "a=1; c") == nil)
        #expect(cookie("c", "a=c=1") == nil)
        #expect(cookie("a", "a=c=1") == "c=1")
        #expect(cookie("A", "a=1") == nil)
        #expect(cookie("a", "a=") == "")
        #expect(cookie("a", ";;;a=1 ;") == "1")
        #expect(cookie("a", "a=\"") == "\"")
        #expect(cookie("", "=1") == nil)
        #expect(cookie("a", "") == nil)
    }

    /// Whatever comes is read to its end and not beyond; what is found stands in it.
    @Test func anythingMayCome() {
        var state: UInt64 = 7
        func below(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int((state >> 33) % UInt64(bound))
        }
        let alphabet = Array("ab=;\" \t:/[]*.0hts".utf8) + [0, 255]
        for _ in 0..<50_000 {
            let bytes = (0..<below(24)).map { _ in alphabet[below(alphabet.count)] }
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
            defer { memory.deallocate() }
            memory.copyBytes(from: bytes)
            let view = UnsafeRawBufferPointer(memory)
            Array("a".utf8).withUnsafeBytes { name in
                if let value = CookieReader.value(of: name, in: view), !value.isEmpty {
                    #expect(value.baseAddress! >= view.baseAddress! && value.baseAddress! + value.count <= view.baseAddress! + view.count)
                }
            }
            if let origin = Origin(view) { _ = origin.matches(view) }
        }
    }
}
