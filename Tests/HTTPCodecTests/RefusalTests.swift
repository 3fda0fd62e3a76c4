import Testing
import Bytes
import HTTPCodec

@Suite struct RefusalTests {
    @Test(arguments: RefusedShape.requests)
    func requestIsRefusedUnderItsName(_ shape: RefusedShape) {
        #expect(parse(shape.wire) == .refused(shape.fault))
    }

    @Test(arguments: RefusedShape.responses)
    func responseIsRefusedUnderItsName(_ shape: RefusedShape) {
        #expect(parse(shape.wire, .response) == .refused(shape.fault))
    }

    @Test(arguments: RefusedShape.bodies)
    func bodyIsRefusedUnderItsName(_ shape: RefusedShape) {
        #expect(throws: shape.fault) { try decodeChunked(shape.wire) }
    }

    /// A refusal does not depend on how the bytes were cut: each prefix is either waited on or refused for the same reason.
    @Test(arguments: RefusedShape.requests + RefusedShape.responses)
    func refusalIsTheSameForEveryCut(_ shape: RefusedShape) {
        let side: Side = RefusedShape.requests.contains { $0.wire == shape.wire && $0.fault == shape.fault } ? .request : .response
        let wire = Array(shape.wire.utf8)
        // Long shapes are cut at a stride; every boundary near their ends is still met.
        let stride = max(1, wire.count / 400)
        for cut in Swift.stride(from: 0, to: wire.count, by: stride) {
            var progress = HeadProgress()
            let first = parse(wire[..<cut], side, progress: &progress)
            if first == .incomplete {
                #expect(parse(wire, side, progress: &progress) == .refused(shape.fault), "cut at \(cut)")
            } else {
                #expect(first == .refused(shape.fault), "cut at \(cut)")
            }
        }
        var progress = HeadProgress()
        var outcome = HeadOutcome.incomplete
        for end in wire.indices where outcome == .incomplete {
            outcome = parse(wire[...end], side, progress: &progress)
        }
        #expect(outcome == .refused(shape.fault), "byte by byte")
    }

    @Test func everyFaultHasAnAnswerOfItsOwn() {
        let reasons = HTTPFault.allCases.map { text(UnsafeBufferPointer(start: $0.reason.utf8Start, count: $0.reason.utf8CodeUnitCount)) }
        #expect(Set(reasons).count == reasons.count)
        #expect(reasons.allSatisfy { $0.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2D } })
        #expect(Set(HTTPFault.allCases.map(\.status)) == [400, 408, 413, 414, 431, 501, 505])
    }

    /// Each shape a parser can name is met by some fixture; the rest belong to whoever holds the clock or the routes.
    @Test func everyFaultHasAFixture() {
        let met = Set((RefusedShape.requests + RefusedShape.responses + RefusedShape.bodies).map(\.fault))
        let elsewhere: Set<HTTPFault> = [
            .bodyTooLarge, .bodyCutShort, .headTimeout, .bodyTimeout,
            // Only HTTP/2 can be wrong in these ways: `HTTP2HeadTests`.
            .badPseudoField, .upperCaseFieldName, .blankAroundValue, .connectionField, .authorityMismatch, .lengthMismatch, .trailersNotLast,
        ]
        #expect(Set(HTTPFault.allCases).subtracting(met) == elsewhere)
    }

    @Test func limitsArePrecise() {
        let limits = HeadLimits(headBytesMax: 64, fieldsMax: 2, targetBytesMax: 8)
        let exactly64 = "GET /1234567 HTTP/1.1\r\nHost: a\r\nX: " + String(repeating: "y", count: 25) + "\r\n\r\n"
        #expect(exactly64.utf8.count == 64)
        guard case .parsed = parse(exactly64, limits: limits) else { Issue.record("64 bytes of 64 are allowed"); return }
        #expect(parse(exactly64.replacing("X: y", with: "X: yy"), limits: limits) == .refused(.headTooLarge))
        #expect(parse("GET /12345678 HTTP/1.1\r\nHost: a\r\n\r\n", limits: limits) == .refused(.targetTooLong))
        #expect(parse("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nC: d\r\n\r\n", limits: limits) == .refused(.tooManyFields))
        // What follows the head does not count.
        guard case .parsed = parse(exactly64 + "body", limits: limits) else { Issue.record("the body is not the head"); return }
    }

    @Test func bodyLimitCountsContentOnly() throws {
        let limits = BodyLimits(bodyBytesMax: 5)
        #expect(try decodeChunked("3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", limits: limits).content == "hello")
        #expect(throws: HTTPFault.bodyTooLarge) { try decodeChunked("3\r\nhel\r\n3\r\nlo!\r\n0\r\n\r\n", limits: limits) }
        #expect(throws: HTTPFault.bodyTooLarge) { _ = try BodyDecoder(.length(6), limits: limits) }
    }
}
