import Bytes
import HTTPCodec
import Testing

/// HTTP/1.1 → HTTP/2 → HTTP/1.1: any sequence of messages arrives equal, heads, cookies, interim responses, bodies and trailers.
@Suite struct TranslationTests {
    /// What a message says and every hop must keep: first line, host, and the fields that are not for one hop.
    private struct Meaning: Equatable {
        var start: String
        var framing: BodyFraming
        var fields: [String]

        init(_ head: ParsedHead) {
            start = head.status == 0 ? "\(head.method) \(head.target) \(head.authority)" : "\(head.status)"
            // A request without content may say so or not.
            framing = head.status == 0 && head.framing.isEmpty ? .none : head.framing
            let written: Set<String> = ["host", "connection", "te", "transfer-encoding", "x-request-id", "traceparent", "x-forwarded-proto"]
            fields = head.fields.compactMap { line in
                let colon = line.firstIndex(of: ":")!
                let name = line[..<colon].lowercased()
                if head.status == 0, name == "content-length", head.framing.isEmpty { return nil }
                return written.contains(name) ? nil : name + line[colon...]
            }.sorted()
        }
    }

    /// The text that leaves towards HTTP/1.1, and the meaning the next hop reads from it.
    private func read(_ head: borrowing Head, _ bytes: UnsafeRawBufferPointer, answering method: HTTPMethod) throws -> Meaning {
        let isRequest = head.status == 0
        let forwarding = RequestForwarding(random: (4, 5, 6))
        let plan = head.responsePlan(minorVersion: 1, keepsAlive: true)
        let room = isRequest ? RequestWriter.bytesMax(head, forwarding) : ResponseWriter.bytesMax(head)
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: room, alignment: 1)
        defer { memory.deallocate() }
        var out = ByteWriter(memory)
        let fits = isRequest ? RequestWriter.write(head, of: bytes, forwarding, to: &out) : ResponseWriter.write(head, of: bytes, plan, to: &out)
        guard fits else { throw Unexpected("\(room) bytes were said to be enough") }
        return Meaning(try parsed(text(out.written), isRequest ? .request : .response, answering: method))
    }

    private struct Message {
        var text: String
        var content: [String]
        var trailers: [String]
        var hasBody: Bool { !content.isEmpty || !trailers.isEmpty }
    }

    private static let names = ["X-One", "x-two", "Accept", "Set-Cookie", "Via", "Expect", "X-Very-Long-Name-Of-A-Field", "grpc-timeout"]
    private static let values = ["a", "", "b, c", "\"q;r\"", "0", String(repeating: "v", count: 300), "é", "x=y; z", "a\tb"]
    private static let cookies = ["a=1", "a=1; b=2", "a=1;b=2; c=3", "a=1;  b", "; a", "a; ", "a=" + String(repeating: "c", count: 100)]

    private func fields(_ random: inout SeededRandom, cookies: Bool) -> String {
        var lines = ""
        for _ in 0..<Int.random(in: 0...6, using: &random) {
            lines += Self.names.randomElement(using: &random)! + ": " + Self.values.randomElement(using: &random)! + "\r\n"
        }
        if cookies, Bool.random(using: &random) { lines += "Cookie: " + Self.cookies.randomElement(using: &random)! + "\r\n" }
        return lines
    }

    private func message(_ start: String, _ random: inout SeededRandom, isRequest: Bool, mayHaveBody: Bool) -> Message {
        var content: [String] = [], trailers: [String] = []
        var head = start + fields(&random, cookies: isRequest)
        if mayHaveBody, Bool.random(using: &random) {
            content = (0..<Int.random(in: 1...3, using: &random)).map { _ in String(repeating: "z", count: Int.random(in: 1...20_000, using: &random)) }
            if Bool.random(using: &random) {
                head += "Content-Length: \(content.joined().utf8.count)\r\n"
            } else {
                head += "Transfer-Encoding: chunked\r\n"
                trailers = (0..<Int.random(in: 0...2, using: &random)).map { "x-trailer-\($0): \(Self.values.filter { !$0.isEmpty }.randomElement(using: &random)!)" }
            }
        } else if !isRequest {
            head += mayHaveBody ? "Content-Length: 0\r\n" : ""
        }
        return Message(text: head + "\r\n", content: content, trailers: trailers)
    }

    /// Sends what follows a head, and returns what arrived at the other side.
    private func pass(_ message: Message, _ stream: Int32, from sender: End, to receiver: End, _ both: Joined) throws -> (content: String, trailers: [String]) {
        for piece in message.content {
            #expect(sender.append(stream, piece) == piece.utf8.count)
            both.settle()
        }
        if message.trailers.isEmpty { sender.session.end(stream) } else { try sender.trail(stream, message.trailers.map { $0 + "\r\n" }.joined()) }
        both.settle()
        var content = "", trailers: [String] = []
        for told in receiver.news() {
            switch told {
            case .data(_, let piece, _): content += piece
            case .trailers(_, let head): trailers = head.fields
            case .refused, .reset, .fault: Issue.record("\(told)")
            default: break
            }
        }
        return (content, trailers)
    }

    private func expectEqual(_ sent: Meaning, _ arrived: Meaning?, _ seed: UInt64) {
        guard let arrived else { Issue.record("seed \(seed): nothing arrived of \(sent)"); return }
        #expect(arrived == sent, "seed \(seed)")
    }

    private func exchange(_ both: Joined, _ random: inout SeededRandom, _ seed: UInt64) throws {
        let method: HTTPMethod = Int.random(in: 0..<5, using: &random) == 0 ? .head : .get
        let name = method == .head ? "HEAD" : ["GET", "POST", "BREW"].randomElement(using: &random)!
        let target = ["/", "/a?b=c", "/%20/", "/" + String(repeating: "p", count: 500)].randomElement(using: &random)!
        let request = message("\(name) \(target) HTTP/1.1\r\nHost: \(["a", "shop.local:8080", "[::1]:81"].randomElement(using: &random)!)\r\n", &random, isRequest: true, mayHaveBody: method != .head)
        var arrived: [Meaning] = []
        both.server.onHead = { [self] _, _, head, bytes, ends in
            if head.methodName.isEmpty { return }
            do { arrived.append(try read(head, bytes, answering: .get)) } catch { Issue.record("seed \(seed): \(error)") }
        }
        let stream = try both.client.request(request.text, ends: !request.hasBody)
        both.settle()
        expectEqual(Meaning(try parsed(request.text)), arrived.first, seed)
        if request.hasBody {
            let got = try pass(request, stream, from: both.client, to: both.server, both)
            #expect(got.content == request.content.joined() && got.trailers == request.trailers, "seed \(seed)")
        }
        _ = both.server.news()

        arrived = []
        both.client.onHead = { [self] _, _, head, bytes, _ in
            if head.status == 0 { return }
            do { arrived.append(try read(head, bytes, answering: method)) } catch { Issue.record("seed \(seed): \(error)") }
        }
        var heads: [Meaning] = []
        for _ in 0..<Int.random(in: 0...2, using: &random) {
            let interim = "HTTP/1.1 103 Early Hints\r\n" + fields(&random, cookies: false) + "\r\n"
            heads.append(Meaning(try parsed(interim, .response, answering: method)))
            try both.server.respond(stream, interim, answering: method)
        }
        let status = ["200 OK", "404 Not Found", "204 No Content", "304 Not Modified", "500 "].randomElement(using: &random)!
        let mayHaveBody = method != .head && !status.hasPrefix("204") && !status.hasPrefix("304")
        let response = message("HTTP/1.1 \(status)\r\n", &random, isRequest: false, mayHaveBody: mayHaveBody)
        heads.append(Meaning(try parsed(response.text, .response, answering: method)))
        try both.server.respond(stream, response.text, answering: method, ends: !response.hasBody)
        both.settle()
        #expect(arrived.count == heads.count, "seed \(seed)")
        for (sent, got) in zip(heads, arrived) { expectEqual(sent, got, seed) }
        if response.hasBody {
            let got = try pass(response, stream, from: both.server, to: both.client, both)
            #expect(got.content == response.content.joined() && got.trailers == response.trailers, "seed \(seed)")
        }
    }

    @Test func messagesArriveEqual() throws {
        for seed in FuzzTests.firstSeed..<FuzzTests.firstSeed + UInt64(FuzzTests.iterations / 3) {
            var random = SeededRandom(state: seed)
            let both = Joined()
            for _ in 0..<Int.random(in: 1...4, using: &random) { try exchange(both, &random, seed) }
            #expect(both.client.openStreams == 0 && both.server.openStreams == 0, "seed \(seed)")
        }
    }
}
