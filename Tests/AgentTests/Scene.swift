@testable import Agent
import ControlChannel
import Discovery
import Foundation
import Glibc
import Logging
import MeshModel
import Synchronization
import Telemetry

/// What the control plane sent to node, in the order it did; shards' descriptors are closed when the scene ends.
final class Sent: Sendable {
    private let messages = Mutex<[Outgoing]>([])

    func add(_ new: [Outgoing]) { messages.withLock { $0 += new } }

    /// Everything sent since the last call.
    func take() -> [ControlMessage] {
        messages.withLock { messages in
            defer { messages = [] }
            return messages.map { outgoing in
                outgoing.closeDescriptors()
                return outgoing.message
            }
        }
    }
}

/// A control plane with a directory of its own and manifests in memory.
struct Scene {
    let directory: TemporaryDirectory
    let plane: ControlPlane
    let desk: IdentityDesk?
    let sent = Sent()

    init(_ directory: TemporaryDirectory = TemporaryDirectory()) {
        self.directory = directory
        let configuration = AgentConfiguration(
            controlDescriptor: -1, nodeName: "node-a", manifests: "/manifests", stateDirectory: directory.path,
            metricsAddress: ListenAddress(host: "127.0.0.1", port: 0),
            identities: IdentityConfiguration(
                trustDomain: "cluster.local", dataDirectory: directory.path, source: .embedded(certificateLifetimeSeconds: 86_400)))
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        plane = ControlPlane(configuration, logger: logger) { [sent] in sent.add($0) }
        desk = try? IdentityDesk(configuration.identities, door: nil, logger: logger) { [sent] in sent.add($0) }
    }

    func read(_ files: [String: String]) async {
        await plane.take(DirectoryReading(files: files.mapValues { .bytes(Array($0.utf8)) }))
    }

    /// Node's greeting with real counters and given verdicts.
    func greet(verdicts: [String: UInt64] = ["redirect": 8, "pass_dead": 1], counters: Int32? = nil) async throws {
        let names = verdicts.keys.sorted()
        await plane.take(
            .hello(
                AgentHello(
                    incarnation: 3, nodeName: "node-a", verdictNames: names, counters: try counters ?? CountersRegion.create(),
                    verdicts: Self.memory(names.map { verdicts[$0]! }), heartbeat: Self.memory([UInt64](repeating: 0, count: Limits.workersMax)))))
    }

    func proxy(_ state: ProcessState.State) async {
        await plane.take(.process(ProcessState(process: .proxy, processID: UInt32(getpid()), incarnation: 2, restarts: 1, state: state)))
    }

    /// A memory of numbers, as node's maps are.
    static func memory(_ numbers: [UInt64]) -> Int32 {
        let path = NSTemporaryDirectory() + "weft-numbers-\(UUID().uuidString)"
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        unlink(path)
        _ = numbers.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        return descriptor
    }
}

/// Goes away with its last user.
final class TemporaryDirectory: Sendable {
    let path: String
    init() {
        // Short: it holds unix sockets, whose paths have 107 bytes.
        path = "/tmp/weft-\(UUID().uuidString.prefix(13))"
        try? FileManager.default.createDirectory(atPath: path + "/agent", withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
}

enum Manifest {
    static func shop(port: Int = 80, pod: String = "cart-1", address: String = "10.1.0.5") -> String {
        """
        apiVersion: v1
        kind: Namespace
        metadata: {name: shop, labels: {weft.mesh/mode: enabled}, annotations: {weft.mesh/failure: closed}}
        ---
        apiVersion: v1
        kind: Service
        metadata: {name: cart, namespace: shop}
        spec: {clusterIP: 10.96.0.10, ports: [{name: http, port: \(port)}]}
        ---
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: cart-1, namespace: shop, labels: {kubernetes.io/service-name: cart}}
        addressType: IPv4
        ports: [{name: http, port: 8080}]
        endpoints: [{addresses: [\(address)]}, {addresses: [10.1.0.6], conditions: {ready: false}}]
        ---
        apiVersion: v1
        kind: Pod
        metadata:
          name: \(pod)
          namespace: shop
          annotations: {weft.mesh/network-namespace: /run/netns/cart, weft.mesh/cgroup: /sys/fs/cgroup/cart, weft.mesh/exclude-outbound-cidrs: 10.9.0.0/16}
        spec: {nodeName: node-a}
        status: {podIPs: [{ip: \(address)}]}
        """
    }
}

extension [ControlMessage] {
    var kinds: [ControlKind?] { map(\.kind) }
    var shards: [ShardPublished] { filter { $0.kind == .shardPublished }.compactMap { try? ShardPublished(Self.withoutDescriptors($0)) } }
    var generation: UInt64? { last { $0.kind == .snapshotComplete }.flatMap { try? SnapshotComplete($0).generation } }
    var enrolled: [PodEnrol] { filter { $0.kind == .podEnrol }.compactMap { try? PodEnrol($0) } }
    var unenrolled: [String] { filter { $0.kind == .podUnenrol }.compactMap { try? PodUnenrol($0).uid } }

    /// Their descriptors are closed already.
    private static func withoutDescriptors(_ message: ControlMessage) -> ControlMessage {
        var message = message
        message.descriptors = []
        return message
    }
}
