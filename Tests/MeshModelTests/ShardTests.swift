import Glibc
import Testing

@testable import MeshModel

@Suite struct ShardTests {
    /// Records are bytes shared by two processes: no padding, fixed sizes.
    @Test func recordsHaveTheirSizes() {
        #expect(MemoryLayout<ShardHeader>.stride == 128)
        #expect(MemoryLayout<ServiceRecord>.stride == 40)
        #expect(MemoryLayout<PolicyRecord>.stride == 136)
        #expect(MemoryLayout<MatchRecord>.stride == 48)
        #expect(MemoryLayout<RateLimitRecord>.stride == 88)
        #expect(MemoryLayout<FaultRecord>.stride == 64)
        #expect(MemoryLayout<ConditionRecord>.stride == 16)
        #expect(MemoryLayout<PortRecord>.stride == 32)
        #expect(MemoryLayout<EndpointRecord>.stride == 24)
        #expect(MemoryLayout<AddressRecord>.stride == 32)
        #expect(MemoryLayout<ServiceReferenceRecord>.stride == 24)
        #expect(MemoryLayout<AccessSubjectRecord>.stride == 32)
        #expect(MemoryLayout<AccessRuleRecord>.stride == 32)
        #expect(MemoryLayout<AccessTermRecord>.stride == 16)
        #expect(MemoryLayout<RoutedServiceRecord>.stride == 32)
        #expect(MemoryLayout<RouteTableRecord>.stride == 48)
        #expect(MemoryLayout<RouteMatchRecord>.stride == 48)
        #expect(MemoryLayout<RouteRuleRecord>.stride == 136)
        #expect(MemoryLayout<RouteFieldRecord>.stride == 20)
        #expect(MemoryLayout<RouteBackendRecord>.stride == 48)
        #expect(MemoryLayout<FieldEditRecord>.stride == 20)
        #expect(MemoryLayout<CORSRecord>.stride == 40)
        #expect(MemoryLayout<WorkloadRecord>.stride == WorkloadRecord.stringCount * 8 + 8)
    }

    @Test func aServiceComesBackAsItWent() throws {
        let endpoints = [
            Endpoint(address: IPAddress("10.1.0.9")!, port: 8080, zone: "z1", nodeName: "n1"),
            Endpoint(address: IPAddress("10.1.0.2")!, port: 8080, isReady: false),
            Endpoint(address: IPAddress("fd00::5")!, port: 8080, zone: "z2", nodeName: "n2"),
            Endpoint(address: IPAddress("10.1.0.3")!, port: 8080, isReady: true, isTerminating: true),
            Endpoint(address: IPAddress("10.1.0.9")!, port: 8080),
        ]
        let service = Service(
            namespace: "shop", name: "cart", isHeadless: true,
            ports: [ServicePort(name: "web", port: 80, protocolHint: .http2, endpoints: endpoints), ServicePort(name: "admin", port: 81)])
        let view = try shard(of: .services, MeshState(nodeName: "n1", zone: "z1", services: [service]))
        let read = try #require(find(view, "shop", "CART"))
        #expect(string(read.host) == "cart.shop.svc.cluster.local")
        #expect(string(read.name) == "cart" && string(read.namespace) == "shop" && read.isHeadless)
        let port = try #require(read.port(numbered: 80))
        #expect(string(port.name) == "web" && port.protocolHint == .http2)
        #expect(port.endpointCount == 4 && port.readyCount == 2)
        #expect((0..<4).map { port.endpoint(at: $0).address.description } == ["10.1.0.9", "fd00::5", "10.1.0.2", "10.1.0.3"])
        #expect(port.endpoint(at: 0).isSameNode && port.endpoint(at: 0).isSameZone && !port.endpoint(at: 1).isSameNode)
        #expect(port.endpoint(at: 3).isTerminating && !port.endpoint(at: 3).isReady)
        #expect(port.place(of: IPAddress("10.1.0.3")!, port: 8080) == 3)
        #expect(port.place(of: IPAddress("10.1.0.3")!, port: 8081) == nil)
        #expect(read.port(numbered: 81)?.endpointCount == 0 && read.port(numbered: 82) == nil)
        #expect(find(view, "shop", "car") == nil && find(view, "sho", "cart") == nil)
    }

    @Test func aWorkloadComesBackAsItWent() throws {
        let address = IPAddress("fd00::7")!
        let workload = Workload(
            uid: "u-1", name: "cart-5d-x", namespace: "shop", serviceAccount: "cart", nodeName: "n1", addresses: [address],
            workloadName: "cart", app: "cart", version: "v2", canonicalService: "cart", canonicalRevision: "v2", isMeshed: true, isStrict: true,
            failsOpen: true, cluster: "k")
        let view = try shard(of: .addresses, MeshState(nodeName: "n1", trustDomain: "mesh.example", workloads: [workload]))
        #expect(string(view.trustDomain) == "mesh.example")
        let read = try #require(view.address(address, hash: ShardHash.of(address))?.workload)
        let texts = [read.uid, read.name, read.namespace, read.serviceAccount, read.nodeName, read.workloadName, read.app, read.version]
        #expect(texts.map(string) == ["u-1", "cart-5d-x", "shop", "cart", "n1", "cart", "cart", "v2"])
        #expect([read.canonicalService, read.canonicalRevision, read.cluster].map(string) == ["cart", "v2", "k"])
        #expect(read.isMeshed && read.isReady && read.isSameNode && read.isStrict && !read.failsOpen)
        #expect(view.address(IPAddress("fd00::8")!, hash: ShardHash.of(address)) == nil)
    }

    @Test func accessRulesComeBackInTheOrderOfTheirSteps() throws {
        let access = SampleMesh.access(to: "u-1")
        let shuffled = WorkloadAccess(uid: "u-1", rules: access.rules.reversed())
        let view = try shard(of: .policies, MeshState(nodeName: "n1", access: [shuffled]))
        let read = try #require(withBytes("u-1") { view.accessRules(uid: $0, hash: ShardHash.of(uid: $0)) })
        #expect((0..<read.ruleCount).map { read.rule(at: $0).step } == AccessStep.allCases)
        #expect(read.hasAudit && string(read.rule(at: 3).policy) == "shop/p3" && string(read.rule(at: 3).field) == "spec.rules[3]")
        let header = try #require((0..<read.rule(at: 0).termCount).map { read.rule(at: 0).term(at: $0) }.first { $0.subject == .header })
        #expect(string(header.name) == "x-text" && string(header.text) == "-10")
        #expect(withBytes("u-2") { view.accessRules(uid: $0, hash: ShardHash.of(uid: $0)) } == nil)
    }

    // MARK: Descriptors

    @Test func aSealedMemoryIsAdopted() throws {
        var writer = SnapshotWriter()
        for image in try writer.update(SampleMesh.many(services: 3)).shards {
            let memory = try ShardMemory(adopting: image.sealedMemory(), expected: image.id)
            #expect(memory.view.id == image.id && memory.view.byteCount == image.bytes.count)
        }
    }

    @Test func aShardForAnotherPlaceIsRefused() throws {
        var writer = SnapshotWriter()
        let image = try writer.update(SampleMesh.many(services: 1)).shards[0]
        var other = image.id
        other.index ^= 1
        #expect(throws: SnapshotFault.wrongPlace) { try ShardMemory(adopting: image.sealedMemory(), expected: other) }
    }

    /// What is not sealed could change after it was checked.
    @Test func anUnsealedFileIsRefused() throws {
        let descriptor = open("/proc/self/exe", O_RDONLY | O_CLOEXEC)
        #expect(throws: SnapshotFault.notSealed) {
            try ShardMemory(adopting: descriptor, expected: ShardID(family: .services, index: 0))
        }
        #expect(fcntl(descriptor, F_GETFD) == -1, "the descriptor was kept open")
    }

    // MARK: Aids

    private func shard(of family: ShardFamily, _ state: MeshState) throws -> ShardView {
        var writer = SnapshotWriter()
        let image = try #require(try writer.update(state).shards.first { $0.id.family == family })
        return try kept(ShardMemory(copying: image.bytes)).view
    }

    /// Views borrow: the memory of this test's shards lives as long as the process.
    private func kept(_ memory: ShardMemory) -> ShardMemory { Unmanaged.passRetained(memory).takeUnretainedValue() }

    private func find(_ view: ShardView, _ namespace: String, _ name: String) -> ServiceView? {
        withBytes(namespace) { namespace in
            withBytes(name) { view.service(hash: ShardHash.of(namespace: namespace, name: $0), namespace: namespace, name: $0) }
        }
    }
}
