import MeshModel

/// One consistent reading of the cluster, as one node needs it.
public struct ClusterView: Sendable, Equatable {
    /// What the proxy must know.
    public var state: MeshState
    /// All access policies, for whoever asks about workloads of other nodes too.
    public var access: AccessBook
    /// All routes in force, and the conditions of each.
    public var routes: [RouteStatus]
    /// The pods of this node, and what Weft does about each.
    public var pods: [NodePod]
    /// What is wrong with the configuration, sorted by file and line.
    public var faults: [Fault]
    /// What was left alone on purpose.
    public var notes: [Note]
}

/// A pod of this node.
public struct NodePod: Sendable, Equatable {
    /// `metadata.uid`; `namespace/name` where manifests give none.
    public var uid: String
    public var namespace: String
    public var name: String
    public var wish: Wish

    /// What Weft shall do about the pod.
    public enum Wish: Sendable, Equatable {
        case enrol(Enrolment)
        /// Traffic passes by the mesh, for the reason given.
        case leave(because: String)
    }
}

/// How a pod is captured.
public struct Enrolment: Sendable, Equatable {
    public var networkNamespacePath: String
    /// Absolute path of the pod's cgroup in the v2 hierarchy.
    public var cgroupPath: String
    public var addresses: [IPAddress]
    /// New connections are refused, rather than passed unmeshed, while no proxy is alive.
    public var isFailClosed: Bool
    /// It takes no plaintext and sends none into the open: implies `isFailClosed`.
    public var isStrict: Bool
    /// Ports that the kubelet's probes go to, sorted.
    public var probePorts: [UInt16]
    /// Ports that UDP of a strict pod may come from or go to, sorted.
    public var udpExceptionPorts: [UInt16]
    public var excludedOutboundPorts: [UInt16]
    public var excludedInboundPorts: [UInt16]
    public var excludedOutboundPrefixes: [AddressPrefix]
}
