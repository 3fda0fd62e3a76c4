/// What a control packet is about. Numbers are part of the wire and never change their meaning;
/// a receiver that does not know one counts it and carries on, so that two releases can talk during an upgrade.
public enum ControlKind: UInt16, Sendable, CaseIterable {
    // node → proxy
    case proxyHello = 1
    case podAdded = 2
    case podRemoved = 3
    case listenerAdded = 4
    /// node → proxy, and agent → node.
    case shardPublished = 5
    /// node → proxy, and agent → node.
    case snapshotComplete = 6
    case drain = 7

    // proxy → node
    case proxyReady = 16
    case snapshotApplied = 17
    case snapshotRefused = 18

    // one worker's stock channel
    case socketsWanted = 32
    case socketsMade = 33
    case socketsRefused = 34
    case pipesWanted = 35
    case pipesMade = 36
    case pipesRefused = 37

    // agent → node
    case podEnrol = 48
    case podUnenrol = 49

    // node → agent
    case agentHello = 64
    case podState = 65
    case processState = 66
    case snapshotAccepted = 67

    // agent → node → proxy
    case identityWanted = 80
    /// And node → agent: what a new agent finds in force.
    case identityIssued = 81
    case identityFiles = 82
    case identityWithdrawn = 83
    case trustBundle = 84
    case revocations = 85

    // proxy → node → agent
    case identityRequested = 96
    case identityState = 97
}

/// Bounds of one control packet.
public enum ControlLimits {
    /// Format version in every header.
    public static let version: UInt16 = 1
    /// Bytes of one packet, header included. A SEQPACKET packet must fit the sender's socket buffer whole, and
    /// 64 KiB is below the kernel's default of 208 KiB. Anything larger (a shard) travels as a memfd.
    public static let packetBytesMax = 64 * 1024
    /// Descriptors of one packet. The kernel takes 253 (`SCM_MAX_FD`); 64 is one stock delivery.
    public static let descriptorsMax = 64
    /// `{u16 version, u16 kind, u32 byteCount}`.
    public static let headerBytes = 8
    /// `{u16 tag, u16 zero, u32 length}`.
    public static let fieldHeaderBytes = 8
}

/// Why a packet could not be sent, received or understood.
public enum ControlFault: Error, Equatable, Sendable {
    /// The other side has closed its end; nothing more will come.
    case closed
    /// The socket's buffer is full; the packet was not sent and may be sent again.
    case wouldBlock
    /// More bytes than `ControlLimits.packetBytesMax`.
    case packetTooLarge(bytes: Int)
    /// More descriptors than `ControlLimits.descriptorsMax`.
    case tooManyDescriptors(Int)
    /// Fewer bytes than a header, or than a header promised.
    case truncated
    /// A header of another format version.
    case wrongVersion(UInt16)
    /// The header's byte count is not the packet's length, or padding is not zero.
    case malformed
    /// A field this kind must carry is not there.
    case missingField(tag: UInt16)
    /// A field has a length or a value its type cannot have.
    case malformedField(tag: UInt16)
    /// The packet carries fewer descriptors than its kind needs.
    case missingDescriptors(expected: Int, got: Int)
    /// The message is of another kind than the type it was decoded as.
    case wrongKind(UInt16)
    /// A system call failed.
    case system(errno: Int32)
}
