@testable import Discovery
import MeshModel
import Testing

/// What routes say becomes what the proxy is told.
@Suite struct RouteTests {
    @Test func aCanaryTakesItsShare() throws {
        let view = RouteScene.view(RouteScene.route(rules: "[{backendRefs: [{name: cart, port: 80, weight: 99}, {name: cart-v2, port: 80, weight: 1}]}]"))
        #expect(view.faults.isEmpty, "\(view.faults)")
        let routes = try #require(view.cart())
        #expect(routes.matches == [RouteMatch(rule: 0)])
        #expect(routes.rules.map(\.action) == [
            .forward([
                WeightedBackend(.service(namespace: "shop", name: "cart", port: 80), weight: 99),
                WeightedBackend(.service(namespace: "shop", name: "cart-v2", port: 80), weight: 1),
            ])
        ])
        #expect(routes.rules.map(\.route) == ["HTTPRoute shop/r"] && routes.rules.map(\.rule) == ["spec.rules[0]"])
        #expect(view.state.routes.count == 1)
    }

    @Test func aMatchHasAllItsParts() throws {
        let view = RouteScene.view(
            RouteScene.route(
                hostnames: "[cart.example.com, \"*.example.com\"]",
                rules: """
                    [{name: beta, matches: [{path: {type: Exact, value: /a%20b}, method: PUT, headers: [{name: X-User, value: ann}, \
                    {name: version, type: RegularExpression, value: "v[0-9]+"}], queryParams: [{name: Animal, value: whale}]}], backendRefs: [{name: pay, port: 80}]}]
                    """))
        #expect(view.faults.isEmpty, "\(view.faults)")
        let routes = try #require(view.cart())
        func match(_ host: HostPattern) -> RouteMatch {
            RouteMatch(
                hostname: host, path: .exact("/a%20b"), method: "PUT",
                headers: [FieldPattern(name: "x-user", value: .exact("ann")), FieldPattern(name: "version", value: .expression("v[0-9]+"))],
                query: [FieldPattern(name: "Animal", value: .exact("whale"))], rule: 0)
        }
        #expect(routes.matches == [match(.exact("cart.example.com")), match(.suffix(".example.com"))])
        #expect(routes.rules.map(\.rule) == ["beta"])
    }

    @Test(arguments: [("/", PathPattern.any), ("/foo", .prefix("/foo")), ("/foo/", .prefix("/foo")), ("/foo/bar/", .prefix("/foo/bar"))])
    func aPrefixEndsWithoutASlash(_ written: String, _ path: PathPattern) {
        #expect(RouteScene.view(RouteScene.route(rules: "[{matches: [{path: {value: \(written)}}]}]")).cart()?.matches.map(\.path) == [path])
    }

    @Test func filtersBecomeWhatIsDone() throws {
        let view = RouteScene.view(
            RouteScene.route(
                rules: """
                    [{matches: [{path: {type: PathPrefix, value: /old}}],
                      filters: [
                        {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: "1"}], add: [{name: x-b, value: "2, 3"}], remove: [X-C]}},
                        {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-d, value: "4"}]}},
                        {type: URLRewrite, urlRewrite: {hostname: pay.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}},
                        {type: RequestMirror, requestMirror: {backendRef: {name: pay, port: 80}, percent: 5}},
                        {type: RequestMirror, requestMirror: {backendRef: {name: cart-v2, port: 80}, fraction: {numerator: 1, denominator: 1000}}},
                        {type: CORS, cors: {allowOrigins: ["https://*.example.com"], allowMethods: [GET, PUT], allowHeaders: [x-a], exposeHeaders: [x-d], allowCredentials: true, maxAge: 60}}],
                      backendRefs: [{name: pay, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-e, value: "5"}]}}]}],
                      timeouts: {request: 1m30s, backendRequest: 250ms},
                      retry: {codes: [503, 504], attempts: 2, backoff: 100ms},
                      sessionPersistence: {sessionName: basket, absoluteTimeout: 24h, idleTimeout: 1500ms, cookieConfig: {lifetimeType: Permanent}}}]
                    """))
        #expect(view.faults.isEmpty, "\(view.faults)")
        let rule = try #require(view.cart()?.rules.first)
        #expect(rule.requestHeaders == FieldEdits(set: [.init(name: "x-a", value: "1")], add: [.init(name: "x-b", value: "2, 3")], remove: ["x-c"]))
        #expect(rule.responseHeaders == FieldEdits(set: [.init(name: "x-d", value: "4")]))
        #expect(rule.rewrite == URLRewrite(hostname: "pay.example", path: .prefix("/new")))
        #expect(rule.mirrors == [
            RequestMirror(target: .service(namespace: "shop", name: "pay", port: 80), numerator: 5),
            RequestMirror(target: .service(namespace: "shop", name: "cart-v2", port: 80), numerator: 1, denominator: 1_000),
        ])
        #expect(rule.cors == CORSRule(
            origins: ["https://*.example.com"], methods: ["GET", "PUT"], headers: ["x-a"], exposedHeaders: ["x-d"], allowsCredentials: true, maxAgeSeconds: 60))
        #expect(rule.timeouts == RouteTimeouts(requestMilliseconds: 90_000, backendRequestMilliseconds: 250))
        #expect(rule.retry == RetryRule(statuses: [503, 504], attempts: 2, backoffMilliseconds: 100))
        #expect(rule.session == SessionRule(name: "basket", absoluteTimeoutSeconds: 86_400, idleTimeoutSeconds: 2, isPermanent: true))
        guard case .forward(let backends) = rule.action else { return #expect(Bool(false), "\(rule.action)") }
        #expect(backends.map(\.requestHeaders) == [FieldEdits(set: [.init(name: "x-e", value: "5")])])
    }

    @Test func aRedirectAnswersItself() throws {
        let view = RouteScene.view(
            RouteScene.route(
                rules: "[{filters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: shop.example, port: 8443, statusCode: 308, path: {type: ReplaceFullPath, replaceFullPath: /x}}}]}]"))
        #expect(view.faults.isEmpty, "\(view.faults)")
        #expect(view.cart()?.rules.map(\.action) == [.redirect(RequestRedirect(scheme: "https", hostname: "shop.example", path: .full("/x"), port: 8443, status: 308))])
    }

    @Test func aRouteWithoutRulesTakesEverythingAndLeadsNowhere() {
        let text = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: shop}\nspec: {parentRefs: [\(RouteScene.cart)]}"
        let view = RouteScene.view(text)
        #expect(view.faults.isEmpty)
        #expect(view.cart()?.rules.map(\.action) == [.forward([])] && view.cart()?.matches == [RouteMatch(rule: 0)])
    }

    @Test func callsBecomePaths() throws {
        let view = RouteScene.view(
            RouteScene.route(
                kind: "GRPCRoute", parents: "{group: \"\", kind: Service, name: cart, port: 7070}",
                rules: """
                    [{matches: [{method: {service: shop.Cart, method: Add}}, {method: {service: .shop.Cart}}, {method: {method: List}},
                      {method: {type: RegularExpression, service: "shop[.].*"}}, {headers: [{name: tenant, value: a}]}], backendRefs: [{name: cart, port: 7070}]}, {}]
                    """))
        #expect(view.faults.isEmpty, "\(view.faults)")
        let routes = try #require(view.cart(port: 7070))
        #expect(routes.matches.map(\.path) == [
            .exact("/shop.Cart/Add"), .prefix("/shop.Cart"), .expression("/[^/]+/List"), .expression("/(shop[.].*)/([^/]+)"), .any, .any,
        ])
        #expect(routes.matches.map(\.rule) == [0, 0, 0, 0, 0, 1])
        #expect(!routes.rules.contains { !$0.isGRPC })
    }

    // MARK: Parents

    @Test func aParentWithoutAPortIsEveryPortThatIsRead() {
        let view = RouteScene.view(RouteScene.route(parents: "{group: \"\", kind: Service, name: cart}", rules: "[{backendRefs: [{name: pay, port: 80}]}]"))
        #expect(view.state.routes.map(\.port) == [80, 7070, 8080])
        #expect(view.conditions() == ["Accepted=True(Accepted)", "ResolvedRefs=True(ResolvedRefs)"])
    }

    @Test func aSectionIsAPortsName() {
        let view = RouteScene.view(RouteScene.route(parents: "{group: \"\", kind: Service, name: cart, sectionName: http-alt}", rules: "[{}]"))
        #expect(view.state.routes.map(\.port) == [8080])
    }

    @Test func aConsumersRouteIsForItsOwnNamespaceAlone() {
        let view = RouteScene.view(
            RouteScene.route("own", rules: "[{backendRefs: [{name: cart, port: 80}]}]"),
            RouteScene.route(
                "theirs", namespace: "bank", parents: "{group: \"\", kind: Service, namespace: shop, name: cart, port: 80}",
                rules: "[{backendRefs: [{name: cart, namespace: shop, port: 80}]}]"))
        #expect(view.faults.isEmpty, "\(view.faults)")
        #expect(view.cart()?.rules.map(\.route) == ["HTTPRoute shop/own"])
        #expect(view.cart(callers: "bank")?.rules.map(\.route) == ["HTTPRoute bank/theirs"])
    }

    @Test func routesOfOneServiceAreMerged() {
        let view = RouteScene.view(
            RouteScene.route("b", rules: "[{matches: [{path: {value: /b}}], backendRefs: [{name: pay, port: 80}]}]"),
            RouteScene.route("a", rules: "[{matches: [{path: {value: /a/long}}]}, {matches: [{path: {value: /b}}]}]"))
        #expect(view.cart()?.rules.map { "\($0.route) \($0.rule)" } == ["HTTPRoute shop/a spec.rules[0]", "HTTPRoute shop/a spec.rules[1]", "HTTPRoute shop/b spec.rules[0]"])
        #expect(view.cart()?.matches.map(\.rule) == [0, 1, 2])
    }

    @Test func aGRPCRouteGoesBeforeAnHTTPRouteAtItsPort() {
        let grpc = RouteScene.route("calls", kind: "GRPCRoute", parents: "{group: \"\", kind: Service, name: cart, port: 7070}", rules: "[{}]")
        let view = RouteScene.view(grpc, RouteScene.route("pages", parents: "{group: \"\", kind: Service, name: cart}", rules: "[{}]"))
        #expect(view.cart(port: 7070)?.rules.map(\.route) == ["GRPCRoute shop/calls"])
        #expect(view.cart(port: 80)?.rules.map(\.route) == ["HTTPRoute shop/pages"])
        #expect(view.faults.isEmpty && view.notes.contains { $0.text.contains("goes before HTTPRoutes") })

        let clash = RouteScene.view(grpc, RouteScene.route("pages", parents: "{group: \"\", kind: Service, name: cart, port: 7070}", rules: "[{}]"))
        #expect(clash.cart(port: 7070)?.rules.map(\.route) == ["GRPCRoute shop/calls"])
        #expect(clash.routes.last?.parents.first?.conditions.first?.reason == .conflicted)
        #expect(clash.faults.map(\.object) == ["HTTPRoute shop/pages"])

        let apart = RouteScene.view(
            RouteScene.route("calls", kind: "GRPCRoute", parents: "{group: \"\", kind: Service, name: cart, port: 7070}", hostnames: "[\"*.calls.example\"]", rules: "[{}]"),
            RouteScene.route("pages", parents: "{group: \"\", kind: Service, name: cart, port: 7070}", hostnames: "[pages.example]", rules: "[{}]"))
        #expect(apart.cart(port: 7070)?.rules.count == 2)
    }

    // MARK: References

    private static let grant = """
        apiVersion: gateway.networking.k8s.io/v1beta1
        kind: ReferenceGrant
        metadata: {name: g, namespace: bank}
        spec:
          from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}]
          to: [{group: "", kind: Service}]
        """

    @Test func aGrantLetsARouteNameAServiceOfAnotherNamespace() {
        let route = RouteScene.route(rules: "[{backendRefs: [{name: ledger, namespace: bank, port: 80}]}]")
        let ledger = RouteAction.forward([WeightedBackend(.service(namespace: "bank", name: "ledger", port: 80))])
        #expect(RouteScene.view(route).cart()?.rules.map(\.action) == [.forward([WeightedBackend(.unresolved)])])
        for version in ["v1beta1", "v1"] {
            let view = RouteScene.view(route, Self.grant.replacing("v1beta1", with: version))
            #expect(view.faults.isEmpty, "\(view.faults)")
            #expect(view.cart()?.rules.map(\.action) == [ledger])
        }
        for (word, other) in [("HTTPRoute", "GRPCRoute"), ("namespace: shop}", "namespace: shoe}"), ("kind: Service}", "kind: Service, name: other}"), ("group: \"\"", "group: other")] {
            let view = RouteScene.view(route, Self.grant.replacing(word, with: other))
            #expect(view.conditions() == ["Accepted=True(Accepted)", "ResolvedRefs=False(RefNotPermitted)"], "\(other)")
        }
    }

    @Test func aMirrorThatLeadsNowhereLeavesTheRequestAlone() throws {
        let view = RouteScene.view(
            RouteScene.route(rules: "[{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: nobody, port: 80}}}], backendRefs: [{name: pay, port: 80}]}]"))
        let rule = try #require(view.cart()?.rules.first)
        #expect(rule.mirrors.isEmpty)
        #expect(rule.action == .forward([WeightedBackend(.service(namespace: "shop", name: "pay", port: 80))]))
        #expect(view.conditions() == ["Accepted=True(Accepted)", "ResolvedRefs=False(BackendNotFound)"])
    }
}
