import Testing
@testable import HTTPCodec

@Suite struct RequestParserTests {
    @Test func readsEveryPart() throws {
        let head = try parsed("POST /a/b?c=d HTTP/1.1\r\nHost: cart.shop:8080\r\nContent-Length:  12 \r\nX-Empty:\r\nX: \ty\tz \t\r\n\r\nhello")
        #expect(head.method == "POST" && head.target == "/a/b?c=d" && head.path == "/a/b?c=d")
        #expect(head.authority == "cart.shop:8080" && head.port == 8080)
        #expect(head.framing == .length(12) && head.keepsAlive && head.minorVersion == 1)
        #expect(head.fields == ["Host: cart.shop:8080", "Content-Length: 12", "X-Empty: ", "X: y\tz"])
    }

    @Test(arguments: [
        ("GET", HTTPMethod.get), ("HEAD", .head), ("POST", .post), ("PUT", .put), ("DELETE", .delete), ("TRACE", .trace), ("PATCH", .patch),
        ("OPTIONS", .options), ("PROPFIND", .other), ("purge", .other), ("M-SEARCH", .other),
    ])
    func methodsAreCaseSensitiveTokens(_ name: String, _ method: HTTPMethod) throws {
        var head = Head()
        var progress = HeadProgress()
        try Array("\(name) / HTTP/1.1\r\nHost: a\r\n\r\n".utf8).withUnsafeBytes {
            _ = try head.parseRequest($0, limits: .standard, progress: &progress)
        }
        #expect(head.method == method)
    }

    @Test(arguments: [
        ("GET /", TargetForm.origin, "a:1", "/"), ("GET //x/..?#".replacing("#", with: ""), .origin, "a:1", "//x/..?"),
        ("OPTIONS *", .asterisk, "a:1", "*"), ("GET http://b/x?y", .absolute, "b", "/x?y"), ("GET HTTP://b:81", .absolute, "b:81", ""),
        ("GET https://[::1]:443?q", .absolute, "[::1]:443", "?q"), ("CONNECT b:443", .authority, "b:443", ""),
    ])
    func targetsOfAllForms(_ start: String, _ form: TargetForm, _ authority: String, _ path: String) throws {
        var head = Head()
        var progress = HeadProgress()
        let bytes = Array("\(start) HTTP/1.1\r\nHost: a:1\r\n\r\n".utf8)
        try bytes.withUnsafeBytes {
            _ = try head.parseRequest($0, limits: .standard, progress: &progress)
            #expect(head.targetForm == form)
            #expect(text(head.authority.of($0)) == authority)
            #expect(text(head.path.of($0)) == path)
        }
    }

    @Test(arguments: ["a", "a.b-c_d~e", "10.0.0.1", "[::1]", "[2001:db8::1]:8080", "a:65535", "A%20b", "a;b=c", "xn--bcher-kva.example"])
    func hostsThatAreFine(_ host: String) throws {
        #expect(try parsed("GET / HTTP/1.1\r\nHost: \(host)\r\n\r\n").authority == host)
    }

    @Test(arguments: [
        ("1.1", "", true), ("1.1", "Connection: close\r\n", false), ("1.1", "Connection: Keep-Alive\r\n", true),
        ("1.1", "Connection: x, CLOSE ,y\r\n", false), ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.1", "Connection: \r\n", true), ("1.1", "Connection: ,close\r\n", false),
        ("1.0", "", false), ("1.0", "Connection: keep-alive\r\n", true), ("1.0", "Connection: keep-alive, close\r\n", false),
    ])
    func keepsAliveAsTheVersionAndConnectionSay(_ version: String, _ lines: String, _ keeps: Bool) throws {
        #expect(try parsed("GET / HTTP/\(version)\r\nHost: a\r\n\(lines)\r\n").keepsAlive == keeps)
    }

    @Test(arguments: [
        ("", BodyFraming.none), ("Content-Length: 0\r\n", .length(0)), ("Content-Length: 007\r\n", .length(7)),
        ("Content-Length: 9223372036854775807\r\n", .length(.max)), ("Transfer-Encoding: chunked\r\n", .chunked),
        ("Transfer-Encoding: \tChunKed \r\n", .chunked),
    ])
    func framingOfRequests(_ lines: String, _ framing: BodyFraming) throws {
        #expect(try parsed("POST / HTTP/1.1\r\nHost: a\r\n\(lines)\r\n").framing == framing)
    }

    @Test func http10NeedsNoHost() throws {
        let head = try parsed("GET / HTTP/1.0\r\n\r\n")
        #expect(head.authority == "" && head.minorVersion == 0)
    }

    @Test func oneLeadingEmptyLineIsForgiven() throws {
        let head = try parsed("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(head.target == "/" && head.byteCount == 29)
    }

    @Test func expectationsAndTrailersAndUpgradeAreExposed() throws {
        var head = Head()
        var progress = HeadProgress()
        func parse(_ version: String) throws {
            try Array("PUT / HTTP/\(version)\r\nHost: a\r\nExpect: 100-Continue\r\nTE: deflate, Trailers\r\nConnection: upgrade, te\r\nUpgrade: websocket\r\n\r\n".utf8)
                .withUnsafeBytes { _ = try head.parseRequest($0, limits: .standard, progress: &progress) }
        }
        try parse("1.1")
        #expect(head.expectsContinue && head.acceptsTrailers && head.asksForUpgrade)
        try parse("1.0")
        #expect(!head.expectsContinue && !head.asksForUpgrade)
    }

    @Test func bytesAboveASCIIPassInValues() throws {
        #expect(try parsed("GET / HTTP/1.1\r\nHost: a\r\nX: žluť\r\n\r\n").fields.last == "X: žluť")
    }

    @Test func ninetySixFieldsAndSixtyFourKilobytesFit() throws {
        let many = "GET / HTTP/1.1\r\nHost: a\r\n" + String(repeating: "X: y\r\n", count: 95) + "\r\n"
        #expect(try parsed(many).fields.count == 96)
        let start = "GET / HTTP/1.1\r\nHost: a\r\nX: "
        let large = start + String(repeating: "y", count: 65_536 - start.utf8.count - 4) + "\r\n\r\n"
        #expect(try parsed(large).byteCount == 65_536)
    }

    static let examples = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nPOST http://b:81/x?y HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close, X-Y\r\nX-Y: z\r\n\r\nhello",
        "GET / HTTP/1.0\r\nX: \t\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nAccept:\t*/*\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\nUser-Agent: a\tb\r\n\r\n",
    ]

    @Test(arguments: examples)
    func everyCutGivesTheSameHead(_ example: String) throws {
        let wire = Array(example.utf8)
        let whole = parse(wire)
        guard case .parsed(let head) = whole else { Issue.record("not parsed: \(whole)"); return }
        for cut in 0...wire.count {
            var progress = HeadProgress()
            let first = parse(wire[..<cut], progress: &progress)
            #expect(first == (cut < head.byteCount ? .incomplete : whole), "cut at \(cut)")
            #expect(progress.hasBegun == (cut > 0 && cut < head.byteCount))
            if first == .incomplete { #expect(parse(wire, progress: &progress) == whole, "cut at \(cut)") }
        }
        var progress = HeadProgress()
        for end in 0..<head.byteCount { #expect(parse(wire[..<end], progress: &progress) == .incomplete) }
        #expect(parse(wire, progress: &progress) == whole, "byte by byte")
    }

    /// A head of 50 KB that comes byte by byte is walked over a few times, when it has doubled, not fifty thousand times.
    @Test func aHeadFedByteByByteIsCheap() throws {
        let wire = Array(("GET / HTTP/1.1\r\nHost: a\r\n" + String(repeating: "X-Name: value\r\n", count: 90)
            + "Y: " + String(repeating: "y", count: 50_000) + "\r\n\r\n").utf8)
        var head = Head()
        var progress = HeadProgress()
        try wire.withUnsafeBytes { bytes in
            var walked = 0
            for end in 1..<bytes.count {
                let before = progress.parseAgainAt
                let result = try head.parseRequest(UnsafeRawBufferPointer(rebasing: bytes[..<end]), limits: .standard, progress: &progress)
                #expect(result == nil)
                if progress.parseAgainAt != before { walked += end }
            }
            #expect(try head.parseRequest(bytes, limits: .standard, progress: &progress) == bytes.count)
            #expect(walked < bytes.count * 4, "bytes parsed again: \(walked) of \(bytes.count)")
        }
    }
}
