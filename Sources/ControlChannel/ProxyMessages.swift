/// Address family of a listener or a stock socket.
public enum SocketFamily: UInt8, Sendable { case ipv4 = 4, ipv6 = 6 }

/// What a pod wants captured, and what becomes of its connections when no proxy is alive.
public struct PodFlags: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public static let outbound = PodFlags(rawValue: 1), inbound = PodFlags(rawValue: 2)
    /// Without a live proxy connections are refused instead of passing unmeshed.
    public static let failClosed = PodFlags(rawValue: 4)
    /// Only mutual TLS comes in; UDP is refused; and `failClosed` whatever that flag says.
    public static let strict = PodFlags(rawValue: 8)
}

/// node → proxy, first packet: who and what this proxy is. Everything the proxy needs that outlives it comes with it.
public struct ProxyHello: ControlPayload {
    public static let kind = ControlKind.proxyHello
    /// Counts proxies since the counters were made; gauges of an older one are void.
    public var incarnation: UInt32
    public var workers: UInt32
    public var nodeName: String
    /// `RLIMIT_NOFILE` the proxy runs with.
    public var descriptorLimit: UInt32
    /// The heartbeat map (mmap it; slot = worker; CLOCK_MONOTONIC nanoseconds).
    public var heartbeat: Int32
    /// The counters memfd (layout: module Telemetry).
    public var counters: Int32

    public init(incarnation: UInt32, workers: UInt32, nodeName: String, descriptorLimit: UInt32, heartbeat: Int32, counters: Int32) {
        self.incarnation = incarnation; self.workers = workers; self.nodeName = nodeName
        self.descriptorLimit = descriptorLimit; self.heartbeat = heartbeat; self.counters = counters
    }
    public var descriptors: [Int32] { [heartbeat, counters] }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) {
        incarnation = try fields.u32(Tag.incarnation)
        workers = try fields.u32(Tag.workers)
        nodeName = try fields.string(Tag.nodeName)
        descriptorLimit = try fields.u32(Tag.descriptorLimit)
        heartbeat = try descriptors.take()
        counters = try descriptors.take()
    }
    public func write(into message: inout ControlMessage) {
        message.add(Tag.incarnation, u32: incarnation)
        message.add(Tag.workers, u32: workers)
        message.add(Tag.nodeName, string: nodeName)
        message.add(Tag.descriptorLimit, u32: descriptorLimit)
    }
}

/// node → proxy: a pod is enrolled. A second one for the same pod replaces its settings.
public struct PodAdded: ControlPayload {
    public static let kind = ControlKind.podAdded
    /// Number of the pod in this node's life; never used twice.
    public var pod: UInt32
    public var namespaceCookie: UInt64
    public var addresses: [AddressBytes]
    public var flags: PodFlags

    public init(pod: UInt32, namespaceCookie: UInt64, addresses: [AddressBytes], flags: PodFlags) {
        self.pod = pod; self.namespaceCookie = namespaceCookie; self.addresses = addresses; self.flags = flags
    }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) {
        pod = try fields.u32(Tag.pod)
        namespaceCookie = try fields.u64(Tag.namespaceCookie)
        addresses = try fields.addresses(Tag.address)
        flags = PodFlags(rawValue: try fields.u32(Tag.flags))
    }
    public func write(into message: inout ControlMessage) {
        message.add(Tag.pod, u32: pod)
        message.add(Tag.namespaceCookie, u64: namespaceCookie)
        message.add(Tag.address, addresses: addresses)
        message.add(Tag.flags, u32: flags.rawValue)
    }
}

/// node → proxy: a pod is gone; close its listeners, connections, pools and stock.
public struct PodRemoved: ControlPayload {
    public static let kind = ControlKind.podRemoved
    public var pod: UInt32

    public init(pod: UInt32) { self.pod = pod }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) { pod = try fields.u32(Tag.pod) }
    public func write(into message: inout ControlMessage) { message.add(Tag.pod, u32: pod) }
}

/// node → proxy: a listening socket in a pod's namespace. `node` keeps a duplicate, so it outlives the proxy.
public struct ListenerAdded: ControlPayload {
    public static let kind = ControlKind.listenerAdded
    public enum Role: UInt8, Sendable { case outbound = 1, inbound = 2 }
    /// Where an accepted connection's original destination is read.
    public enum DestinationSource: UInt8, Sendable {
        /// `getsockopt(SO_ORIGINAL_DST)`.
        case captured = 1
        /// `getsockname`.
        case socketName = 2
    }
    public var pod: UInt32
    public var role: Role
    public var destinationFrom: DestinationSource
    public var family: SocketFamily
    public var listener: Int32

    public init(pod: UInt32, role: Role, destinationFrom: DestinationSource, family: SocketFamily, listener: Int32) {
        self.pod = pod; self.role = role; self.destinationFrom = destinationFrom; self.family = family; self.listener = listener
    }
    public var descriptors: [Int32] { [listener] }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) {
        pod = try fields.u32(Tag.pod)
        role = try fields.enumeration(Tag.role)
        destinationFrom = try fields.enumeration(Tag.destinationFrom)
        family = try fields.enumeration(Tag.family)
        listener = try descriptors.take()
    }
    public func write(into message: inout ControlMessage) {
        message.add(Tag.pod, u32: pod)
        message.add(Tag.role, u32: UInt32(role.rawValue))
        message.add(Tag.destinationFrom, u32: UInt32(destinationFrom.rawValue))
        message.add(Tag.family, u32: UInt32(family.rawValue))
    }
}

/// agent → node → proxy: one shard of the next snapshot. Nothing takes effect before `SnapshotComplete`.
public struct ShardPublished: ControlPayload {
    public static let kind = ControlKind.shardPublished
    /// Shard family number of module MeshModel.
    public var family: UInt8
    public var index: UInt16
    public var version: UInt64
    /// The sealed memfd; nil when the shard is now empty.
    public var shard: Int32?

    public init(family: UInt8, index: UInt16, version: UInt64, shard: Int32?) {
        self.family = family; self.index = index; self.version = version; self.shard = shard
    }
    public var descriptors: [Int32] { shard.map { [$0] } ?? [] }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) {
        family = try fields.small(Tag.family)
        index = try fields.small(Tag.index)
        version = try fields.u64(Tag.shardVersion)
        shard = descriptors.takeIfPresent()
    }
    public func write(into message: inout ControlMessage) {
        message.add(Tag.family, u32: UInt32(family))
        message.add(Tag.index, u32: UInt32(index))
        message.add(Tag.shardVersion, u64: version)
    }
}

/// agent → node → proxy: all shards since the previous one take effect together.
public struct SnapshotComplete: ControlPayload {
    public static let kind = ControlKind.snapshotComplete
    public var generation: UInt64

    public init(generation: UInt64) { self.generation = generation }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) { generation = try fields.u64(Tag.generation) }
    public func write(into message: inout ControlMessage) { message.add(Tag.generation, u64: generation) }
}

/// node → proxy: accept nothing more, finish what runs, exit at the latest after the deadline.
public struct Drain: ControlPayload {
    public static let kind = ControlKind.drain
    public var deadlineMilliseconds: UInt32

    public init(deadlineMilliseconds: UInt32) { self.deadlineMilliseconds = deadlineMilliseconds }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) {
        deadlineMilliseconds = try fields.u32(Tag.deadlineMilliseconds)
    }
    public func write(into message: inout ControlMessage) { message.add(Tag.deadlineMilliseconds, u32: deadlineMilliseconds) }
}

/// proxy → node: the workers run and stamp their heartbeat.
public struct ProxyReady: ControlPayload {
    public static let kind = ControlKind.proxyReady
    public init() {}
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) {}
    public func write(into message: inout ControlMessage) {}
}

/// proxy → node: this generation is in force on every worker.
public struct SnapshotApplied: ControlPayload {
    public static let kind = ControlKind.snapshotApplied
    public var generation: UInt64

    public init(generation: UInt64) { self.generation = generation }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) { generation = try fields.u64(Tag.generation) }
    public func write(into message: inout ControlMessage) { message.add(Tag.generation, u64: generation) }
}

/// proxy → node: this generation did not validate; the previous one stays in force.
public struct SnapshotRefused: ControlPayload {
    public static let kind = ControlKind.snapshotRefused
    public var generation: UInt64
    public var reason: String

    public init(generation: UInt64, reason: String) { self.generation = generation; self.reason = reason }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) {
        generation = try fields.u64(Tag.generation)
        reason = try fields.string(Tag.reason)
    }
    public func write(into message: inout ControlMessage) {
        message.add(Tag.generation, u64: generation)
        message.add(Tag.reason, string: reason)
    }
}
