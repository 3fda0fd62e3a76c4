import CLinux
import ControlChannel
import Glibc
import Testing
@testable import Node

@Suite struct BackoffTests {
    @Test func restartsAtOnceAndSlowsDownInACrashLoop() {
        var backoff = Backoff(), pauses: [UInt64] = []
        for _ in 0..<8 { pauses.append(backoff.pause(started: 1_000, ended: 1_050)) }
        #expect(pauses == [0, 100, 200, 400, 800, 1_600, 2_000, 2_000])
    }

    @Test func aHealthyLifeIsForgiven() {
        var backoff = Backoff()
        for _ in 0..<5 { _ = backoff.pause(started: 0, ended: 1) }
        #expect(backoff.pause(started: 0, ended: Backoff.healthyMilliseconds) == 0)
        #expect(backoff.pause(started: 20_000, ended: 20_001) == 100)
    }

    @Test func aThousandCrashesDoNotOverflow() {
        var backoff = Backoff()
        for _ in 0..<1_000 { _ = backoff.pause(started: 0, ended: 1) }
        #expect(backoff.pause(started: 0, ended: 1) == Backoff.pauseMillisecondsMax)
    }
}

@Suite struct PulseTests {
    private let now: UInt64 = 100_000
    private func stamp(aged milliseconds: UInt64) -> UInt64 { now - milliseconds }

    @Test func oneFreshWorkerIsEnoughToBeAlive() {
        let limit = Limits.heartbeatAgeMilliseconds
        #expect(ProxyPulse.judge(stamps: [stamp(aged: 100), stamp(aged: limit + 1)], started: 50_000, now: now) == .alive)
        #expect(ProxyPulse.judge(stamps: [stamp(aged: limit)], started: 50_000, now: now) == .alive)
        #expect(ProxyPulse.judge(stamps: [stamp(aged: limit + 1), stamp(aged: limit + 2)], started: 50_000, now: now) == .stale)
    }

    @Test func oneHangingWorkerIsEnoughToBeHung() {
        let limit = Limits.hangMilliseconds
        #expect(ProxyPulse.judge(stamps: [stamp(aged: 100), stamp(aged: limit + 1)], started: 50_000, now: now) == .hung)
        #expect(ProxyPulse.judge(stamps: [stamp(aged: 100), stamp(aged: limit)], started: 50_000, now: now) == .alive)
    }

    @Test func aNewProxyIsNotBlamedForStampsOfTheLast() {
        #expect(ProxyPulse.judge(stamps: [10, 0], started: stamp(aged: 1_000), now: now) == .stale)
        #expect(ProxyPulse.judge(stamps: [10, 0], started: stamp(aged: Limits.hangMilliseconds + 1), now: now) == .hung)
    }

    @Test func aStampFromTheFutureIsFresh() {
        #expect(ProxyPulse.judge(stamps: [200_000], started: 0, now: now) == .alive)
    }
}

@Suite struct ConnectionTableTests {
    private let header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

    @Test func countsEstablishedConnectionsWithOthers() {
        let table = header + """
               0: 0100007F:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
               1: 0200630A:8F2A 0100630A:1F90 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1
               2: 0100007F:8F2A 0100007F:3A99 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 20 4 30 10 -1
               3: 0200630A:8F2A 0200630A:1F90 01 00000000:00000000 00:00000000 00000000     0        0 4 1 0 20 4 30 10 -1
               4: 0200630A:8F2B 0100630A:1F90 06 00000000:00000000 00:00000000 00000000     0        0 0 1 0 20 4 30 10 -1

            """
        #expect(ConnectionTable.establishedWithOthers(table) == 1)
    }

    @Test func knowsLoopbackInIPv6() {
        func line(_ local: String, _ remote: String) -> String { "   0: \(local):0050 \(remote):9C40 01 00000000:00000000 00:00000000 00000000 0 0 1\n" }
        let pod = "000099FD000000000000000002000000", other = "000099FD000000000000000001000000"
        #expect(ConnectionTable.establishedWithOthers(header + line(pod, other)) == 1)
        #expect(ConnectionTable.establishedWithOthers(header + line(pod, "00000000000000000000000001000000")) == 0)         // ::1
        #expect(ConnectionTable.establishedWithOthers(header + line(pod, "0000000000000000FFFF00000100007F")) == 0)         // ::ffff:127.0.0.1
        #expect(ConnectionTable.establishedWithOthers(header + line(pod, "73656DFD000068000000000003000000")) == 0)         // fd6d:6573:6800::3
        #expect(ConnectionTable.establishedWithOthers(header + line(pod, "0000000000000000FFFF00000100630A")) == 1)         // ::ffff:10.99.0.1
    }

    @Test func noiseCountsNothing() {
        #expect(ConnectionTable.establishedWithOthers("") == 0)
        #expect(ConnectionTable.establishedWithOthers("x\ny z 01\n 1 2 3\n") == 0)
    }
}

@Suite struct PathTests {
    @Test func namespacesLieBelowTheirRoot() {
        #expect(NamespaceRoot.isBelow("/run/netns/a", root: "/run/netns"))
        #expect(NamespaceRoot.isBelow("/run/netns/a/b", root: "/run/netns/"))
        for path in ["/run/netns", "/run/netns/", "/run/netnsx/a", "/run/netns/../x", "/run/netns/./x", "/run/netns//x", "run/netns/a", "", "/", "/run/netns/a\0b"] {
            #expect(!NamespaceRoot.isBelow(path, root: "/run/netns"), "\(path)")
        }
    }

    @Test func theHostsOwnNamespaceIsRefused() throws {
        let root = NamespaceRoot(root: "/proc", host: try #require(NamespaceIdentity(path: "/proc/self/ns/net")))
        // Through a link it is refused as a link; the identity rule is tested with a real file in NamespaceTests.
        #expect(throws: PodRefusal.self) { try root.open("/proc/self/ns/net") }
        #expect(throws: PodRefusal(reason: "/proc/version is not a namespace", mayPass: true)) { try root.open("/proc/version") }
        #expect(throws: PodRefusal(reason: "cannot open the network namespace /proc/nothing: No such file or directory", mayPass: true)) { try root.open("/proc/nothing") }
    }

    @Test func namesOfNodes() throws {
        func configuration(_ name: String, workers: Int? = nil) throws(StartFault) -> NodeConfiguration {
            try NodeConfiguration(
                manifests: "m", nodeName: name, stateDirectory: "/run/weft/", podsCgroup: nil, weftCgroup: nil, kubeletCgroup: nil, workers: workers,
                metricsAddress: "0.0.0.0:15020", proxyPath: nil, bpfObject: nil, namespacesRoot: "/run/netns")
        }
        let fine = try configuration("node-1.example")
        #expect(fine.stateDirectory == "/run/weft" && fine.manifests.hasPrefix("/") && fine.proxyPath.hasSuffix("/weft-proxy"))
        for name in ["", "../x", "a/b", "A", "-a", ".."] { #expect(throws: StartFault.self) { try configuration(name) } }
        #expect(throws: StartFault.usage("--workers is 1 to 16")) { try configuration("a", workers: 17) }
    }

    @Test func quotas() {
        #expect(NodeConfiguration.quotaCores(cpuMax: "max 100000\n") == nil)
        #expect(NodeConfiguration.quotaCores(cpuMax: "150000 100000\n") == 2)
        #expect(NodeConfiguration.quotaCores(cpuMax: "50000 100000\n") == 1)
        #expect(NodeConfiguration.quotaCores(cpuMax: "x") == nil)
    }

    @Test func theV2HierarchyIsFoundInMountinfo() {
        let text = """
            31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
            40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime shared:7 - cgroup cgroup rw,name=systemd
            41 31 0:38 / /sys/fs/cgroup/two\\040words rw,relatime shared:8 master:2 - cgroup2 cgroup2 rw
            """
        #expect(Requirements.cgroup2Mount(mountinfo: text) == "/sys/fs/cgroup/two words")
        #expect(Requirements.cgroup2Mount(mountinfo: "41 31 - cgroup2") == nil)
        #expect(CgroupTree.ownPath(procSelfCgroup: "1:cpu:/x\n0::/a/b\n") == "/a/b")
    }

    @Test func oldKernelsAreNamed() throws {
        try Requirements.checkKernel(release: "6.1.0-13-amd64")
        try Requirements.checkKernel(release: "10.0")
        for release in ["5.15.0", "6.0.19", "x"] { #expect(throws: StartFault.self) { try Requirements.checkKernel(release: release) } }
    }
}

@Suite struct RouteMessageTests {
    /// What `ip rule add pref 15 fwmark 0x77656674/0xffffffff lookup 15006 protocol 157` sends, field by field.
    @Test func ruleBytes() {
        let message = RouteMessage.rule(.add, .ipv4, priority: 15, mark: 0x7765_6674, table: 15_006)
        #expect(message.bytes == [
            68, 0, 0, 0, 32, 0, 0x05, 0x06, 1, 0, 0, 0, 0, 0, 0, 0,              // length, RTM_NEWRULE, REQUEST|ACK|EXCL|CREATE
            2, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0,                                  // AF_INET, action FR_ACT_TO_TBL
            8, 0, 6, 0, 15, 0, 0, 0,                                             // FRA_PRIORITY
            8, 0, 10, 0, 0x74, 0x66, 0x65, 0x77,                                 // FRA_FWMARK
            8, 0, 16, 0, 0xff, 0xff, 0xff, 0xff,                                 // FRA_FWMASK
            8, 0, 15, 0, 0x9e, 0x3a, 0, 0,                                       // FRA_TABLE
            5, 0, 21, 0, 157, 0, 0, 0,                                           // FRA_PROTOCOL, padded
        ])
    }

    /// `ip -6 route del local fd6d:6573:6800::/64 dev lo table local`.
    @Test func routeBytes() {
        let message = RouteMessage.localRoute(.remove, .ipv6, prefix: PodNetworkNumbers.spreadPrefix, prefixLength: 64, interface: 1, table: 255)
        #expect(message.bytes == [
            64, 0, 0, 0, 25, 0, 0x05, 0x00, 1, 0, 0, 0, 0, 0, 0, 0,             // length, RTM_DELROUTE, REQUEST|ACK
            10, 64, 0, 0, 0, 157, 254, 2, 0, 0, 0, 0,                            // AF_INET6, /64, RT_SCOPE_HOST, RTN_LOCAL
            20, 0, 1, 0, 0xfd, 0x6d, 0x65, 0x73, 0x68, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            8, 0, 4, 0, 1, 0, 0, 0,                                              // RTA_OIF
            8, 0, 15, 0, 255, 0, 0, 0,                                           // RTA_TABLE
        ])
    }

    @Test func rulesGoBeforeTheTableTheyPointAt() {
        #expect(PodNetwork.messages(.remove, .ipv4).first == .rule(.remove, .ipv4, priority: 15, mark: PodNetworkNumbers.loopbackMark, table: 15_006))
        #expect(PodNetwork.messages(.add, .ipv4).last == .rule(.add, .ipv4, priority: 15, mark: PodNetworkNumbers.loopbackMark, table: 15_006))
    }

    @Test func answers() {
        var answer: [UInt8] = [36, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        #expect(RouteMessage.acknowledgement(answer) == 0)
        answer.replaceSubrange(16..<20, with: withUnsafeBytes(of: -EEXIST) { Array($0) })
        #expect(RouteMessage.acknowledgement(answer) == EEXIST)
        answer[4] = 3
        #expect(RouteMessage.acknowledgement(answer) == nil)
        #expect(RouteMessage.acknowledgement([1, 2]) == nil)
    }
}

@Suite struct SmallThings {
    @Test func limitsAgree() { Limits.check() }

    /// DESIGN names these ten and nothing else.
    @Test func capabilitiesAreTheDocumentedSet() {
        #expect(Set(Capability.kept.map(\.name)) == [
            "CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_KILL", "CAP_DAC_READ_SEARCH",
        ])
        #expect(Capability.keptBits == 0xc0_0028_11e4)
        #expect(Capability.names(of: 1 << 39 | 1 << 12) == ["CAP_BPF", "CAP_NET_ADMIN"])
    }

    @Test func theStateFileKeepsEverything() {
        let entries = [
            StateFile.Entry(
                namespacePath: "/run/netns/two words", identity: NamespaceIdentity(device: 4, inode: 4_026_532_178),
                before: PodNetworkBefore(namespaceCookie: 4_226, settings: ["0", "2", "0", nil])),
            StateFile.Entry(
                namespacePath: "/run/netns/b", identity: NamespaceIdentity(device: 4, inode: 5), before: PodNetworkBefore(namespaceCookie: .max, settings: ["1", "-1", "0", "0"])),
        ]
        #expect(StateFile.decode(StateFile.encode(entries)) == entries)
        #expect(StateFile.decode("weft-pods 2\n") == nil)
        #expect(StateFile.decode("") == nil)
        // A line that says something else than numbers would be written into /proc/sys.
        #expect(StateFile.decode("weft-pods 1\n1 4 5 0,2,0,rm /run/netns/a\n1 4 5 0,2,0,0 relative\n1 4\n") == [])
    }

    @Test func aPodsStockIsBoundedBySecond() {
        let budget = StockBudget(perSecond: Limits.stockSocketsPerPodAndSecondMax)
        #expect(budget.take(64, now: 5_000) == 64)
        #expect(budget.take(Limits.stockSocketsPerPodAndSecondMax, now: 5_999) == Limits.stockSocketsPerPodAndSecondMax - 64)
        #expect(budget.take(1, now: 5_999) == 0)
        #expect(budget.take(1, now: 6_000) == 1)
    }

    @Test func eventsCarryTheirSource() {
        let sources: [EventSource] = [.signals, .namespaceThread, .agent(incarnation: .max), .proxy(incarnation: 7), .stock(incarnation: 9, worker: 15)]
        for source in sources { #expect(EventSource(token: source.token) == source) }
        #expect(EventSource(token: 0) == nil)
    }
}

@Suite struct ShardStoreTests {
    private func sealed(_ text: String) -> Int32 { clinux_memory_sealed("shard", text, text.utf8.count, true) }
    private func publish(_ store: inout ShardStore, _ index: UInt16, _ version: UInt64, _ text: String?) -> String? {
        store.stage(ShardPublished(family: 1, index: index, version: version, shard: text.map(sealed)))
    }

    @Test func nothingIsPassedOnBeforeItIsComplete() {
        var store = ShardStore()
        store.beginAgent()
        #expect(publish(&store, 1, 1, "a") == nil && publish(&store, 2, 1, "b") == nil)
        #expect(store.all().isEmpty && store.generation == nil)
        #expect(store.complete(generation: 4).map(\.index) == [1, 2])
        #expect(store.all().map(\.index) == [1, 2] && store.generation == 4)
        #expect(publish(&store, 2, 2, nil) == nil)
        #expect(store.complete(generation: 5).map(\.shard) == [nil])
        #expect(store.all().map(\.index) == [1])
    }

    @Test func aHalfSnapshotOfADeadAgentLeavesNothing() {
        var store = ShardStore()
        store.beginAgent()
        _ = publish(&store, 1, 1, "a")
        _ = store.complete(generation: 1)
        _ = publish(&store, 1, 2, "half")
        store.beginAgent()
        #expect(store.all().map(\.version) == [1])
        // The new agent's first snapshot is everything there is: shard 1 has gone.
        _ = publish(&store, 3, 1, "c")
        let changes = store.complete(generation: 2)
        #expect(changes.map(\.index) == [1, 3] && changes[0].shard == nil && changes[0].version == 2)
        #expect(store.all().map(\.index) == [3])
        // Its second one is a difference again.
        #expect(store.complete(generation: 3).isEmpty && store.all().map(\.index) == [3])
    }

    @Test func whatCouldStillChangeIsRefused() {
        var store = ShardStore()
        #expect(store.stage(ShardPublished(family: 1, index: 1, version: 1, shard: clinux_memory_sealed("x", "x", 1, false))) == "not a sealed memory file")
        #expect(store.stage(ShardPublished(family: 1, index: 1, version: 1, shard: open("/dev/null", O_RDONLY))) == "not a sealed memory file")
        #expect(store.complete(generation: 1).isEmpty)
    }
}
