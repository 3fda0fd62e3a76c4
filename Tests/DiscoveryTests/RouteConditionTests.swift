@testable import Discovery
import MeshModel
import Testing

/// The conditions of the Gateway API, and the field that each is about.
@Suite struct RouteConditionTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var rules = "[{backendRefs: [{name: pay, port: 80}]}]"
        var parents = RouteScene.cart
        var hostnames: String?
        var kind = "HTTPRoute"
        var conditions: [String]
        var field: String

        var testDescription: String { "\(kind) \(parents) \(hostnames ?? "") \(rules)" }
    }

    private static let accepted = "Accepted=True(Accepted)", resolved = "ResolvedRefs=True(ResolvedRefs)"

    private static func parent(_ text: String, kind: String = "HTTPRoute", field: String = "spec.parentRefs[0]") -> Case {
        Case(parents: text, kind: kind, conditions: ["Accepted=False(NoMatchingParent)", resolved], field: field)
    }

    /// One rule, with the rule's fields.
    private static func rule(_ text: String, _ field: String, _ reason: String = "UnsupportedValue", kind: String = "HTTPRoute") -> Case {
        let parents = kind == "GRPCRoute" ? "{group: \"\", kind: Service, name: cart, port: 7070}" : RouteScene.cart
        return Case(rules: "[{\(text)}]", parents: parents, kind: kind, conditions: ["Accepted=False(\(reason))", resolved], field: "spec.rules[0]\(field)")
    }

    private static func reference(_ text: String, _ field: String, _ reason: String, in place: String = "backendRefs: [{%}]", kind: String = "HTTPRoute") -> Case {
        let parents = kind == "GRPCRoute" ? "{group: \"\", kind: Service, name: cart, port: 7070}" : RouteScene.cart
        return Case(rules: "[{\(place.replacing("%", with: text))}]", parents: parents, kind: kind, conditions: [accepted, "ResolvedRefs=False(\(reason))"], field: field)
    }

    private static func filter(_ type: String, _ body: String) -> String { "filters: [{type: \(type), \(body)}]" }

    static let parents: [Case] = [
        parent("{group: \"\", kind: Service, name: nobody}"),
        parent("{group: \"\", kind: Service, name: cart, namespace: bank}"),
        parent("{group: \"\", kind: Service, name: cart, port: 81}"),
        parent("{group: \"\", kind: Service, name: cart, sectionName: https}"),
        parent("{group: \"\", kind: Service, name: cart, sectionName: http, port: 8080}"),
        parent("{group: \"\", kind: Service, name: cart, port: 9090}"),
        parent("{group: \"\", kind: Service, name: outside, port: 80}"),
        parent("{kind: Service, name: cart}"),
        parent("{group: \"\", kind: Pod, name: cart}"),
        parent("{group: \"\", kind: Service, name: nobody}", kind: "GRPCRoute"),
    ]

    static let values: [Case] = [
        rule("matches: [{path: {type: Glob, value: /a}}]", ".matches[0].path.type"),
        rule("matches: [{path: {type: RegularExpression, value: \"(/a)\\\\1\"}}]", ".matches[0].path.value"),
        rule("matches: [{path: {type: RegularExpression, value: \"/(?=a)\"}}]", ".matches[0].path.value"),
        rule("matches: [{headers: [{name: a, value: \"[\", type: RegularExpression}]}]", ".matches[0].headers[0].value"),
        rule("matches: [{queryParams: [{name: a, value: \"*\", type: RegularExpression}]}]", ".matches[0].queryParams[0].value"),
        rule("matches: [{method: {type: RegularExpression, service: \"a)(b\"}}]", ".matches[0].method.service", kind: "GRPCRoute"),
        rule("matches: [{path: {value: a}}]", ".matches[0].path.value"),
        rule("matches: [{path: {type: Exact, value: /a//b}}]", ".matches[0].path.value"),
        rule("matches: [{path: {value: /a/../b}}]", ".matches[0].path.value"),
        rule("matches: [{path: {value: /a/.}}]", ".matches[0].path.value"),
        rule("matches: [{path: {value: /a%2Fb}}]", ".matches[0].path.value"),
        rule("matches: [{path: {value: \"/a b\"}}]", ".matches[0].path.value"),
        rule("matches: [{path: {value: \"/a?b\"}}]", ".matches[0].path.value"),
        rule("matches: [{path: {value: /a%2}}]", ".matches[0].path.value"),
        rule("matches: [{path: {value: /a, glob: yes}}]", ".matches[0].path.glob"),
        rule("matches: [{method: get}]", ".matches[0].method"),
        rule("matches: [{method: BREW}]", ".matches[0].method"),
        rule("matches: [{cookies: []}]", ".matches[0].cookies"),
        rule("matches: [{headers: [{name: a, value: b, type: Prefix}]}]", ".matches[0].headers[0].type"),
        rule("matches: [{headers: [{name: \"a b\", value: c}]}]", ".matches[0].headers[0].name"),
        rule("matches: [{headers: [{name: \":path\", value: c}]}]", ".matches[0].headers[0].name"),
        rule("matches: [{headers: [{name: a}]}]", ".matches[0].headers[0].value"),
        rule("matches: [{headers: [{name: a, value: 2}]}]", ".matches[0].headers[0].value"),
        rule("matches: [{queryParams: [{name: a, value: b, type: Suffix}]}]", ".matches[0].queryParams[0].type"),
        rule("filters: [{type: ExternalAuth, externalAuth: {}}]", ".filters[0].type"),
        rule("filters: [{}]", ".filters[0].type"),
        rule("filters: [{type: URLRewrite}]", ".filters[0].urlRewrite"),
        rule("filters: [{type: URLRewrite, urlRewrite: {}, cors: {}}]", ".filters[0].cors"),
        rule("filters: [{type: URLRewrite, urlRewrite: {}}, {type: URLRewrite, urlRewrite: {}}]", ".filters[1].type"),
        rule(filter("RequestHeaderModifier", "requestHeaderModifier: {set: [{name: a, value: b}], remove: [A]}"), ".filters[0].requestHeaderModifier.remove[0]"),
        rule(filter("RequestHeaderModifier", "requestHeaderModifier: {set: [{name: Host, value: b}]}"), ".filters[0].requestHeaderModifier.set[0]"),
        rule(filter("ResponseHeaderModifier", "responseHeaderModifier: {add: [{name: Transfer-Encoding, value: chunked}]}"), ".filters[0].responseHeaderModifier.add[0]"),
        rule(filter("RequestHeaderModifier", "requestHeaderModifier: {set: [{name: x-weft-reason, value: b}]}"), ".filters[0].requestHeaderModifier.set[0]"),
        rule(filter("RequestHeaderModifier", "requestHeaderModifier: {set: [{name: a, value: \"b\\r\\nc: d\"}]}"), ".filters[0].requestHeaderModifier.set[0].value"),
        rule(filter("RequestRedirect", "requestRedirect: {scheme: ftp}"), ".filters[0].requestRedirect.scheme"),
        rule(filter("RequestRedirect", "requestRedirect: {statusCode: 304}"), ".filters[0].requestRedirect.statusCode"),
        rule(filter("RequestRedirect", "requestRedirect: {statusCode: 200}"), ".filters[0].requestRedirect.statusCode"),
        rule(filter("RequestRedirect", "requestRedirect: {hostname: \"a:80\"}"), ".filters[0].requestRedirect.hostname"),
        rule(filter("RequestRedirect", "requestRedirect: {hostname: 10.0.0.1}"), ".filters[0].requestRedirect.hostname"),
        rule(filter("RequestRedirect", "requestRedirect: {path: {type: ReplaceFullPath}}"), ".filters[0].requestRedirect.path.replaceFullPath"),
        rule(filter("RequestRedirect", "requestRedirect: {path: {type: Append, replaceFullPath: /}}"), ".filters[0].requestRedirect.path.type"),
        rule(filter("URLRewrite", "urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /a, replacePrefixMatch: /b}}"), ".filters[0].urlRewrite.path.replacePrefixMatch"),
        rule("matches: [{path: {type: Exact, value: /a}}], " + filter("URLRewrite", "urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}"), ".matches"),
        rule("matches: [{path: {value: /a}}, {path: {value: /b}}], " + filter("URLRewrite", "urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}"), ".matches"),
        rule(filter("RequestMirror", "requestMirror: {backendRef: {name: pay, port: 80}, percent: 101}"), ".filters[0].requestMirror.percent"),
        rule(filter("RequestMirror", "requestMirror: {backendRef: {name: pay, port: 80}, percent: 1, fraction: {numerator: 1}}"), ".filters[0].requestMirror.fraction"),
        rule(filter("RequestMirror", "requestMirror: {backendRef: {name: pay, port: 80}, fraction: {numerator: 3, denominator: 2}}"), ".filters[0].requestMirror.fraction.numerator"),
        rule(filter("CORS", "cors: {allowOrigins: [\"ftp://a\"]}"), ".filters[0].cors.allowOrigins[0]"),
        rule(filter("CORS", "cors: {allowOrigins: [\"https://a.*.example\"]}"), ".filters[0].cors.allowOrigins[0]"),
        rule(filter("CORS", "cors: {allowMethods: [GET, \"*\"]}"), ".filters[0].cors.allowMethods"),
        rule(filter("CORS", "cors: {maxAge: 0}"), ".filters[0].cors.maxAge"),
        rule("timeouts: {request: 10}", ".timeouts.request"),
        rule("timeouts: {request: 1.5s}", ".timeouts.request"),
        rule("timeouts: {request: 1s, backendRequest: 2s}", ".timeouts.backendRequest"),
        rule("timeouts: {idle: 1s}", ".timeouts.idle"),
        rule("retry: {codes: [200]}", ".retry.codes[0]"),
        rule("retry: {attempts: -1}", ".retry.attempts"),
        rule("sessionPersistence: {type: Token}", ".sessionPersistence.type"),
        rule("sessionPersistence: {cookieConfig: {lifetimeType: Permanent}}", ".sessionPersistence.absoluteTimeout"),
        rule("sessionPersistence: {sessionName: \"a;b\"}", ".sessionPersistence.sessionName"),
        rule("backendRefs: [{name: pay}]", ".backendRefs[0].port"),
        rule("backendRefs: [{name: pay, port: 80, weight: -1}]", ".backendRefs[0].weight"),
        rule("backendRefs: [{name: pay, port: 80, zone: a}]", ".backendRefs[0].zone"),
        rule("backendRefs: [{name: pay, port: 80, filters: [{type: URLRewrite, urlRewrite: {}}]}]", ".backendRefs[0].filters[0].type"),
        rule("backends: []", ".backends"),
        rule(filter("RequestRedirect", "requestRedirect: {}") + ", backendRefs: [{name: pay, port: 80}]", ".backendRefs", "IncompatibleFilters"),
        rule("filters: [{type: RequestRedirect, requestRedirect: {}}, {type: URLRewrite, urlRewrite: {}}]", ".filters", "IncompatibleFilters"),
        rule("matches: [{method: {}}]", ".matches[0].method", kind: "GRPCRoute"),
        rule("matches: [{method: {service: a/b}}]", ".matches[0].method.service", kind: "GRPCRoute"),
        rule("matches: [{method: {type: Glob, service: a}}]", ".matches[0].method.type", kind: "GRPCRoute"),
        rule("matches: [{path: {value: /}}]", ".matches[0].path", kind: "GRPCRoute"),
        rule(filter("URLRewrite", "urlRewrite: {}"), ".filters[0].type", kind: "GRPCRoute"),
        rule("timeouts: {request: 1s}", ".timeouts", kind: "GRPCRoute"),
        Case(hostnames: "[\"*\"]", conditions: ["Accepted=False(UnsupportedValue)", resolved], field: "spec.hostnames[0]"),
        Case(hostnames: "[10.0.0.1]", conditions: ["Accepted=False(UnsupportedValue)", resolved], field: "spec.hostnames[0]"),
        Case(hostnames: "[\"a:80\"]", conditions: ["Accepted=False(UnsupportedValue)", resolved], field: "spec.hostnames[0]"),
    ]

    static let references: [Case] = [
        reference("name: nobody, port: 80", "spec.rules[0].backendRefs[0].name", "BackendNotFound"),
        reference("name: pay, port: 81", "spec.rules[0].backendRefs[0].port", "BackendNotFound"),
        reference("name: ledger, namespace: bank, port: 80", "spec.rules[0].backendRefs[0].namespace", "RefNotPermitted"),
        reference("kind: Bucket, group: storage.example, name: a", "spec.rules[0].backendRefs[0].kind", "InvalidKind"),
        reference("name: outside, port: 80", "spec.rules[0].backendRefs[0].name", "InvalidKind"),
        reference("name: cart-v2, port: 5432", "spec.rules[0].backendRefs[0].port", "UnsupportedProtocol"),
        reference("name: nobody, port: 80", "spec.rules[0].backendRefs[0].name", "BackendNotFound", kind: "GRPCRoute"),
        reference("name: nobody, port: 80", "spec.rules[0].filters[0].requestMirror.backendRef.name", "BackendNotFound", in: filter("RequestMirror", "requestMirror: {backendRef: {%}}")),
        reference("group: x.example, kind: Filter, name: f", "spec.rules[0].filters[0].extensionRef", "InvalidKind", in: filter("ExtensionRef", "extensionRef: {%}")),
    ]

    @Test(arguments: parents + values + references)
    func everyConditionHasItsFieldAndRemedy(_ wanted: Case) {
        let view = RouteScene.view(RouteScene.route(kind: wanted.kind, parents: wanted.parents, hostnames: wanted.hostnames, rules: wanted.rules))
        #expect(view.conditions() == wanted.conditions, "\(view.faults)")
        #expect(view.faults.map(\.field).contains(wanted.field), "\(view.faults)")
        #expect(!view.faults.contains { $0.remedy.isEmpty || $0.object != "\(wanted.kind) shop/r" || $0.line == 0 }, "\(view.faults)")
        let isAccepted = wanted.conditions.first == Self.accepted
        #expect(view.state.routes.isEmpty != isAccepted)
    }

    @Test(arguments: references)
    func aRuleWhoseBackendsAreMissingIsStillThere(_ wanted: Case) {
        let view = RouteScene.view(RouteScene.route(kind: wanted.kind, parents: wanted.parents, rules: wanted.rules))
        let rule = view.state.routes.first?.rules.first
        // A mirror is only a copy; everything else answers 500 in place of the backend.
        #expect(rule?.action == (wanted.field.contains("Mirror") ? .forward([]) : .forward([WeightedBackend(.unresolved)])))
    }

    @Test func aGatewaysRouteIsNoneOfOurs() {
        let view = RouteScene.view(RouteScene.route(parents: "{name: edge}", rules: "[{}]"))
        #expect(view.faults.isEmpty && view.state.routes.isEmpty && view.routes.map(\.parents) == [[]])
        #expect(view.notes.contains { $0.text.contains("Gateway edge") })
        let strange = RouteScene.view(RouteScene.route(parents: "{name: edge}", rules: "[{filters: [{type: ExternalAuth, externalAuth: {}}]}]"))
        #expect(strange.faults.isEmpty && strange.routes.map(\.parents) == [[]], "a Gateway may well have that filter")
        let both = RouteScene.view(RouteScene.route(parents: "{name: edge}, \(RouteScene.cart)", rules: "[{}]"))
        #expect(both.faults.isEmpty && both.routes.first?.parents.map(\.parentRef.name) == ["cart"])
    }

    @Test func eachParentHasConditionsOfItsOwn() {
        let view = RouteScene.view(
            RouteScene.route(
                parents: "\(RouteScene.cart), {group: \"\", kind: Service, name: ledger, namespace: bank}, {group: \"\", kind: Service, name: nobody}",
                rules: "[{backendRefs: [{name: ledger, namespace: bank, port: 80}]}]"))
        #expect(view.conditions(0) == ["Accepted=True(Accepted)", "ResolvedRefs=False(RefNotPermitted)"])
        #expect(view.conditions(1) == ["Accepted=True(Accepted)", "ResolvedRefs=True(ResolvedRefs)"], "its callers reach that Service anyway")
        #expect(view.conditions(2).first == "Accepted=False(NoMatchingParent)")
        #expect(view.faults.map(\.field) == ["spec.parentRefs[2]", "spec.rules[0].backendRefs[0].namespace"], "each is told once")
        #expect(view.faults.map(\.consequence) == [.leftOut, .restInForce])
    }

    @Test func aPortThatIsAskedForTooMuchKeepsItsOldestRoutes() {
        // 17 routes of 1,024 matches each: one more than 16,384.
        let rules = "[" + (0..<16).map { rule in "{matches: [\((0..<4).map { "{path: {value: /\(rule)/\($0)}}" }.joined(separator: ", "))]}" }.joined(separator: ", ") + "]"
        let hosts = "[" + (0..<16).map { "h\($0).example" }.joined(separator: ", ") + "]"
        let routes = (10..<27).map { RouteScene.route("r\($0)", created: "2026-01-01T00:00:\(50 - $0)Z", hostnames: hosts, rules: rules) }
        let view = Scene.view(([RouteScene.services] + routes).joined(separator: "\n---\n"))
        #expect(view.cart()?.matches.count == Limits.routeMatchesPerPortMax)
        #expect(view.faults.map(\.object) == ["HTTPRoute shop/r10"], "the youngest")
        #expect(view.routes.filter { $0.parents.first?.conditions.first?.status == .isTrue }.count == 16)
    }

    @Test func theSameParentTwiceIsAFault() {
        let view = RouteScene.view(RouteScene.route(parents: "\(RouteScene.cart), \(RouteScene.cart)", rules: "[{}]"))
        #expect(view.conditions() == ["Accepted=False(UnsupportedValue)", "ResolvedRefs=True(ResolvedRefs)"])
        #expect(view.faults.map(\.field) == ["spec.parentRefs[1]"])
        let apart = RouteScene.view(
            RouteScene.route(parents: "\(RouteScene.cart), {group: \"\", kind: Service, name: cart, port: 8080}", rules: "[{}]"))
        #expect(apart.faults.isEmpty && apart.state.routes.map(\.port) == [80, 8080])
    }

    // MARK: Parts of a route

    private static let half = "[{matches: [{path: {value: /good}}], backendRefs: [{name: pay, port: 80}]}, {matches: [{path: {value: /bad}}], filters: [{type: ExternalAuth, externalAuth: {}}]}]"

    @Test func aBadRuleLeavesTheOthersInForceAndTakesItsRequestsItself() {
        let view = RouteScene.view(RouteScene.route(rules: Self.half))
        #expect(view.conditions() == ["Accepted=True(Accepted)", "ResolvedRefs=True(ResolvedRefs)", "PartiallyInvalid=True(UnsupportedValue)"])
        #expect(view.routes.first?.parents.first?.conditions.last?.message.hasPrefix("Dropped Rule spec.rules[1]") == true)
        #expect(view.faults.map(\.consequence) == [.restInForce])
        #expect(view.cart()?.matches.map(\.path) == [.prefix("/good"), .prefix("/bad")])
        #expect(view.cart()?.rules.last?.action == .forward([WeightedBackend(.unresolved)]))
    }

    @Test func aNewVersionThatIsPartlyWrongFallsBackToTheLastGoodOne() {
        var scene = Scene(["s.yaml": RouteScene.services, "r.yaml": RouteScene.route(rules: "[{matches: [{path: {value: /bad}}], backendRefs: [{name: cart-v2, port: 80}]}]")])
        let good = scene.view().state.routes
        for broken in [Self.half, "[{filters: [{type: ExternalAuth, externalAuth: {}}]}]", "[1]", "{}"] {
            scene.files["r.yaml"] = RouteScene.route(rules: broken)
            let view = scene.view()
            #expect(view.state.routes == good, "\(broken)")
            #expect(view.conditions().last == "PartiallyInvalid=True(UnsupportedValue)")
            #expect(view.routes.first?.parents.first?.conditions.last?.message.hasPrefix("Fall Back") == true)
            #expect(!view.faults.isEmpty && view.faults.allSatisfy { $0.consequence == .previousKept }, "\(view.faults)")
        }
        scene.files["again.yaml"] = RouteScene.route(rules: "[{}]")
        #expect(scene.view().state.routes == good && scene.view().conditions().last == "PartiallyInvalid=True(UnsupportedValue)", "defined twice")
        scene.files["again.yaml"] = nil
        // A reference that leads nowhere is a state of the cluster, not a fault of the version.
        scene.files["r.yaml"] = RouteScene.route(rules: "[{backendRefs: [{name: nobody, port: 80}]}]")
        #expect(scene.view().cart()?.rules.map(\.action) == [.forward([WeightedBackend(.unresolved)])])
        #expect(scene.view().conditions() == ["Accepted=True(Accepted)", "ResolvedRefs=False(BackendNotFound)"])
    }

    @Test func theLastGoodRouteSurvivesARestart() throws {
        var before = Scene(["s.yaml": RouteScene.services, "r.yaml": RouteScene.route(rules: "[{backendRefs: [{name: pay, port: 80}]}]")])
        let good = before.view()
        var after = Scene(["s.yaml": RouteScene.services, "r.yaml": RouteScene.route(rules: Self.half)])
        try after.manifests.restore(try before.manifests.encodedObjects())
        #expect(after.view().state.routes == good.state.routes)
    }

    @Test func aSecondMatchOfOneHeaderIsLeftOutAndSaid() {
        let view = RouteScene.view(RouteScene.route(rules: "[{matches: [{headers: [{name: A, value: b}, {name: a, value: c}]}]}]"))
        #expect(view.faults.isEmpty && view.cart()?.matches.map(\.headers) == [[FieldPattern(name: "a", value: .exact("b"))]])
        #expect(view.notes.contains { $0.text.contains("spec.rules[0].matches[0].headers[1]") })
    }

    @Test func conditionsReadAsOneLineForEachParent() {
        let view = RouteScene.view(RouteScene.route(rules: "[{backendRefs: [{name: nobody, port: 80}]}]"))
        #expect(view.routes.map(\.description) == [
            "HTTPRoute shop/r at Service shop/cart port 80: Accepted=True, ResolvedRefs=False (BackendNotFound: spec.rules[0].backendRefs[0].name: there is no Service shop/nobody)"
        ])
    }
}
