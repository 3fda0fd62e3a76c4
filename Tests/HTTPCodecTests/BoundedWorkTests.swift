import Testing

@testable import HTTPCodec

/// Nothing a peer can bring about is done in one long piece, and no bound of the library's stands before ours.
@Suite struct BoundedWorkTests {
    private func shakenServer() -> End {
        let server = End(.server)
        server.receive(preface + frame(4, 0, 0) + frame(4, 1, 0))
        _ = server.written()
        _ = server.news()
        return server
    }

    /// Frames that a writing of `bytes` holds.
    private func count(_ bytes: [UInt8]) -> Int {
        var at = 0, found = 0
        while at < bytes.count {
            at += 9 + (Int(bytes[at]) << 16 | Int(bytes[at + 1]) << 8 | Int(bytes[at + 2]))
            found += 1
        }
        return found
    }

    /// A client that cancels as many calls as it lets finish is no attacker, however fast it is.
    @Test func cancelsThatWorkExplainsAreNoFlood() throws {
        let server = shakenServer()
        for round: UInt32 in 0..<3_000 {
            server.receive(headers(round * 4 + 1, plainRequest))
            try server.respond(Int32(round * 4 + 1), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ends: true)
            _ = server.written()
            server.receive(headers(round * 4 + 3, plainRequest) + frame(3, 0, round * 4 + 3, [0, 0, 0, 8]))
            try #require(server.session.failure == nil, "after \(round)")
        }
        #expect(server.openStreams == 0)
    }

    @Test func aHeadMayComeInAsManyFramesAsWeSay() {
        let server = shakenServer()
        let most = HTTP2Limits.standard.continuationsMax
        server.receive(frame(1, 1, 1, block(plainRequest)))
        for number in 1...most { server.receive(frame(9, number == most ? 4 : 0, 1, number == most ? [] : block([("x-\(number)", "v")]))) }
        guard case .head(1, let head, ends: true) = server.news().last else { Issue.record("no head"); return }
        #expect(head.value("x-\(most - 1)") == "v")
    }

    @Test func aSendHoldsAsManyFramesAsItMay() throws {
        let server = shakenServer()
        for stream: UInt32 in 0..<100 {
            server.receive(headers(stream * 2 + 1, plainRequest))
            try server.respond(Int32(stream * 2 + 1), "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n")
            server.append(Int32(stream * 2 + 1), "x")
            server.session.end(Int32(stream * 2 + 1))
        }
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 65_536, alignment: 16)
        defer { memory.deallocate() }
        var sends: [Int] = []
        while server.session.wantsWrite {
            let bytes = server.session.write(into: memory, framesMax: 16)
            sends.append(count([UInt8](memory[..<bytes])))
        }
        #expect(sends.allSatisfy { $0 <= 17 } && sends.reduce(0, +) == 200)
        #expect(server.openStreams == 0)
    }

    /// Streams in every state that they may be in when their connection is lost, and a frame that was never finished.
    @Test func aSessionIsGivenUpPieceByPiece() throws {
        let server = shakenServer()
        server.receive(frame(4, 0, 0, [0, 4, 0, 0, 0, 0]))
        for stream: UInt32 in 0..<600 {
            let id = stream * 2 + 1
            server.receive(headers(id, plainRequest, ends: stream % 3 != 0))
            switch stream % 4 {
            case 0: break
            case 1:
                try server.respond(Int32(id), "HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n")
                server.append(Int32(id), String(repeating: "y", count: 9_000))
            case 2: server.session.reset(Int32(id), .cancel)
            default: server.session.setOwner(Int32(id), 0)
            }
            if stream == 300 { _ = server.written() }
        }
        server.receive(frame(0, 0, 1, [UInt8](repeating: 1, count: 5_000)).prefix(2_000))
        #expect(server.openStreams == 450 && server.session.failure == nil)
        var pieces = 1
        while !server.session.dismantle(upTo: 32) { pieces += 1 }
        #expect(pieces >= 10 && server.openStreams == 0 && server.session.queuedBytes == 0)
        #expect(server.session.state.pointee.records == nil)
    }

    /// What is told last: our SETTINGS if they have not been, then why.
    @Test func whoGivesUpSaysSoOnce() {
        let server = End(.server)
        server.receive(preface + frame(4, 0, 0) + headers(1, plainRequest) + frame(6, 0, 1, [UInt8](repeating: 0, count: 8)))
        let last = server.written()
        #expect(last[3] == 4, "SETTINGS first")
        #expect(last.suffix(17) == frame(7, 0, 0, [0, 0, 0, 1, 0, 0, 0, 1])[...])
        #expect(!server.session.wantsWrite && server.written() == [])
    }
}
