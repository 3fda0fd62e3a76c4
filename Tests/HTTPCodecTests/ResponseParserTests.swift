import Testing
import HTTPCodec

@Suite struct ResponseParserTests {
    @Test(arguments: [
        ("HTTP/1.1 200 OK\r\n\r\n", 200, "OK"), ("HTTP/1.1 200 \r\n\r\n", 200, ""), ("HTTP/1.1 200\r\n\r\n", 200, ""),
        ("HTTP/1.0 404 Not\tFound here\r\n\r\n", 404, "Not\tFound here"), ("HTTP/1.1 999 ž\r\n\r\n", 999, "ž"),
    ])
    func statusLines(_ wire: String, _ status: Int, _ reason: String) throws {
        var head = Head()
        var progress = HeadProgress()
        try Array(wire.utf8).withUnsafeBytes {
            let end = try head.parseResponse($0, answering: .get, limits: .standard, progress: &progress)
            #expect(end == $0.count)
            #expect(head.status == status && text(head.reasonPhrase.of($0)) == reason)
        }
    }

    @Test(arguments: [
        ("200 OK", "", HTTPMethod.get, BodyFraming.untilClose, false), ("200 OK", "Content-Length: 5\r\n", .get, .length(5), true),
        ("200 OK", "Transfer-Encoding: chunked\r\n", .get, .chunked, true), ("200 OK", "Content-Length: 5\r\n", .head, .none, true),
        ("200 OK", "Transfer-Encoding: chunked\r\n", .head, .none, true), ("200 OK", "", .head, .none, true),
        ("204 No Content", "", .get, .none, true), ("204 No Content", "Content-Length: 0\r\n", .get, .none, true),
        ("204 No Content", "Content-Length: 5\r\n", .get, .none, false), ("204 No Content", "Transfer-Encoding: chunked\r\n", .get, .none, false),
        ("304 Not Modified", "Content-Length: 5\r\n", .get, .none, true), ("304 Not Modified", "", .get, .none, true),
        ("100 Continue", "", .put, .none, true), ("103 Early Hints", "Link: </x>\r\n", .get, .none, true),
        ("205 Reset Content", "Content-Length: 0\r\n", .get, .length(0), true),
    ])
    func framingAndReuse(_ status: String, _ lines: String, _ method: HTTPMethod, _ framing: BodyFraming, _ keeps: Bool) throws {
        let head = try parsed("HTTP/1.1 \(status)\r\n\(lines)\r\n", .response, answering: method)
        #expect(head.framing == framing)
        #expect(head.keepsAlive == keeps, "whether the upstream connection may be used again")
    }

    @Test func http10ClosesUnlessItSaysOtherwise() throws {
        #expect(try !parsed("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", .response).keepsAlive)
        #expect(try parsed("HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n", .response).keepsAlive)
        #expect(try parsed("HTTP/1.0 200 OK\r\n\r\n", .response).framing == .untilClose)
    }

    @Test func interimResponsesAreToldFromFinalOnesAndFromUpgrades() throws {
        var head = Head()
        var progress = HeadProgress()
        for (status, isInterim) in [(100, true), (102, true), (103, true), (101, false), (200, false)] {
            try Array("HTTP/1.1 \(status) X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n".utf8).withUnsafeBytes {
                _ = try head.parseResponse($0, answering: .get, mayUpgrade: true, limits: .standard, progress: &progress)
            }
            #expect(head.isInterim == isInterim)
        }
    }

    @Test(arguments: [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: x\r\n\r\nhello", "HTTP/1.0 200\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 a\tb\r\nX:\t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ])
    func everyCutGivesTheSameHead(_ example: String) {
        let wire = Array(example.utf8)
        let whole = parse(wire, .response)
        guard case .parsed(let head) = whole else { Issue.record("not parsed: \(whole)"); return }
        for cut in 0...wire.count {
            var progress = HeadProgress()
            let first = parse(wire[..<cut], .response, progress: &progress)
            #expect(first == (cut < head.byteCount ? .incomplete : whole), "cut at \(cut)")
            if first == .incomplete { #expect(parse(wire, .response, progress: &progress) == whole, "cut at \(cut)") }
        }
        var progress = HeadProgress()
        for end in 0..<head.byteCount { #expect(parse(wire[..<end], .response, progress: &progress) == .incomplete) }
        #expect(parse(wire, .response, progress: &progress) == whole, "byte by byte")
    }
}
