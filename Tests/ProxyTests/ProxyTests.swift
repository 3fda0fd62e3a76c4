import Bytes
import EventLoop
import HTTPCodec
import MeshModel
import Testing
import Upstream

@testable import Proxy

@Suite struct BudgetTests {
    /// S6: 10,000 idle connections at no more than 0.5 KB each; the rest of that is the slab's, wheel's and pool's places.
    @Test func anIdleConnectionFits() {
        #expect(MemoryLayout<Connection>.size <= 320, "\(MemoryLayout<Connection>.size)")
    }

    /// What a route and a policy say of a request is copied into it, so that they may change meanwhile; it exists only while there is one.
    @Test func anExchangeIsSmall() {
        #expect(MemoryLayout<Exchange>.size <= 768, "\(MemoryLayout<Exchange>.size)")
    }

    @Test func limitsFitEachOther() {
        #expect(WorkerSizes.outputBytesMax >= WorkerSizes.readBytesMax + WorkerSizes.headReadBytes)
        #expect(1 << Int(WorkerSizes.readShiftMax) <= WorkerSizes.readBytesMax)
        #expect(WorkerSizes.headReadBytes <= WorkerSizes.readBytesMax)
        var limits = ProxyLimits()
        let known = limits.set("headMilliseconds", 5), zero = limits.set("headMilliseconds", 0), unknown = limits.set("noSuchLimit", 1)
        #expect(known && !zero && !unknown && limits.headMilliseconds == 5)
    }
}

@Suite struct RefusalTests {
    @Test func everyReasonIsATokenWithAFittingStatus() {
        let refusals: [Refusal] = [
            .requestHead(.missingHost), .requestBody(.badChunkSize), .noSuchPort, .noReadyEndpoint, .noOtherEndpoint, .pendingBudgetSpent,
            .bufferBudgetSpent, .upstream(.connect(errno: 111)), .upstream(.connectTimeout), .upstream(.noSocket(errno: 24)),
            .upstream(.refusedBehindPeer), .upstream(.endedBeforeReply(peerMayHaveSeen: .head, reused: false)), .upstream(.endedInReply),
            .upstream(.replyTimeout), .upstream(.malformedReply), .badReply(.badHost), .replyTimeout, .requestBodyTimeout, .deadlinePassed,
        ]
        for refusal in refusals {
            let verdict = refusal.verdict
            #expect((400...599).contains(verdict.status))
            let reason = verdict.reason.description
            #expect(!reason.isEmpty && reason.allSatisfy { $0.isLowercase || $0 == "-" || $0.isNumber }, "\(reason)")
        }
    }
}

@Suite struct StreamAnswerTests {
    /// What a gRPC client sees must tell it whether another try makes sense.
    @Test func aCallIsToldItsStatus() {
        #expect(Refusal.deadlinePassed.grpcStatus == .deadlineExceeded)
        #expect(Refusal.noReadyEndpoint.grpcStatus == .unavailable)
        #expect(Refusal.upstream(.connect(errno: 111)).grpcStatus == .unavailable)
        #expect(Refusal.requestBody(.bodyTooLarge).grpcStatus == .resourceExhausted)
    }

    /// A reply that has begun and cannot go on must not look whole: NO_ERROR would say that it is.
    @Test func aBrokenReplyIsReset() {
        for refusal in [Refusal.replyTimeout, .upstream(.endedInReply), .badReply(.badChunkSize), .deadlinePassed] {
            #expect(refusal.resetCode != .noError)
        }
    }
}

@Suite struct AddressTextTests {
    func text(_ address: String, port: UInt16? = nil) -> String {
        var text = AddressText()
        let ip = IPAddress(address)!
        if let port { text.write(ip, port: port) } else { text.write(ip) }
        return text.withBytes { String(decoding: $0, as: UTF8.self) }
    }

    @Test func asTheSystemWritesIt() {
        for address in ["10.1.2.3", "255.255.255.255", "0.0.0.0", "::", "::1", "fd00::1", "fd00:1:2:3:4:5:6:7", "1:0:0:2::3", "2001:db8::", "1:2:3:4:5:6:7:0"] {
            #expect(text(address) == IPAddress(address)!.description)
        }
        #expect(text("10.0.0.1", port: 80) == "10.0.0.1:80")
        #expect(text("fd00::1", port: 65535) == "[fd00::1]:65535")
    }
}

@Suite struct BodyFlowTests {
    /// The same body, cut at every byte, comes out the same.
    @Test func chunkedAtEveryCut() throws {
        let wire = Array("5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nx-t: 1\r\n\r\n".utf8)
        for cut in 0...wire.count {
            var flow = try BodyFlow(.chunked, writesChunks: false)
            var memory = [UInt8](repeating: 0, count: 256)
            var content: [UInt8] = []
            var waiting: [UInt8] = []
            for part in [wire[..<cut], wire[cut...]] {
                waiting += part
                let consumed = try waiting.withUnsafeBytes { bytes in
                    guard case .reframed(var relay) = flow else { return 0 }
                    defer { flow = .reframed(relay) }
                    return try memory.withUnsafeMutableBytes { out in
                        var writer = ByteWriter(out)
                        let progress = try relay.move(bytes, to: &writer)
                        content += Array(writer.written)
                        return progress.consumed
                    }
                }
                waiting.removeFirst(consumed)
            }
            #expect(flow.isComplete && String(decoding: content, as: UTF8.self) == "hello world", "cut \(cut)")
        }
    }

    @Test func theCloseEndsOnlyWhatItMayEnd() throws {
        var untilClose = try BodyFlow(.untilClose, writesChunks: false)
        try untilClose.peerClosed()
        #expect(untilClose.isComplete)
        var length = try BodyFlow(.length(5), writesChunks: false)
        #expect(throws: HTTPFault.bodyCutShort) { try length.peerClosed() }
        var chunked = try BodyFlow(.chunked, writesChunks: true)
        #expect(throws: HTTPFault.bodyCutShort) { try chunked.peerClosed() }
    }
}

@Suite struct PodPlacesTests {
    @Test func foundByNumberAndByAddress() {
        var pods = PodPlaces()
        let v4 = IPAddress("10.0.0.1")!, v6 = IPAddress("fd00::1")!
        let first = pods.admit(number: 7, slot: nil, addresses: [v4, v6])
        let second = pods.admit(number: 9, slot: nil, addresses: [IPAddress("10.0.0.2")!])
        #expect(first != nil && second != nil && first != second)
        #expect(pods.place(numbered: 7) == first)
        #expect(pods.place(at: v6) == first)
        #expect(pods.place(at: IPAddress("10.0.0.3")!) == nil)
        #expect(pods.address(of: first!, like: IPAddress("fd00::9")!) == v6)
        #expect(pods.address(of: second!, like: v6) == nil)
    }

    @Test func aPlaceIsReusedOnlyWhenEmpty() {
        var pods = PodPlaces()
        let first = pods.admit(number: 1, slot: nil, addresses: [IPAddress("10.0.0.1")!])!
        pods.budgets.base[Int(first)].connections = 1
        _ = pods.dismiss(first)
        pods.recycle(first)
        #expect(pods.place(at: IPAddress("10.0.0.1")!) == nil)
        let second = pods.admit(number: 2, slot: nil, addresses: [])
        #expect(second != first)
        pods.budgets.base[Int(first)].connections = 0
        pods.recycle(first)
        let third = pods.admit(number: 3, slot: nil, addresses: [])
        #expect(third == first)
    }
}

@Suite struct RetryMessageTests {
    @Test func theHostIsFoundInTheForwardedHead() {
        let message = Array("GET / HTTP/1.1\r\nhost: cart.shop:8080\r\nx: y\r\n\r\n".utf8)
        let host = message.withUnsafeBytes { String(decoding: Worker.host(in: $0), as: UTF8.self) }
        #expect(host == "cart.shop:8080")
        #expect([UInt8]("GET".utf8).withUnsafeBytes { Worker.host(in: $0).isEmpty })
    }
}
