import Bytes

/// The first message of a TLS client (RFC 8446, 4.1.2), read for nothing but the name of the server it wants (RFC 6066, 3). The bytes stay as
/// they are; nothing is decrypted or judged.
public enum ClientHello: Equatable, Sendable {
    /// The name's bytes were written to the caller's memory: letters, digits, `-`, `_` and `.` only.
    case named(byteCount: Int)
    /// It is whole and names no server, or is no ClientHello.
    case unnamed
    /// The rest has not come yet.
    case incomplete

    /// A ClientHello with its record headers; what is longer is carried without being understood. Post-quantum key shares make it 1.8 KB.
    public static let bytesMax = 16 * 1024
    /// A DNS name (RFC 1035, 2.3.4).
    public static let nameBytesMax = 253

    /// Reads the bytes that have come so far, from the connection's first.
    /// - Parameter name: where a name goes; it need hold no more than `nameBytesMax` bytes.
    public init(reading bytes: UnsafeRawBufferPointer, name: UnsafeMutableRawBufferPointer) {
        var reader = HandshakeReader(UnsafeRawBufferPointer(rebasing: bytes.prefix(Self.bytesMax)))
        let found = Self.find(&reader, name)
        if let found {
            self = found
        } else {
            self = reader.isForeign || bytes.count >= Self.bytesMax ? .unnamed : .incomplete
        }
    }

    /// Nil: the bytes have ended, or are not what they should be.
    private static func find(_ reader: inout HandshakeReader, _ name: UnsafeMutableRawBufferPointer) -> ClientHello? {
        guard let type = reader.number(1) else { return nil }
        guard type == 1 else { return .unnamed }
        guard let length = reader.number(3) else { return nil }
        // Version and random; session; cipher suites; compression methods.
        var message = length
        func within(_ count: Int) -> Bool {
            guard count <= message else { return false }
            message -= count
            return true
        }
        guard within(34) else { return .unnamed }
        guard reader.skip(34) else { return nil }
        for field in 0..<3 {
            let lengthBytes = field == 1 ? 2 : 1
            guard within(lengthBytes) else { return .unnamed }
            guard let count = reader.number(lengthBytes) else { return nil }
            guard within(count) else { return .unnamed }
            guard reader.skip(count) else { return nil }
        }
        guard message > 0 else { return .unnamed }
        guard within(2) else { return .unnamed }
        guard var extensions = reader.number(2) else { return nil }
        guard extensions <= message else { return .unnamed }
        while extensions >= 4 {
            guard let kind = reader.number(2), let count = reader.number(2) else { return nil }
            extensions -= 4
            guard count <= extensions else { return .unnamed }
            if kind == 0 { return serverName(&reader, count, name) }
            guard reader.skip(count) else { return nil }
            extensions -= count
        }
        return .unnamed
    }

    private static func serverName(_ reader: inout HandshakeReader, _ count: Int, _ name: UnsafeMutableRawBufferPointer) -> ClientHello? {
        guard count >= 5 else { return .unnamed }
        guard let listCount = reader.number(2), let kind = reader.number(1), let nameCount = reader.number(2) else { return nil }
        // The one kind of name there is (0) comes first in whatever list there may be.
        guard listCount <= count - 2, kind == 0, nameCount <= listCount - 3, (1...min(nameBytesMax, name.count)).contains(nameCount) else { return .unnamed }
        var index = 0
        while index < nameCount {
            guard let byte = reader.number(1) else { return nil }
            guard isNameByte(UInt8(truncatingIfNeeded: byte)) else { return .unnamed }
            name[index] = UInt8(truncatingIfNeeded: byte)
            index += 1
        }
        return .named(byteCount: nameCount)
    }

    private static func isNameByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F: true
        default: false
        }
    }
}

/// The bytes of a handshake, whatever records they are cut into (RFC 8446, 5.1).
private struct HandshakeReader {
    private let bytes: UnsafeRawBufferPointer
    private var index = 0
    /// Bytes left in the record that is being read.
    private var rest = 0
    /// A record of another kind came: no handshake goes on here.
    private(set) var isForeign = false

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    /// Makes sure that a byte of the handshake is next.
    private mutating func advance() -> Bool {
        while rest == 0 {
            guard !isForeign, bytes.count - index >= 5 else { return false }
            let count = Int(bytes[index + 3]) << 8 | Int(bytes[index + 4])
            // An empty handshake record is forbidden (RFC 8446, 5.1); a record holds 16 KiB and a little.
            guard bytes[index] == 22, bytes[index + 1] == 3, (1...16_384 + 256).contains(count) else {
                isForeign = true
                return false
            }
            index += 5
            rest = count
        }
        return index < bytes.count
    }

    /// A big-endian number of one to three bytes.
    mutating func number(_ count: Int) -> Int? {
        var value = 0
        for _ in 0..<count {
            guard advance() else { return nil }
            value = value << 8 | Int(bytes[index])
            index += 1
            rest -= 1
        }
        return value
    }

    mutating func skip(_ count: Int) -> Bool {
        var left = count
        while left > 0 {
            guard advance() else { return false }
            let step = min(left, rest, bytes.count - index)
            index += step
            rest -= step
            left -= step
        }
        return true
    }
}
