import HTTPCodec
import Testing

/// Heads that RFC 9113, 8 forbids, by hand: a stream error, under a name of its own.
@Suite struct HTTP2HeadTests {
    struct Shape: Sendable, CustomTestStringConvertible {
        var fault: HTTPFault
        var fields: [(String, String)]
        var testDescription: String { "\(fault): \(fields)" }
    }

    private static func with(_ name: String, _ value: String) -> [(String, String)] { plainRequest + [(name, value)] }
    private static func replacing(_ name: String, _ value: String?) -> [(String, String)] {
        plainRequest.compactMap { $0.0 == name ? value.map { (name, $0) } : $0 }
    }

    static let shapes: [Shape] = [
        .init(fault: .badPseudoField, fields: replacing(":method", nil)),
        .init(fault: .badPseudoField, fields: replacing(":scheme", nil)),
        .init(fault: .badPseudoField, fields: replacing(":path", nil)),
        .init(fault: .badTarget, fields: replacing(":path", "")),
        .init(fault: .badTarget, fields: replacing(":path", "x")),
        .init(fault: .badTarget, fields: replacing(":path", "*")),
        .init(fault: .badTarget, fields: replacing(":path", "/a b")),
        .init(fault: .badTarget, fields: replacing(":path", "/a#b")),
        .init(fault: .badTarget, fields: replacing(":path", "/a\r\nx: y")),
        .init(fault: .badMethod, fields: replacing(":method", "G(T")),
        .init(fault: .methodCase, fields: replacing(":method", "get")),
        .init(fault: .badHost, fields: replacing(":authority", "user@a")),
        .init(fault: .badHost, fields: replacing(":authority", "a:x")),
        .init(fault: .badPseudoField, fields: plainRequest + [(":path", "/")]),
        .init(fault: .badPseudoField, fields: plainRequest + [(":status", "200")]),
        .init(fault: .badPseudoField, fields: plainRequest + [(":test", "x")]),
        .init(fault: .badPseudoField, fields: [("x", "y")] + plainRequest),
        .init(fault: .badPseudoField, fields: plainRequest + [(":protocol", "websocket")]),
        .init(fault: .badPseudoField, fields: [(":method", "CONNECT"), (":authority", "a:1"), (":path", "/")]),
        .init(fault: .badPseudoField, fields: [(":method", "CONNECT")]),
        .init(fault: .badTarget, fields: [(":method", "CONNECT"), (":authority", "a")]),
        .init(fault: .upperCaseFieldName, fields: with("X-Test", "y")),
        .init(fault: .badFieldName, fields: with("x test", "y")),
        .init(fault: .badFieldName, fields: with("x:", "y")),
        .init(fault: .emptyFieldName, fields: with("", "y")),
        .init(fault: .nulByte, fields: with("x", "a\0b")),
        .init(fault: .bareLineFeed, fields: with("x", "a\nb: c")),
        .init(fault: .bareCarriageReturn, fields: with("x", "a\rb")),
        .init(fault: .controlCharacter, fields: with("x", "a\u{1}b")),
        .init(fault: .blankAroundValue, fields: with("x", " a")),
        .init(fault: .blankAroundValue, fields: with("x", "a\t")),
        .init(fault: .connectionField, fields: with("connection", "close")),
        .init(fault: .connectionField, fields: with("keep-alive", "x")),
        .init(fault: .connectionField, fields: with("proxy-connection", "x")),
        .init(fault: .connectionField, fields: with("transfer-encoding", "chunked")),
        .init(fault: .connectionField, fields: with("upgrade", "h2c")),
        .init(fault: .connectionField, fields: with("te", "trailers, deflate")),
        .init(fault: .authorityMismatch, fields: with("host", "b")),
        .init(fault: .repeatedHost, fields: with("host", "a") + [("host", "a")]),
        .init(fault: .badContentLength, fields: with("content-length", "-1")),
        .init(fault: .repeatedContentLength, fields: with("content-length", "0") + [("content-length", "0")]),
        .init(fault: .lengthMismatch, fields: with("content-length", "5")),
    ]

    @Test(arguments: shapes) func malformedRequestIsAStreamError(_ shape: Shape) {
        let server = shakenServer()
        server.receive(headers(1, shape.fields))
        #expect(server.news() == [.refused(1, shape.fault, isOpen: false)])
        #expect(endings(server.written()) == ["reset 1 protocolError"])
        #expect(server.openStreams == 0)
        server.receive(headers(3, plainRequest))
        #expect(server.news().count == 1, "the connection goes on")
    }

    @Test func tooLargeHeadsCanBeAnswered() {
        let shapes: [(HTTPFault, [(String, String)])] = [
            (.targetTooLong, Self.replacing(":path", "/" + String(repeating: "a", count: 17_000))),
            (.tooManyFields, plainRequest + (0..<97).map { ("x-\($0)", "y") }),
            (.headTooLarge, plainRequest + (0..<16).map { ("x-\($0)", String(repeating: "y", count: 4_096)) }),
        ]
        for (fault, fields) in shapes {
            let server = shakenServer()
            let whole = block(fields)
            let pieces = stride(from: 0, to: whole.count, by: 16_000).map { Array(whole[$0..<min($0 + 16_000, whole.count)]) }
            for (index, piece) in pieces.enumerated() {
                server.receive(frame(index == 0 ? 1 : 9, (index == 0 ? 1 : 0) | (index == pieces.count - 1 ? 4 : 0), 1, piece))
            }
            #expect(server.news() == [.refused(1, fault, isOpen: true)])
            server.session.submitReply(1, Reply(refusing: fault))
            let sent = frames(server.written())
            #expect(sent.map(\.type) == [1, 0] && sent.last?.flags == 1)
            #expect(server.openStreams == 0)
        }
    }

    @Test func hostStandsInForAuthority() throws {
        let server = shakenServer()
        server.receive(headers(1, Self.replacing(":authority", nil) + [("host", "shop:81")]))
        guard case .head(1, let head, ends: true) = server.news().first else { Issue.record("refused"); return }
        #expect(head.authority == "shop:81" && head.port == 81)
        server.receive(headers(3, Self.replacing(":authority", "Shop") + [("host", "shop")]))
        guard case .head(3, let second, ends: true) = server.news().first else { Issue.record("refused"); return }
        #expect(second.authority == "Shop")
    }

    @Test func contentMustSumUpToItsLength() {
        for (sent, isRight) in [(["abc", "de"], true), (["abcd", "ef"], false), (["ab"], false)] {
            let server = shakenServer()
            server.receive(headers(1, Self.with("content-length", "5"), ends: false))
            for (index, piece) in sent.enumerated() { server.receive(frame(0, index == sent.count - 1 ? 1 : 0, 1, Array(piece.utf8))) }
            #expect((server.news().last == .refused(1, .lengthMismatch, isOpen: false)) == !isRight)
            #expect(endings(server.written()) == (isRight ? [] : ["reset 1 protocolError"]))
        }
    }

    @Test func trailersEndTheStreamAndHoldNoPseudoFields() {
        for (fields, ends, fault) in [([("x", "y")], false, HTTPFault.trailersNotLast), ([(":method", "GET")], true, .badPseudoField), ([("host", "b")], true, .forbiddenTrailer)] {
            let server = shakenServer()
            server.receive(headers(1, plainRequest, ends: false) + headers(1, fields, ends: ends))
            #expect(server.news().last == .refused(1, fault, isOpen: false))
            #expect(endings(server.written()) == ["reset 1 protocolError"])
        }
    }

    @Test func responsesAreJudgedToo() throws {
        let shapes: [(HTTPFault, [(String, String)], Bool)] = [
            (.badPseudoField, [("x", "y")], true), (.badPseudoField, [(":status", "20")], true), (.badPseudoField, [(":status", "999")], true),
            (.badPseudoField, [(":status", "200"), (":path", "/")], true), (.badStatusLine, [(":status", "101")], false),
            (.badStatusLine, [(":status", "100")], true), (.lengthMismatch, [(":status", "200"), ("content-length", "3")], true),
            (.connectionField, [(":status", "200"), ("connection", "close")], true),
        ]
        for (fault, fields, ends) in shapes {
            let client = End(.client)
            client.receive(frame(4, 0, 0))
            let stream = try client.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            _ = client.written()
            _ = client.news()
            client.receive(headers(UInt32(stream), fields, ends: ends))
            #expect(client.news() == [.refused(stream, fault, isOpen: false)], "\(fields)")
            #expect(client.openStreams == 0)
        }
    }

    @Test func interimHeadsComeBeforeTheFinalOne() throws {
        let both = Joined()
        let stream = try both.client.request("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", ends: false)
        both.settle()
        guard case .head(_, let request, _) = both.server.news().first else { Issue.record("no head"); return }
        #expect(request.value("expect") == "100-continue")
        try both.server.respond(stream, "HTTP/1.1 100 Continue\r\n\r\n")
        try both.server.respond(stream, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        try both.server.respond(stream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ends: true)
        both.settle()
        let back = both.client.news()
        #expect(back.count == 3)
        guard case .interim(1, let first) = back[0], case .interim(1, let second) = back[1], case .head(1, let last, ends: true) = back[2] else {
            Issue.record("\(back)")
            return
        }
        #expect(first.status == 100 && second.status == 103 && second.fields == ["link: </a>"] && last.status == 200)
    }

    @Test func answerToHeadTellsALengthItDoesNotSend() throws {
        let both = Joined()
        let stream = try both.client.request("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        both.settle()
        _ = both.server.news()
        try both.server.respond(stream, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", answering: .head, ends: true)
        both.settle()
        guard case .head(1, let head, ends: true) = both.client.news().last else { Issue.record("refused"); return }
        #expect(head.value("content-length") == "500" && head.framing == .none)
    }

    @Test func connectIsATunnel() throws {
        let both = Joined()
        let stream = try both.client.request("CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n", ends: false)
        both.settle()
        guard case .head(1, let head, ends: false) = both.server.news().first else { Issue.record("no head"); return }
        #expect(head.method == "CONNECT" && head.target == "db:5432" && head.port == 5432 && head.framing == .none)
        try both.server.respond(stream, "HTTP/1.1 200 OK\r\n\r\n", answering: .connect)
        both.client.append(stream, "ping")
        both.settle()
        both.server.append(stream, "pong")
        both.server.session.end(stream)
        both.settle()
        #expect(both.server.news() == [.data(1, "ping", ends: false)])
        #expect(both.client.news().last == .data(1, "pong", ends: true))
    }
}
