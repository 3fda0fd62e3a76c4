import HTTPCodec
import Testing

/// Frames that end a connection or a stream, by hand.
@Suite struct FrameGuardTests {
    struct Shape: Sendable, CustomTestStringConvertible {
        var name: String
        var frames: [UInt8]
        var ending: [String]
        var testDescription: String { name }
    }

    private static let open = headers(1, plainRequest, ends: false)
    private static let ended = headers(1, plainRequest)
    private static func settings(_ id: UInt8, _ value: UInt32) -> [UInt8] {
        frame(4, 0, 0, [0, id, UInt8(value >> 24), UInt8(value >> 16 & 255), UInt8(value >> 8 & 255), UInt8(value & 255)])
    }
    private static func number(_ value: UInt32) -> [UInt8] { [UInt8(value >> 24), UInt8(value >> 16 & 255), UInt8(value >> 8 & 255), UInt8(value & 255)] }

    static let shapes: [Shape] = [
        .init(name: "DATA on stream 0", frames: frame(0, 1, 0, [1]), ending: ["goaway protocolError"]),
        .init(name: "DATA on an idle stream", frames: frame(0, 1, 1, [1]), ending: ["goaway protocolError"]),
        .init(name: "DATA behind the end", frames: ended + frame(0, 1, 1, [1]), ending: ["goaway streamClosed"]),
        .init(name: "DATA behind a reset", frames: open + frame(3, 0, 1, number(8)) + frame(0, 0, 1, [1]), ending: ["goaway streamClosed"]),
        .init(name: "padding as long as DATA", frames: open + frame(0, 9, 1, [3, 0, 0]), ending: ["goaway protocolError"]),
        .init(name: "frame too large", frames: open + frame(0, 0, 1, [UInt8](repeating: 0, count: 16_385)), ending: ["goaway frameSizeError"]),
        .init(name: "HEADERS on stream 0", frames: headers(0, plainRequest), ending: ["goaway protocolError"]),
        .init(name: "HEADERS on an even stream", frames: headers(2, plainRequest), ending: ["goaway protocolError"]),
        .init(name: "HEADERS behind the end", frames: ended + headers(1, plainRequest), ending: ["goaway streamClosed"]),
        .init(name: "HEADERS on a lower stream", frames: headers(5, plainRequest, ends: false) + headers(3, plainRequest), ending: ["goaway protocolError"]),
        .init(name: "HEADERS that depend on themselves", frames: frame(1, 0x25, 1, number(1) + [0] + block(plainRequest)), ending: ["goaway protocolError"]),
        .init(name: "HEADERS with too much padding", frames: frame(1, 0x0D, 1, [200] + block(plainRequest)), ending: ["goaway protocolError"]),
        .init(name: "PRIORITY on stream 0", frames: frame(2, 0, 0, number(1) + [0]), ending: ["goaway protocolError"]),
        .init(name: "PRIORITY of 4 bytes", frames: open + frame(2, 0, 1, number(3)), ending: ["reset 1 frameSizeError"]),
        .init(name: "PRIORITY of itself", frames: open + frame(2, 0, 1, number(1) + [0]), ending: ["reset 1 protocolError"]),
        .init(name: "RST_STREAM on stream 0", frames: frame(3, 0, 0, number(8)), ending: ["goaway protocolError"]),
        .init(name: "RST_STREAM on an idle stream", frames: frame(3, 0, 1, number(8)), ending: ["goaway protocolError"]),
        .init(name: "RST_STREAM of 3 bytes", frames: open + frame(3, 0, 1, [0, 0, 0]), ending: ["goaway frameSizeError"]),
        .init(name: "SETTINGS on a stream", frames: frame(4, 0, 1), ending: ["goaway protocolError"]),
        .init(name: "SETTINGS of 5 bytes", frames: frame(4, 0, 0, [0, 1, 0, 0, 0]), ending: ["goaway frameSizeError"]),
        .init(name: "SETTINGS ack with a payload", frames: frame(4, 1, 0, [0]), ending: ["goaway frameSizeError"]),
        .init(name: "ENABLE_PUSH 2", frames: settings(2, 2), ending: ["goaway protocolError"]),
        .init(name: "INITIAL_WINDOW_SIZE 2^31", frames: settings(4, 1 << 31), ending: ["goaway flowControlError"]),
        .init(name: "MAX_FRAME_SIZE 16383", frames: settings(5, 16_383), ending: ["goaway protocolError"]),
        .init(name: "MAX_FRAME_SIZE 2^24", frames: settings(5, 1 << 24), ending: ["goaway protocolError"]),
        .init(name: "ENABLE_CONNECT_PROTOCOL 2", frames: settings(8, 2), ending: ["goaway protocolError"]),
        .init(name: "window pushed over by SETTINGS", frames: open + frame(8, 0, 1, number(0x7FFF_FFFF - 65_535)) + settings(4, 65_536), ending: ["goaway flowControlError"]),
        .init(name: "PUSH_PROMISE", frames: open + frame(5, 4, 1, number(2) + block(plainRequest)), ending: ["goaway protocolError"]),
        .init(name: "PING on a stream", frames: frame(6, 0, 1, [UInt8](repeating: 0, count: 8)), ending: ["goaway protocolError"]),
        .init(name: "PING of 6 bytes", frames: frame(6, 0, 0, [UInt8](repeating: 0, count: 6)), ending: ["goaway frameSizeError"]),
        .init(name: "GOAWAY on a stream", frames: frame(7, 0, 1, number(0) + number(0)), ending: ["goaway protocolError"]),
        .init(name: "WINDOW_UPDATE 0", frames: frame(8, 0, 0, number(0)), ending: ["goaway protocolError"]),
        .init(name: "WINDOW_UPDATE 0 on a stream", frames: open + frame(8, 0, 1, number(0)), ending: ["reset 1 protocolError"]),
        .init(name: "WINDOW_UPDATE of 3 bytes", frames: frame(8, 0, 0, [0, 0, 1]), ending: ["goaway frameSizeError"]),
        .init(name: "WINDOW_UPDATE on an idle stream", frames: frame(8, 0, 1, number(1)), ending: ["goaway protocolError"]),
        .init(name: "window above 2^31 - 1", frames: frame(8, 0, 0, number(0x7FFF_FFFF)), ending: ["goaway flowControlError"]),
        .init(name: "window above 2^31 - 1 on a stream", frames: open + frame(8, 0, 1, number(0x7FFF_FFFF)), ending: ["reset 1 flowControlError"]),
        .init(name: "CONTINUATION alone", frames: frame(9, 4, 1, block([("x", "y")])), ending: ["goaway protocolError"]),
        .init(name: "CONTINUATION on another stream", frames: frame(1, 1, 1, block(plainRequest)) + frame(9, 4, 3, []), ending: ["goaway protocolError"]),
        .init(name: "PING inside a block", frames: frame(1, 1, 1, block(plainRequest)) + frame(6, 0, 0, [UInt8](repeating: 0, count: 8)), ending: ["goaway protocolError"]),
        .init(name: "unknown frame inside a block", frames: frame(1, 1, 1, block(plainRequest)) + frame(0xEE, 0, 1, []), ending: ["goaway protocolError"]),
        .init(name: "index 0", frames: frame(1, 5, 1, [0x80]), ending: ["goaway compressionError"]),
        .init(name: "index beyond the table", frames: frame(1, 5, 1, [0xC6]), ending: ["goaway compressionError"]),
        .init(name: "table size above the limit", frames: frame(1, 5, 1, [0x3F, 0xE2, 0x7F] + block(plainRequest)), ending: ["goaway compressionError"]),
        .init(name: "table size behind the fields", frames: frame(1, 5, 1, block(plainRequest) + [0x20]), ending: ["goaway compressionError"]),
    ]

    /// However the bytes are cut, the error is the same and named by one frame.
    @Test(arguments: shapes) func eachFaultHasItsCode(_ shape: Shape) {
        let server = shakenServer()
        server.receive(shape.frames)
        #expect(endings(server.written()) == shape.ending)
        let slow = shakenServer()
        for byte in shape.frames { slow.receive([byte]) }
        #expect(endings(slow.written()) == shape.ending)
    }

    @Test func unknownFramesAreIgnored() {
        let server = shakenServer()
        server.receive(frame(0xEE, 0xFF, 1, [1, 2, 3]) + headers(1, plainRequest))
        #expect(server.news().count == 1 && endings(server.written()) == [])
    }

    @Test func badPrefaceAndMissingSettings() {
        for (wire, fault) in [(Array("PRI * HTTP/2.0\r\n\r\nXX".utf8), HTTP2Fault.badPreface), (preface + frame(6, 0, 0, [UInt8](repeating: 0, count: 8)), .settingsNotFirst)] {
            let server = End(.server)
            server.receive(wire)
            #expect(server.news() == [.fault(fault)])
            #expect(endings(server.written()) == ["goaway protocolError"])
        }
    }

    @Test func streamsAboveTheLimitAreRefused() {
        var limits = HTTP2Limits()
        limits.streamsMax = 2
        let server = End(.server, limits: limits)
        server.receive(preface + frame(4, 0, 0))
        _ = server.written()
        // Not acknowledged yet: the client may not know the limit.
        for stream: UInt32 in [1, 3, 5] { server.receive(headers(stream, plainRequest, ends: false)) }
        #expect(endings(server.written()) == ["reset 5 refusedStream"])
        #expect(server.openStreams == 2)
    }

    /// Frames of a stream that we have reset were under way: they end nothing, and the compressor hears of them.
    @Test func lateFramesOfAResetStreamAreHarmless() {
        let server = shakenServer()
        server.receive(Self.open)
        server.session.reset(1, .cancel)
        _ = server.news()
        #expect(endings(server.written()) == ["reset 1 cancel"])
        server.receive(frame(0, 0, 1, [1, 2, 3]) + headers(1, [("x", "y")]) + frame(3, 0, 1, [0, 0, 0, 8]) + headers(3, plainRequest))
        #expect(server.news().count == 1 && endings(server.written()) == [])
    }

    // MARK: Floods

    private func flooded(_ piece: (UInt32) -> [UInt8], prepared: [UInt8] = [], at most: UInt32 = 200_000) -> (fault: HTTP2Fault?, count: UInt32) {
        let server = shakenServer()
        server.receive(prepared)
        for index in 0..<most {
            server.receive(piece(index))
            if case .fault(let fault) = server.told.last { return (fault, index) }
            server.told.removeAll()
            // The attacker reads what it is sent.
            if index % 64 == 0 { _ = server.written() }
        }
        return (nil, most)
    }

    @Test func floodsAreNamed() {
        let limits = HTTP2Limits.standard
        let ping = frame(6, 0, 0, [UInt8](repeating: 0, count: 8))
        let malformed = headers(1, [("x", "y")], ends: false)
        let insertion = [UInt8(0x40)] + block([("x-bomb", String(repeating: "y", count: 3_900))]).dropFirst()
        let cases: [(HTTP2Fault, Int32, (UInt32) -> [UInt8], [UInt8])] = [
            (.rapidReset, limits.resets.burst, { headers($0 * 2 + 1, plainRequest) + frame(3, 0, $0 * 2 + 1, [0, 0, 0, 8]) }, []),
            // We reset, for the client made us: the same attack by other means.
            (.rapidReset, limits.resets.burst, { headers($0 * 2 + 1, plainRequest, ends: false) + frame(8, 0, $0 * 2 + 1, [0, 0, 0, 0]) }, []),
            (.rapidReset, limits.resets.burst, { headers($0 * 2 + 1, [("x", "y")]) }, []),
            // Too large to serve, and answered: work all the same.
            (.rapidReset, limits.resets.burst, { headers($0 * 2 + 1, plainRequest + (0..<97).map { _ in ("x", "") }) }, []),
            // Answered as well, and each 115 KiB when decoded.
            (.headBomb, limits.refusedHeadKilobytes.burst / 115, { frame(1, 5, $0 * 2 + 3, block(plainRequest) + [UInt8](repeating: 0xBE, count: 30)) },
                frame(1, 5, 1, block(plainRequest) + insertion)),
            // What comes for a stream that we have reset may have been under way, but not without end.
            (.controlFlood, limits.lateFrames.burst, { _ in malformed }, malformed),
            (.controlFlood, limits.lateFrames.burst, { _ in frame(0, 0, 1) }, malformed),
            (.controlFlood, limits.controls.burst, { _ in ping }, []),
            (.controlFlood, limits.controls.burst, { _ in frame(4, 0, 0) }, []),
            (.controlFlood, limits.controls.burst, { _ in frame(0xBB, 0, 0) }, []),
            (.emptyDataFlood, limits.emptyData.burst, { _ in frame(0, 0, 1) }, Self.open),
            (.tinyDataFlood, limits.tinyData.burst, { _ in frame(0, 0, 1, [7]) }, Self.open),
            (.priorityFlood, limits.priorities.burst, { _ in frame(2, 0, 9, [0, 0, 0, 0, 1]) }, []),
            (.windowUpdateFlood, limits.windowUpdates.burst, { _ in frame(8, 0, 0, [0, 0, 0, 1]) }, []),
        ]
        for (fault, burst, piece, prepared) in cases {
            let (found, count) = flooded(piece, prepared: prepared)
            #expect(found == fault)
            #expect(abs(Int(count) - Int(burst)) <= 8, "\(fault) after \(count)")
        }
    }

    @Test func whoFloodsIsSuspectLongBeforeTheFault() {
        let server = shakenServer()
        let pings = (0..<Int(HTTP2Limits.standard.controls.burst) / 100).flatMap { _ in frame(6, 0, 0, [UInt8](repeating: 0, count: 8)) }
        server.receive(pings)
        #expect(!server.isSuspect)
        server.receive(pings)
        #expect(server.isSuspect && server.news() == [])
        server.now += 1_000_000_000
        server.receive(frame(6, 0, 0, [UInt8](repeating: 0, count: 8)))
        #expect(!server.isSuspect, "time has explained them")
    }

    @Test func continuationFlood() {
        let server = shakenServer()
        server.receive(frame(1, 1, 1, block(plainRequest)))
        for _ in 0..<40 { server.receive(frame(9, 0, 1, [])) }
        #expect(server.news() == [.fault(.continuationFlood)])
        let bytes = shakenServer()
        bytes.receive(frame(1, 1, 1, block(plainRequest)))
        for _ in 0..<7 { bytes.receive(frame(9, 0, 1, [UInt8](repeating: 0, count: 16_000))) }
        #expect(bytes.news() == [.fault(.continuationFlood)])
    }

    /// One entry of 4,000 bytes, named again and again by one byte each.
    @Test func headBomb() {
        let large = [UInt8(0x40)] + block([("x-bomb", String(repeating: "y", count: 3_900))]).dropFirst()
        let server = shakenServer()
        server.receive(frame(1, 5, 1, block(plainRequest) + large + [UInt8](repeating: 0xBE, count: 30)))
        #expect(server.news() == [.refused(1, .headTooLarge, isOpen: true)])
        server.receive(frame(1, 5, 3, block(plainRequest) + [UInt8](repeating: 0xBE, count: 1_000)))
        #expect(server.news() == [.fault(.headBomb)])
    }

    @Test func allowancesRefillWithTime() {
        let server = shakenServer()
        for second in 0..<20 {
            for _ in 0..<150 { server.receive(frame(6, 0, 0, [UInt8](repeating: 0, count: 8))) }
            _ = server.written()
            #expect(server.news() == [], "second \(second)")
            server.now += 1_000_000_000
        }
    }

    @Test func stalledStreamIsReset() throws {
        let both = Joined()
        let stream = try both.client.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        both.settle()
        _ = both.server.news()
        both.client.consumes = false
        try both.server.respond(stream, "HTTP/1.1 200 OK\r\n\r\n")
        both.server.append(stream, String(repeating: "x", count: 300 * 1024))
        both.settle()
        both.server.check()
        #expect(!both.server.hasEvents)
        both.server.now += HTTP2Limits.standard.stallNanosecondsMax + 1
        both.server.check()
        both.settle()
        #expect(both.server.news() == [.reset(1, .cancel, wasProcessed: true)])
        #expect(both.client.news().last == .reset(1, .cancel, wasProcessed: true))
    }

    /// gRPC for Go pings once for each DATA frame it gets, as fast as they come, and opens windows twice for each.
    @Test func whatDataExplainsIsNoFlood() throws {
        let server = shakenServer()
        server.receive(Self.open + frame(8, 0, 0, Self.number(0x7000_0000)) + frame(8, 0, 1, Self.number(0x7000_0000)))
        server.session.setOwner(1, 5)
        try server.respond(1, "HTTP/1.1 200 OK\r\n\r\n")
        _ = server.news()
        for index in 0..<20_000 {
            #expect(server.append(1, "message") == 7)
            _ = server.written()
            server.receive(frame(6, 0, 0, [UInt8](repeating: 0, count: 8)) + frame(8, 0, 0, Self.number(7)) + frame(8, 0, 1, Self.number(7)))
            if let told = server.news().first { Issue.record("\(told) after \(index)"); return }
        }
    }
}
