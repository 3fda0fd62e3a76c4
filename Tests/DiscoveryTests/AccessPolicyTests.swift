import Foundation
import MeshModel
import Testing

@testable import Discovery

/// What is wrong with an AccessPolicy is found, at its field, and nothing of it is in force.
@Suite struct AccessPolicyTests {
    private func policy(_ spec: String, namespace: String = "shop") -> String {
        "apiVersion: weft.mesh/v1alpha1\nkind: AccessPolicy\nmetadata: {name: p, namespace: \(namespace)}\nspec: \(spec)"
    }

    @Test(arguments: [
        ("{}", "spec.rules"),
        ("{action: allow}", "spec.rules"),
        ("{rules: [{}]}", "spec.action"),
        ("{action: deny, rules: []}", "spec.rules"),
        ("{action: permit, rules: [{}]}", "spec.action"),
        ("{action: allow, rules: [{}], mode: trial}", "spec.mode"),
        ("{action: allow, rules: [{form: [{namespaces: [a]}]}]}", "spec.rules[0].form"),
        ("{action: allow, rules: [{from: []}]}", "spec.rules[0].from"),
        ("{action: allow, rules: [{from: [{}]}]}", "spec.rules[0].from[0]"),
        ("{action: allow, rules: [{from: [{namespaces: []}]}]}", "spec.rules[0].from[0].namespaces"),
        ("{action: allow, rules: [{from: [{namespaces: [\"a*b\"]}]}]}", "spec.rules[0].from[0].namespaces[0]"),
        ("{action: allow, rules: [{from: [{identities: [\"cluster.local/ns/a/sa/b\"]}]}]}", "spec.rules[0].from[0].identities[0]"),
        ("{action: allow, rules: [{from: [{identities: [\"spiffe://cluster.local/ns/a\"]}]}]}", "spec.rules[0].from[0].identities[0]"),
        ("{action: allow, rules: [{from: [{serviceAccounts: [\"a/b/c\"]}]}]}", "spec.rules[0].from[0].serviceAccounts[0]"),
        ("{action: allow, rules: [{from: [{unauthenticated: false}]}]}", "spec.rules[0].from[0].unauthenticated"),
        ("{action: allow, rules: [{from: [{unauthenticated: true, namespaces: [a]}]}]}", "spec.rules[0].from[0].unauthenticated"),
        ("{action: allow, rules: [{ports: [70000]}]}", "spec.rules[0].ports[0]"),
        ("{action: allow, rules: [{ports: [\"80\"]}]}", "spec.rules[0].ports[0]"),
        ("{action: allow, rules: [{http: [{methods: [get]}]}]}", "spec.rules[0].http[0].methods[0]"),
        ("{action: allow, rules: [{http: [{paths: [items]}]}]}", "spec.rules[0].http[0].paths[0]"),
        ("{action: allow, rules: [{http: [{paths: [\"/a//b\"]}]}]}", "spec.rules[0].http[0].paths[0]"),
        ("{action: allow, rules: [{http: [{paths: [\"/a/../b\"]}]}]}", "spec.rules[0].http[0].paths[0]"),
        ("{action: allow, rules: [{http: [{paths: [\"/a%20b\"]}]}]}", "spec.rules[0].http[0].paths[0]"),
        ("{action: allow, rules: [{http: [{paths: [\"/a?b\"]}]}]}", "spec.rules[0].http[0].paths[0]"),
        ("{action: allow, rules: [{http: [{hosts: [\"cart:8080\"]}]}]}", "spec.rules[0].http[0].hosts[0]"),
        ("{action: allow, rules: [{http: [{headers: [{name: Host}]}]}]}", "spec.rules[0].http[0].headers[0].name"),
        ("{action: allow, rules: [{http: [{headers: [{name: \":path\"}]}]}]}", "spec.rules[0].http[0].headers[0].name"),
        ("{action: allow, rules: [{http: [{}]}]}", "spec.rules[0].http[0]"),
        ("{action: allow, rules: [{}], selector: {matchLabels: {}}}", "spec.selector.matchLabels"),
        ("{action: allow, rules: [{}], selector: {matchExpressions: []}}", "spec.selector.matchExpressions"),
        ("{action: allow, rules: [{}], targetRef: {kind: Pod, name: a}}", "spec.targetRef.kind"),
        ("{action: allow, rules: [{}], selector: {matchLabels: {a: b}}, targetRef: {kind: Service, name: a}}", "spec.targetRef"),
        ("{default: deny, selector: {matchLabels: {a: b}}}", "spec.default"),
        ("{default: deny, strength: mandatory}", "spec.strength"),
        ("{revoked: {serials: [\"1f\"]}}", "spec.revoked"),
    ])
    func aFaultIsFoundAtItsField(_ spec: String, _ field: String) {
        let view = Scene.view(policy(spec))
        #expect(view.faults.map(\.field).contains(field), "\(view.faults)")
        #expect(view.access.isEmpty && view.faults.allSatisfy { $0.object == "AccessPolicy shop/p" && !$0.remedy.isEmpty })
    }

    @Test(arguments: [
        ("{default: allow}", "spec.default"), ("{mode: audit, revoked: {identities: [\"spiffe://cluster.local/ns/a/sa/b\"]}}", "spec.revoked"),
        ("{revoked: {serials: [\"0\"]}}", "spec.revoked.serials[0]"), ("{revoked: {serials: [xyz]}}", "spec.revoked.serials[0]"),
        ("{revoked: {identities: [\"spiffe://cluster.local/ns/a/sa/*\"]}}", "spec.revoked.identities[0]"),
        ("{action: allow, rules: [{from: [{serviceAccounts: [web]}]}]}", "spec.rules[0].from[0].serviceAccounts[0]"),
    ])
    func meshWidePoliciesHaveFaultsOfTheirOwn(_ spec: String, _ field: String) {
        let view = Scene.view(policy(spec, namespace: "weft-system"))
        #expect(view.faults.map(\.field).contains(field), "\(view.faults)")
        #expect(view.access.isEmpty)
    }

    @Test func revocationsAreCollectedFromTheWholeMesh() {
        let view = Scene.view(
            policy("{revoked: {serials: [\"00:1F:ab\", \"1fAB\"], identities: [\"spiffe://cluster.local/ns/a/sa/b\"]}}", namespace: "weft-system"))
        #expect(view.faults.isEmpty)
        #expect(view.access.revocations == RevocationList(serials: ["1fab"], identities: ["spiffe://cluster.local/ns/a/sa/b"]))
    }

    @Test func aPolicyForAServiceThatIsNotThereIsReported() {
        let view = Scene.view(policy("{action: allow, rules: [{}], targetRef: {kind: Service, name: nowhere}}"))
        #expect(view.faults.map(\.field) == ["spec.targetRef.name"])
    }

    @Test func anIdentityOfAnotherTrustDomainIsNoted() {
        let view = Scene.view(policy("{action: allow, rules: [{from: [{identities: [\"spiffe://other.example/ns/a/sa/b\"]}]}]}"))
        #expect(view.faults.isEmpty && view.notes.contains { $0.text.contains("other.example") })
    }

    @Test func theLastGoodPolicyStaysInForce() {
        var scene = Scene(["mesh.yaml": Sample.documents(Sample.namespace, Sample.pod()), "p.yaml": policy("{action: allow, rules: []}")])
        #expect(scene.view().state.access.first?.rules.map(\.step) == [.gate])
        scene.files["p.yaml"] = policy("{action: allow, rules: [{form: []}]}")
        let view = scene.view()
        #expect(view.faults.map(\.consequence) == [.previousKept])
        #expect(view.state.access.first?.rules.map(\.step) == [.gate])
    }

    /// The schema for the API server and the reader here name the same fields.
    @Test func theSchemaNamesTheFieldsThatAreRead() throws {
        let schema = try #require(try? String(contentsOfFile: URL(filePath: #filePath).resolvingSymlinksInPath().deletingLastPathComponent().appending(path: "../../deploy/crds/accesspolicies.weft.mesh.yaml").path(), encoding: .utf8))
        for field in [
            "selector", "targetRef", "action", "mode", "strength", "rules", "default", "revoked", "matchLabels", "from", "ports", "http", "identities",
            "namespaces", "serviceAccounts", "unauthenticated", "methods", "paths", "hosts", "headers", "serials",
        ] {
            #expect(schema.contains(" \(field):"), "\(field)")
        }
    }
}
