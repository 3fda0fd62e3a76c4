import Testing
import Bytes
import HTTPCodec

@Suite struct RequestWriterTests {
    /// The fields a request without any of them gets, for `random: (1, 2, 3)`.
    static let proto = "x-forwarded-proto: http\r\n"
    static let requestID = "x-request-id: 00000000-0000-4001-8000-000000000002\r\n"
    static let trace = "traceparent: 00-00000000000040018000000000000002-0000000000000003-00\r\n"
    static let added = proto + requestID + trace

    @Test func whatPassesAndWhatIsAdded() throws {
        let wire = "GET /a?b HTTP/1.1\r\nUser-Agent: curl\r\nHost: cart:8080\r\nAccept:*/*\r\nX-Odd:  a \t\r\n\r\n"
        #expect(try forwarded(wire, peer: "10.0.0.7") ==
            "GET /a?b HTTP/1.1\r\nhost: cart:8080\r\nUser-Agent: curl\r\nAccept: */*\r\nX-Odd: a\r\nx-forwarded-for: 10.0.0.7\r\n\(Self.added)\r\n")
    }

    @Test(arguments: [
        ("GET http://b:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x?y HTTP/1.1\r\nhost: b:81\r\n"),
        ("GET http://b HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nhost: b\r\n"),
        ("GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n", "GET /?q HTTP/1.1\r\nhost: b\r\n"),
        ("OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nhost: b\r\n"),
        ("OPTIONS http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS / HTTP/1.1\r\nhost: b\r\n"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nhost: a\r\n"),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nhost: a\r\n"),
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nhost: a\r\n"),
        ("GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nhost: 10.0.0.9:80\r\n"),
    ])
    func targetAndHost(_ wire: String, _ start: String) throws {
        #expect(try forwarded(wire, destination: "10.0.0.9:80") == start + Self.added + "\r\n")
    }

    @Test(arguments: [
        "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\n",
        "X-Private: 1\r\nConnection: x-private\r\n", "Connection: close, X-Private\r\nX-Private: 1\r\nX-PRIVATE: 2\r\n",
        "Connection: a\r\nConnection: x-a ,,x-b\r\nX-A: 1\r\nX-B: 2\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", "Upgrade: websocket\r\n",
        "X-Weft-Destination: 8080;http1\r\n", "X-Forwarded-Client-Cert: By=spiffe://a/ns/b/sa/c;URI=spiffe://a/ns/admin/sa/root\r\n", "TE: deflate\r\n",
    ])
    func fieldsForOneHopEndHere(_ lines: String) throws {
        let wire = "GET / HTTP/1.1\r\nHost: a\r\nBefore: x\r\n\(lines)After: y\r\n\r\n"
        #expect(try forwarded(wire) == "GET / HTTP/1.1\r\nhost: a\r\nBefore: x\r\nAfter: y\r\n\(Self.added)\r\n")
    }

    /// Naming a field in Connection must not take from the proxy what it goes by.
    @Test func connectionCannotRemoveFraming() throws {
        let wire = "POST / HTTP/1.1\r\nConnection: host, content-length, x-request-id, x-forwarded-for\r\nHost: a\r\nContent-Length: 5\r\nX-Request-Id: me\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"
        #expect(try forwarded(wire) ==
            "POST / HTTP/1.1\r\nhost: a\r\nContent-Length: 5\r\nX-Request-Id: me\r\nX-Forwarded-For: 1.2.3.4\r\n\(Self.proto)\(Self.trace)\r\n")
    }

    @Test(arguments: [
        ("Content-Length: 5\r\n", "Content-Length: 5\r\n", ""), ("Content-Length: 0005\r\n", "Content-Length: 5\r\n", ""),
        ("Content-Length: 0\r\n", "Content-Length: 0\r\n", ""), ("Transfer-Encoding: CHUNKED\r\n", "", "transfer-encoding: chunked\r\n"),
    ])
    func framingIsWrittenAsJudged(_ lines: String, _ passed: String, _ added: String) throws {
        let wire = "POST / HTTP/1.1\r\nHost: a\r\n\(lines)\r\n"
        #expect(try forwarded(wire) == "POST / HTTP/1.1\r\nhost: a\r\n\(passed)\(Self.added)\(added)\r\n")
    }

    @Test func trailersAreStillWelcomeAtTheNextHop() throws {
        #expect(try forwarded("GET / HTTP/1.1\r\nHost: a\r\nTE: gzip, trailers\r\nConnection: TE\r\n\r\n", closesUpstream: true)
            == "GET / HTTP/1.1\r\nhost: a\r\n\(Self.added)te: trailers\r\nconnection: close, te\r\n\r\n")
    }

    @Test func upgradePassesOnlyWhenTheProxyWantsIt() throws {
        let wire = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        #expect(try forwarded(wire, keepsUpgrade: true) == "GET / HTTP/1.1\r\nhost: a\r\n\(Self.added)upgrade: websocket\r\nconnection: upgrade\r\n\r\n")
        #expect(try forwarded(wire) == "GET / HTTP/1.1\r\nhost: a\r\n\(Self.added)\r\n")
    }

    @Test func expectationPassesInHTTP11Only() throws {
        #expect(try forwarded("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n").contains("Expect: 100-continue\r\n"))
        #expect(try !forwarded("PUT / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\n\r\n").contains("Expect"))
    }

    @Test(arguments: [
        ("", "x-forwarded-for: 10.0.0.7\r\n"), ("X-Forwarded-For: 1.1.1.1\r\n", "x-forwarded-for: 1.1.1.1, 10.0.0.7\r\n"),
        ("X-Forwarded-For: 1.1.1.1, 2.2.2.2\r\nX-Forwarded-For:\r\nx-forwarded-for: 3.3.3.3\r\n", "x-forwarded-for: 1.1.1.1, 2.2.2.2, 3.3.3.3, 10.0.0.7\r\n"),
    ])
    func peerIsAppended(_ lines: String, _ result: String) throws {
        #expect(try forwarded("GET / HTTP/1.1\r\nHost: a\r\n\(lines)\r\n", peer: "10.0.0.7") == "GET / HTTP/1.1\r\nhost: a\r\n\(result)\(Self.added)\r\n")
    }

    @Test(arguments: [
        ("X-Forwarded-Proto: https\r\n", true), ("X-Forwarded-Proto: HTTP\r\n", true), ("X-Forwarded-Proto: wss\r\n", false),
        ("X-Forwarded-Proto: https,http\r\n", false), ("X-Forwarded-Proto: https\r\nX-Forwarded-Proto: https\r\n", false),
    ])
    func schemeIsKeptWhenBelievable(_ line: String, _ isKept: Bool) throws {
        let result = try forwarded("GET / HTTP/1.1\r\nHost: a\r\n\(line)\r\n", isSecure: true)
        #expect(result == "GET / HTTP/1.1\r\nhost: a\r\n\(isKept ? line : "x-forwarded-proto: https\r\n")\(Self.requestID)\(Self.trace)\r\n")
    }

    @Test(arguments: [("X-Request-Id: abc\r\n", true), ("X-Request-Id:\r\n", false), ("X-Request-Id: a\r\nX-Request-Id: a\r\n", false)])
    func requestIDIsKeptWhenThereIsOne(_ lines: String, _ isKept: Bool) throws {
        let result = try forwarded("GET / HTTP/1.1\r\nHost: a\r\n\(lines)\r\n")
        #expect(result == "GET / HTTP/1.1\r\nhost: a\r\n" + (isKept ? lines : "") + Self.proto + (isKept ? "" : Self.requestID) + Self.trace + "\r\n")
    }

    static let traceID = "0af7651916cd43dd8448eb211c80319c", parentID = "b7ad6b7169203331"
    @Test(arguments: [
        ("00-\(traceID)-\(parentID)-01", true), ("01-\(traceID)-\(parentID)-01", true), ("cc-\(traceID)-\(parentID)-01-more", true),
        ("00-\(traceID)-\(parentID)-01-more", false), ("01-\(traceID)-\(parentID)-01.more", false), ("ff-\(traceID)-\(parentID)-01", false),
        ("00-\(traceID.uppercased())-\(parentID)-01", false), ("00-\(String(repeating: "0", count: 32))-\(parentID)-01", false),
        ("00-\(traceID)-0000000000000000-01", false), ("00-\(traceID)-\(parentID)-0", false), ("00-\(traceID)-\(parentID)-0x", false),
        ("00_\(traceID)-\(parentID)-01", false), ("", false), ("x", false),
    ])
    func traceIsPassedOnOrReplaced(_ value: String, _ isKept: Bool) throws {
        let lines = "traceparent: \(value)\r\ntracestate: a=b\r\n"
        let result = try forwarded("GET / HTTP/1.1\r\nHost: a\r\n\(lines)\r\n")
        #expect(result == "GET / HTTP/1.1\r\nhost: a\r\n" + (isKept ? lines : "") + Self.proto + Self.requestID + (isKept ? "" : Self.trace) + "\r\n")
    }

    @Test func aRepeatedTraceIsReplaced() throws {
        let line = "traceparent: 00-\(Self.traceID)-\(Self.parentID)-01\r\n"
        #expect(try forwarded("GET / HTTP/1.1\r\nHost: a\r\n\(line)\(line)\r\n") == "GET / HTTP/1.1\r\nhost: a\r\n\(Self.added)\r\n")
    }

    @Test func tooLittleRoomIsToldNotOverrun() throws {
        let wire = Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
        var head = Head()
        var progress = HeadProgress()
        try wire.withUnsafeBytes { bytes in
            _ = try head.parseRequest(bytes, limits: .standard, progress: &progress)
            for room in 0..<200 {
                withUnsafeTemporaryAllocation(byteCount: 256, alignment: 1) { memory in
                    memory.initializeMemory(as: UInt8.self, repeating: 0xA5)
                    var writer = ByteWriter(UnsafeMutableRawBufferPointer(rebasing: memory[..<room]))
                    let fits = RequestWriter.write(head, of: bytes, RequestForwarding(random: (1, 2, 3)), to: &writer)
                    let whole = 25 + Self.added.utf8.count + 2
                    #expect(fits == (room >= whole), "\(room) bytes")
                    #expect(memory[room...].allSatisfy { $0 == 0xA5 })
                }
            }
        }
    }
}
