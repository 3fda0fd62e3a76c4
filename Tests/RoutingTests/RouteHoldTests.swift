import MeshModel
import Testing

@testable import Routing

/// A request sees one generation: its reply is edited by the rule that took it, whatever was published meanwhile.
@Suite struct RouteHoldTests {
    private func state(_ version: String) -> MeshState {
        var state = Shop.state
        state.routes = [
            ServiceRoutes(
                namespace: "shop", name: "cart", port: 80, matches: [RouteMatch(rule: 0)],
                rules: [
                    RouteRule(
                        route: "HTTPRoute shop/\(version)", rule: "r",
                        action: .forward([WeightedBackend(.service(namespace: "shop", name: version, port: 80))]))
                ])
        ]
        return state
    }

    private func rule(_ tables: TablesView) throws -> RouteRuleView {
        guard case .service(let cart) = tables.resolve("10.96.0.1", 80) else { throw RoutingFault.endpointsExhausted }
        return try #require(withBytes("shop") { tables.routes(of: cart, callersNamespace: $0) }).rule(at: 0)
    }

    @Test func aHeldRuleOutlivesItsGeneration() throws {
        var sample = RoutingSample()
        let publisher = TablesPublisher(workers: 2, states: sample.states)
        let holds = sample.states.holds
        publisher.publish(try sample.tables(state("v1")))
        var view = publisher.enter(worker: 0)
        _ = publisher.enter(worker: 1)
        let first = try rule(view)
        var hold = view.hold(first, first.backend(at: 0), worker: 0)
        var second = view.hold(first, nil, worker: 0)

        for version in ["v2", "v3"] {
            publisher.publish(try sample.tables(state(version)))
            view = publisher.enter(worker: 0)
            _ = publisher.enter(worker: 1)
            #expect(publisher.reclaim(), "a hold keeps a shard, no generation")
        }
        #expect(holds.heldCount == 1, "only what is held is kept")
        #expect(string(try rule(view).route) == "HTTPRoute shop/v3")
        let held = try #require(view.held(hold))
        #expect(string(held.rule.route) == "HTTPRoute shop/v1" && held.backend.map { string($0.name) } == "v1")
        #expect(try #require(view.held(second)).backend == nil)

        view.release(&hold, worker: 0)
        publisher.reclaim()
        #expect(hold.isNone && holds.heldCount == 1)
        view.release(&hold, worker: 0)
        view.release(&second, worker: 0)
        publisher.reclaim()
        #expect(holds.heldCount == 0 && view.held(second) == nil)
    }

    @Test func slotsAreUsedAgain() throws {
        var sample = RoutingSample()
        let publisher = TablesPublisher(workers: 1, states: sample.states)
        // Many more generations than there are slots would need half a minute; what is given back must come again.
        for number in 0..<300 {
            publisher.publish(try sample.tables(state("v\(number)")))
            let view = publisher.enter(worker: 0)
            var hold = view.hold(try rule(view), nil, worker: 0)
            #expect(hold.slot < 4, "slot \(hold.slot) in generation \(number)")
            view.release(&hold, worker: 0)
        }
    }
}
