import Bytes
import Testing

@testable import HTTPCodec

/// What a route changes about a head, and what it cannot.
@Suite struct HeadEditsTests {
    private static let request = "GET /a?b=c HTTP/1.1\r\nhost: shop.test\r\nx-one: 1\r\nx-two:2\r\nX-Three: 3\r\nx-one: 1b\r\naccept: */*\r\n\r\n"

    /// The request as it goes on after the edits, and what it says when it is read again.
    private func amended(_ text: String = request, _ prepare: (inout HeadEdits) -> Void) throws -> String? {
        let bytes = Array(text.utf8), memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 * 1024, alignment: 1)
        defer { memory.deallocate() }
        var head = Head(), progress = HeadProgress(), edits = HeadEdits()
        prepare(&edits)
        return try bytes.withUnsafeBytes { view in
            _ = try head.parseRequest(view, limits: .standard, progress: &progress)
            guard let changed = head.amend(edits, of: view, into: memory) else { return nil }
            return written(head, changed)
        }
    }

    private func written(_ head: borrowing Head, _ bytes: UnsafeRawBufferPointer) -> String {
        let out = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 * 1024, alignment: 1)
        defer { out.deallocate() }
        var writer = ByteWriter(out)
        let forwarding = RequestForwarding(random: (1, 2, 3))
        #expect(RequestWriter.write(head, of: bytes, forwarding, to: &writer))
        #expect(writer.count <= RequestWriter.bytesMax(head, forwarding))
        return text(writer.written)
    }

    private func fields(_ message: String?, _ name: String) -> [String] {
        (message ?? "").split(separator: "\r\n").dropFirst().filter { $0.lowercased().hasPrefix(name + ": ") }.map { String($0.dropFirst(name.count + 2)) }
    }

    private func add(_ kind: HeadEdits.Kind, _ name: StaticString, _ value: StaticString = "", to edits: inout HeadEdits) {
        edits.append(kind, name, UnsafeRawBufferPointer(start: value.utf8Start, count: value.utf8CodeUnitCount))
    }

    @Test func setReplacesEveryLineAndAddsOneThatIsMissing() throws {
        let message = try amended { add(.set, "x-one", "new", to: &$0); add(.set, "x-four", "4", to: &$0) }
        #expect(fields(message, "x-one") == ["new"])
        #expect(fields(message, "x-four") == ["4"])
        #expect(fields(message, "x-two") == ["2"] && fields(message, "x-three") == ["3"] && fields(message, "accept") == ["*/*"])
    }

    @Test func addStandsBehindWhatIsThere() throws {
        let message = try amended { add(.add, "x-one", "1c", to: &$0); add(.add, "x-new", "a", to: &$0); add(.add, "x-new", "b", to: &$0) }
        #expect(fields(message, "x-one") == ["1", "1b,1c"])
        #expect(fields(message, "x-new") == ["a,b"])
    }

    @Test func removeLeavesNothingInBetween() throws {
        let message = try amended { add(.remove, "x-one", to: &$0); add(.remove, "x-three", to: &$0) }
        #expect(fields(message, "x-one").isEmpty && fields(message, "x-three").isEmpty)
        #expect(fields(message, "x-two") == ["2"] && fields(message, "accept") == ["*/*"])
        #expect(message?.contains("1b") == false)
    }

    @Test func editsComeInTheirOrder() throws {
        let message = try amended { add(.set, "x-one", "rule", to: &$0); add(.add, "x-one", "backend", to: &$0); add(.remove, "x-two", to: &$0); add(.set, "x-two", "again", to: &$0) }
        #expect(fields(message, "x-one") == ["rule,backend"])
        #expect(fields(message, "x-two") == ["again"])
    }

    @Test(arguments: [
        "content-length", "transfer-encoding", "connection", "host", "te", "upgrade", "keep-alive", "trailer", "expect", "proxy-connection",
        "x-weft-destination", "x-weft-reason", "x-forwarded-client-cert", "sec-websocket-key", "bad name", "", ":path", "x\r\ny",
    ])
    func whatFramesOrIsWeftsOwnStays(name: String) throws {
        let text = "POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 3\r\n\r\n"
        let plain = try amended(text) { _ in }
        for kind in [HeadEdits.Kind.set, .add, .remove] {
            let bytes = Array(name.utf8), value = Array("chunked".utf8)
            bytes.withUnsafeBytes { name in #expect(!HeadEdits.mayChange(name)) }
            let message = try bytes.withUnsafeBytes { name in try value.withUnsafeBytes { value in try amended(text) { $0.append(kind, name, value) } } }
            #expect(message == plain)
        }
    }

    @Test func aValueThatWouldBeTwoLinesIsLeftOut() throws {
        let message = try amended { add(.set, "x-one", "a\r\ncontent-length: 5", to: &$0); add(.set, "x-two", " blank", to: &$0) }
        #expect(try message == amended { _ in })
    }

    @Test func aNewPathAndHostAreAllThatIsAskedFor() throws {
        let message = try amended {
            let path: StaticString = "/other?x=y", host: StaticString = "elsewhere.test"
            $0.path = UnsafeRawBufferPointer(start: path.utf8Start, count: path.utf8CodeUnitCount)
            $0.authority = UnsafeRawBufferPointer(start: host.utf8Start, count: host.utf8CodeUnitCount)
        }
        #expect(message?.hasPrefix("GET /other?x=y HTTP/1.1\r\nhost: elsewhere.test\r\nx-one: 1\r\n") == true)
        #expect(message?.contains("shop.test") == false)
    }

    @Test func whatTheProxyJudgesOfItselfIsFoundAgain() throws {
        let text = "GET / HTTP/1.1\r\nhost: a\r\nx-request-id: old\r\nx-forwarded-proto: http\r\nx-forwarded-proto: https\r\n\r\n"
        let message = try amended(text) { add(.set, "x-request-id", "mine", to: &$0); add(.set, "x-forwarded-proto", "https", to: &$0) }
        #expect(fields(message, "x-request-id") == ["mine"])
        #expect(fields(message, "x-forwarded-proto") == ["https"])
        let without = try amended(text) { add(.remove, "x-request-id", to: &$0) }
        #expect(fields(without, "x-request-id").count == 1 && fields(without, "x-request-id") != ["old"])
    }

    @Test func cookiesAreJoinedAsCookiesAre() throws {
        let message = try amended("GET / HTTP/1.1\r\nhost: a\r\ncookie: a=1\r\n\r\n") { add(.add, "cookie", "b=2", to: &$0) }
        #expect(fields(message, "cookie") == ["a=1; b=2"])
        let twice = try amended("GET / HTTP/1.1\r\nhost: a\r\nset-cookie: a=1\r\n\r\n") { add(.add, "set-cookie", "b=2", to: &$0) }
        #expect(fields(twice, "set-cookie") == ["a=1", "b=2"])
    }

    @Test func whatDoesNotFitIsNoHead() throws {
        let long = "GET / HTTP/1.1\r\nhost: a\r\nx-long: " + String(repeating: "x", count: 65_000) + "\r\n\r\n"
        #expect(try amended(long) { add(.add, "x-long", "y", to: &$0) } == nil)
        #expect(try amended { edits in for _ in 0...HeadEdits.rowsMax { add(.remove, "x-nothing", to: &edits) } } == nil)
    }

    /// Whatever is edited, a strict reader sees one request, framed as it was.
    @Test func anyEditsLeaveOneRequest() throws {
        var random = Chance(seed: 11)
        let names: [StaticString] = ["x-one", "X-TWO", "x-three", "accept", "cookie", "host", "content-length", "x-new", "x-forwarded-for", "traceparent"]
        let values: [StaticString] = ["", "a", "a, b", "x=y", "\r\n", "é", "0"]
        for _ in 0..<2_000 {
            let text = "POST /a HTTP/1.1\r\nhost: shop.test\r\nx-one: 1\r\nx-two:2\r\nx-three: 3\r\ncookie: c=d\r\ncontent-length: 5\r\nx-one: 4\r\n\r\n"
            let message = try amended(text) { edits in
                for _ in 0..<random.below(12) {
                    add([.set, .add, .remove][random.below(3)], names[random.below(names.count)], values[random.below(values.count)], to: &edits)
                }
            }
            let outcome = parse(try #require(message))
            guard case .parsed(let head) = outcome else { Issue.record("\(outcome) of \(message ?? "")"); return }
            #expect(head.framing == .length(5) && head.authority == "shop.test" && head.byteCount == message?.utf8.count)
        }
    }

    @Test func aRedirectsAddressLeavesOutTheSchemesOwnPort() {
        func location(_ isSecure: Bool, _ port: UInt16) -> String {
            withUnsafeTemporaryAllocation(byteCount: 256, alignment: 1) { memory in
                var writer = ByteWriter(memory)
                let host: StaticString = "shop.test", path: StaticString = "/a", nothing = UnsafeRawBufferPointer(start: nil, count: 0)
                Location.write(
                    isSecure: isSecure, host: UnsafeRawBufferPointer(start: host.utf8Start, count: 9), port: port,
                    path: (UnsafeRawBufferPointer(start: path.utf8Start, count: 2), nothing), query: nothing, to: &writer)
                return text(writer.written)
            }
        }
        #expect(location(false, 80) == "http://shop.test/a")
        #expect(location(true, 443) == "https://shop.test/a")
        #expect(location(false, 443) == "http://shop.test:443/a")
        #expect(location(true, 80) == "https://shop.test:80/a")
        #expect(location(false, 8080) == "http://shop.test:8080/a")
    }
}

/// Chance that comes again with its seed.
private struct Chance {
    var state: UInt64
    init(seed: UInt64) { state = seed }

    mutating func below(_ bound: Int) -> Int {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int((state >> 33) % UInt64(bound))
    }
}
