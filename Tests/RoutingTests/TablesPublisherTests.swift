import Glibc
import MeshModel
import Synchronization
import Testing

@testable import Routing

@Suite struct TablesPublisherTests {
    @Test func beforeTheFirstSnapshotNothingIsKnown() {
        let publisher = TablesPublisher(workers: 2, states: EndpointStates(capacity: 8))
        let view = publisher.enter(worker: 1)
        #expect(view.generation == 0 && view.resolve("10.96.0.1", 80).text == "unknown")
    }

    @Test func oldTablesLiveUntilTheLastWorkerHasLeft() throws {
        var sample = RoutingSample()
        var state = Shop.state
        let publisher = TablesPublisher(workers: 2, states: sample.states)
        weak var first: Tables?
        do {
            let tables = try sample.tables(state)
            first = tables
            publisher.publish(tables)
        }
        let view = publisher.enter(worker: 0)
        _ = publisher.enter(worker: 1)
        #expect(publisher.isAppliedEverywhere && publisher.reclaim())

        state.services.removeAll()
        publisher.publish(try sample.tables(state))
        #expect(!publisher.isAppliedEverywhere)
        #expect(publisher.enter(worker: 1).generation == 2)
        #expect(!publisher.reclaim() && first != nil)
        #expect(view.resolve("10.96.0.1", 80).text == "cart.shop:80")
        #expect(publisher.enter(worker: 0).resolve("10.96.0.1", 80).text == "unknown")
        #expect(publisher.isAppliedEverywhere && publisher.reclaim() && first == nil)
    }

    @Test func aWorkerThatHasLeftHoldsNothing() throws {
        var sample = RoutingSample()
        let publisher = TablesPublisher(workers: 2, states: sample.states)
        publisher.leave(worker: 1)
        publisher.publish(try sample.tables(Shop.state))
        _ = publisher.enter(worker: 0)
        #expect(publisher.reclaim())
    }

    /// Generations are differences: a refused shard holds back its generation and those that follow, until a good one has
    /// come; then nothing of them is missing.
    @Test func aRefusedShardHoldsBackEverything() throws {
        var sample = RoutingSample()
        let first = try sample.writer.update(Shop.state)
        let bad = first.shards[0].id
        for image in first.shards.dropFirst() { sample.builder.stage(image.id, try ShardMemory(copying: image.bytes)) }
        sample.builder.refuse(bad)
        #expect(throws: RoutingFault.incomplete(missing: bad)) { try sample.builder.commit(generation: 1) }
        #expect(throws: RoutingFault.incomplete(missing: bad)) { try sample.builder.commit(generation: 2) }

        sample.builder.stage(bad, try ShardMemory(copying: first.shards[0].bytes))
        let tables = try sample.builder.commit(generation: 3)
        #expect(tables.view.resolve("10.96.0.1", 80).text == "cart.shop:80")
        #expect(tables.view.resolve("10.1.0.4", 80).text == "pod lonely")
        #expect(tables.view.generation == 3)
    }

    /// Two readers look up without pause while 200 generations come and go; each view stays whole.
    @Test func readersNeverSeeATornTable() throws {
        var sample = RoutingSample()
        let publisher = TablesPublisher(workers: 2, states: sample.states)
        publisher.publish(try sample.tables(Shop.state))
        let readers = (0..<2).map { Reader(publisher, worker: $0) }
        for reader in readers { reader.start() }
        var state = Shop.state
        for round in 0..<200 {
            if round % 2 == 0 { state.services[0].addresses = [IPAddress(ipv4: UInt32(round + 1))] } else { state = Shop.state }
            publisher.publish(try sample.tables(state))
            usleep(200)
        }
        for reader in readers { reader.stop() }
        for reader in readers { #expect(reader.faults == 0 && reader.lookups > 0) }
        publisher.reclaim()
        #expect(publisher.retiredCount == 0 && sample.states.slotsInUse == 6)
    }
}

private final class Reader: @unchecked Sendable {
    private let publisher: TablesPublisher
    private let worker: Int
    private let isStopped = Atomic(false)
    private var thread = pthread_t()
    private(set) var lookups = 0
    private(set) var faults = 0

    init(_ publisher: TablesPublisher, worker: Int) {
        self.publisher = publisher
        self.worker = worker
    }

    func start() {
        let context = Unmanaged.passRetained(self).toOpaque()
        let started = pthread_create(&thread, nil, { context in
            Unmanaged<Reader>.fromOpaque(context!).takeRetainedValue().run()
            return nil
        }, context)
        precondition(started == 0)
    }

    func stop() {
        isStopped.store(true, ordering: .relaxed)
        pthread_join(thread, nil)
        publisher.leave(worker: worker)
    }

    private func run() {
        while !isStopped.load(ordering: .relaxed) {
            let view = publisher.enter(worker: worker)
            // The service is always there by name, whatever its address is now.
            guard case .service(let destination) = view.resolve(host: "cart.shop"), destination.text == "cart.shop:80",
                destination.readyCount == 2, destination.slots.allSatisfy({ $0 < 16 })
            else {
                faults += 1
                continue
            }
            destination.state(at: 0).begin()
            destination.state(at: 0).finish()
            lookups += 1
        }
    }
}
