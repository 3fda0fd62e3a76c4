import CLinux

/// One control packet: a kind, fields by tag, and descriptors that travel beside the bytes.
///
/// The wire is `{u16 version, u16 kind, u32 byteCount}` and then fields `{u16 tag, u16 zero, u32 length, bytes padded to 4}`,
/// all little endian: both ends are processes of one machine, started by one node process. Fields may come in any order; a tag may repeat (a list).
public struct ControlMessage: Equatable, Sendable {
    /// The kind's number, kept raw so that a message of a later release survives decoding.
    public let rawKind: UInt16
    /// Descriptors in the order they were added. A received message's descriptors belong to whoever holds the message;
    /// the typed payloads take the ones they name and close the surplus.
    public var descriptors: [Int32] = []
    var fields: [Field] = []

    struct Field: Equatable, Sendable {
        var tag: UInt16
        var bytes: [UInt8]
    }

    /// The kind, or nil when this release does not know it.
    public var kind: ControlKind? { ControlKind(rawValue: rawKind) }

    /// An empty message of a kind.
    public init(_ kind: ControlKind) { rawKind = kind.rawValue }

    // MARK: Fields

    /// Adds a field of raw bytes.
    public mutating func add(_ tag: UInt16, bytes: [UInt8]) { fields.append(Field(tag: tag, bytes: bytes)) }
    /// Adds a 32-bit number.
    public mutating func add(_ tag: UInt16, u32 value: UInt32) { add(tag, bytes: littleEndianBytes(value)) }
    /// Adds a 64-bit number.
    public mutating func add(_ tag: UInt16, u64 value: UInt64) { add(tag, bytes: littleEndianBytes(value)) }
    /// Adds UTF-8 text.
    public mutating func add(_ tag: UInt16, string value: String) { add(tag, bytes: Array(value.utf8)) }

    /// The first field with this tag, or nil.
    public func bytes(_ tag: UInt16) -> [UInt8]? { fields.first { $0.tag == tag }?.bytes }
    /// All fields with this tag, in order.
    public func list(_ tag: UInt16) -> [[UInt8]] { fields.filter { $0.tag == tag }.map(\.bytes) }
    /// A 32-bit number; throws when it is absent or not four bytes long.
    public func u32(_ tag: UInt16) throws(ControlFault) -> UInt32 { try number(tag) }
    /// A 64-bit number; throws when it is absent or not eight bytes long.
    public func u64(_ tag: UInt16) throws(ControlFault) -> UInt64 { try number(tag) }
    /// Text; throws when it is absent or not valid UTF-8.
    public func string(_ tag: UInt16) throws(ControlFault) -> String {
        guard let bytes = bytes(tag) else { throw .missingField(tag: tag) }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw .malformedField(tag: tag) }
        return text
    }

    private func number<Number: FixedWidthInteger>(_ tag: UInt16) throws(ControlFault) -> Number {
        guard let bytes = bytes(tag) else { throw .missingField(tag: tag) }
        guard bytes.count == Number.bitWidth / 8 else { throw .malformedField(tag: tag) }
        return littleEndian(bytes, at: 0)
    }

    // MARK: Wire

    /// The packet's bytes. The caller's promise is a size within the limits, which `ControlSocket.send` checks.
    public func encode() -> [UInt8] {
        var wire: [UInt8] = []
        wire.reserveCapacity(encodedBytes)
        wire += littleEndianBytes(ControlLimits.version)
        wire += littleEndianBytes(rawKind)
        wire += littleEndianBytes(UInt32(encodedBytes))
        for field in fields {
            wire += littleEndianBytes(field.tag)
            wire += littleEndianBytes(UInt16(0))
            wire += littleEndianBytes(UInt32(field.bytes.count))
            wire += field.bytes
            wire.append(contentsOf: repeatElement(0, count: padded(field.bytes.count) - field.bytes.count))
        }
        return wire
    }

    /// Length of `encode()`.
    public var encodedBytes: Int {
        fields.reduce(ControlLimits.headerBytes) { $0 + ControlLimits.fieldHeaderBytes + padded($1.bytes.count) }
    }

    /// Reads a packet. Any bytes are allowed in: what is not a packet throws.
    public init(decoding wire: [UInt8]) throws(ControlFault) {
        guard wire.count >= ControlLimits.headerBytes else { throw .truncated }
        guard wire.count <= ControlLimits.packetBytesMax else { throw .packetTooLarge(bytes: wire.count) }
        let version: UInt16 = littleEndian(wire, at: 0)
        guard version == ControlLimits.version else { throw .wrongVersion(version) }
        let byteCount: UInt32 = littleEndian(wire, at: 4)
        guard Int(byteCount) == wire.count else { throw .malformed }
        rawKind = littleEndian(wire, at: 2)
        var offset = ControlLimits.headerBytes
        while offset < wire.count {
            guard wire.count - offset >= ControlLimits.fieldHeaderBytes else { throw .truncated }
            let tag: UInt16 = littleEndian(wire, at: offset)
            let zero: UInt16 = littleEndian(wire, at: offset + 2)
            let length: UInt32 = littleEndian(wire, at: offset + 4)
            guard zero == 0 else { throw .malformed }
            offset += ControlLimits.fieldHeaderBytes
            guard Int(length) <= wire.count - offset, padded(Int(length)) <= wire.count - offset else { throw .truncated }
            let end = offset + Int(length), next = offset + padded(Int(length))
            guard wire[end..<next].allSatisfy({ $0 == 0 }) else { throw .malformed }
            fields.append(Field(tag: tag, bytes: Array(wire[offset..<end])))
            offset = next
        }
    }

    /// Closes every descriptor the message holds: for a message nobody wants.
    public mutating func closeDescriptors() {
        for descriptor in descriptors { clinux_close(descriptor) }
        descriptors = []
    }
}

private func padded(_ count: Int) -> Int { (count + 3) & ~3 }

func littleEndianBytes<Number: FixedWidthInteger>(_ value: Number) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
}

/// The caller has checked that the bytes are there.
func littleEndian<Number: FixedWidthInteger>(_ bytes: [UInt8], at offset: Int) -> Number {
    precondition(offset + Number.bitWidth / 8 <= bytes.count)
    return bytes.withUnsafeBytes { Number(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: Number.self)) }
}
