import CLinux

/// A typed control message. Whoever sends or receives one never handles tags.
public protocol ControlPayload: Equatable, Sendable {
    /// The kind on the wire.
    static var kind: ControlKind { get }
    /// Descriptors this payload holds, in the order they travel.
    var descriptors: [Int32] { get }
    /// Reads fields, and takes descriptors from the front of `descriptors`. What it leaves there is surplus.
    init(fields: ControlMessage, descriptors: inout DescriptorQueue) throws(ControlFault)
    /// Writes fields.
    func write(into message: inout ControlMessage)
}

extension ControlPayload {
    public var descriptors: [Int32] { [] }

    /// The packet. It borrows the payload's descriptors.
    public func message() -> ControlMessage {
        var message = ControlMessage(Self.kind)
        write(into: &message)
        message.descriptors = descriptors
        return message
    }

    /// Reads a received message and becomes the owner of the descriptors it names. Surplus descriptors are closed; when this throws, all are.
    public init(_ message: ControlMessage) throws(ControlFault) {
        var queue = DescriptorQueue(message.descriptors)
        defer { queue.closeRest() }
        guard message.rawKind == Self.kind.rawValue else { throw .wrongKind(message.rawKind) }
        do throws(ControlFault) {
            self = try Self(fields: message, descriptors: &queue)
        } catch {
            queue.closeAll()
            throw error
        }
    }

    /// Closes the descriptors the payload holds: for one that is not wanted after all.
    public func closeDescriptors() { for descriptor in descriptors { clinux_close(descriptor) } }
}

/// Received descriptors on their way to an owner. What nobody takes is closed.
public struct DescriptorQueue {
    private let all: [Int32]
    private var taken = 0

    init(_ descriptors: [Int32]) { all = descriptors }

    /// How many are left.
    public var count: Int { all.count - taken }
    /// The next descriptor, or nil.
    public mutating func takeIfPresent() -> Int32? {
        guard taken < all.count else { return nil }
        defer { taken += 1 }
        return all[taken]
    }
    /// The next descriptor; throws when the packet carried too few.
    public mutating func take() throws(ControlFault) -> Int32 {
        guard let descriptor = takeIfPresent() else { throw .missingDescriptors(expected: taken + 1, got: all.count) }
        return descriptor
    }
    mutating func takeAll() -> [Int32] {
        defer { taken = all.count }
        return Array(all[taken...])
    }
    mutating func closeRest() { while let descriptor = takeIfPresent() { clinux_close(descriptor) } }
    mutating func closeAll() { taken = 0; closeRest() }
}

/// Tags. One list for all kinds: a number means the same wherever it appears.
enum Tag {
    static let incarnation: UInt16 = 1, workers: UInt16 = 2, nodeName: UInt16 = 3, descriptorLimit: UInt16 = 4
    static let pod: UInt16 = 5, namespaceCookie: UInt16 = 6, address: UInt16 = 7, flags: UInt16 = 8
    static let role: UInt16 = 9, destinationFrom: UInt16 = 10, family: UInt16 = 11, index: UInt16 = 12
    static let shardVersion: UInt16 = 13, generation: UInt16 = 14, deadlineMilliseconds: UInt16 = 15, reason: UInt16 = 16
    static let socketKind: UInt16 = 17, count: UInt16 = 18, errorNumber: UInt16 = 19, uid: UInt16 = 20
    static let namespace: UInt16 = 21, name: UInt16 = 22, networkNamespacePath: UInt16 = 23, cgroupPath: UInt16 = 24
    static let excludedOutboundPorts: UInt16 = 25, excludedInboundPorts: UInt16 = 26, excludedOutboundPrefix: UInt16 = 27
    static let verdictName: UInt16 = 28, state: UInt16 = 29, listeners: UInt16 = 30, olderConnections: UInt16 = 31
    static let process: UInt16 = 32, processID: UInt16 = 33, restarts: UInt16 = 34, capacityBytes: UInt16 = 35
    static let probePorts: UInt16 = 36, udpExceptionPorts: UInt16 = 37
    static let identity: UInt16 = 38, number: UInt16 = 39, certificateRequest: UInt16 = 40, chain: UInt16 = 41
    static let notBefore: UInt16 = 42, notAfter: UInt16 = 43, trustDomain: UInt16 = 44, roots: UInt16 = 45
    static let kubeletCgroup: UInt16 = 46
}

/// An IPv6 or v4-mapped address as its 16 bytes in network order.
///
/// Not MeshModel's `IPAddress`: the channel carries addresses and understands none, and `node`, which links the channel, links no
/// model of the mesh. Both hold the same two numbers, so crossing over is a copy.
public struct AddressBytes: Hashable, Sendable {
    /// The first and last eight bytes, as big-endian numbers.
    public let high: UInt64, low: UInt64

    public init(high: UInt64, low: UInt64) { self.high = high; self.low = low }

    /// Nil unless there are 16 bytes.
    public init?(_ bytes: some Collection<UInt8>) {
        guard bytes.count == 16 else { return nil }
        high = bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
        low = bytes.suffix(8).reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// A v4 address in its mapped form, `::ffff:a.b.c.d`.
    public init(mapping a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8) {
        high = 0
        low = 0xffff_0000_0000 | UInt64(a) << 24 | UInt64(b) << 16 | UInt64(c) << 8 | UInt64(d)
    }

    /// The 16 bytes in network order.
    public var bytes: [UInt8] {
        [high, low].flatMap { half in stride(from: 56, through: 0, by: -8).map { UInt8(truncatingIfNeeded: half >> $0) } }
    }
    /// The four bytes of a v4-mapped address; nil for any other.
    public var ipv4: [UInt8]? {
        guard high == 0, low >> 32 == 0xffff else { return nil }
        return Array(bytes.suffix(4))
    }
}

/// An address prefix; `length` counts bits of the 16-byte form (a v4 `/16` is 112).
public struct PrefixBytes: Hashable, Sendable {
    public let address: AddressBytes
    public let length: UInt8

    /// Nil when `length` is more than 128.
    public init?(address: AddressBytes, length: UInt8) {
        guard length <= 128 else { return nil }
        self.address = address
        self.length = length
    }
}

extension ControlMessage {
    func enumeration<Value: RawRepresentable>(_ tag: UInt16) throws(ControlFault) -> Value where Value.RawValue == UInt8 {
        let raw = try u32(tag)
        guard let byte = UInt8(exactly: raw), let value = Value(rawValue: byte) else { throw .malformedField(tag: tag) }
        return value
    }
    func small<Number: FixedWidthInteger>(_ tag: UInt16) throws(ControlFault) -> Number {
        guard let value = Number(exactly: try u32(tag)) else { throw .malformedField(tag: tag) }
        return value
    }
    func addresses(_ tag: UInt16) throws(ControlFault) -> [AddressBytes] {
        var addresses: [AddressBytes] = []
        for bytes in list(tag) {
            guard let address = AddressBytes(bytes) else { throw .malformedField(tag: tag) }
            addresses.append(address)
        }
        return addresses
    }
    /// Absent means none.
    func ports(_ tag: UInt16) throws(ControlFault) -> [UInt16] {
        guard let bytes = bytes(tag) else { return [] }
        guard bytes.count.isMultiple(of: 2) else { throw .malformedField(tag: tag) }
        return stride(from: 0, to: bytes.count, by: 2).map { littleEndian(bytes, at: $0) }
    }
    func prefixes(_ tag: UInt16) throws(ControlFault) -> [PrefixBytes] {
        var prefixes: [PrefixBytes] = []
        for bytes in list(tag) {
            guard bytes.count == 17, let address = AddressBytes(bytes.prefix(16)), let prefix = PrefixBytes(address: address, length: bytes[16])
            else { throw .malformedField(tag: tag) }
            prefixes.append(prefix)
        }
        return prefixes
    }
    func strings(_ tag: UInt16) throws(ControlFault) -> [String] {
        var strings: [String] = []
        for bytes in list(tag) {
            guard let text = String(validating: bytes, as: UTF8.self) else { throw .malformedField(tag: tag) }
            strings.append(text)
        }
        return strings
    }
    mutating func add(_ tag: UInt16, addresses: [AddressBytes]) { for address in addresses { add(tag, bytes: address.bytes) } }
    mutating func add(_ tag: UInt16, ports: [UInt16]) { if !ports.isEmpty { add(tag, bytes: ports.flatMap { littleEndianBytes($0) }) } }
    mutating func add(_ tag: UInt16, prefixes: [PrefixBytes]) { for prefix in prefixes { add(tag, bytes: prefix.address.bytes + [prefix.length]) } }
}
