import MeshModel

extension FaultLog {
    /// An address that one pod or service can have. Loopback, link-local, multicast and unspecified addresses are
    /// faults: as an endpoint they would lead the proxy back into the calling pod or the node itself.
    func unicastAddress(_ text: String, path: String, line: Int) -> IPAddress? {
        guard let address = IPAddress(text) else {
            add(line: line, field: path, "“\(text.prefix(64))” is not an IP address", remedy: "write an address such as 10.1.0.5 or fd00::5")
            return nil
        }
        guard address.isOrdinaryUnicast else {
            add(
                line: line, field: path, "“\(text)” is a loopback, link-local, multicast or unspecified address",
                remedy: "write an address that is reachable from other pods")
            return nil
        }
        return address
    }
}

extension ObjectReader {
    /// Line of a field, or of the mapping when the field is absent.
    func lineOf(_ field: String) -> Int { node(field)?.mark?.line ?? line }
}

extension IPAddress {
    var isOrdinaryUnicast: Bool {
        if let ipv4 {
            let isLinkLocal = ipv4 >> 16 == 0xA9FE  // 169.254.0.0/16
            return ipv4 >> 24 != 0 && ipv4 >> 24 != 127 && ipv4 >> 28 < 0xE && !isLinkLocal
        }
        let isLowest = high == 0 && low <= 1  // :: and ::1
        let isLinkLocal = high >> 54 == 0x3FA  // fe80::/10
        return !isLowest && !isLinkLocal && high >> 56 != 0xFF
    }
}

/// As text, so that persisted objects stay readable.
extension IPAddress: Codable {
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let address = IPAddress(text) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "“\(text)” is not an IP address")
        }
        self = address
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

/// A range of addresses. IPv4 ranges keep their own length (0…32); `mappedLength` counts in the mapped form.
public struct AddressPrefix: Sendable, Hashable, Codable, CustomStringConvertible {
    /// Network address, host bits cleared.
    public var address: IPAddress
    /// Bits of the prefix in the address's own family.
    public var length: UInt8

    /// Bits of the prefix in 128-bit form, where IPv4 lies in ::ffff:0:0/96.
    public var mappedLength: UInt8 { address.isIPv4 ? length + 96 : length }
    public var description: String { "\(address)/\(length)" }

    /// Reads `10.9.0.0/16` or `fd00::/8`; a bare address is the range of that address alone.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, let address = IPAddress(String(parts[0])) else { return nil }
        let longest: UInt8 = address.isIPv4 ? 32 : 128
        guard let length = parts.count == 1 ? longest : UInt8(parts[1]), length <= longest else { return nil }
        let bits = Int(address.isIPv4 ? length + 96 : length)
        // A shift by the whole width gives 0 in Swift, so both halves may be kept or dropped whole.
        let highMask = bits >= 64 ? UInt64.max : ~(UInt64.max >> UInt64(bits))
        let lowMask = bits <= 64 ? 0 : ~(UInt64.max >> UInt64(bits - 64))
        self.address = IPAddress(high: address.high & highMask, low: address.low & lowMask)
        self.length = length
    }
}
