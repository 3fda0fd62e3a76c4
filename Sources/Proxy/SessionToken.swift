import Bytes
import MeshModel

/// What a client carries so that its next request finds the endpoint that served its last: a cookie's or a field's value.
///
/// It is no secret and no proof: whoever makes one up reaches an endpoint that is ready for everybody. 60 hexadecimal digits.
struct SessionToken: Equatable {
    var address: IPAddress
    var port: UInt16
    /// The low half of `ShardHash.of(namespace:name:)` of the backend's Service.
    var backend: UInt32
    /// When the session began and was last used, seconds since 1970.
    var begun: UInt32
    var used: UInt32

    static let digitCount = 60

    init(address: IPAddress, port: UInt16, backend: UInt32, begun: UInt32, used: UInt32) {
        self.address = address
        self.port = port
        self.backend = backend
        self.begun = begun
        self.used = used
    }

    /// Nil for anything but what `write` writes.
    init?(_ text: UnsafeRawBufferPointer) {
        guard text.count == Self.digitCount else { return nil }
        var place = 0
        func number(_ digits: Int) -> UInt64? {
            var value: UInt64 = 0
            for index in place..<(place + digits) {
                guard let digit = hexDigitValue(text[index]) else { return nil }
                value = value << 4 | UInt64(digit)
            }
            place += digits
            return value
        }
        guard let high = number(16), let low = number(16), let port = number(4), let backend = number(8), let begun = number(8), let used = number(8) else {
            return nil
        }
        address = IPAddress(high: high, low: low)
        self.port = UInt16(truncatingIfNeeded: port)
        self.backend = UInt32(truncatingIfNeeded: backend)
        self.begun = UInt32(truncatingIfNeeded: begun)
        self.used = UInt32(truncatingIfNeeded: used)
    }

    func write(to out: inout ByteWriter) {
        out.writeHex(address.high, digitsMin: 16)
        out.writeHex(address.low, digitsMin: 16)
        out.writeHex(UInt64(port), digitsMin: 4)
        out.writeHex(UInt64(backend), digitsMin: 8)
        out.writeHex(UInt64(begun), digitsMin: 8)
        out.writeHex(UInt64(used), digitsMin: 8)
    }

    /// Whether the session has lasted, or rested, no longer than it may. 0: no such end. A clock that is behind by some minutes says nothing.
    func isAlive(now: UInt32, absoluteSeconds: UInt32, idleSeconds: UInt32) -> Bool {
        let age = now > begun ? now - begun : 0, rest = now > used ? now - used : 0
        return (absoluteSeconds == 0 || age < absoluteSeconds) && (idleSeconds == 0 || rest < idleSeconds)
    }
}
