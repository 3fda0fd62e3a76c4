import Glibc

/// An IPv4 or IPv6 address in 16 bytes; IPv4 is held in its mapped form `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2).
///
/// The two halves are numbers in host order, so addresses sort numerically and hash in one multiplication.
/// The wire form (network order) is written by `write(to:)` and read by `init(bytes:)`.
public struct IPAddress: Sendable, Hashable, Comparable, LosslessStringConvertible {
    /// The first eight bytes as a number; the prefix of an IPv6 address.
    public let high: UInt64
    /// The last eight bytes as a number.
    public let low: UInt64

    @inlinable
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// An IPv4 address given as a number in host order: `0x7f000001` is 127.0.0.1.
    @inlinable
    public init(ipv4: UInt32) {
        self.init(high: 0, low: 0xffff_0000_0000 | UInt64(ipv4))
    }

    /// Reads 4 (IPv4) or 16 bytes in network order; `nil` for any other count.
    @inlinable
    public init?(bytes: UnsafeRawBufferPointer) {
        switch bytes.count {
        case 4:
            self.init(ipv4: UInt32(bigEndian: bytes.loadUnaligned(as: UInt32.self)))
        case 16:
            self.init(
                high: UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)),
                low: UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
        default:
            return nil
        }
    }

    /// Reads 4 (IPv4) or 16 bytes in network order; `nil` for any other count.
    public init?(bytes: [UInt8]) {
        guard let address = bytes.withUnsafeBytes({ IPAddress(bytes: $0) }) else { return nil }
        self = address
    }

    /// Parses `10.1.2.3`, `fd00::1` or `::ffff:10.1.2.3`; zones (`%eth0`), ports and brackets are refused.
    public init?(_ text: String) {
        var bytes: (UInt64, UInt64) = (0, 0)
        let isIPv6 = text.utf8.contains(UInt8(ascii: ":"))
        // inet_pton stops at a zero byte and would take what stands before it for the whole text.
        guard !text.utf8.contains(0), inet_pton(isIPv6 ? AF_INET6 : AF_INET, text, &bytes) == 1 else { return nil }
        if isIPv6 {
            self.init(high: UInt64(bigEndian: bytes.0), low: UInt64(bigEndian: bytes.1))
        } else {
            self.init(ipv4: UInt32(bigEndian: UInt32(truncatingIfNeeded: bytes.0)))
        }
    }

    /// The same from bytes, without a copy on the heap: for what a peer has sent.
    public init?(text: UnsafeRawBufferPointer) {
        guard text.count > 1, text.count < Int(INET6_ADDRSTRLEN), !text.contains(0) else { return nil }
        var bytes: (UInt64, UInt64) = (0, 0)
        let isIPv6 = text.contains(UInt8(ascii: ":"))
        let isRead = withUnsafeTemporaryAllocation(byteCount: Int(INET6_ADDRSTRLEN), alignment: 1) { memory in
            memory.copyMemory(from: text)
            memory[text.count] = 0
            return inet_pton(isIPv6 ? AF_INET6 : AF_INET, memory.baseAddress!.assumingMemoryBound(to: CChar.self), &bytes) == 1
        }
        guard isRead else { return nil }
        if isIPv6 {
            self.init(high: UInt64(bigEndian: bytes.0), low: UInt64(bigEndian: bytes.1))
        } else {
            self.init(ipv4: UInt32(bigEndian: UInt32(truncatingIfNeeded: bytes.0)))
        }
    }

    @inlinable public var isIPv4: Bool { high == 0 && low >> 32 == 0xffff }

    /// The IPv4 address as a number in host order; `nil` for IPv6.
    @inlinable public var ipv4: UInt32? { isIPv4 ? UInt32(truncatingIfNeeded: low) : nil }

    /// 127.0.0.0/8 or ::1.
    @inlinable public var isLoopback: Bool {
        isIPv4 ? (low >> 24) & 0xff == 127 : high == 0 && low == 1
    }

    /// Writes the 16 bytes in network order; `target` has room for them, at any alignment.
    @inlinable
    public func write(to target: UnsafeMutableRawPointer) {
        target.storeBytes(of: high.bigEndian, as: UInt64.self)
        target.storeBytes(of: low.bigEndian, toByteOffset: 8, as: UInt64.self)
    }

    /// The 16 bytes in network order.
    public var bytes: [UInt8] {
        [UInt8](unsafeUninitializedCapacity: 16) { buffer, count in
            write(to: UnsafeMutableRawPointer(buffer.baseAddress!))
            count = 16
        }
    }

    /// The usual text: dotted IPv4, or IPv6 shortened as RFC 5952 says.
    public var description: String {
        var text = [CChar](repeating: 0, count: 46)  // INET6_ADDRSTRLEN
        if let ipv4 {
            var bytes = ipv4.bigEndian
            inet_ntop(AF_INET, &bytes, &text, UInt32(text.count))
        } else {
            var bytes = (high.bigEndian, low.bigEndian)
            inet_ntop(AF_INET6, &bytes, &text, UInt32(text.count))
        }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    @inlinable
    public static func < (left: IPAddress, right: IPAddress) -> Bool {
        left.high == right.high ? left.low < right.low : left.high < right.high
    }
}
