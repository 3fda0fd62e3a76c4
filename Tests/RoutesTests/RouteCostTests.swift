import MeshModel
import Routing
import Testing

/// What a decision costs. The figures are printed for the docs (`swift test -c release --filter RouteCostTests`); what is asked of them is only what
/// holds in every build and on every machine: that a table's size does not matter where it need not.
@Suite(.serialized) struct RouteCostTests {
    struct Case: Sendable, CustomStringConvertible {
        var description: String
        var matches: [RouteMatch]
        var path = "/api/v1/orders/1234?page=2"
        var headers = [["user-agent", "curl/8.0"], ["accept", "*/*"], ["x-request-id", "0a1b2c3d"], ["x-version", "v2"]]
    }

    static let cases: [Case] = [
        Case(description: "one rule for everything", matches: [RouteMatch(rule: 0)]),
        Case(description: "three prefixes", matches: [prefix("/api/v2"), prefix("/static"), prefix("/api/v1")]),
        Case(
            description: "a header, then everything (canary)",
            matches: [RouteMatch(headers: [FieldPattern(name: "x-version", value: .exact("v1"))], rule: 0), RouteMatch(rule: 0)]),
        Case(description: "a query parameter", matches: [RouteMatch(query: [FieldPattern(name: "page", value: .exact("2"))], rule: 0)]),
        Case(description: "an expression of the path", matches: [RouteMatch(path: .expression("/api/v[0-9]+/orders/[0-9]+"), rule: 0)]),
        Case(description: "a host by its end", matches: [RouteMatch(hostname: .suffix(".example.com"), rule: 0)]),
        Case(description: "a path to be normalised", matches: [prefix("/api")], path: "/x/../%61pi/v1/orders/1234?page=2"),
        Case(description: "1,000 whole paths, the last", matches: (0..<1_000).map { RouteMatch(path: .exact("/api/v1/orders/\($0 + 235)"), rule: 0) }),
        Case(description: "1,000 prefixes, the shortest", matches: (0..<999).map { prefix("/api/v1/orders/x\($0)") } + [prefix("/api")]),
        Case(description: "1,000 whole paths, none", matches: (0..<1_000).map { RouteMatch(path: .exact("/item/\($0)"), rule: 0) }),
        Case(
            description: "1,000 headers, the last",
            matches: (0..<1_000).map { RouteMatch(headers: [FieldPattern(name: "x-version", value: .exact($0 == 999 ? "v2" : "n\($0)"))], rule: 0) }),
    ]

    private static func prefix(_ path: String) -> RouteMatch { RouteMatch(path: .prefix(path), rule: 0) }

    @Test func pathsAreFoundHoweverManyThereAre() throws {
        var costs: [String: Int] = [:]
        for one in Self.cases { costs[one.description] = try nanoseconds(one) }
        for one in Self.cases { print("route decision: \(one.description): \(costs[one.description] ?? 0) ns") }
        let inTurn = try #require(costs["1,000 headers, the last"])
        for found in ["1,000 whole paths, the last", "1,000 prefixes, the shortest", "1,000 whole paths, none"] {
            #expect(try #require(costs[found]) * 5 < inTurn, "\(costs)")
        }
    }

    private func nanoseconds(_ one: Case) throws -> Int {
        let routes = ServiceRoutes(
            namespace: "shop", name: "cart", port: 80, matches: one.matches,
            rules: [RouteRule(route: "HTTPRoute shop/r", rule: "spec.rules[0]", action: .forward([WeightedBackend(.service(namespace: "shop", name: "cart", port: 80))]))])
        let tables = try Stage.tables(MeshState(nodeName: "n", services: [Service(namespace: "shop", name: "cart", ports: [ServicePort(port: 80)])], routes: [routes]))
        defer { withExtendedLifetime(tables) {} }
        let view = tables.view
        let wire = try WireRequest(method: "GET", path: one.path, host: "api.example.com", headers: one.headers)
        let scratch = RouteScratch()
        guard case .service(let service) = withBytes("cart.shop", { host in view.resolve(host: host, port: 80, clientNamespace: host) }) else { throw RoutingFault.endpointsExhausted }
        let clock = ContinuousClock()
        // The least of several rounds: what else the machine does only adds to it.
        var best = Int.max
        let decisions = 500
        for _ in 0..<7 {
            var taken = 0
            let spent = try clock.measure {
                for _ in 0..<decisions {
                    let table = try #require(withoutNamespace { view.routes(of: service, callersNamespace: $0) })
                    taken += wire.decide(table, scratch) { decision in
                        guard let decision, let backend = decision.rule.backend(chance: 7) else { return 0 }
                        return view.service(of: backend) == nil ? 0 : 1
                    }
                }
            }
            #expect(taken == (one.description.hasSuffix("none") ? 0 : decisions))
            best = min(best, Int(spent / decisions / .nanoseconds(1)))
        }
        return best
    }

    /// Ten thousand services with a route each cost a decision what one does, but for the memory they lie in.
    @Test func tenThousandServicesWithRoutes() throws {
        let services = (0..<10_000).map { Service(namespace: "ns\($0 % 10)", name: "s\($0)", ports: [ServicePort(port: 80)]) }
        let routes = services.map { service in
            ServiceRoutes(
                namespace: service.namespace, name: service.name, port: 80, matches: [RouteMatch(path: .prefix("/api"), rule: 0)],
                rules: [
                    RouteRule(
                        route: "HTTPRoute \(service.namespace)/\(service.name)", rule: "spec.rules[0]",
                        action: .forward([WeightedBackend(.service(namespace: service.namespace, name: service.name, port: 80))]))
                ])
        }
        var writer = SnapshotWriter()
        let clock = ContinuousClock()
        var images: [ShardImage] = []
        let state = MeshState(nodeName: "n", services: services, routes: routes)
        let written = try clock.measure { images = try writer.update(state).shards }
        let bytes = images.filter { $0.id.family == .routes }.reduce(0) { $0 + $1.bytes.count }
        var builder = TablesBuilder(states: EndpointStates())
        var tables: Tables?
        let mapped = try clock.measure {
            for image in images { builder.stage(image.id, try ShardMemory(copying: image.bytes)) }
            tables = try builder.commit(generation: 1)
        }
        let view = try #require(tables).view
        print("10,000 services with routes: \(bytes / 10_000) bytes of routes each, written in \(written), mapped in \(mapped)")
        #expect(bytes < 10_000 * 600)
        var number = 0
        let wire = try WireRequest(method: "GET", path: "/api/v1", host: "h", headers: [])
        let scratch = RouteScratch()
        let rounds = 5_000
        let spent = try clock.measure {
            for _ in 0..<rounds {
                // Far from the one before: nothing of it is in the caches.
                number = (number + 7_919) % 10_000
                let host = "s\(number).ns\(number % 10)"
                guard case .service(let service) = withBytes(host, { host in view.resolve(host: host, port: 80, clientNamespace: host) }) else { throw RoutingFault.endpointsExhausted }
                let table = try #require(withoutNamespace { view.routes(of: service, callersNamespace: $0) })
                wire.decide(table, scratch) { #expect($0 != nil) }
            }
        }
        print("10,000 services with routes: \(spent / rounds) for a lookup by host and a decision, the test's own work included")
        withExtendedLifetime(tables) {}
    }

    private func withoutNamespace<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result { body(UnsafeRawBufferPointer(start: nil, count: 0)) }
}
