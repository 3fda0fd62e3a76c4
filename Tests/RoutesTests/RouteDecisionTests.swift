import Discovery
import MeshModel
import Routing
import Testing

/// The table of decisions, through everything that lies between a manifest and an answer: reading, order, shards, engine.
@Suite struct RouteDecisionTests {
    @Test func theTableHasThreeHundredDecisions() {
        #expect(RouteTable.scenarios.flatMap(\.requests).count >= 300)
    }

    @Test(arguments: RouteTable.scenarios)
    func everyRequestGoesWhereTheTableSays(_ scenario: RouteTable.Scenario) throws {
        let view = Stage.view(scenario.manifests)
        let tables = try Stage.tables(view.state)
        let scratch = RouteScratch()
        // Views borrow.
        defer { withExtendedLifetime(tables) {} }
        for request in scenario.requests {
            let target = (request.to ?? "cart.shop:80").split(separator: ":").map(String.init)
            let destination = withBytes(target[0]) { host in
                withBytes("shop") { tables.view.resolve(host: host, port: UInt16(target[1]) ?? 0, clientNamespace: $0) }
            }
            guard case .service(let service) = destination else {
                Issue.record("\(target) is no Service's port")
                continue
            }
            let found = try fate(of: request, at: service, tables.view, scratch)
            #expect(found == request.expect, "\(request)")
        }
    }

    private func fate(of request: RouteTable.Request, at service: ServiceDestination, _ tables: TablesView, _ scratch: borrowing RouteScratch) throws -> String {
        let table = withBytes(request.from ?? "shop") { tables.routes(of: service, callersNamespace: $0) }
        guard let table else { return string(service.service.name) }
        let wire = try WireRequest(method: request.method ?? "GET", path: request.path, host: request.host ?? request.to ?? "cart.shop", headers: request.headers ?? [])
        return wire.decide(table, scratch) { taken in
            guard let taken else { return "404" }
            if let redirect = taken.rule.redirect { return "\(redirect.status)" }
            // Of several backends the table asks for those that get everything.
            guard let backend = taken.rule.backend(chance: 0) else { return "500" }
            return tables.service(of: backend).map { string($0.service.name) } ?? "500"
        }
    }

    /// The Gateway API's own table for ReplacePrefixMatch, and what follows from it.
    @Test(arguments: [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"), ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"), ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"), ("/foo", "/foo", "/xyz", "/xyz"), ("/foo/", "/foo", "/xyz", "/xyz/"), ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"), ("/foo", "/foo", "", "/"), ("/foo/", "/foo", "/", "/"), ("/foo", "/foo", "/", "/"), ("/foo/bar", "/foo", "/", "/bar"),
        ("/x/../foo/%62ar?q", "/foo", "/xyz", "/xyz/bar"), ("/anything", "/", "/xyz", "/xyz/anything"), ("/", "/", "/xyz", "/xyz/"), ("/foo//bar", "/foo", "/xyz", "/xyz//bar"),
    ])
    func aNewBeginningOfAPath(_ path: String, _ prefix: String, _ new: String, _ expected: String) throws {
        let rule = RouteRule(route: "r", rule: "s", action: .forward([]), rewrite: URLRewrite(path: .prefix(new)))
        let state = MeshState(
            nodeName: "n", services: [Service(namespace: "shop", name: "cart", ports: [ServicePort(port: 80)])],
            routes: [ServiceRoutes(namespace: "shop", name: "cart", port: 80, matches: [RouteMatch(path: .prefix(prefix), rule: 0)], rules: [rule])])
        let tables = try Stage.tables(state)
        let scratch = RouteScratch()
        defer { withExtendedLifetime(tables) {} }
        guard case .service(let service) = withBytes("cart.shop", { host in tables.view.resolve(host: host, port: 80, clientNamespace: host) }) else { return }
        let table = try #require(withBytes("") { tables.view.routes(of: service, callersNamespace: $0) })
        let wire = try WireRequest(method: "GET", path: path, host: "h", headers: [])
        try wire.decide(table, scratch) { taken in
            let taken = try #require(taken)
            let edit = try #require(taken.rule.rewrite?.path)
            let (first, second) = taken.path(after: edit)
            #expect(string(first) + string(second) == expected)
            #expect(string(taken.query) == (path.contains("?") ? "?q" : ""))
        }
    }
}
