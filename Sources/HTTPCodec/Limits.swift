/// How much head a peer may send. Each limit is checked against the others once, when it is made.
public struct HeadLimits: Sendable, Equatable {
    /// Fields of a head that is read, whatever the limits say.
    public static let fieldsCapacity = 96
    /// Fields that routes may add to a head (`Head.amend`) beyond those: what a rule and one of its backends may set and add in a message.
    public static let fieldsAddedMax = 80
    /// Bytes that a head can refer to: offsets into it are 16 bits wide.
    static let offsetsMax = 65_535

    /// Bytes of the whole head, its final empty line included. At most 65,536: offsets into a head are 16 bits wide.
    public let headBytesMax: Int
    /// Field lines of one head.
    public let fieldsMax: Int
    /// Bytes of the request target.
    public let targetBytesMax: Int
    /// Bytes of the method.
    public let methodBytesMax: Int
    /// Names listed in all `Connection` fields together; each costs a walk over the fields.
    public let connectionOptionsMax: Int

    public init(
        headBytesMax: Int = 64 * 1024, fieldsMax: Int = 96, targetBytesMax: Int = 16 * 1024, methodBytesMax: Int = 32,
        connectionOptionsMax: Int = 16
    ) {
        precondition(headBytesMax > 0 && headBytesMax <= 65_536, "offsets into a head are 16 bits wide")
        precondition(fieldsMax > 0 && fieldsMax <= Self.fieldsCapacity, "the field table has 96 rows")
        precondition(targetBytesMax > 0 && targetBytesMax < headBytesMax, "the target is part of the head")
        precondition(methodBytesMax > 0 && methodBytesMax < headBytesMax, "the method is part of the head")
        precondition(connectionOptionsMax > 0)
        self.headBytesMax = headBytesMax
        self.fieldsMax = fieldsMax
        self.targetBytesMax = targetBytesMax
        self.methodBytesMax = methodBytesMax
        self.connectionOptionsMax = connectionOptionsMax
    }

    public static let standard = HeadLimits()
}

/// How much body, and how much framing around it, a peer may send.
public struct BodyLimits: Sendable, Equatable {
    /// Bytes of content. `Int.max`: as many as come, for bodies stream through.
    public let bodyBytesMax: Int
    /// Bytes of chunk extensions in one chunk. They are read and dropped; nobody has found a use for them but smuggling.
    public let extensionBytesMax: Int
    /// Bytes of the trailer section. The reader's buffer must hold as many: a trailer line is judged whole.
    public let trailerBytesMax: Int
    /// Field lines of the trailer section.
    public let trailerFieldsMax: Int

    public init(
        bodyBytesMax: Int = .max, extensionBytesMax: Int = 256, trailerBytesMax: Int = 8 * 1024, trailerFieldsMax: Int = 32
    ) {
        precondition(bodyBytesMax >= 0 && extensionBytesMax >= 0 && trailerBytesMax > 2 && trailerFieldsMax >= 0)
        precondition(extensionBytesMax <= Int(UInt16.max) && trailerBytesMax <= Int(UInt16.max) && trailerFieldsMax <= Int(UInt16.max))
        self.bodyBytesMax = bodyBytesMax
        self.extensionBytesMax = extensionBytesMax
        self.trailerBytesMax = trailerBytesMax
        self.trailerFieldsMax = trailerFieldsMax
    }

    public static let standard = BodyLimits()
}
