import Testing

@testable import MeshModel

@Suite struct SnapshotWriterTests {
    @Test func anUnchangedStatePublishesNothing() throws {
        var writer = SnapshotWriter()
        let state = SampleMesh.many(services: 50)
        #expect(try writer.update(state).generation == 1)
        let again = try writer.update(state)
        #expect(again.generation == 1 && again.shards.isEmpty)
    }

    @Test func theOrderOfTheStateDoesNotMatter() throws {
        var writer = SnapshotWriter()
        var state = SampleMesh.many(services: 200, endpointsEach: 3)
        _ = try writer.update(state)
        var random = SystemRandomNumberGenerator()
        state.services.shuffle(using: &random)
        state.workloads.shuffle(using: &random)
        for place in state.services.indices { state.services[place].ports[0].endpoints.shuffle(using: &random) }
        #expect(try writer.update(state).shards.isEmpty)
    }

    @Test func oneEndpointsReadinessRewritesOneShard() throws {
        var writer = SnapshotWriter()
        var state = SampleMesh.many(services: 1_000)
        _ = try writer.update(state)
        SampleMesh.service(&state, "ns7", "s77") { $0.ports[0].endpoints[0].isReady = false }
        let change = try writer.update(state)
        #expect(change.generation == 2)
        #expect(change.shards.map(\.id.family) == [.services])
        #expect(change.shards[0].bytes.count < 4_096)
    }

    @Test func aNewEndpointRewritesItsServiceAndItsAddress() throws {
        var writer = SnapshotWriter()
        var state = SampleMesh.many(services: 1_000)
        _ = try writer.update(state)
        SampleMesh.service(&state, "ns7", "s77") { $0.ports[0].endpoints.append(Endpoint(address: IPAddress("10.200.0.1")!, port: 8080)) }
        #expect(try writer.update(state).shards.map(\.id.family).sorted { $0.rawValue < $1.rawValue } == [.services, .addresses])
    }

    @Test func anEmptiedBucketIsPublishedEmptyOnce() throws {
        var writer = SnapshotWriter()
        _ = try writer.update(SampleMesh.many(services: 1))
        let change = try writer.update(MeshState(nodeName: "n0", zone: "z0"))
        #expect(!change.shards.isEmpty && change.shards.allSatisfy { $0.bytes.isEmpty })
        #expect(writer.current.isEmpty)
        #expect(try writer.update(MeshState(nodeName: "n0", zone: "z0")).shards.isEmpty)
    }

    @Test func aStateThatCannotBeCompiledChangesNothing() throws {
        var writer = SnapshotWriter()
        var state = SampleMesh.many(services: 10)
        _ = try writer.update(state)
        let before = writer.current
        state.services.append(Service(namespace: "ns", name: String(repeating: "x", count: 300)))
        #expect(throws: SnapshotFault.limit("hostBytesMax")) { try writer.update(state) }
        #expect(writer.current == before && writer.generation == 1)
    }

    @Test func theFirstOfTwoServicesWithOneNameWins() throws {
        var writer = SnapshotWriter()
        let state = MeshState(
            nodeName: "n", services: [
                Service(namespace: "shop", name: "cart", ports: [ServicePort(port: 1)]),
                Service(namespace: "shop", name: "cart", ports: [ServicePort(port: 2)]),
            ])
        let image = try writer.update(state).shards[0]
        let memory = try ShardMemory(copying: image.bytes)
        #expect(memory.view.serviceCount == 1 && memory.view.service(at: 0).port(at: 0).number == 1)
        withExtendedLifetime(memory) {}
    }

    @Test func generationsContinue() throws {
        var writer = SnapshotWriter(continuing: 41)
        #expect(try writer.update(SampleMesh.many(services: 1)).generation == 42)
    }

    @Test func tenThousandServicesCompileInTime() throws {
        var writer = SnapshotWriter()
        var state = SampleMesh.many(services: 10_000)
        let clock = ContinuousClock()
        let first = try clock.measure { _ = try writer.update(state) }
        SampleMesh.service(&state, "ns7", "s4447") { $0.ports[0].endpoints[0].isReady = false }
        var changed = 0
        let second = try clock.measure { changed = try writer.update(state).shards.count }
        #expect(changed == 1)
        // Budgets of the optimised build are 300 ms and 30 ms; unoptimised tests on a busy machine get ten times that.
        #expect(first < .milliseconds(3_000) && second < .milliseconds(1_000), "\(first), \(second)")
    }
}
