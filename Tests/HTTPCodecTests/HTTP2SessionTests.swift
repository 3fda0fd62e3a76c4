import Testing
import Bytes
import HTTPCodec

@Suite struct HTTP2SessionTests {
    private let get = "GET /a?b HTTP/1.1\r\nHost: shop.local:80\r\nAccept: */*\r\n\r\n"

    @Test func requestAndResponseCross() throws {
        let both = Joined()
        let stream = try both.client.request("POST /buy HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\nConnection: x-hop\r\nX-Hop: 1\r\nCookie: a=1; b=2\r\n\r\n", ends: false)
        #expect(both.client.append(stream, "hello") == 5)
        both.client.session.end(stream)
        both.settle()
        let seen = both.server.news()
        guard case .head(1, let head, ends: false) = seen.first else { Issue.record("\(seen)"); return }
        #expect(head.method == "POST" && head.target == "/buy" && head.authority == "shop" && head.framing == .length(5))
        #expect(head.value("cookie") == "a=1; b=2" && head.value("x-hop") == nil && head.value("connection") == nil)
        #expect(head.value("x-forwarded-proto") == "http" && head.value("x-request-id") != nil && head.value("traceparent") != nil)
        #expect(seen.dropFirst() == [.data(1, "hello", ends: true)])

        try both.server.respond(1, "HTTP/1.1 200 Fine\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
        #expect(both.server.append(1, "goodbye") == 7)
        try both.server.trail(1, "x-sum: 12\r\n")
        both.settle()
        let back = both.client.news()
        guard case .head(1, let answer, ends: false) = back.first, case .trailers(1, let trailers) = back.last else { Issue.record("\(back)"); return }
        #expect(answer.status == 200 && answer.framing == .chunked && answer.fields == ["content-type: text/plain"])
        #expect(back.count == 3 && back[1] == .data(1, "goodbye", ends: false))
        #expect(trailers.fields == ["x-sum: 12"])
        #expect(both.client.openStreams == 0 && both.server.openStreams == 0)
        #expect(!both.client.hasEvents && !both.server.hasEvents)
    }

    @Test func trailersAloneNeedNoContent() throws {
        let both = Joined()
        let stream = try both.client.request(get)
        both.settle()
        try both.server.respond(stream, "HTTP/1.1 200 OK\r\n\r\n")
        both.settle()
        try both.server.trail(stream, "grpc-status: 0\r\n")
        both.settle()
        let back = both.client.news()
        #expect(back.count == 2)
        guard case .trailers(1, let trailers) = back.last else { Issue.record("\(back)"); return }
        #expect(trailers.fields == ["grpc-status: 0"])
    }

    /// What came in a field is withheld; what the proxy itself says goes out once, on either protocol.
    @Test func whatProxiesTellIsWrittenAnew() throws {
        var head = Head(), progress = HeadProgress()
        let wire = Array("GET / HTTP/1.1\r\nHost: a\r\nX-Weft-Destination: 1;http2\r\nx-forwarded-client-cert: URI=forged\r\n\r\n".utf8)
        let destination = Array("8080;grpc".utf8), certificate = Array("By=a;URI=b".utf8)
        let written = try wire.withUnsafeBytes { bytes in
            _ = try head.parseRequest(bytes, limits: .standard, progress: &progress)
            return destination.withUnsafeBytes { destination in
                certificate.withUnsafeBytes { certificate in
                    var forwarding = RequestForwarding(random: (1, 2, 3))
                    forwarding.weftDestination = destination
                    forwarding.clientCertificate = certificate
                    var memory = [UInt8](repeating: 0, count: RequestWriter.bytesMax(head, forwarding))
                    return memory.withUnsafeMutableBytes { memory in
                        var out = ByteWriter(memory)
                        #expect(RequestWriter.write(head, of: bytes, forwarding, to: &out))
                        return String(decoding: out.written, as: UTF8.self)
                    }
                }
            }
        }
        #expect(written == "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-proto: http\r\nx-weft-destination: 8080;grpc\r\nx-forwarded-client-cert: By=a;URI=b\r\n"
            + RequestWriterTests.requestID + RequestWriterTests.trace + "\r\n")
    }

    /// Each side of a tunnel ends by itself: behind our END_STREAM the client's content still comes, for as long as it likes.
    @Test func tunnelEndsOneSideAtATime() throws {
        let both = Joined()
        let stream = try both.client.request("CONNECT 10.0.0.1:80 HTTP/1.1\r\nHost: 10.0.0.1:80\r\n\r\n", ends: false)
        both.settle()
        _ = both.server.news()
        both.server.session.submitTunnelOpened(stream)
        both.server.session.setOwner(stream, 3)
        both.server.append(stream, "all I have")
        both.server.session.endHalf(stream)
        both.settle()
        #expect(both.client.news().last == .data(stream, "all I have", ends: true))
        both.server.now += 10_000_000_000
        both.server.check()
        #expect(both.client.append(stream, "still here") == 10)
        both.settle()
        #expect(both.server.news() == [.data(stream, "still here", ends: false)])
        both.client.session.end(stream)
        both.settle()
        #expect(both.server.news() == [.ended(stream)])
        #expect(both.client.openStreams == 0 && both.server.openStreams == 0)
    }

    @Test func resetIsToldToTheOtherSide() throws {
        let both = Joined()
        let stream = try both.client.request(get, ends: false)
        both.settle()
        _ = both.server.news()
        both.client.session.reset(stream, .cancel)
        both.settle()
        #expect(both.server.news() == [.reset(1, .cancel, wasProcessed: true)])
        #expect(both.client.news() == [])
        let second = try both.client.request(get, ends: false)
        both.settle()
        _ = both.server.news()
        both.server.session.reset(second, .refusedStream)
        both.settle()
        #expect(both.client.news() == [.reset(3, .refusedStream, wasProcessed: false)])
        #expect(both.client.openStreams == 0 && both.server.openStreams == 0)
    }

    @Test func answerOfOurOwn() throws {
        let both = Joined()
        let stream = try both.client.request(get)
        both.settle()
        both.server.session.submitReply(stream, Reply(status: 503, reason: "no-endpoint", keepsAlive: true))
        both.settle()
        let back = both.client.news()
        guard case .head(1, let head, ends: false) = back.first else { Issue.record("\(back)"); return }
        #expect(head.status == 503 && head.value("x-weft-reason") == "no-endpoint" && head.framing == .length(12))
        #expect(back.last == .data(1, "no-endpoint\n", ends: true))
    }

    @Test func statusOfOurOwnToAGRPCClient() throws {
        let both = Joined()
        let stream = try both.client.request("POST /s/m HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nTE: trailers\r\nConnection: te\r\nTransfer-Encoding: chunked\r\n\r\n", ends: false)
        both.settle()
        guard case .head(_, let request, _) = both.server.news().first else { return }
        #expect(request.value("te") == "trailers" && request.framing == .chunked)
        both.server.session.submitReply(stream, GRPCReply(status: .deadlineExceeded, reason: "deadline"))
        both.settle()
        let back = both.client.news()
        guard case .head(1, let head, ends: true) = back.first else { Issue.record("\(back)"); return }
        #expect(head.status == 200 && head.value("grpc-status") == "4" && head.value("grpc-message") == "deadline")
        // The request has not ended: after a while the client is told to stop sending.
        both.client.append(stream, "more")
        both.settle()
        #expect(both.server.news() == [])
        both.server.now += HTTP2Limits.standard.answeredNanosecondsMax
        both.server.check()
        both.settle()
        #expect(both.client.news() == [.reset(1, .noError, wasProcessed: true)])
        #expect(both.server.openStreams == 0)
    }

    /// A stream that is short of room is named once there is some; the others are not held up by it.
    @Test func slowReaderHoldsUpNobody() throws {
        let both = Joined()
        let slow = try both.client.request(get), fast = try both.client.request(get, owner: 8)
        both.settle()
        both.server.session.setOwner(slow, 100)
        both.server.session.setOwner(fast, 101)
        both.client.consumes = false
        for stream in [slow, fast] { try both.server.respond(stream, "HTTP/1.1 200 OK\r\n\r\n") }
        let block = String(repeating: "x", count: 32 * 1024)
        var sent = 0
        while both.server.room(slow) > 0 {
            #expect(both.server.append(slow, block) == block.utf8.count)
            sent += block.utf8.count
            both.settle()
        }
        // The stream's window and its queue are full, and the connection still carries the other stream.
        #expect(sent == 256 * 1024 + 64 * 1024)
        #expect(both.server.append(fast, "quick") == 5)
        both.server.session.end(fast)
        _ = both.client.news()
        both.settle()
        #expect(both.client.news() == [.data(fast, "quick", ends: true)])
        #expect(both.server.nextWritable() == nil)
        both.client.session.consumed(slow, 256 * 1024)
        both.settle()
        #expect(both.server.nextWritable() == 100)
        #expect(both.server.nextWritable() == nil)
    }

    @Test func framesArriveInAnyPieces() throws {
        let whole = Joined()
        let stream = try whole.client.request("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", ends: false)
        whole.client.append(stream, "some content")
        try whole.client.trail(stream, "x-a: b\r\n")
        let wire = whole.client.written()
        whole.server.receive(wire)
        let expected = whole.server.news()
        #expect(expected.count == 3)
        for cut in 0...wire.count {
            let server = Joined().server
            server.receive(wire[..<cut])
            server.receive(wire[cut...])
            var seen = server.news()
            // A cut inside content shows as two pieces.
            if seen.count == 4, case .data(let id, let first, _) = seen[1], case .data(_, let second, let ends) = seen[2] {
                seen.replaceSubrange(1...2, with: [.data(id, first + second, ends: ends)])
            }
            #expect(seen == expected, "cut at \(cut)")
        }
        let server = Joined().server
        for byte in wire { server.receive([byte]) }
        #expect(server.news().count == 2 + "some content".utf8.count)
    }

    @Test func drainLosesNothing() throws {
        let both = Joined()
        let stream = try both.client.request(get)
        both.settle()
        both.server.session.beginDrain()
        both.settle()
        #expect(both.client.news() == [.goAway(.noError)])
        #expect(!both.client.canOpenStream)
        both.server.session.finishDrain()
        both.settle()
        try both.server.respond(stream, "HTTP/1.1 204 No Content\r\n\r\n", ends: true)
        both.settle()
        guard case .head(1, let head, ends: true) = both.client.news().last else { Issue.record("no answer"); return }
        #expect(head.status == 204 && both.client.openStreams == 0)
    }

    @Test func unprocessedStreamsMayBeSentAgain() throws {
        let both = Joined()
        _ = try both.client.request(get)
        both.settle()
        both.server.session.finishDrain()
        // On its way when GOAWAY left.
        _ = try both.client.request(get)
        both.settle()
        #expect(both.client.news() == [.goAway(.noError), .reset(3, .refusedStream, wasProcessed: false)])
    }

    @Test func pingIsAnswered() throws {
        let both = Joined()
        both.client.session.ping(now: 5)
        #expect(both.client.pingSentAt == 5)
        both.settle()
        #expect(both.client.news() == [.pong] && both.client.pingSentAt == nil)
    }

    @Test func webSocketCrossesAsExtendedConnect() throws {
        let both = Joined()
        #expect(both.client.allowsExtendedConnect)
        let stream = try both.client.request(
            "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            ends: true, keepsUpgrade: true)
        both.settle()
        guard case .head(1, let head, ends: false) = both.server.news().first else { Issue.record("no head"); return }
        #expect(head.method == "GET" && head.target == "/chat" && head.value("upgrade") == "websocket")
        #expect(head.value("sec-websocket-key") == nil && head.value("sec-websocket-version") == "13")
        try both.server.respond(stream, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: whatever\r\n\r\n", mayUpgrade: true)
        both.server.append(stream, "frame")
        both.settle()
        let back = both.client.news()
        guard case .head(1, let answer, ends: false) = back.first else { Issue.record("\(back)"); return }
        // RFC 6455, 1.3 has this key and its answer.
        #expect(answer.status == 101 && answer.value("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        #expect(back.last == .data(1, "frame", ends: false))
    }

    /// Content that is lent is not lost where the window ends, nor when the stream is reset with frames of it decided on.
    @Test func lentContentArrivesWhole() throws {
        let both = Joined()
        let stream = try both.client.request(get)
        both.settle()
        both.server.session.setOwner(stream, 9)
        try both.server.respond(stream, "HTTP/1.1 200 OK\r\n\r\n")
        both.settle()
        _ = both.client.news()
        let content = String((0..<400_000).map { Character(UnicodeScalar(UInt8(97 + $0 % 26))) })
        both.client.receive(both.server.lend(stream, content, ends: true))
        both.settle()
        var arrived = ""
        for told in both.client.news() { if case .data(_, let piece, _) = told { arrived += piece } }
        #expect(arrived == content)
        #expect(both.client.openStreams == 0 && both.server.openStreams == 0)

        // More than one gathering has room for, and then a reset from our side.
        let second = try both.client.request(get)
        both.settle()
        try both.server.respond(second, "HTTP/1.1 200 OK\r\n\r\n")
        for _ in 0..<40 { both.client.receive(both.server.lend(second, String(repeating: "y", count: 5_000), ends: false)) }
        both.server.session.reset(second, .cancel)
        both.settle()
        #expect(both.client.news().last == .reset(second, .cancel, wasProcessed: true))
    }

    /// An upgrade to anything else has no like on a stream; nor has a WebSocket handshake without a key.
    @Test func otherUpgradesStayHTTP1() throws {
        let both = Joined()
        for fields in ["Upgrade: chat\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Upgrade: websocket", "Upgrade: websocket, chat\r\nSec-WebSocket-Key: x"] {
            #expect(throws: HTTP2Refusal.extendedConnectUnknown) {
                try both.client.request("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\(fields)\r\n\r\n", keepsUpgrade: true)
            }
        }
        #expect(both.client.openStreams == 0)
    }

    /// Extended CONNECT towards HTTP/1.1: a GET that upgrades, with a key of our own for WebSocket only.
    @Test func extendedConnectIsWrittenAsAnUpgrade() throws {
        for (name, hasKey) in [("websocket", true), ("connect-udp", false)] {
            let server = shakenServer()
            var wire = ""
            server.onHead = { _, _, head, bytes, _ in
                let forwarding = RequestForwarding(random: (1, 2, 3), keepsUpgrade: true)
                wire = (try? written(upTo: RequestWriter.bytesMax(head, forwarding)) { RequestWriter.write(head, of: bytes, forwarding, to: &$0) }) ?? ""
            }
            server.receive(headers(1, [(":method", "CONNECT"), (":protocol", name), (":scheme", "http"), (":path", "/chat"), (":authority", "a")], ends: false))
            let head = try parsed(wire)
            #expect(head.method == "GET" && head.target == "/chat" && head.value("upgrade") == name && head.value("connection") == "upgrade")
            #expect((head.value("sec-websocket-key")?.utf8.count == 24) == hasKey)
        }
    }
}
