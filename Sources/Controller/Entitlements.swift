import Discovery
import Identity
import Logging
import struct MeshModel.MeshState
import ServiceLifecycle
import Synchronization

/// Which identities each node may have: those of the pods that the configuration puts on it.
final class Entitlements: Sendable {
    private let byNode = Mutex<[String: Set<SPIFFEIdentity>]?>(nil)
    private let trustDomain: String

    init(trustDomain: String) { self.trustDomain = trustDomain }

    func take(_ state: MeshState) {
        var fresh: [String: Set<SPIFFEIdentity>] = [:]
        for workload in state.workloads where !workload.nodeName.isEmpty {
            guard let identity = SPIFFEIdentity(trustDomain: trustDomain, namespace: workload.namespace, serviceAccount: workload.serviceAccount) else { continue }
            fresh[workload.nodeName, default: []].insert(identity)
        }
        byNode.withLock { $0 = fresh }
    }

    /// Whether the configuration has been read.
    var isKnown: Bool { byNode.withLock { $0 != nil } }

    func isEntitled(_ node: String, to identity: SPIFFEIdentity) -> Bool { byNode.withLock { $0?[node]?.contains(identity) ?? false } }
}

/// Keeps the entitlements at what the manifests say.
struct EntitlementService: Service {
    let watch: DirectoryWatch
    let entitlements: Entitlements
    let logger: Logger

    func run() async throws {
        var manifests = Manifests(nodeName: "")
        var faults: Set<Fault> = []
        for await reading in watch.readings.cancelOnGracefulShutdown() {
            let view = manifests.take(reading)
            for fault in view.faults where !faults.contains(fault) { logger.warning("configuration fault", metadata: ["fault": "\(fault)"]) }
            faults = Set(view.faults)
            guard manifests.isSynced else { continue }
            entitlements.take(view.state)
            logger.info("configuration read", metadata: ["workloads": "\(view.state.workloads.count)"])
        }
    }
}
