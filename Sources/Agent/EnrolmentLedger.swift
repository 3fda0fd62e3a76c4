import ControlChannel
import Discovery
import MeshModel

/// Which pods shall be captured and what node made of it. Node enrols; this only remembers wishes and answers, and says
/// what to tell node when the two differ.
struct EnrolmentLedger {
    /// What was last asked for, by uid.
    private var asked: [String: PodEnrol] = [:]
    /// The pods of this node as the manifests have them.
    private(set) var pods: [NodePod] = []
    /// What node last said, by uid.
    private(set) var states: [String: PodState] = [:]
    private var isSynced = false

    /// The manifests' pods as they are now.
    mutating func want(_ pods: [NodePod]) -> [Outgoing] {
        self.pods = Array(pods.prefix(AgentLimits.podsMax))
        isSynced = true
        var wishes: [String: PodEnrol] = [:]
        for pod in self.pods {
            if case .enrol(let enrolment) = pod.wish { wishes[pod.uid] = Self.message(pod, enrolment) }
        }
        let leaving = Set(asked.keys).union(heldByNode).subtracting(wishes.keys).sorted()
        let coming = self.pods.compactMap { wishes[$0.uid] }.filter { asked[$0.uid] != $0 }
        asked = wishes
        // Leaving first: an address may move from one pod to another.
        return leaving.map { Outgoing(PodUnenrol(uid: $0)) } + coming.map { Outgoing($0) }
    }

    /// Node's word about a pod. One that nobody wants any more (an earlier agent asked for it) is given up.
    mutating func heard(_ state: PodState) -> [Outgoing] {
        if state.state == .gone, asked[state.uid] == nil {
            states[state.uid] = nil
            return []
        }
        states[state.uid] = state
        guard isSynced, asked[state.uid] == nil, state.state != .gone else { return [] }
        return [Outgoing(PodUnenrol(uid: state.uid))]
    }

    private var heldByNode: [String] { states.values.filter { $0.state != .gone }.map(\.uid) }

    private static func message(_ pod: NodePod, _ enrolment: Enrolment) -> PodEnrol {
        PodEnrol(
            uid: pod.uid, namespace: pod.namespace, name: pod.name,
            networkNamespacePath: enrolment.networkNamespacePath, cgroupPath: enrolment.cgroupPath,
            addresses: enrolment.addresses.map { AddressBytes(high: $0.high, low: $0.low) },
            flags: flags(of: enrolment),
            excludedOutboundPorts: enrolment.excludedOutboundPorts, excludedInboundPorts: enrolment.excludedInboundPorts,
            excludedOutboundPrefixes: enrolment.excludedOutboundPrefixes.compactMap {
                PrefixBytes(address: AddressBytes(high: $0.address.high, low: $0.address.low), length: $0.mappedLength)
            },
            probePorts: enrolment.probePorts, udpExceptionPorts: enrolment.udpExceptionPorts)
    }

    private static func flags(of enrolment: Enrolment) -> PodFlags {
        var flags: PodFlags = [.outbound, .inbound]
        if enrolment.isFailClosed { flags.insert(.failClosed) }
        if enrolment.isStrict { flags.insert(.strict) }
        return flags
    }
}
