import Bytes

/// The address a redirect sends its client to: scheme, host, port, and the path behind them.
public enum Location {
    /// Writes all of it. The port is left out where it is the scheme's own (Gateway API, HTTPRequestRedirectFilter.port).
    /// - Parameters:
    ///   - host: an IPv6 address in brackets.
    ///   - path: in two runs, whichever way it was put together; with its slash.
    ///   - query: from its question mark on; may be empty.
    public static func write(
        isSecure: Bool, host: UnsafeRawBufferPointer, port: UInt16, path: (UnsafeRawBufferPointer, UnsafeRawBufferPointer), query: UnsafeRawBufferPointer,
        to out: inout ByteWriter
    ) {
        if isSecure { out.write("https://") } else { out.write("http://") }
        out.write(host)
        if port != (isSecure ? 443 : 80) {
            out.write(UInt8(ascii: ":"))
            out.writeDecimal(UInt64(port))
        }
        out.write(path.0)
        out.write(path.1)
        out.write(query)
    }
}
