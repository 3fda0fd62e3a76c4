import Bytes

/// Writes the end of a chunked body whose trailers came as fields of a head: from HTTP/2 to HTTP/1.1.
public enum TrailerWriter {
    /// Bytes that `write` may need.
    public static func bytesMax(_ head: borrowing Head) -> Int { head.byteCount + head.fieldCount + 8 }

    /// Writes the last chunk, the trailer fields and the empty line (RFC 9112, 7.1). The fields were judged when they were read: none of them
    /// governs framing, routing or the connection. What identifies the request ends here, as it does in chunked trailers.
    /// - Returns: false when `out` is too small.
    public static func write(_ head: borrowing Head, of bytes: UnsafeRawBufferPointer, to out: inout ByteWriter) -> Bool {
        out.write("0\r\n")
        if let base = bytes.baseAddress {
            var withheld = FieldSet.perHop
            withheld.insert(.xRequestID)
            withheld.insert(.traceparent)
            withheld.insert(.tracestate)
            withheld.insert(.xForwardedFor)
            withheld.insert(.xForwardedProto)
            withheld.insert(.weftDestination)
            writeFields(head, base, except: withheld, to: &out)
        }
        out.write("\r\n")
        return !out.overflowed
    }
}
