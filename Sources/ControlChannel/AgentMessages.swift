/// agent → node: this pod shall be captured. Sending it again with other settings updates the pod.
/// Paths are wishes: node opens the namespace itself, and refuses one outside its root or the host's own.
public struct PodEnrol: ControlPayload {
    public static let kind = ControlKind.podEnrol
    public var uid: String
    public var namespace: String
    public var name: String
    public var networkNamespacePath: String
    /// Absolute path of the pod's v2 cgroup.
    public var cgroupPath: String
    public var addresses: [AddressBytes]
    public var flags: PodFlags
    public var excludedOutboundPorts: [UInt16]
    public var excludedInboundPorts: [UInt16]
    public var excludedOutboundPrefixes: [PrefixBytes]
    /// Where the kubelet asks how the pod is: its probes go to the app, past the mesh.
    public var probePorts: [UInt16]
    /// UDP ports, local or remote, that stay open to and from a strict pod.
    public var udpExceptionPorts: [UInt16]

    public init(
        uid: String, namespace: String, name: String, networkNamespacePath: String, cgroupPath: String, addresses: [AddressBytes],
        flags: PodFlags = [.outbound, .inbound], excludedOutboundPorts: [UInt16] = [], excludedInboundPorts: [UInt16] = [],
        excludedOutboundPrefixes: [PrefixBytes] = [], probePorts: [UInt16] = [], udpExceptionPorts: [UInt16] = [53]
    ) {
        self.uid = uid; self.namespace = namespace; self.name = name
        self.networkNamespacePath = networkNamespacePath; self.cgroupPath = cgroupPath
        self.addresses = addresses; self.flags = flags
        self.excludedOutboundPorts = excludedOutboundPorts; self.excludedInboundPorts = excludedInboundPorts
        self.excludedOutboundPrefixes = excludedOutboundPrefixes
        self.probePorts = probePorts; self.udpExceptionPorts = udpExceptionPorts
    }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) {
        uid = try fields.string(Tag.uid)
        namespace = try fields.string(Tag.namespace)
        name = try fields.string(Tag.name)
        networkNamespacePath = try fields.string(Tag.networkNamespacePath)
        cgroupPath = try fields.string(Tag.cgroupPath)
        addresses = try fields.addresses(Tag.address)
        flags = PodFlags(rawValue: try fields.u32(Tag.flags))
        excludedOutboundPorts = try fields.ports(Tag.excludedOutboundPorts)
        excludedInboundPorts = try fields.ports(Tag.excludedInboundPorts)
        excludedOutboundPrefixes = try fields.prefixes(Tag.excludedOutboundPrefix)
        probePorts = try fields.ports(Tag.probePorts)
        udpExceptionPorts = try fields.ports(Tag.udpExceptionPorts)
    }
    public func write(into message: inout ControlMessage) {
        message.add(Tag.uid, string: uid)
        message.add(Tag.namespace, string: namespace)
        message.add(Tag.name, string: name)
        message.add(Tag.networkNamespacePath, string: networkNamespacePath)
        message.add(Tag.cgroupPath, string: cgroupPath)
        message.add(Tag.address, addresses: addresses)
        message.add(Tag.flags, u32: flags.rawValue)
        message.add(Tag.excludedOutboundPorts, ports: excludedOutboundPorts)
        message.add(Tag.excludedInboundPorts, ports: excludedInboundPorts)
        message.add(Tag.excludedOutboundPrefix, prefixes: excludedOutboundPrefixes)
        message.add(Tag.probePorts, ports: probePorts)
        message.add(Tag.udpExceptionPorts, ports: udpExceptionPorts)
    }
}

/// agent → node: this pod shall no longer be captured, or is gone.
public struct PodUnenrol: ControlPayload {
    public static let kind = ControlKind.podUnenrol
    public var uid: String

    public init(uid: String) { self.uid = uid }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) { uid = try fields.string(Tag.uid) }
    public func write(into message: inout ControlMessage) { message.add(Tag.uid, string: uid) }
}

/// node → agent, first packet.
public struct AgentHello: ControlPayload {
    public static let kind = ControlKind.agentHello
    /// Counts agents since node started.
    public var incarnation: UInt32
    public var nodeName: String
    /// Names of the slots of `verdicts`, in order.
    public var verdictNames: [String]
    /// The cgroup whose connections count as probes; empty: there is none, and strict pods refuse probes.
    public var kubeletCgroup: String
    /// The counters memfd, read-only (layout: module Telemetry).
    public var counters: Int32
    /// The hooks' verdict counters, read-only, mmapable: an array of u64.
    public var verdicts: Int32
    /// The heartbeat map, read-only, mmapable: an array of u64, one slot per worker.
    public var heartbeat: Int32

    public init(
        incarnation: UInt32, nodeName: String, verdictNames: [String], kubeletCgroup: String = "", counters: Int32, verdicts: Int32, heartbeat: Int32
    ) {
        self.incarnation = incarnation; self.nodeName = nodeName; self.verdictNames = verdictNames; self.kubeletCgroup = kubeletCgroup
        self.counters = counters; self.verdicts = verdicts; self.heartbeat = heartbeat
    }
    public var descriptors: [Int32] { [counters, verdicts, heartbeat] }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) {
        incarnation = try fields.u32(Tag.incarnation)
        nodeName = try fields.string(Tag.nodeName)
        verdictNames = try fields.strings(Tag.verdictName)
        kubeletCgroup = try fields.string(Tag.kubeletCgroup)
        counters = try descriptors.take()
        verdicts = try descriptors.take()
        heartbeat = try descriptors.take()
    }
    public func write(into message: inout ControlMessage) {
        message.add(Tag.incarnation, u32: incarnation)
        message.add(Tag.nodeName, string: nodeName)
        for name in verdictNames { message.add(Tag.verdictName, string: name) }
        message.add(Tag.kubeletCgroup, string: kubeletCgroup)
    }
}

/// node → agent: what became of an enrolment.
public struct PodState: ControlPayload {
    public static let kind = ControlKind.podState
    /// `refused`: only another wish helps; `gone`: nothing of the pod is left in the kernel.
    public enum State: UInt8, Sendable { case pending = 1, enrolled = 2, refused = 3, gone = 4 }
    public var uid: String
    public var state: State
    /// Zero while there is none.
    public var pod: UInt32
    public var namespaceCookie: UInt64
    /// Listeners made in the pod's namespace.
    public var listeners: UInt8
    /// TCP connections that were there before enrolment and go on unmeshed.
    public var olderConnections: UInt32
    /// Why it is refused or pending; empty otherwise.
    public var reason: String

    public init(
        uid: String, state: State, pod: UInt32 = 0, namespaceCookie: UInt64 = 0, listeners: UInt8 = 0, olderConnections: UInt32 = 0,
        reason: String = ""
    ) {
        self.uid = uid; self.state = state; self.pod = pod; self.namespaceCookie = namespaceCookie
        self.listeners = listeners; self.olderConnections = olderConnections; self.reason = reason
    }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) {
        uid = try fields.string(Tag.uid)
        state = try fields.enumeration(Tag.state)
        pod = try fields.u32(Tag.pod)
        namespaceCookie = try fields.u64(Tag.namespaceCookie)
        listeners = try fields.small(Tag.listeners)
        olderConnections = try fields.u32(Tag.olderConnections)
        reason = try fields.string(Tag.reason)
    }
    public func write(into message: inout ControlMessage) {
        message.add(Tag.uid, string: uid)
        message.add(Tag.state, u32: UInt32(state.rawValue))
        message.add(Tag.pod, u32: pod)
        message.add(Tag.namespaceCookie, u64: namespaceCookie)
        message.add(Tag.listeners, u32: UInt32(listeners))
        message.add(Tag.olderConnections, u32: olderConnections)
        message.add(Tag.reason, string: reason)
    }
}

/// node → agent: how a process that node supervises is doing.
public struct ProcessState: ControlPayload {
    public static let kind = ControlKind.processState
    /// Of whom is spoken.
    public enum Process: UInt8, Sendable { case proxy = 1 }
    /// `stale`: it runs, but its heartbeat is too old; `down`: it does not run.
    public enum State: UInt8, Sendable { case starting = 1, ready = 2, stale = 3, down = 4 }
    public var process: Process
    public var processID: UInt32
    public var incarnation: UInt32
    /// Times it was started again since node started.
    public var restarts: UInt32
    public var state: State

    public init(process: Process, processID: UInt32, incarnation: UInt32, restarts: UInt32, state: State) {
        self.process = process; self.processID = processID; self.incarnation = incarnation; self.restarts = restarts; self.state = state
    }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) {
        process = try fields.enumeration(Tag.process)
        processID = try fields.u32(Tag.processID)
        incarnation = try fields.u32(Tag.incarnation)
        restarts = try fields.u32(Tag.restarts)
        state = try fields.enumeration(Tag.state)
    }
    public func write(into message: inout ControlMessage) {
        message.add(Tag.process, u32: UInt32(process.rawValue))
        message.add(Tag.processID, u32: processID)
        message.add(Tag.incarnation, u32: incarnation)
        message.add(Tag.restarts, u32: restarts)
        message.add(Tag.state, u32: UInt32(state.rawValue))
    }
}

/// node → agent: this generation is kept and was passed on; what the proxy made of it comes as `SnapshotApplied` or `SnapshotRefused`, forwarded.
public struct SnapshotAccepted: ControlPayload {
    public static let kind = ControlKind.snapshotAccepted
    public var generation: UInt64

    public init(generation: UInt64) { self.generation = generation }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) { generation = try fields.u64(Tag.generation) }
    public func write(into message: inout ControlMessage) { message.add(Tag.generation, u64: generation) }
}
