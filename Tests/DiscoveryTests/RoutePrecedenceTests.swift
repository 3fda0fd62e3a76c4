@testable import Discovery
import MeshModel
import Testing

/// Of two matches that both take a request, which is compared first (HTTPRouteRule.matches, GRPCRouteRule.matches).
@Suite struct RoutePrecedenceTests {
    /// The first of each pair goes before the second, however they are written.
    @Test(arguments: [
        ("{path: {type: Exact, value: /a}}", "{path: {type: PathPrefix, value: /a}}"),
        ("{path: {type: Exact, value: /a}}", "{path: {type: PathPrefix, value: /a/long/prefix}}"),
        ("{path: {type: Exact, value: /a}}", "{path: {type: RegularExpression, value: \"/a.*\"}, method: GET, headers: [{name: h, value: v}]}"),
        ("{path: {value: /a/b}}", "{path: {value: /a}}"),
        ("{path: {value: /a/b}}", "{path: {value: /a}, method: GET, headers: [{name: h, value: v}], queryParams: [{name: q, value: v}]}"),
        ("{path: {value: /a}}", "{path: {value: /}}"),
        ("{path: {value: /a}}", "{path: {type: RegularExpression, value: \"/a/very/long/expression.*\"}}"),
        ("{path: {type: RegularExpression, value: \"/aa.*\"}}", "{path: {type: RegularExpression, value: \"/a.*\"}}"),
        ("{path: {type: RegularExpression, value: \"/a.*\"}}", "{path: {value: /}, method: GET}"),
        ("{path: {type: RegularExpression, value: \"/a.*\"}}", "{}"),
        ("{path: {value: /a}, method: GET}", "{path: {value: /a}, headers: [{name: h, value: v}, {name: i, value: v}]}"),
        ("{method: GET}", "{headers: [{name: h, value: v}]}"),
        ("{headers: [{name: h, value: v}, {name: i, value: v}]}", "{headers: [{name: h, value: v}]}"),
        ("{headers: [{name: h, value: v}]}", "{queryParams: [{name: q, value: v}, {name: r, value: v}]}"),
        ("{headers: [{name: h, value: v}], queryParams: [{name: q, value: v}]}", "{headers: [{name: h, value: v}]}"),
        ("{queryParams: [{name: q, value: v}]}", "{}"),
    ])
    func theNarrowerMatchGoesFirst(_ first: String, _ second: String) {
        for (one, two) in [(first, second), (second, first)] {
            // In one rule, in two rules, and in two routes of which the name would say otherwise.
            let rule = RouteScene.view(RouteScene.route(rules: "[{matches: [\(one), \(two)]}]"))
            let rules = RouteScene.view(RouteScene.route(rules: "[{matches: [\(one)]}, {matches: [\(two)]}]"))
            let routes = RouteScene.view(RouteScene.route("a", rules: "[{matches: [\(one)]}]"), RouteScene.route("b", rules: "[{matches: [\(two)]}]"))
            let alone = RouteScene.view(RouteScene.route(rules: "[{matches: [\(first)]}]")).cart()?.matches.first
            for view in [rule, rules, routes] {
                let found = view.cart()?.matches.first
                #expect(found?.path == alone?.path && found?.method == alone?.method && found?.headers == alone?.headers && found?.query == alone?.query, "\(view.faults)")
            }
        }
    }

    @Test(arguments: [
        ("[cart.example.com]", "[\"*.example.com\"]"), ("[a.b]", "[\"*.very.long.example.com\"]"), ("[longer.example.com]", "[a.example.com]"),
        ("[\"*.cart.example.com\"]", "[\"*.example.com\"]"),
    ])
    func theNarrowerHostGoesBeforeEverythingElse(_ first: String, _ second: String) {
        let view = RouteScene.view(
            RouteScene.route("z", hostnames: first, rules: "[{}]"), RouteScene.route("a", hostnames: second, rules: "[{matches: [{path: {type: Exact, value: /a}, method: GET}]}]"),
            RouteScene.route("b", rules: "[{matches: [{path: {type: Exact, value: /a/long}}]}]"))
        #expect(view.cart()?.matches.map { view.cart()?.rules[$0.rule].route } == ["HTTPRoute shop/z", "HTTPRoute shop/a", "HTTPRoute shop/b"])
    }

    @Test(arguments: [
        (["a", nil], ["z", "2026-01-01T00:00:00Z"], "z"),
        (["a", "2026-01-01T00:00:01Z"], ["z", "2026-01-01T00:00:00Z"], "z"),
        (["b", "2026-01-01T00:00:00Z"], ["a", "2026-01-01T00:00:00Z"], "a"),
        (["b", nil], ["a", nil], "a"), (["a-b", nil], ["a", nil], "a"),
    ] as [([String?], [String?], String)])
    func ofEqualMatchesTheOldestRouteGoesFirstThenItsName(_ one: [String?], _ two: [String?], _ first: String) {
        let view = RouteScene.view(
            RouteScene.route(one[0] ?? "", created: one[1], rules: "[{}]"), RouteScene.route(two[0] ?? "", created: two[1], rules: "[{}]"))
        #expect(view.faults.isEmpty, "\(view.faults)")
        let routes = view.cart()
        #expect(routes.map { $0.rules[$0.matches[0].rule].route } == "HTTPRoute shop/\(first)")
    }

    @Test func ofEqualMatchesOfOneRouteTheFirstRuleGoesFirst() {
        let view = RouteScene.view(RouteScene.route(rules: "[{matches: [{path: {value: /a}}]}, {matches: [{path: {value: /a}}, {path: {value: /b}}]}]"))
        #expect(view.cart()?.matches.map(\.rule) == [0, 1, 1])
    }

    @Test(arguments: [
        ("{method: {service: a.Longer}}", "{method: {service: a.S, method: LongMethodName}}"),
        ("{method: {service: a.S, method: Longer}}", "{method: {service: a.S, method: Short}}"),
        ("{method: {service: a.S, method: M}}", "{method: {service: a.S}, headers: [{name: h, value: v}]}"),
        ("{method: {service: a.S}}", "{method: {method: LongMethodName}}"),
        ("{method: {method: M}}", "{headers: [{name: h, value: v}, {name: i, value: v}]}"),
        ("{method: {service: a.S}}", "{method: {type: RegularExpression, service: \"a[.]Something.*\"}}"),
        ("{headers: [{name: h, value: v}]}", "{}"),
    ])
    func ofCallsTheLongerServiceThenTheLongerMethodGoesFirst(_ first: String, _ second: String) {
        let parents = "{group: \"\", kind: Service, name: cart, port: 7070}"
        for (one, two) in [(first, second), (second, first)] {
            let view = RouteScene.view(RouteScene.route(kind: "GRPCRoute", parents: parents, rules: "[{matches: [\(one)]}, {matches: [\(two)]}]"))
            #expect(view.faults.isEmpty, "\(view.faults)")
            #expect(view.cart(port: 7070)?.matches.first?.rule == (one == first ? 0 : 1))
        }
    }
}
