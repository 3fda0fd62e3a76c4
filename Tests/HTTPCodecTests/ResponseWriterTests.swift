import Testing
import Bytes
import HTTPCodec

@Suite struct ResponseWriterTests {
    @Test func whatPassesAndWhatEndsHere() throws {
        let wire = "HTTP/1.1 200 All right\r\nServer: x\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nContent-Length: 5\r\nTrailer: X-Sum\r\n\r\n"
        #expect(try forwardedResponse(wire) == "HTTP/1.1 200 All right\r\nServer: x\r\nContent-Length: 5\r\nTrailer: X-Sum\r\n\r\n")
    }

    static let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", untilClose = "HTTP/1.0 200 OK\r\n\r\n"
    static let length = "HTTP/1.1 200 OK\r\nContent-Length: 05\r\n\r\n"
    @Test(arguments: [
        (chunked, 1, true, "transfer-encoding: chunked\r\n"), (chunked, 1, false, "transfer-encoding: chunked\r\nconnection: close\r\n"),
        (chunked, 0, true, "connection: close\r\n"), (untilClose, 1, true, "transfer-encoding: chunked\r\n"), (untilClose, 0, true, "connection: close\r\n"),
        (length, 1, true, "Content-Length: 5\r\n"), (length, 1, false, "Content-Length: 5\r\nconnection: close\r\n"),
        (length, 0, true, "Content-Length: 5\r\nconnection: keep-alive\r\n"), (length, 0, false, "Content-Length: 5\r\nconnection: close\r\n"),
    ])
    func framingFitsTheDownstream(_ wire: String, _ minorVersion: Int, _ keepsAlive: Bool, _ lines: String) throws {
        #expect(try forwardedResponse(wire, minorVersion: minorVersion, keepsAlive: keepsAlive) == "HTTP/1.1 200 OK\r\n\(lines)\r\n")
    }

    @Test(arguments: [
        ("204 No Content", "Content-Length: 0\r\n", HTTPMethod.get, ""), ("204 No Content", "Transfer-Encoding: chunked\r\n", .get, ""),
        ("304 Not Modified", "Content-Length: 5\r\n", .get, "Content-Length: 5\r\n"), ("200 OK", "Content-Length: 5\r\n", .head, "Content-Length: 5\r\n"),
        ("200 OK", "Transfer-Encoding: chunked\r\n", .head, ""), ("200 OK", "", .head, ""),
        ("100 Continue", "", .put, ""), ("103 Early Hints", "Link: </x>\r\nConnection: close\r\n", .get, "Link: </x>\r\n"),
    ])
    func responsesWithoutContent(_ status: String, _ lines: String, _ method: HTTPMethod, _ result: String) throws {
        #expect(try forwardedResponse("HTTP/1.1 \(status)\r\n\(lines)\r\n", answering: method) == "HTTP/1.1 \(status)\r\n\(result)\r\n")
    }

    @Test func upgradeIsAnsweredWhole() throws {
        #expect(try forwardedResponse(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n", mayUpgrade: true)
            == "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
    }

    /// What we write, we read as the same.
    @Test(arguments: [chunked, length, "HTTP/1.1 200 \r\nX:y\r\nX:  z\r\nContent-Length: 1\r\n\r\n"])
    func roundTrip(_ wire: String) throws {
        let once = try forwardedResponse(wire)
        #expect(try forwardedResponse(once) == once)
        #expect(try parsed(once, .response).framing == parsed(wire, .response).framing)
    }
}

@Suite struct ReplyTests {
    @Test func refusalNamesItsReasonAndCloses() throws {
        let reply = Reply(refusing: .headTooLarge)
        #expect(try written(upTo: reply.bytesMax) { reply.write(to: &$0) } ==
            "HTTP/1.1 431 Request Header Fields Too Large\r\nx-weft-reason: head-too-large\r\ncontent-type: text/plain\r\ncontent-length: 15\r\nconnection: close\r\n\r\nhead-too-large\n")
    }

    @Test func anUpstreamsFaultIsABadGateway() throws {
        let reply = Reply(upstreamFault: .bareLineFeed, keepsAlive: true, minorVersion: 1, answersHead: false)
        #expect(try written(upTo: reply.bytesMax) { reply.write(to: &$0) } ==
            "HTTP/1.1 502 Bad Gateway\r\nx-weft-reason: upstream-bare-line-feed\r\ncontent-type: text/plain\r\ncontent-length: 24\r\n\r\nupstream-bare-line-feed\n")
    }

    @Test func headGetsTheLengthOnly() throws {
        let reply = Reply(status: 503, reason: "no-endpoint", keepsAlive: true, minorVersion: 0, answersHead: true, retryAfterSeconds: 1)
        #expect(try written(upTo: reply.bytesMax) { reply.write(to: &$0) } ==
            "HTTP/1.1 503 Service Unavailable\r\nx-weft-reason: no-endpoint\r\ncontent-type: text/plain\r\ncontent-length: 12\r\nretry-after: 1\r\nconnection: keep-alive\r\n\r\n")
    }

    /// Every refusal is itself a response that a strict parser takes, within the room it asked for.
    @Test(arguments: HTTPFault.allCases)
    func everyRefusalIsAFaultlessResponse(_ fault: HTTPFault) throws {
        for reply in [Reply(refusing: fault), Reply(upstreamFault: fault, keepsAlive: false, minorVersion: 1, answersHead: false)] {
            let wire = try written(upTo: reply.bytesMax) { reply.write(to: &$0) }
            let head = try parsed(wire, .response)
            #expect(head.status == reply.status && !head.keepsAlive)
            #expect(head.framing == .length(wire.utf8.count - head.byteCount))
        }
    }
}

@Suite struct DetectionTests {
    @Test(arguments: [
        ("GET / HTTP/1.1\r\n", FirstBytes.http1), ("GET ", .undecided), ("OPTIONS * HTTP/1.1", .http1), ("GET /\u{01}", .undecided), ("PURGE /x HTTP/1.1\r\n", .http1),
        ("\r\nGET / HTTP/1.1\r\n", .http1), ("get / HTTP/1.1\r\n", .http1), ("", .undecided), ("GE", .undecided), ("GET", .undecided), ("PURGE /x", .undecided),
        ("\r", .undecided), ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", .http2), ("PRI * HTTP/2.0", .http2), ("PRI * HTT", .undecided), ("PRI * HTTP/1.1", .opaque),
        ("EHLO mail.example\r\n", .otherLine), ("USER me\r\n", .otherLine), ("*1\r\n$4\r\nPING\r\n", .opaque), ("\u{16}\u{03}\u{01}\u{02}", .undecided), ("\0\0\0\u{08}", .opaque),
        (" GET / HTTP/1.1", .opaque), ("\r\r", .undecided), ("\rGET", .opaque), ("SSH-2.0-x\r\n", .opaque), ("SET a \0b", .opaque), ("X\r\n", .opaque),
        ("GET key\r\n", .opaque), ("HEAD 17\r\n", .opaque), ("GET / http/1.1\r\n", .http1), ("GET /\tHTTP/1.1\r\n", .http1), ("GET key\r", .undecided),
        (String(repeating: "A", count: 33), .opaque), ("LONG " + String(repeating: "x", count: 2_048), .opaque),
    ])
    func firstBytesTell(_ wire: String, _ result: FirstBytes) {
        #expect(Array(wire.utf8).withUnsafeBytes { FirstBytes(judging: $0) } == result)
    }

    /// A verdict, once given, is not taken back when more bytes come.
    @Test(arguments: ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "PURGE /x HTTP/1.1\r\n", "EHLO a\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "*1\r\nPING\r\n", "PRIX / HTTP/1.1\r\n"])
    func verdictsAreFinal(_ wire: String) {
        let bytes = Array(wire.utf8)
        let verdicts = (0...bytes.count).map { end in bytes[..<end].withUnsafeBytes { FirstBytes(judging: $0) } }
        let settled = verdicts.drop { $0 == .undecided }
        #expect(!settled.isEmpty && settled.allSatisfy { $0 == settled.first })
    }
}
