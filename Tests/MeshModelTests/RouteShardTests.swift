import Testing

@testable import MeshModel

@Suite struct RouteShardTests {
    @Test func aRuleComesBackAsItWent() throws {
        let table = try #require(try tables([SampleMesh.routes(of: cart, number: 4)]).first)
        #expect(table.port == 80 && table.callersNamespace.isEmpty && !table.isGRPC && table.matchCount == 5 && !table.hasIndex)
        let rule = table.rule(at: 0)
        #expect(string(rule.route) == "HTTPRoute shop/r4" && string(rule.rule) == "spec.rules[0]" && !rule.isGRPC && rule.redirect == nil)
        #expect(described(rule.requestHeaders) == ["remove x-c: ", "set x-a: 1", "add x-b: 2 3"] && rule.responseHeaders.isEmpty)
        #expect(rule.backendCount == 2 && string(rule.backend(at: 0).name) == "cart" && string(rule.backend(at: 0).namespace) == "shop")
        #expect(rule.backend(at: 0).port == 80 && rule.backend(at: 0).weight == 99 && rule.backend(at: 0).requestHeaders.count == 3)
        #expect(rule.backend(at: 1).isUnresolved && rule.backend(at: 1).name.isEmpty && rule.backend(at: 1).responseHeaders.count == 3)
        #expect(string(rule.rewrite?.hostname) == "inner.example" && string(rule.rewrite?.path?.text) == "/new" && rule.rewrite?.path?.isPrefix == true)
        #expect(rule.mirrorCount == 1 && string(rule.mirror(at: 0).backend.name) == "shadow" && rule.mirror(at: 0).backend.port == 81)
        #expect(rule.timeouts == RouteTimeouts(requestMilliseconds: 1_500, backendRequestMilliseconds: 0))
        let retry = try #require(rule.retry)
        #expect(retry.grpcStatuses == 1 << 14 && retry.attempts == 2 && retry.backoffMilliseconds == 25 && retry.takes(status: 503) && !retry.takes(status: 500))
        let session = try #require(rule.session)
        #expect(session.usesCookie && string(session.name) == "sid" && session.absoluteTimeoutSeconds == 3_600 && session.idleTimeoutSeconds == 60 && session.isPermanent)

        let other = table.rule(at: 1)
        let redirect = try #require(other.redirect)
        #expect(string(redirect.scheme) == "https" && string(redirect.hostname) == "outer.example" && redirect.port == 8443 && redirect.status == 308)
        #expect(string(redirect.path?.text) == "/there" && redirect.path?.isPrefix == false)
        let cors = try #require(other.cors)
        #expect(string(cors.origins[0]) == "https://*.example.com" && string(cors.methods[1]) == "PUT" && string(cors.headers[0]) == "x-d")
        #expect(string(cors.exposedHeaders[0]) == "x-e" && cors.allowsCredentials && cors.maxAgeSeconds == 7)
        #expect(other.isNeededByReply && other.timeouts == RouteTimeouts() && other.retry == nil && other.session == nil)
        let bare = table.rule(at: 2)
        #expect(bare.isGRPC && bare.backend(chance: 7) == nil && bare.session?.usesCookie == false && bare.rewrite == nil && bare.cors == nil)
    }

    @Test func pathsAreInNormalForm() throws {
        let paths: [PathPattern] = [.exact("/a/%7e%2f"), .exact("/a/../b"), .prefix("/a/"), .prefix("/"), .prefix(""), .prefix("//")]
        let table = try #require(try tables([routes(paths.map { RouteMatch(path: $0, rule: 0) })]).first)
        #expect((0..<6).map { string(table.match(at: $0).pathText) } == ["/a/~%2F", "/b", "/a", "", "", ""])
        #expect((0..<6).map { table.match(at: $0).path } == [.exact, .exact, .prefix, .any, .any, .any])
    }

    @Test func callersOfANamespaceHaveTheirOwn() throws {
        var own = routes([], port: 80)
        own.callersNamespace = "lab"
        let all = [routes([], port: 81), routes([RouteMatch(rule: 0)], port: 80), own]
        let view = try shard(MeshState(nodeName: "n", services: [cart], routes: all))
        let service = try #require(try serviceView())
        func matches(_ port: UInt16, from callers: String) -> Int? {
            withBytes(callers) { view.routes(of: service, port: port, callersNamespace: $0)?.matchCount }
        }
        #expect(matches(80, from: "lab") == 0 && matches(80, from: "shop") == 1 && matches(80, from: "") == 1)
        #expect(matches(81, from: "lab") == 0 && matches(82, from: "lab") == nil)
    }

    /// What nobody could run, or what would split a message, never becomes a shard; the state before it stays.
    @Test func whatCannotBeIsRefused() {
        func fault(_ change: (inout ServiceRoutes) -> Void) -> SnapshotFault? {
            var one = routes([RouteMatch(rule: 0)])
            change(&one)
            var writer = SnapshotWriter()
            do throws(SnapshotFault) {
                _ = try writer.update(MeshState(nodeName: "n", routes: [one]))
                return nil
            } catch { return error }
        }
        #expect(fault { _ in } == nil)
        #expect(fault { $0.matches[0].path = .expression("(") } == .expression("(", ExpressionFault(position: 0, reason: .unbalanced)))
        #expect(fault { $0.matches[0].rule = 1 } == .missingRule("shop/cart"))
        #expect(fault { $0.rules[0].requestHeaders = FieldEdits(set: [.init(name: "a", value: "b\r\nc: d")]) } == .text("b\r\nc: d"))
        #expect(fault { $0.rules[0].responseHeaders = FieldEdits(remove: ["a b"]) } == .text("a b"))
        #expect(fault { $0.rules[0].rewrite = URLRewrite(path: .full("/a b")) } == .text("/a b"))
        #expect(fault { $0.rules[0].session = SessionRule(name: "a;b") } == .text("a;b"))
        #expect(fault { $0.rules[0].cors = CORSRule(methods: ["GET\n"]) } == .text("GET\n"))
    }

    @Test func oneChangedRouteIsOneShard() throws {
        var state = SampleMesh.many(services: 300)
        var writer = SnapshotWriter()
        _ = try writer.update(state)
        #expect(try writer.update(state).shards.isEmpty)
        state.routes[7].rules[0].timeouts.requestMilliseconds = 9
        let change = try writer.update(state)
        #expect(change.shards.map(\.id) == [ShardID(family: .routes, index: UInt16(ShardHash.bucket(ShardHash.of(namespace: "ns7", name: "s7"))))])
        // An endpoint's coming and going leaves routes alone.
        SampleMesh.service(&state, "ns7", "s7") { $0.ports[0].endpoints = [] }
        #expect(try writer.update(state).shards.allSatisfy { $0.id.family != .routes })
        state.routes = []
        #expect(try writer.update(state).shards.allSatisfy { $0.id.family == .routes && $0.bytes.isEmpty })
    }

    @Test func theBackendsShareByWeight() throws {
        var one = routes([RouteMatch(rule: 0)])
        one.rules[0].action = .forward([0, 1, 99].map { WeightedBackend(.service(namespace: "shop", name: "b\($0)", port: 80), weight: $0) })
        let rule = try #require(try tables([one]).first).rule(at: 0)
        var counts: [String: Int] = [:]
        let step = UInt64.max / 100_000
        for chance in stride(from: UInt64(0), to: 100_000 * step, by: Int(step)) { counts[string(rule.backend(chance: chance)?.name), default: 0] += 1 }
        #expect(counts["b0"] == nil && (999...1_001).contains(counts["b1"] ?? 0) && counts["b1"]! + counts["b99"]! == 100_000)
    }

    // MARK: Aids

    private var cart: Service { Service(namespace: "shop", name: "cart", ports: [ServicePort(port: 80), ServicePort(port: 81)]) }

    private func routes(_ matches: [RouteMatch], port: UInt16 = 80) -> ServiceRoutes {
        ServiceRoutes(namespace: "shop", name: "cart", port: port, matches: matches, rules: [RouteRule(route: "HTTPRoute shop/r", rule: "spec.rules[0]", action: .forward([]))])
    }

    private func shard(_ state: MeshState, _ family: ShardFamily = .routes) throws -> ShardView {
        var writer = SnapshotWriter()
        let image = try #require(try writer.update(state).shards.first { $0.id.family == family })
        // Views borrow: the memory of this test's shards lives as long as the process.
        return Unmanaged.passRetained(try ShardMemory(copying: image.bytes)).takeUnretainedValue().view
    }

    private func serviceView() throws -> ServiceView? { try shard(MeshState(nodeName: "n", services: [cart]), .services).service(at: 0) }

    private func tables(_ routes: [ServiceRoutes]) throws -> [RouteTableView] {
        let view = try shard(MeshState(nodeName: "n", services: [cart], routes: routes))
        return (0..<view.routeTableCount).map { view.routeTable(at: $0) }
    }

    private func described(_ edits: FieldEditsView) -> [String] {
        (0..<edits.count).map { "\(edits[$0].kind) \(string(edits[$0].name)): \(string(edits[$0].value))" }
    }

    private func string(_ bytes: UnsafeRawBufferPointer?) -> String { bytes.map { String(decoding: $0, as: UTF8.self) } ?? "nil" }
}
