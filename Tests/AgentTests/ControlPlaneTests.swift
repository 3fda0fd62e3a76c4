@testable import Agent
import ControlChannel
import Discovery
import MeshModel
import Testing

@Suite struct ControlPlaneTests {
    @Test func nothingIsPublishedBeforeTheManifestsAreRead() async {
        let scene = Scene()
        await scene.plane.take(DirectoryReading(failure: "No such file or directory"))
        #expect(scene.sent.take().isEmpty)
        #expect(await scene.plane.notReady.contains("the manifests in /manifests have not been read yet"))
        let faults = await scene.plane.status.configuration.faults
        #expect(faults.map(\.reason) == ["the manifests directory cannot be read: No such file or directory"])
    }

    @Test func theFirstSnapshotIsWholeAndPodsComeBeforeIt() async throws {
        let scene = Scene()
        await scene.read(["shop.yaml": Manifest.shop()])
        let sent = scene.sent.take()
        #expect(sent.first?.kind == .podEnrol)
        #expect(sent.last?.kind == .snapshotComplete)
        #expect(sent.shards.count == ShardID.count, "node may hold shards of an earlier agent in any place")
        #expect(sent.generation == 1)

        let enrol = try #require(sent.enrolled.first)
        #expect(enrol.uid == "shop/cart-1" && enrol.networkNamespacePath == "/run/netns/cart" && enrol.cgroupPath == "/sys/fs/cgroup/cart")
        #expect(enrol.flags == [.outbound, .inbound, .failClosed])
        #expect(enrol.addresses.map(\.ipv4) == [[10, 1, 0, 5]])
        #expect(enrol.excludedOutboundPrefixes.map(\.length) == [112])
    }

    @Test func anEmptyMeshIsAGenerationToo() async {
        let scene = Scene()
        await scene.read([:])
        #expect(scene.sent.take().generation == 1)
    }

    @Test func aChangeSendsWhatChangedAndNothingTwice() async {
        let scene = Scene()
        await scene.read(["shop.yaml": Manifest.shop()])
        await scene.plane.take(.accepted(generation: 1))
        _ = scene.sent.take()

        await scene.read(["shop.yaml": Manifest.shop() + "\n# a comment"])
        #expect(scene.sent.take().isEmpty)

        await scene.read(["shop.yaml": Manifest.shop(port: 81)])
        let sent = scene.sent.take()
        #expect(sent.enrolled.isEmpty)
        #expect((1...4).contains(sent.shards.count))
        #expect(sent.generation == 2)
    }

    @Test func whileOneGenerationIsUnderWayTheNewestWaits() async {
        let scene = Scene()
        await scene.read(["shop.yaml": Manifest.shop()])
        _ = scene.sent.take()
        await scene.read(["shop.yaml": Manifest.shop(port: 81)])
        await scene.read(["shop.yaml": Manifest.shop(port: 82)])
        #expect(scene.sent.take().isEmpty)
        await scene.plane.take(.accepted(generation: 1))
        #expect(scene.sent.take().generation == 2)
        await scene.plane.take(.accepted(generation: 2))
        #expect(scene.sent.take().isEmpty)
    }

    @Test func generationsGrowOverRestartsAndSoDoesTheLastGoodConfiguration() async {
        let directory = TemporaryDirectory()
        let first = Scene(directory)
        await first.read(["shop.yaml": Manifest.shop()])
        _ = first.sent.take()

        let second = Scene(directory)
        await second.plane.take(.accepted(generation: 1))
        await second.read(["shop.yaml": "kind: ["])
        let sent = second.sent.take()
        #expect(sent.generation == 2)
        #expect(sent.enrolled.map(\.uid) == ["shop/cart-1"], "the file is broken now, so what it held stays")
        #expect(await second.plane.status.services.map(\.name) == ["cart"])
    }

    @Test func anAgentWithoutItsStateGoesOnBehindWhatNodeKeeps() async {
        let scene = Scene()
        await scene.read(["shop.yaml": Manifest.shop()])
        #expect(scene.sent.take().generation == 1)
        await scene.plane.take(.accepted(generation: 41))
        let again = scene.sent.take()
        #expect(again.generation == 42)
        #expect(again.shards.count == ShardID.count)
        await scene.plane.take(.accepted(generation: 42))
        await scene.read(["shop.yaml": Manifest.shop(port: 81)])
        #expect(scene.sent.take().generation == 43)
    }

    @Test func aRefusedGenerationIsPublishedAgainInFullOnce() async {
        let scene = Scene()
        await scene.read(["shop.yaml": Manifest.shop()])
        await scene.plane.take(.accepted(generation: 1))
        await scene.read(["shop.yaml": Manifest.shop(port: 81)])
        await scene.plane.take(.accepted(generation: 2))
        _ = scene.sent.take()

        await scene.plane.take(.refused(generation: 2, reason: "checksum"))
        let again = scene.sent.take()
        #expect(again.generation == 3)
        #expect(again.shards.count == ShardID.count)

        await scene.plane.take(.accepted(generation: 3))
        await scene.plane.take(.refused(generation: 3, reason: "checksum"))
        #expect(scene.sent.take().isEmpty, "the same shards would be refused again, for ever")
        await scene.read(["shop.yaml": Manifest.shop(port: 82)])
        let changed = scene.sent.take()
        #expect(changed.generation == 4)
        #expect(changed.shards.count == ShardID.count)
    }

    @Test func podsThatLeaveAreUnenrolledBeforeOthersCome() async {
        let scene = Scene()
        await scene.read(["shop.yaml": Manifest.shop(pod: "old")])
        _ = scene.sent.take()
        await scene.read(["shop.yaml": Manifest.shop(pod: "new")])
        let sent = scene.sent.take()
        #expect(sent.kinds.prefix(2) == [.podUnenrol, .podEnrol])
        #expect(sent.unenrolled == ["shop/old"])
    }

    @Test func podsOfAnEarlierAgentAreGivenUp() async {
        let scene = Scene()
        await scene.plane.take(.pod(PodState(uid: "before", state: .enrolled)))
        #expect(scene.sent.take().isEmpty, "nothing is known yet")
        await scene.read(["shop.yaml": Manifest.shop()])
        #expect(scene.sent.take().unenrolled == ["before"])
        await scene.plane.take(.pod(PodState(uid: "late", state: .enrolled)))
        #expect(scene.sent.take().unenrolled == ["late"])
        await scene.plane.take(.pod(PodState(uid: "late", state: .gone)))
        #expect(scene.sent.take().isEmpty)
    }

    @Test func readinessSaysWhatIsMissingUntilAllAgree() async throws {
        let scene = Scene()
        #expect(await scene.plane.notReady.count == 4)
        try await scene.greet()
        await scene.proxy(.starting)
        await scene.read(["shop.yaml": Manifest.shop()])
        #expect(await scene.plane.notReady == [
            "the proxy is starting", "generations differ: agent published 1, node accepted 0, proxy applied 0",
        ])
        await scene.proxy(.ready)
        await scene.plane.take(.accepted(generation: 1))
        #expect(await scene.plane.notReady == ["generations differ: agent published 1, node accepted 1, proxy applied 0"])
        await scene.plane.take(.applied(generation: 1))
        #expect(await scene.plane.notReady.isEmpty)
        await scene.proxy(.stale)
        #expect(await scene.plane.notReady == ["the proxy's heartbeat is older than 2000 ms"])
        await scene.proxy(.ready)
        await scene.plane.take(.refused(generation: 2, reason: "bad checksum"))
        #expect(await scene.plane.notReady == ["the proxy refused generation 2: bad checksum"])
        await scene.plane.take(.applied(generation: 2))
        #expect(await scene.plane.status.generations.refusal == nil)
    }

    @Test func podsShowWhatNodeMadeOfThem() async {
        let scene = Scene()
        let unmeshed = "\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: plain}\nspec: {nodeName: node-a}"
        await scene.read(["shop.yaml": Manifest.shop() + unmeshed])
        func pods() async -> [String] { await scene.plane.pods.map { "\($0.name) \($0.state) \($0.reason)" } }
        let plain = "plain unmeshed its namespace is not in the mesh (label weft.mesh/mode: enabled)"
        #expect(await pods() == [plain, "cart-1 pending node has not answered yet"])
        await scene.plane.take(.pod(PodState(uid: "shop/cart-1", state: .refused, reason: "it is the host's namespace")))
        #expect(await pods() == [plain, "cart-1 refused it is the host's namespace"])
        await scene.plane.take(.pod(PodState(uid: "shop/cart-1", state: .enrolled, pod: 4, namespaceCookie: 9, listeners: 4, olderConnections: 2)))
        let pod = await scene.plane.pods[1]
        #expect(pod.state == "enrolled" && pod.pod == 4 && pod.namespaceCookie == 9 && pod.listeners == 4 && pod.olderConnections == 2)
        #expect(pod.reason == "" && pod.addresses == ["10.1.0.5"])
    }
}
