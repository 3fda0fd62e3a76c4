import Bytes
import HTTPCodec

/// `x-weft-destination`: for which port of the pod a request is, and what its application shall be spoken to in.
struct DestinationText {
    /// `65535;http1` has 11 characters.
    private var storage = InlineArray<16, UInt8>(repeating: 0)
    private var count = 0

    init(port: UInt16, protocol spoken: StaticString) {
        count = withUnsafeMutableBytes(of: &storage) { memory in
            var writer = ByteWriter(memory)
            writer.writeDecimal(UInt64(port))
            writer.write(";")
            writer.write(spoken)
            return writer.count
        }
    }

    func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        withUnsafeBytes(of: storage) { body(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
    }
}

extension Worker {
    /// In what the application shall be spoken to, as far as it is known here.
    func applicationProtocol(_ exchange: ExchangePlace) -> StaticString {
        if exchange.pointee.isGRPC { return "grpc" }
        return exchange.pointee.isDeclaredHTTP2 || exchange.pointee.downstreamStream != 0 ? "http2" : "http1"
    }
}
