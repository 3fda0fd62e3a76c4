import MeshModel

/// Where a request goes that one Weft proxy hands to another: `x-weft-destination: <port>;<protocol>` (DESIGN, 3).
///
/// Only one spelling of each value is taken: what two proxies write to each other leaves nothing to be guessed.
public struct WireDestination: Equatable, Sendable {
    /// What the connection to the application shall speak, as far as the calling side knows.
    public enum Spoken: UInt8, Sendable, CaseIterable {
        case http1, http2, grpc
        /// HTTP/1.1 in a connection of its own, which a CONNECT stream brings: what no stream can say (an upgrade to anything but WebSocket).
        case bridge

        /// As it stands in the field.
        public var name: StaticString {
            switch self {
            case .http1: "http1"
            case .http2: "http2"
            case .grpc: "grpc"
            case .bridge: "bridge"
            }
        }
    }

    public var port: UInt16
    public var spoken: Spoken

    public init(port: UInt16, spoken: Spoken) {
        self.port = port
        self.spoken = spoken
    }

    /// Reads the field's value; nil unless it is one, whole.
    public init?(_ text: UnsafeRawBufferPointer) {
        var place = 0
        guard let port = Self.port(in: text, &place), place < text.count, text[place] == UInt8(ascii: ";") else { return nil }
        let rest = UnsafeRawBufferPointer(rebasing: text[(place + 1)...])
        self.port = port
        // One comparison to each: an array of all cases would be an allocation per request.
        if Spoken.http1.name.isSpelled(by: rest) {
            spoken = .http1
        } else if Spoken.http2.name.isSpelled(by: rest) {
            spoken = .http2
        } else if Spoken.grpc.name.isSpelled(by: rest) {
            spoken = .grpc
        } else if Spoken.bridge.name.isSpelled(by: rest) {
            spoken = .bridge
        } else {
            return nil
        }
    }

    /// A port from `place` on, 1 to 65535, without leading zeros. `place` ends behind its last digit.
    static func port(in text: UnsafeRawBufferPointer, _ place: inout Int) -> UInt16? {
        let start = place
        var number = 0
        while place < text.count, text[place] &- 0x30 < 10 {
            number = number * 10 + Int(text[place] &- 0x30)
            place += 1
            if number > 65_535 { return nil }
        }
        guard place > start, text[start] != 0x30 else { return nil }
        return UInt16(number)
    }
}

extension StaticString {
    @inline(__always) fileprivate func isSpelled(by text: UnsafeRawBufferPointer) -> Bool {
        guard text.count == utf8CodeUnitCount else { return false }
        for place in 0..<text.count where text[place] != utf8Start[place] { return false }
        return true
    }
}

/// The authority of a CONNECT that arrives on port 15008, taken apart.
public enum TunnelTarget: Equatable, Sendable {
    /// `10.1.2.3:80`, `[fd00::1]:80`.
    case address(IPAddress, port: UInt16)
    /// Somebody's name: nothing that a pod's own door resolves.
    case name
    case malformed

    /// The longest literal: eight groups of four, seven colons, brackets, `:65535`.
    private static let literalBytesMax = 47

    /// - Parameter text: as it came; only a literal address and a port, each in one piece, make an address.
    public init(authority text: UnsafeRawBufferPointer) {
        guard let first = text.first, let colon = text.lastIndex(of: UInt8(ascii: ":")) else {
            self = .malformed
            return
        }
        var place = colon + 1
        guard let port = WireDestination.port(in: text, &place), place == text.count else {
            self = .malformed
            return
        }
        let host = UnsafeRawBufferPointer(rebasing: text[..<colon])
        if first == UInt8(ascii: "[") {
            guard host.count > 2, host.count < Self.literalBytesMax, host[host.count - 1] == UInt8(ascii: "]"),
                let address = IPAddress(text: UnsafeRawBufferPointer(rebasing: host[1..<(host.count - 1)])), !address.isIPv4
            else {
                self = .malformed
                return
            }
            self = .address(address, port: port)
        } else if host.allSatisfy({ $0 &- 0x30 < 10 || $0 == UInt8(ascii: ".") }) {
            guard let address = IPAddress(text: host), address.isIPv4 else {
                self = .malformed
                return
            }
            self = .address(address, port: port)
        } else {
            self = host.contains(UInt8(ascii: ":")) ? .malformed : .name
        }
    }
}
