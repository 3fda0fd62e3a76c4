import MeshModel
import Testing

@testable import Proxy

@Suite struct HealthAnswerTests {
    private func answer(_ text: String, _ kind: HealthCheck.Kind, hasEnded: Bool = false) -> HealthAnswer {
        HealthAnswer(Array(text.utf8), to: kind, hasEnded: hasEnded)
    }

    @Test func aStatusOf2xxIsWellAndAnyOtherIsNot() {
        #expect(answer("HTTP/1.1 204 No Content\r\n\r\n", .http) == .well)
        for status in [301, 404, 500, 503] { #expect(answer("HTTP/1.1 \(status) X\r\nserver: x\r\n\r\n", .http) == .unwell) }
        #expect(answer("HTTP/1.1 200 O", .http) == .undecided && answer("HTTP/1.1 200 O", .http, hasEnded: true) == .unwell)
        #expect(answer("", .http) == .undecided && answer("", .http, hasEnded: true) == .unwell)
        #expect(answer("\r\n\r\n", .http, hasEnded: true) == .unwell && answer("HTTP/1.1 abc\r\n\r\n", .http, hasEnded: true) == .unwell)
    }

    /// What our own proxy refuses because of who asks says nothing about who is asked; that nobody could be reached does.
    @Test func ourOwnRefusalsAreTold() {
        #expect(answer("HTTP/1.1 403 Forbidden\r\nX-Weft-Reason: access-denied\r\n\r\n", .http) == .silent)
        #expect(answer("HTTP/1.1 503 No\r\ncontent-length: 0\r\nx-weft-reason: pod-pending-requests\r\n\r\n", .http) == .silent)
        #expect(answer("HTTP/1.1 503 No\r\nx-weft-reason: upstream-connect-failed\r\n\r\n", .http) == .unwell)
    }

    @Test func aByteSaysThatAConnectionWasMade() {
        #expect(answer("+", .tcp) == .well && answer("", .tcp) == .undecided && answer("", .tcp, hasEnded: true) == .unwell)
    }

    @Test func grpcSaysServingInItsMessage() {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n"
        #expect(answer(head + "7\r\n\0\0\0\0\u{2}\u{8}\u{1}\r\n0\r\n", .grpc) == .well)
        #expect(answer(head + "7\r\n\0\0\0\0\u{2}\u{8}\u{2}\r\n0\r\n\r\n", .grpc, hasEnded: true) == .unwell)
        #expect(answer(head, .grpc) == .undecided && answer(head, .grpc, hasEnded: true) == .unwell)
    }

    @Test func anyBytesAreRead() {
        var bytes: [UInt8] = []
        var word: UInt64 = 88
        for _ in 0..<20_000 {
            word = word &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            if bytes.count > 60 { bytes = Array("HTTP/1.1 200\r\n".utf8.prefix(Int(word >> 60))) }
            bytes.append(UInt8(truncatingIfNeeded: word >> 33))
            for kind in HealthCheck.Kind.allCases { _ = HealthAnswer(bytes, to: kind, hasEnded: word >> 63 == 1) }
        }
    }
}
