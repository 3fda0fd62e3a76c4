/// Bounds of what identity messages carry. Names and blobs are opaque here: whoever acts on them judges them.
public enum IdentityLimits {
    /// Bytes of an identity's URI (SPIFFE-ID §2.3).
    public static let identityBytesMax = 2_048
    /// Bytes of a certificate request, DER. One of a P-256 key with one name has 250, of an RSA-4096 key 1,700.
    public static let requestBytesMax = 8 * 1024
    /// Bytes of a chain, PEM: leaf and intermediates.
    public static let chainBytesMax = 32 * 1024
    /// Bytes of a trust bundle's roots, PEM; with its other fields it fits a packet.
    public static let rootsBytesMax = 60 * 1024
    /// Bytes of a text that says why.
    public static let reasonBytesMax = 1_024
}

extension ControlMessage {
    fileprivate func identity() throws(ControlFault) -> String { try text(Tag.identity, bytesMax: IdentityLimits.identityBytesMax) }
    fileprivate func text(_ tag: UInt16, bytesMax: Int) throws(ControlFault) -> String {
        let text = try string(tag)
        guard text.utf8.count <= bytesMax else { throw .malformedField(tag: tag) }
        return text
    }
    fileprivate func blob(_ tag: UInt16, bytesMax: Int) throws(ControlFault) -> [UInt8] {
        guard let blob = bytes(tag) else { throw .missingField(tag: tag) }
        guard blob.count <= bytesMax else { throw .malformedField(tag: tag) }
        return blob
    }
}

/// agent → node → proxy: a pod of this node needs this identity. The proxy makes a key pair and answers with `IdentityRequested`.
public struct IdentityWanted: ControlPayload {
    public static let kind = ControlKind.identityWanted
    /// `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`.
    public var identity: String
    /// The agent's number for this key pair, increasing per identity: what comes late for an older one is void.
    public var number: UInt64

    public init(identity: String, number: UInt64) { self.identity = identity; self.number = number }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) {
        identity = try fields.identity()
        number = try fields.u64(Tag.number)
    }
    public func write(into message: inout ControlMessage) {
        message.add(Tag.identity, string: identity)
        message.add(Tag.number, u64: number)
    }
}

/// proxy → node → agent: the key pair exists, its public half shall be certified. Node keeps the descriptor, and the agent gets the rest.
public struct IdentityRequested: ControlPayload {
    public static let kind = ControlKind.identityRequested
    public var identity: String
    public var number: UInt64
    /// Certificate request, DER (RFC 2986).
    public var request: [UInt8]
    /// Memory that holds the private key, which node never maps. Nil on its way to the agent.
    public var key: Int32?

    public init(identity: String, number: UInt64, request: [UInt8], key: Int32?) {
        self.identity = identity; self.number = number; self.request = request; self.key = key
    }
    public var descriptors: [Int32] { key.map { [$0] } ?? [] }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) {
        identity = try fields.identity()
        number = try fields.u64(Tag.number)
        request = try fields.blob(Tag.certificateRequest, bytesMax: IdentityLimits.requestBytesMax)
        key = descriptors.takeIfPresent()
    }
    public func write(into message: inout ControlMessage) {
        message.add(Tag.identity, string: identity)
        message.add(Tag.number, u64: number)
        message.add(Tag.certificateRequest, bytes: request)
    }
}

/// agent → node → proxy: the certificate of a key pair. A proxy that does not have the key gets its descriptor with it; a new agent gets,
/// without a key, what is in force.
public struct IdentityIssued: ControlPayload {
    public static let kind = ControlKind.identityIssued
    public var identity: String
    public var number: UInt64
    /// Leaf and intermediates, PEM, leaf first.
    public var chain: [UInt8]
    /// Unix seconds.
    public var notBefore: UInt64, notAfter: UInt64
    /// Only from node to a proxy that did not make the key.
    public var key: Int32?

    public init(identity: String, number: UInt64, chain: [UInt8], notBefore: UInt64, notAfter: UInt64, key: Int32? = nil) {
        self.identity = identity; self.number = number; self.chain = chain
        self.notBefore = notBefore; self.notAfter = notAfter; self.key = key
    }
    public var descriptors: [Int32] { key.map { [$0] } ?? [] }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) {
        identity = try fields.identity()
        number = try fields.u64(Tag.number)
        chain = try fields.blob(Tag.chain, bytesMax: IdentityLimits.chainBytesMax)
        notBefore = try fields.u64(Tag.notBefore)
        notAfter = try fields.u64(Tag.notAfter)
        key = descriptors.takeIfPresent()
    }
    public func write(into message: inout ControlMessage) {
        message.add(Tag.identity, string: identity)
        message.add(Tag.number, u64: number)
        message.add(Tag.chain, bytes: chain)
        message.add(Tag.notBefore, u64: notBefore)
        message.add(Tag.notAfter, u64: notAfter)
    }
}

/// agent → node → proxy: an identity whose certificate and key somebody else keeps in files, opened read-only.
public struct IdentityFiles: ControlPayload {
    public static let kind = ControlKind.identityFiles
    public var identity: String
    public var number: UInt64
    /// PEM files.
    public var chain: Int32, key: Int32

    public init(identity: String, number: UInt64, chain: Int32, key: Int32) {
        self.identity = identity; self.number = number; self.chain = chain; self.key = key
    }
    public var descriptors: [Int32] { [chain, key] }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) {
        identity = try fields.identity()
        number = try fields.u64(Tag.number)
        chain = try descriptors.take()
        key = try descriptors.take()
    }
    public func write(into message: inout ControlMessage) {
        message.add(Tag.identity, string: identity)
        message.add(Tag.number, u64: number)
    }
}

/// agent → node → proxy: no pod of this node has this identity any more. Its key is forgotten.
public struct IdentityWithdrawn: ControlPayload {
    public static let kind = ControlKind.identityWithdrawn
    public var identity: String

    public init(identity: String) { self.identity = identity }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) { identity = try fields.identity() }
    public func write(into message: inout ControlMessage) { message.add(Tag.identity, string: identity) }
}

/// agent → node → proxy: the root certificates in force, all of them.
public struct TrustBundle: ControlPayload {
    public static let kind = ControlKind.trustBundle
    public var trustDomain: String
    /// Grows with every change.
    public var generation: UInt64
    /// PEM, one after the other.
    public var roots: [UInt8]

    public init(trustDomain: String, generation: UInt64, roots: [UInt8]) {
        self.trustDomain = trustDomain; self.generation = generation; self.roots = roots
    }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) {
        trustDomain = try fields.text(Tag.trustDomain, bytesMax: IdentityLimits.identityBytesMax)
        generation = try fields.u64(Tag.generation)
        roots = try fields.blob(Tag.roots, bytesMax: IdentityLimits.rootsBytesMax)
    }
    public func write(into message: inout ControlMessage) {
        message.add(Tag.trustDomain, string: trustDomain)
        message.add(Tag.generation, u64: generation)
        message.add(Tag.roots, bytes: roots)
    }
}

/// agent → node → proxy: what is revoked, all of it; the previous list is void.
public struct Revocations: ControlPayload {
    public static let kind = ControlKind.revocations
    public var generation: UInt64
    /// A sealed memfd of lines `serial <hex>` and `identity <uri>`.
    public var list: Int32

    public init(generation: UInt64, list: Int32) { self.generation = generation; self.list = list }
    public var descriptors: [Int32] { [list] }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) {
        generation = try fields.u64(Tag.generation)
        list = try descriptors.take()
    }
    public func write(into message: inout ControlMessage) { message.add(Tag.generation, u64: generation) }
}

/// proxy → node → agent: what became of a certificate. Node answers with it too, when it keeps no more identities.
public struct IdentityState: ControlPayload {
    public static let kind = ControlKind.identityState
    /// `active`: new connections use it; `refused`: it was never used; `expired`: it is used no more.
    public enum State: UInt8, Sendable { case active = 1, refused = 2, expired = 3 }
    public var identity: String
    public var number: UInt64
    public var state: State
    /// Why it is refused; empty otherwise.
    public var reason: String
    /// Unix seconds, as the certificate says; 0 without one.
    public var notAfter: UInt64

    public init(identity: String, number: UInt64, state: State, reason: String = "", notAfter: UInt64 = 0) {
        self.identity = identity; self.number = number; self.state = state; self.reason = reason; self.notAfter = notAfter
    }
    public init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault) {
        identity = try fields.identity()
        number = try fields.u64(Tag.number)
        state = try fields.enumeration(Tag.state)
        reason = try fields.text(Tag.reason, bytesMax: IdentityLimits.reasonBytesMax)
        notAfter = try fields.u64(Tag.notAfter)
    }
    public func write(into message: inout ControlMessage) {
        message.add(Tag.identity, string: identity)
        message.add(Tag.number, u64: number)
        message.add(Tag.state, u32: UInt32(state.rawValue))
        message.add(Tag.reason, string: reason)
        message.add(Tag.notAfter, u64: notAfter)
    }
}
