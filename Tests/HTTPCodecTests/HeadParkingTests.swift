import Bytes
import Testing

@testable import HTTPCodec

@Suite struct HeadParkingTests {
    static let requests = [
        "GET /a?b HTTP/1.1\r\nHost: cart:8080\r\nAccept:*/*\r\nX-Odd:  a \t\r\n\r\n",
        "POST http://b:81/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nConnection: te\r\nExpect: 100-continue\r\n\r\n",
        "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, x-mine\r\nUpgrade: websocket\r\nX-Mine: 1\r\nx-forwarded-for: 1.2.3.4\r\n\r\n",
        "PUT / HTTP/1.0\r\nContent-Length: 12\r\nx-request-id: 7\r\ntraceparent: 00-00000000000040018000000000000002-0000000000000003-00\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    ]

    private func parse(_ wire: [UInt8], _ head: inout Head) throws {
        var progress = HeadProgress()
        try wire.withUnsafeBytes { _ = try head.parseRequest($0, limits: .standard, progress: &progress) }
    }

    private func written(_ head: borrowing Head, _ bytes: UnsafeRawBufferPointer) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: 4_096)
        let count = out.withUnsafeMutableBytes { memory in
            var writer = ByteWriter(memory)
            _ = RequestWriter.write(head, of: bytes, RequestForwarding(random: (1, 2, 3), keepsUpgrade: true), to: &writer)
            return writer.count
        }
        return Array(out[..<count])
    }

    /// What is written from a head that was parked is what is written from the head itself, whatever came between, at any alignment.
    @Test(arguments: requests)
    func comesBackAsItWas(_ wire: String) throws {
        let bytes = Array(wire.utf8), other = Array("GET /other HTTP/1.1\r\nHost: elsewhere\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n".utf8)
        var head = Head()
        try parse(bytes, &head)
        let expected = bytes.withUnsafeBytes { written(head, $0) }
        let framing = head.framing, method = head.method, expects = head.expectsContinue, upgrades = head.asksForUpgrade
        for offset in 0..<3 {
            var memory = [UInt8](repeating: 0xFF, count: 4_096)
            try parse(bytes, &head)
            let parked = memory.withUnsafeMutableBytes { memory in
                bytes.withUnsafeBytes { head.park($0, into: UnsafeMutableRawBufferPointer(rebasing: memory[offset...])) }
            }
            #expect(parked > bytes.count)
            try parse(other, &head)
            memory.withUnsafeBytes { memory in
                let back = head.unpark(from: UnsafeRawBufferPointer(rebasing: memory[offset..<offset + parked]))
                #expect(back.map { written(head, $0) } == expected)
            }
            #expect(head.framing == framing && head.method == method && head.expectsContinue == expects && head.asksForUpgrade == upgrades)
        }
    }

    @Test func takesAllItsRoomOrNone() throws {
        let bytes = Array(Self.requests[0].utf8)
        var head = Head()
        try parse(bytes, &head)
        var memory = [UInt8](repeating: 0, count: 4_096)
        bytes.withUnsafeBytes { bytes in
            memory.withUnsafeMutableBytes { memory in
                let needed = head.park(bytes, into: memory)
                let short = head.park(bytes, into: UnsafeMutableRawBufferPointer(rebasing: memory[..<(needed - 1)]))
                #expect(short == 0)
                let exact = head.park(bytes, into: UnsafeMutableRawBufferPointer(rebasing: memory[..<needed]))
                #expect(exact == needed)
                for count in 0..<needed {
                    let cut = head.unpark(from: UnsafeRawBufferPointer(rebasing: memory[..<count]))
                    #expect(cut == nil)
                }
            }
        }
    }

    @Test func aQueueTakesItWhereItsCapAllows() throws {
        let bytes = Array(Self.requests[1].utf8)
        var head = Head()
        try parse(bytes, &head)
        var wide = ByteQueue(capacityMax: 8_192), narrow = ByteQueue(capacityMax: 64)
        bytes.withUnsafeBytes { bytes in
            let isTaken = head.park(bytes, into: &wide)
            #expect(isTaken)
            let isNarrowTaken = head.park(bytes, into: &narrow)
            #expect(!isNarrowTaken && narrow.isEmpty)
            let back = head.unpark(from: wide.readable)
            #expect(back?.count == bytes.count)
        }
    }
}
