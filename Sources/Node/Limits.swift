import Capture
import Telemetry

/// Every bound of the supervisor, with its unit. What others decide is theirs to name: the hooks (Capture), the counters' memory (Telemetry).
enum Limits {
    /// A heartbeat older than this is no heartbeat.
    static let heartbeatAgeMilliseconds = Capture.silentAfterMilliseconds
    /// A proxy whose heartbeat, or one worker's, stays stale this long is killed and started again. New connections are served by each pod's
    /// `failure` after 2 s already; those that the proxy had accepted hang until now, and a new proxy is there in 20 ms.
    static let hangMilliseconds: UInt64 = 5_000
    /// How often heartbeats are looked at, and queued connections of a stale proxy refused.
    static let watchMilliseconds: UInt64 = 250
    /// How often namespaces of pods are looked at, and pending pods tried again.
    static let podCheckMilliseconds: UInt64 = 1_000
    /// Between the end of a pod's capture and the removal of its listeners, rules and routes: what runs may finish.
    static let leavingMilliseconds: UInt64 = 2_000
    /// A new pod waits so long for the snapshot behind its wish, which tells the proxy who it is and which rules it has. It may be that none is made.
    static let snapshotAwaitedMilliseconds: UInt64 = 2_000
    /// Connections refused per listener and watch: 4 × this per second and listener at most, so that the loop stays responsive.
    static let refusedPerWatchMax: Int32 = 4_096
    /// `listen(2)`; the kernel cuts it to net.core.somaxconn of the pod's namespace.
    static let listenBacklog: Int32 = 4_096

    /// Workers of one proxy: slots of the heartbeat map and areas of the counters.
    static let workersMax = Int(Capture.workersMax)
    /// Without --workers.
    static let workersByDefaultMax = 8

    /// Packets waiting for a child that does not read; beyond it the child is killed. A whole snapshot is 768 shards, 1,024 pods at 5 packets,
    /// and as many identities at 3.
    static let outboxPacketsMax = 16_384
    /// Jobs for the namespace thread that are under way: half of what a pipe of 64 KiB carries at eight bytes each.
    static let namespaceJobsMax = 4_096
    /// Sockets made for one pod and second; a proxy that asks for more is refused with EMFILE until the next second.
    static let stockSocketsPerPodAndSecondMax: UInt32 = 50_000
    /// A child that closed its channel may take this long to end by itself.
    static let silentMilliseconds: UInt64 = 1_000
    /// Pods of one node (Kubernetes' own ceiling is 110 by default, 500 on large machines).
    static let podsMax = CountersLayout.podsMax
    /// Shards kept: three families of 256, and room for more families.
    static let shardsMax = 4_096
    /// RLIMIT_MEMLOCK of the proxy: its keys, and OpenSSL's memory for them, lie in secret memory, which counts as locked.
    static let lockedMemoryBytes: Int64 = 64 << 20
    /// Identities kept: each pod has one. A descriptor for its key, two while it is renewed.
    static let identitiesMax = podsMax
    /// Bytes of the revocation list, in memory that the agent made: 200,000 serials.
    static let revocationBytesMax: Int64 = 8 << 20
    /// Bytes of /proc/net/tcp read when older connections are counted: 150 per connection.
    static let connectionTableBytesMax = 32 << 20
    /// Bytes of the state file.
    static let stateFileBytesMax = 4 << 20
    /// Pipes made for one worker and second. It keeps them and lends them again; only one with bytes that nobody wants any more is replaced.
    static let pipesPerWorkerAndSecondMax: UInt32 = 128
    /// Largest splice pipe that is handed out.
    static let pipeBytesMax: UInt32 = 1 << 20

    /// How long a stopping node waits for the proxy to finish what runs, and for the agent to end.
    static let drainMilliseconds: UInt32 = 2_000
    static let agentStopMilliseconds: UInt64 = 3_000

    /// Checked at start and by a test: limits that lean on each other.
    static func check() {
        precondition(hangMilliseconds > heartbeatAgeMilliseconds)
        precondition(watchMilliseconds * 4 <= heartbeatAgeMilliseconds)
        precondition(namespaceJobsMax * MemoryLayout<UInt>.size <= 65_536 / 2)
        precondition(workersByDefaultMax <= workersMax)
        precondition(workersMax == CountersLayout.workersMax, "each worker has a slot of the heartbeat and an area of the counters")
    }
}

/// What Weft sets up inside a pod's network namespace.
enum PodNetworkNumbers {
    static let outboundPort = Capture.outboundPort
    static let inboundPort = Capture.inboundPort
    /// Mark of sockets that wear a client's address towards the pod's own app ("weft"); it sends the app's answers to loopback.
    static let loopbackMark: UInt32 = 0x7765_6674
    /// Routing table that delivers every address locally.
    static let routeTable: UInt32 = 15_006
    /// Before the tables of CNIs and the main one, after `local` (0).
    static let rulePriority: UInt32 = 15
    /// `rtm_protocol` and `FRA_PROTOCOL`: says in `ip route` and `ip rule` who made it.
    static let protocolNumber: UInt8 = 157
    /// fd6d:6573:6800::/64: loopback addresses over which captured IPv6 connections are spread.
    static let spreadPrefix = Capture.spreadPrefix6
    static let spreadPrefixLength: UInt8 = 64
    /// The kernel creates `lo` first in every namespace.
    static let loopbackInterface: UInt32 = 1
}
