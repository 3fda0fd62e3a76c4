import Discovery
import MeshModel
import Routing
import Testing

/// The table of decisions, through everything that lies between a manifest and an answer: reading, selection, shards, engine.
@Suite struct DecisionTests {
    @Test func theTableHasSixtyDecisions() {
        #expect(DecisionTable.scenarios.flatMap(\.calls).count >= 60)
    }

    @Test(arguments: DecisionTable.scenarios)
    func everyCallIsDecidedAsTheTableSays(_ scenario: DecisionTable.Scenario) throws {
        let view = Stage.view(scenario.manifests)
        #expect(view.faults.isEmpty)
        let tables = try Stage.tables(view.state)
        // Views borrow.
        defer { withExtendedLifetime(tables) {} }
        for call in scenario.calls {
            let parts = call.to.split(separator: ":")
            let target = try #require(view.state.workloads.first { "\($0.namespace)/\($0.name)" == String(parts[0]) })
            let port = try #require(UInt16(parts[1]))
            let workload = try #require(tables.view.workload(at: target.addresses[0]))
            let (decision, audited) = ask(tables.view, workload, call, port)
            #expect(decision.word == (call.expect == "audit" ? "allow" : call.expect), "\(call): \(decision)")
            let deciding = call.expect == "audit" ? audited : decision
            if call.expect == "audit" { #expect(audited.word == "deny", "\(call): \(audited)") }
            if let by = call.by { #expect(deciding.by == by, "\(call)") }
            if let why = call.why { #expect(deciding.why == why, "\(call)") }
            if call.expect == "allow" { #expect(audited.word == "allow", "\(call): nothing is in audit that would refuse it") }
        }
    }

    private struct Said {
        var word: String
        var by = ""
        var why = ""
    }

    private func ask(_ tables: TablesView, _ workload: WorkloadView, _ call: DecisionTable.Call, _ port: UInt16) -> (Said, Said) {
        guard let rules = tables.accessRules(of: workload) else { return (Said(word: "allow"), Said(word: "allow")) }
        let names = call.from.split(separator: "/").map(String.init)
        let host = String((call.host ?? "cart.shop").split(separator: ":")[0])
        let fields = call.headers ?? []
        let texts = ["cluster.local", names[0], names.last ?? "", call.method ?? "", call.path ?? "", host] + fields.flatMap { [$0[0].lowercased(), $0[1]] }
        return withTexts(texts) { texts in
            let caller = names.count == 1 ? Caller.unauthenticated : Caller(trustDomain: texts[0], namespace: texts[1], serviceAccount: texts[2])
            let request = call.method.map { _ in AccessRequest(method: texts[3], path: texts[4], host: texts[5]) }
            func judged(withAudit: Bool) -> Said {
                said(rules.judge(caller, port: port, request: request, withAudit: withAudit) { name, row in
                    while row < fields.count {
                        row += 1
                        if string(texts[4 + 2 * row]) == string(name) { return texts[5 + 2 * row] }
                    }
                    return nil
                })
            }
            return (judged(withAudit: false), judged(withAudit: true))
        }
    }

    private func said(_ decision: AccessDecision) -> Said {
        switch decision {
        case .allow(let rule): Said(word: "allow", by: rule.map(name) ?? "")
        case .deny(let rule, let fault): Said(word: "deny", by: name(rule), why: "\(fault)")
        case .needsRequest(let rule): Said(word: "deny", by: name(rule), why: "notHTTP")
        }
    }

    private func name(_ rule: AccessRuleView) -> String { "\(string(rule.policy)) \(string(rule.field))" }
}
