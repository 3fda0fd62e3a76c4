import Testing
import Bytes
import HTTPCodec

@Suite struct BodyDecoderTests {
    static let bodies: [(String, BodyFraming, DecodedBody)] = [
        ("hello!", .length(5), DecodedBody(content: "hello", consumed: 5, isComplete: true)),
        ("rest", .none, DecodedBody(isComplete: true)), ("rest", .length(0), DecodedBody(isComplete: true)),
        ("hel", .length(5), DecodedBody(content: "hel", consumed: 3)), ("hello", .untilClose, DecodedBody(content: "hello", consumed: 5)),
        ("0\r\n\r\n", .chunked, DecodedBody(consumed: 5, isComplete: true)),
        ("5\r\nhello\r\n0\r\n\r\nGET", .chunked, DecodedBody(content: "hello", consumed: 15, isComplete: true)),
        ("0005\r\nhello\r\nA\r\n, worlds!!\r\n000\r\n\r\n", .chunked, DecodedBody(content: "hello, worlds!!", consumed: 35, isComplete: true)),
        ("2;a=b\r\nhi\r\n1 \r\n".replacing(" ", with: ";\t "), .chunked, DecodedBody(content: "hi", consumed: 17)),
        ("1\r\n\r\r\n0\r\nX-Sum: 5\r\nY:\tz \r\n\r\n", .chunked,
            DecodedBody(content: "\r", trailers: ["X-Sum: 5", "Y:\tz "], consumed: 28, isComplete: true)),
        ("0;last\r\nX-Request-Id: a\r\nX: y\r\ntraceparent: b\r\n\r\n", .chunked, DecodedBody(trailers: ["X: y"], consumed: 49, isComplete: true)),
    ]

    @Test(arguments: bodies)
    func everyCutGivesTheSameBody(_ wire: String, _ framing: BodyFraming, _ expected: DecodedBody) throws {
        let bytes = Array(wire.utf8)
        #expect(try decodeBody(bytes, framing) == expected)
        for cut in 0...bytes.count {
            #expect(try decodeBody(bytes, framing, cuts: [cut]) == expected, "cut at \(cut)")
        }
        #expect(try decodeBody(bytes, framing, cuts: Array(0..<bytes.count)) == expected, "byte by byte")
    }

    @Test(arguments: RefusedShape.bodies)
    func refusalIsTheSameForEveryCut(_ shape: RefusedShape) {
        let bytes = Array(shape.wire.utf8)
        for cut in stride(from: 0, to: bytes.count, by: max(1, bytes.count / 300)) {
            #expect(throws: shape.fault, "cut at \(cut)") { try decodeBody(bytes, .chunked, cuts: [cut]) }
        }
        if bytes.count < 1_000 {
            #expect(throws: shape.fault, "byte by byte") { try decodeBody(bytes, .chunked, cuts: Array(0..<bytes.count)) }
        }
    }

    @Test func closingEndsOnlyWhatClosingEnds() throws {
        var decoder = try BodyDecoder(.untilClose)
        try decoder.peerClosed()
        #expect(decoder.isComplete)
        for framing in [BodyFraming.length(1), .chunked] {
            var decoder = try BodyDecoder(framing)
            #expect(throws: HTTPFault.bodyCutShort) { try decoder.peerClosed() }
        }
        var empty = BodyDecoder()
        try empty.peerClosed()
    }

    @Test func splicedBytesCount() throws {
        var decoder = try BodyDecoder(.length(10))
        #expect(decoder.announced == 10)
        decoder.skip(7)
        #expect(decoder.announced == 3 && !decoder.isComplete)
        decoder.skip(3)
        #expect(decoder.isComplete)
        #expect(try BodyDecoder(.chunked).announced == nil)
    }

    @Test func aDecoderIsSmall() {
        // Two per exchange, and 10,000 exchanges may be open.
        #expect(MemoryLayout<BodyDecoder>.size <= 24 && MemoryLayout<BodyRelay>.size <= 32)
    }
}

@Suite struct BodyRelayTests {
    /// Moves a body through outputs of `room` bytes, input cut at `cuts`; returns everything written.
    private func relay(_ wire: String, _ framing: BodyFraming, chunks: Bool, room: Int, cuts: [Int], closes: Bool = false) throws -> (String, Int) {
        let bytes = Array(wire.utf8)
        var relay = BodyRelay(try BodyDecoder(framing), writesChunks: chunks)
        var output: [UInt8] = []
        var consumed = 0
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: room, alignment: 1)
        defer { memory.deallocate() }
        func turn(until end: Int) throws {
            while true {
                let step = try Array(bytes[consumed..<end]).withUnsafeBytes { input in
                    var writer = ByteWriter(memory)
                    let step = try relay.move(input, to: &writer)
                    #expect(!writer.overflowed)
                    output += writer.written
                    return step
                }
                consumed += step.consumed
                if !step.needsRoom { break }
            }
        }
        for end in cuts + [bytes.count] where !relay.isComplete { try turn(until: end) }
        if closes {
            try relay.peerClosed()
            try turn(until: bytes.count)
        }
        #expect(relay.isComplete)
        return (text(output), consumed)
    }

    static let content = "The quick brown fox jumps over the lazy dog"
    static let inputs: [(String, BodyFraming, Bool)] = [
        (content, .length(43), false), (content, .untilClose, true), ("2b\r\n\(content)\r\n0\r\n\r\n", .chunked, false),
        (content.map { "1;x\r\n\($0)\r\n" }.joined() + "00\r\n\r\n", .chunked, false),
    ]

    @Test(arguments: inputs, [true, false])
    func contentSurvivesEveryFraming(_ input: (String, BodyFraming, Bool), _ chunks: Bool) throws {
        for room in [24, 40, 100, 1_000] {
            let count = input.0.utf8.count
            for cuts in [[], Array(0..<count), Array(stride(from: 0, to: count, by: 7))] {
                let (output, consumed) = try relay(input.0, input.1, chunks: chunks, room: room, cuts: cuts, closes: input.2)
                #expect(consumed == count)
                if chunks {
                    let body = try decodeChunked(output)
                    #expect(body.content == Self.content && body.isComplete && body.consumed == output.utf8.count)
                } else {
                    #expect(output == Self.content)
                }
            }
        }
    }

    @Test func tinyChunksAreGatheredIntoOne() throws {
        let (output, _) = try relay("1\r\na\r\n1;ext\r\nb\r\n1\r\nc\r\n0\r\n\r\n", .chunked, chunks: true, room: 100, cuts: [])
        #expect(output == "03\r\nabc\r\n0\r\n\r\n")
    }

    @Test func trailersCrossBehindTheLastChunk() throws {
        let wire = "3\r\nabc\r\n0\r\nX-Sum: 9\r\nX-Request-Id: dropped\r\nY: z\r\n\r\nnext"
        for cuts in [[], Array(0..<wire.utf8.count)] {
            let (output, consumed) = try relay(wire, .chunked, chunks: true, room: 64, cuts: cuts)
            let body = try decodeChunked(output)
            #expect(body.content == "abc" && body.trailers == ["X-Sum: 9", "Y: z"] && body.isComplete)
            #expect(consumed == wire.utf8.count - 4)
            #expect(try relay(wire, .chunked, chunks: false, room: 64, cuts: cuts).0 == "abc")
        }
    }

    @Test func whatFollowsTheBodyIsLeftAlone() throws {
        #expect(try relay("helloGET / HTTP/1.1", .length(5), chunks: false, room: 100, cuts: []).1 == 5)
        #expect(try relay("x", .none, chunks: false, room: 100, cuts: []).1 == 0)
    }
}
