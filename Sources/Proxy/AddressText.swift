import Bytes
import MeshModel

/// An address as text, on the stack: for `x-forwarded-for` and for the Host of a request that names none.
struct AddressText {
    /// `[ffff:…:ffff]:65535` has 47 characters.
    private var storage = InlineArray<48, UInt8>(repeating: 0)
    private var count = 0

    /// The address alone.
    mutating func write(_ address: IPAddress) {
        withWriter { writer in Self.write(address, to: &writer) }
    }

    /// `address:port`, IPv6 in brackets.
    mutating func write(_ address: IPAddress, port: UInt16) {
        withWriter { writer in
            if !address.isIPv4 { writer.write("[") }
            Self.write(address, to: &writer)
            if !address.isIPv4 { writer.write("]") }
            writer.write(":")
            writer.writeDecimal(UInt64(port))
        }
    }

    func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        withUnsafeBytes(of: storage) { body(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
    }

    private mutating func withWriter(_ body: (inout ByteWriter) -> Void) {
        count = withUnsafeMutableBytes(of: &storage) { memory in
            var writer = ByteWriter(memory)
            body(&writer)
            return writer.count
        }
    }

    /// RFC 5952 for IPv6: the longest run of zero groups is shortened, the first of equals.
    private static func write(_ address: IPAddress, to writer: inout ByteWriter) {
        if let ipv4 = address.ipv4 {
            writer.writeDecimal(UInt64(ipv4 >> 24))
            writer.write(".")
            writer.writeDecimal(UInt64(ipv4 >> 16 & 0xFF))
            writer.write(".")
            writer.writeDecimal(UInt64(ipv4 >> 8 & 0xFF))
            writer.write(".")
            writer.writeDecimal(UInt64(ipv4 & 0xFF))
            return
        }
        func group(_ index: Int) -> UInt64 { (index < 4 ? address.high : address.low) >> UInt64((3 - index % 4) * 16) & 0xFFFF }
        var bestStart = 8, bestCount = 1
        var index = 0
        while index < 8 {
            var end = index
            while end < 8, group(end) == 0 { end += 1 }
            if end - index > bestCount { bestStart = index; bestCount = end - index }
            index = max(end, index + 1)
        }
        index = 0
        while index < 8 {
            if index == bestStart {
                writer.write("::")
                index += bestCount
                continue
            }
            if index > 0 && index != bestStart + bestCount { writer.write(":") }
            writer.writeHex(group(index))
            index += 1
        }
    }
}
