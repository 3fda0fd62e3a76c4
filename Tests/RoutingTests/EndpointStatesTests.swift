import MeshModel
import Testing

@testable import Routing

@Suite struct EndpointStatesTests {
    private func cart(_ tables: Tables) throws -> ServiceDestination {
        guard case .service(let destination) = tables.view.resolve("10.96.0.1", 80) else { throw Missing() }
        return destination
    }
    private struct Missing: Error {}

    private func change(_ state: inout MeshState, _ body: (inout [Endpoint]) -> Void) { body(&state.services[0].ports[0].endpoints) }

    @Test func anEndpointKeepsItsSlotWhileItExists() throws {
        var sample = RoutingSample()
        var state = Shop.state
        let first = try sample.tables(state)
        let before = try cart(first).slots
        #expect(Set(before).count == 2)
        // Another endpoint sorts before them, one turns unready: places move, slots do not.
        change(&state) {
            $0[0].isReady = false
            $0.append(Endpoint(address: IPAddress("10.0.0.1")!, port: 8080))
        }
        let second = try sample.tables(state)
        let after = try cart(second)
        #expect(after.readyCount == 2)
        #expect(after.slot(at: after.port.place(of: IPAddress("10.1.0.1")!, port: 8080)!) == before[0])
        #expect(after.slot(at: after.port.place(of: IPAddress("10.1.0.2")!, port: 8080)!) == before[1])
        #expect(!before.contains(after.slot(at: after.port.place(of: IPAddress("10.0.0.1")!, port: 8080)!)))
    }

    @Test func aSlotIsFreedOnceNothingUsesIt() throws {
        var sample = RoutingSample()
        var state = Shop.state
        let publisher = TablesPublisher(workers: 1, states: sample.states)
        publisher.publish(try sample.tables(state))
        guard case .service(let destination) = publisher.enter(worker: 0).resolve("10.96.0.1", 80) else { throw Missing() }
        let kept = destination.state(at: 0), used = destination.slots[0]
        kept.begin()
        // Three endpoints and three ports.
        #expect(sample.states.slotsInUse == 6)

        change(&state) { $0.removeAll() }
        publisher.publish(try sample.tables(state))
        // The worker still reads the older tables.
        #expect(sample.states.slotsInUse == 6)
        _ = publisher.enter(worker: 0)
        #expect(publisher.reclaim())
        // Of the two removed endpoints one still has a request.
        #expect(sample.states.slotsInUse == 5)
        kept.finish()
        publisher.reclaim()
        #expect(sample.states.slotsInUse == 4)

        change(&state) { $0.append(Endpoint(address: IPAddress("10.1.0.9")!, port: 1)) }
        publisher.publish(try sample.tables(state))
        #expect(sample.states.slotsInUse == 5)
        guard case .service(let next) = publisher.enter(worker: 0).resolve("10.96.0.1", 80) else { throw Missing() }
        #expect(next.state(at: 0).inFlight == 0)
        _ = used
    }

    @Test func requestsInFlightAreSharedByGenerations() throws {
        var sample = RoutingSample()
        var state = Shop.state
        let first = try sample.tables(state)
        let old = try cart(first).state(at: 1)
        old.begin()
        old.begin()
        change(&state) { $0[0].isReady = false }
        let second = try sample.tables(state)
        // 10.1.0.2 is now the only ready one, and first.
        #expect(try cart(second).state(at: 0).inFlight == 2)
        try cart(second).state(at: 0).finish()
        #expect(old.inFlight == 1)
        old.finish()
    }

    @Test func whenSlotsRunOutTheOldTablesStay() throws {
        var sample = RoutingSample(states: EndpointStates(capacity: 6))
        var state = Shop.state
        let first = try sample.tables(state)
        change(&state) { $0.append(Endpoint(address: IPAddress("10.0.0.1")!, port: 8080)) }
        #expect(throws: RoutingFault.endpointsExhausted) { try sample.tables(state) }
        sample.states.sweep()
        #expect(sample.states.slotsInUse == 6)
        #expect(try cart(first).slots.count == 2)
    }

    @Test func statesDoNotShareCacheLines() {
        let states = EndpointStates(capacity: 8)
        let first = states.state(0).line, second = states.state(1).line
        #expect(second - first == 64 && Int(bitPattern: first) % 64 == 0)
    }
}
