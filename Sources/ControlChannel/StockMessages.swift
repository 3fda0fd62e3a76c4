/// What a stock socket is prepared for.
public enum SocketKind: UInt8, Sendable {
    /// Leaves from the pod's namespace with the pod's address.
    case plain = 1
    /// May bind the address of a foreign client (`IP_TRANSPARENT`, the loopback mark): towards the pod's own app.
    case transparent = 2
}

/// A worker → node: make sockets in a pod's namespace.
public struct SocketsWanted: ControlPayload {
    public static let kind = ControlKind.socketsWanted
    /// Most sockets of one request: one delivery is one packet.
    public static let countMax: UInt32 = UInt32(ControlLimits.descriptorsMax)
    public var pod: UInt32
    public var family: SocketFamily
    public var socketKind: SocketKind
    public var count: UInt32

    public init(pod: UInt32, family: SocketFamily, socketKind: SocketKind, count: UInt32) {
        self.pod = pod; self.family = family; self.socketKind = socketKind; self.count = count
    }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) {
        pod = try fields.u32(Tag.pod)
        family = try fields.enumeration(Tag.family)
        socketKind = try fields.enumeration(Tag.socketKind)
        count = try fields.u32(Tag.count)
    }
    public func write(into message: inout ControlMessage) {
        message.add(Tag.pod, u32: pod)
        message.add(Tag.family, u32: UInt32(family.rawValue))
        message.add(Tag.socketKind, u32: UInt32(socketKind.rawValue))
        message.add(Tag.count, u32: count)
    }
}

/// node → a worker: the sockets; fewer than wanted when a budget ends.
public struct SocketsMade: ControlPayload {
    public static let kind = ControlKind.socketsMade
    public var pod: UInt32
    public var family: SocketFamily
    public var socketKind: SocketKind
    public var sockets: [Int32]

    public init(pod: UInt32, family: SocketFamily, socketKind: SocketKind, sockets: [Int32]) {
        self.pod = pod; self.family = family; self.socketKind = socketKind; self.sockets = sockets
    }
    public var descriptors: [Int32] { sockets }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) {
        pod = try fields.u32(Tag.pod)
        family = try fields.enumeration(Tag.family)
        socketKind = try fields.enumeration(Tag.socketKind)
        sockets = descriptors.takeAll()
    }
    public func write(into message: inout ControlMessage) {
        message.add(Tag.pod, u32: pod)
        message.add(Tag.family, u32: UInt32(family.rawValue))
        message.add(Tag.socketKind, u32: UInt32(socketKind.rawValue))
    }
}

/// node → a worker: no sockets; `errorNumber` is an errno (ENOENT: no such pod, EMFILE/ENFILE: a budget ended, EPERM: not this pod).
public struct SocketsRefused: ControlPayload {
    public static let kind = ControlKind.socketsRefused
    public var pod: UInt32
    public var family: SocketFamily
    public var socketKind: SocketKind
    public var errorNumber: UInt32

    public init(pod: UInt32, family: SocketFamily, socketKind: SocketKind, errorNumber: UInt32) {
        self.pod = pod; self.family = family; self.socketKind = socketKind; self.errorNumber = errorNumber
    }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) {
        pod = try fields.u32(Tag.pod)
        family = try fields.enumeration(Tag.family)
        socketKind = try fields.enumeration(Tag.socketKind)
        errorNumber = try fields.u32(Tag.errorNumber)
    }
    public func write(into message: inout ControlMessage) {
        message.add(Tag.pod, u32: pod)
        message.add(Tag.family, u32: UInt32(family.rawValue))
        message.add(Tag.socketKind, u32: UInt32(socketKind.rawValue))
        message.add(Tag.errorNumber, u32: errorNumber)
    }
}

/// A worker → node: make pipes for splice(2). The proxy's seccomp list has no `pipe2`, and an unprivileged user gets only
/// 64 pipes of 64 KiB before the kernel hands out 8 KiB ones.
public struct PipesWanted: ControlPayload {
    public static let kind = ControlKind.pipesWanted
    /// Two descriptors each.
    public static let countMax: UInt32 = UInt32(ControlLimits.descriptorsMax / 2)
    public var count: UInt32
    /// Wanted size of each; node gives the nearest it may.
    public var capacityBytes: UInt32

    public init(count: UInt32, capacityBytes: UInt32) { self.count = count; self.capacityBytes = capacityBytes }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) {
        count = try fields.u32(Tag.count)
        capacityBytes = try fields.u32(Tag.capacityBytes)
    }
    public func write(into message: inout ControlMessage) {
        message.add(Tag.count, u32: count)
        message.add(Tag.capacityBytes, u32: capacityBytes)
    }
}

/// node → a worker: pipes, as read end, write end, read end, write end …
public struct PipesMade: ControlPayload {
    public static let kind = ControlKind.pipesMade
    public var capacityBytes: UInt32
    public var ends: [Int32]

    public init(capacityBytes: UInt32, ends: [Int32]) { self.capacityBytes = capacityBytes; self.ends = ends }
    public var descriptors: [Int32] { ends }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) {
        capacityBytes = try fields.u32(Tag.capacityBytes)
        guard descriptors.count.isMultiple(of: 2) else { throw .missingDescriptors(expected: descriptors.count + 1, got: descriptors.count) }
        ends = descriptors.takeAll()
    }
    public func write(into message: inout ControlMessage) { message.add(Tag.capacityBytes, u32: capacityBytes) }
}

/// node → a worker: no pipes; the worker copies through its own buffers instead.
public struct PipesRefused: ControlPayload {
    public static let kind = ControlKind.pipesRefused
    public var errorNumber: UInt32

    public init(errorNumber: UInt32) { self.errorNumber = errorNumber }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) { errorNumber = try fields.u32(Tag.errorNumber) }
    public func write(into message: inout ControlMessage) { message.add(Tag.errorNumber, u32: errorNumber) }
}
