import Bytes
import HTTPCodec
import Testing

@Suite struct TrailerTests {
    /// A chunked body whose trailers are taken whole, fed in two pieces; what follows is left.
    private func take(_ wire: String, cut: Int) throws -> (content: String, fields: [String], rest: String) {
        var head = Head()
        var decoder = try BodyDecoder(.chunked, keepsTrailers: true)
        var waiting: [UInt8] = [], content = "", fields: [String] = []
        let bytes = Array(wire.utf8)
        for piece in [bytes[..<cut], bytes[cut...]] {
            waiting += piece
            var consumed = 0
            try waiting.withUnsafeBytes { memory in
                while !decoder.isComplete {
                    let rest = UnsafeRawBufferPointer(rebasing: memory[consumed...])
                    if decoder.isAtTrailers {
                        guard let count = try decoder.takeTrailers(rest, into: &head) else { return }
                        fields = ParsedHead(head, rest).fields
                        var memory = [UInt8](repeating: 0, count: TrailerWriter.bytesMax(head))
                        let written = memory.withUnsafeMutableBytes { memory in
                            var out = ByteWriter(memory)
                            return TrailerWriter.write(head, of: rest, to: &out) ? text(out.written) : "too small"
                        }
                        #expect(written == "0\r\n" + fields.map { $0 + "\r\n" }.joined() + "\r\n")
                        consumed += count
                        return
                    }
                    let step = try decoder.next(rest)
                    content += text(rest[step.payload])
                    consumed += step.consumed
                    if step.event == .starved, !decoder.isAtTrailers { return }
                }
            }
            waiting.removeFirst(consumed)
        }
        return (content, fields, text(waiting))
    }

    @Test func trailersAreTakenWholeHoweverTheyCome() throws {
        let wire = "5\r\nhello\r\n0\r\nx-a: 1\r\ntraceparent: dropped\r\nx-b:2\r\nx-request-id: dropped\r\nx-c: 3\r\n\r\nGET"
        for cut in 0...wire.utf8.count {
            let taken = try take(wire, cut: cut)
            #expect(taken.content == "hello" && taken.fields == ["x-a: 1", "x-b: 2", "x-c: 3"] && taken.rest == "GET", "cut at \(cut)")
        }
        let empty = try take("0\r\n\r\nX", cut: 3)
        #expect(empty.fields == [] && empty.rest == "X")
    }

    @Test func trailersThatGovernTheMessageAreRefused() {
        for line in ["Content-Length: 5", "Host: b", "Transfer-Encoding: chunked", "Connection: close"] {
            #expect(throws: HTTPFault.forbiddenTrailer) { try take("0\r\n\(line)\r\n\r\n", cut: 0) }
        }
        #expect(throws: HTTPFault.trailersTooLarge) { try take("0\r\n" + String(repeating: "x: y\r\n", count: 33) + "\r\n", cut: 0) }
        #expect(throws: HTTPFault.trailersTooLarge) { try take("0\r\nx: " + String(repeating: "y", count: 9_000), cut: 0) }
    }

    /// What lies between the trailers that pass does not pass with them.
    @Test func droppedTrailersLeaveNoTrace() throws {
        let both = Joined()
        let stream = try both.client.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        both.settle()
        try both.server.respond(stream, "HTTP/1.1 200 OK\r\n\r\n")
        try both.server.trail(stream, "x-a: 1\r\nx-forwarded-for: secret\r\nx-b: 2\r\n")
        var written = ""
        both.client.onHead = { _, _, head, bytes, ends in
            guard ends else { return }
            var memory = [UInt8](repeating: 0, count: TrailerWriter.bytesMax(head))
            memory.withUnsafeMutableBytes { memory in
                var out = ByteWriter(memory)
                if TrailerWriter.write(head, of: bytes, to: &out) { written = text(out.written) }
            }
        }
        both.settle()
        #expect(written == "0\r\nx-a: 1\r\nx-b: 2\r\n\r\n")
    }
}
