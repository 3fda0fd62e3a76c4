import MeshModel
import Routing
import Testing

/// Any rules and any request end in a decision; and some things hold of every decision.
@Suite struct EngineFuzzTests {
    private typealias Random = PathTests.Random

    @Test(arguments: 1...8) func anyRulesDecideAnything(seed: UInt64) throws {
        var random = Random(state: seed &* 104_729)
        for _ in 0..<150 {
            let rules = (0..<Int.random(in: 1...12, using: &random)).map { _ in rule(&random) }
            let engine = try Engine(rules)
            for _ in 0..<20 { judge(engine, &random) }
        }
    }

    /// An identity matches its own text and no other, not even one byte off or cut elsewhere.
    @Test func identitiesAreComparedWhole() throws {
        var random = Random(state: 7)
        let parts = ["a", "b", "ab", "ns", "sa", "", "a.b", "web-1", "web-2"]
        for _ in 0..<400 {
            let (domain, namespace, account) = (parts.randomElement(using: &random)!, parts.randomElement(using: &random)!, parts.randomElement(using: &random)!)
            let own = "spiffe://\(domain)/ns/\(namespace)/sa/\(account)"
            var other = Array(own.utf8)
            other[Int.random(in: 0..<other.count, using: &random)] ^= 1
            let cut = "spiffe://\(parts.randomElement(using: &random)!)/ns/\(parts.randomElement(using: &random)!)/sa/\(parts.randomElement(using: &random)!)"
            for text in [own, String(decoding: other, as: UTF8.self), cut, String(own.dropLast()), own + "a"] {
                let engine = try Engine([
                    AccessRule(.allow, policy: "p", field: "f", terms: [AccessTerm(.identity, text: text)]), AccessRule(.gate, policy: "p", field: "f"),
                ])
                withTexts([domain, namespace, account]) { texts in
                    let decision = engine.rules.judge(Caller(trustDomain: texts[0], namespace: texts[1], serviceAccount: texts[2]), port: 80)
                    #expect(decision.word == (text == own ? "allow" : "deny"), "\(own) by a rule about \(text)")
                }
            }
        }
    }

    private func judge(_ engine: Engine, _ random: inout Random) {
        let words = ["GET", "/a", "/a/b%2e", "h", "shop", "web", "", "x", "//", "/%", String(repeating: "z", count: 300)]
        let port = [80, 443, 0].randomElement(using: &random)! as UInt16
        let isProven = Bool.random(using: &random), hasRequest = Bool.random(using: &random)
        let texts = (0..<7).map { _ in words.randomElement(using: &random)! }
        withTexts(texts) { texts in
            let caller = isProven ? Caller(trustDomain: texts[0], namespace: texts[1], serviceAccount: texts[2]) : .unauthenticated
            let request = hasRequest ? AccessRequest(method: texts[3], path: texts[4], host: texts[5]) : nil
            func field(_ name: UnsafeRawBufferPointer, _ row: inout Int) -> UnsafeRawBufferPointer? {
                row += 1
                return row < 3 ? texts[6] : nil
            }
            let rules = engine.rules
            let decision = rules.judge(caller, port: port, request: request, field: field)
            let again = rules.judge(caller, port: port, request: request, field: field)
            #expect("\(decision.word)" == again.word, "the same question has the same answer")
            if hasRequest, case .needsRequest = decision { Issue.record("a request was there") }
            // What is decided without the request is decided so with any request.
            if hasRequest {
                let before = rules.judge(caller, port: port)
                if case .needsRequest = before {} else { #expect(before.word == decision.word) }
            }
            // Without a rule in audit it does not matter whether those are asked.
            if !rules.hasAudit { #expect(rules.judge(caller, port: port, request: request, withAudit: true, field: field).word == decision.word) }
        }
    }

    private func rule(_ random: inout Random) -> AccessRule {
        let terms = (0..<Int.random(in: 0...8, using: &random)).map { _ in
            let subject = AccessTerm.Subject.allCases.randomElement(using: &random)!
            let text = ["", "/a", "shop", "web", "GET", "x", "h", "spiffe://"].randomElement(using: &random)!
            return AccessTerm(
                subject, AccessTerm.Comparison.allCases.randomElement(using: &random)!, text: text,
                number: subject == .header ? UInt16(Int.random(in: 0...text.utf8.count, using: &random)) : [80, 443].randomElement(using: &random)!,
                alternative: UInt16.random(in: 0...2, using: &random), group: UInt16.random(in: 0...2, using: &random))
        }
        return AccessRule(
            AccessStep.allCases.randomElement(using: &random)!, isAudit: Int.random(in: 0..<4, using: &random) == 0, policy: "p", field: "f",
            // The writer puts parts in order; half of the time, as a writer that does not.
            terms: Bool.random(using: &random) ? terms.sorted { $0.subject.part < $1.subject.part } : terms)
    }
}

extension AccessDecision {
    fileprivate var word: String {
        switch self {
        case .allow: "allow"
        case .deny: "deny"
        case .needsRequest: "needsRequest"
        }
    }
}
