import Bytes
import HTTPCodec
import Testing

@Suite struct GRPCTests {
    private func timeout(_ value: String) -> UInt64? { Array(value.utf8).withUnsafeBytes { GRPC.timeoutNanoseconds($0) } }
    private func isGRPC(_ value: String) -> Bool { Array(value.utf8).withUnsafeBytes { GRPC.isContentType($0) } }

    @Test func timeouts() {
        #expect(timeout("1H") == 3_600_000_000_000 && timeout("2M") == 120_000_000_000 && timeout("3S") == 3_000_000_000)
        #expect(timeout("250m") == 250_000_000 && timeout("7u") == 7_000 && timeout("99999999n") == 99_999_999)
        #expect(timeout("0m") == 0)
        #expect(timeout("99999999H") == .max)
        for bad in ["", "S", "5", "1s", "1h", "123456789m", "-1S", "+1S", " 1S", "1 S", "1.5S"] { #expect(timeout(bad) == nil, "\(bad)") }
    }

    @Test func contentTypes() {
        for good in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8", "Application/GRPC"] { #expect(isGRPC(good), "\(good)") }
        for other in ["application/grpc-web", "application/grpcx", "application/json", "", "application/grp"] { #expect(!isGRPC(other), "\(other)") }
    }

    /// However the content is cut, and whatever the messages hold, those that have come whole are counted.
    @Test func messages() {
        var random = SeededRandom(state: 41)
        for _ in 0..<200 {
            var content: [UInt8] = [], ends: [Int] = []
            for _ in 0..<Int.random(in: 0...12, using: &random) {
                let length = [0, 1, 4, 5, 300, 70_000].randomElement(using: &random)!
                content += [UInt8.random(in: 0...255, using: &random)] + [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: length >> $0) }
                content += [UInt8](repeating: UInt8.random(in: 0...255, using: &random), count: length)
                ends.append(content.count)
            }
            var messages = GRPCMessages(), passed = 0
            while passed < content.count {
                let next = min(content.count, passed + Int.random(in: 0...[1, 7, 400, 100_000].randomElement(using: &random)!, using: &random))
                content[passed..<next].withUnsafeBytes { messages.pass($0) }
                passed = next
                #expect(messages.count == UInt64(ends.count { $0 <= passed }))
            }
        }
        var messages = GRPCMessages()
        [UInt8](repeating: 0xFF, count: 5_000).withUnsafeBytes { messages.pass($0) }     // the longest length there is
        #expect(messages.count == 0)
    }

    /// The table of the gRPC specification.
    @Test func statusOfABareHTTPAnswer() {
        let table: [(Int, GRPC.Status)] = [
            (400, .internal), (401, .unauthenticated), (403, .permissionDenied), (404, .unimplemented), (429, .unavailable), (502, .unavailable),
            (503, .unavailable), (504, .unavailable), (500, .unknown), (418, .unknown), (200, .unknown),
        ]
        for (http, status) in table { #expect(GRPC.Status(http: http) == status) }
    }

    @Test func statusIsReadFromTrailers() throws {
        for (value, status) in [("0", GRPC.Status.ok), ("16", .unauthenticated), ("17", .unknown), ("x", .unknown)] {
            let both = Joined()
            let stream = try both.client.request("POST /a/b HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\ngrpc-timeout: 1S\r\n\r\n")
            var seen: GRPC.Status?, timeout: UInt64?, isGRPC = false
            both.server.onHead = { _, _, head, bytes, _ in
                timeout = head.grpcTimeout(bytes)
                isGRPC = head.isGRPC(bytes)
            }
            both.client.onHead = { _, _, head, bytes, ends in if ends { seen = head.grpcStatus(bytes) } }
            both.settle()
            try both.server.respond(stream, "HTTP/1.1 200 OK\r\n\r\n")
            try both.server.trail(stream, "grpc-status: \(value)\r\n")
            both.settle()
            #expect(seen == status && timeout == 1_000_000_000 && isGRPC)
        }
    }

    @Test func statusOfOurOwnBehindAReplyThatHasBegun() throws {
        let both = Joined()
        let stream = try both.client.request("POST /a/b HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\n\r\n")
        both.settle()
        try both.server.respond(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\n\r\n")
        both.server.append(stream, "message")
        both.server.session.submitReply(stream, GRPCReply(status: .unavailable, reason: "100% gone", isUpstreams: true))
        both.settle()
        guard case .trailers(1, let trailers) = both.client.news().last else { Issue.record("no trailers"); return }
        #expect(trailers.fields == ["grpc-status: 14", "grpc-message: upstream-100%25 gone", "x-weft-reason: upstream-100% gone"])
    }
}
