import Bytes

/// How a response goes to the downstream: decided once, before its head is written.
public struct ResponsePlan: Sendable, Equatable {
    /// How the downstream will find the body's end.
    public var framing: BodyFraming
    /// Whether the downstream connection stays open after the response.
    public var keepsAlive: Bool
    /// The downstream's version.
    public var minorVersion: Int

    /// Content goes out in chunks: what `BodyRelay` must be told.
    public var writesChunks: Bool { framing == .chunked }
}

extension Head {
    /// How this response goes to a downstream of the given version.
    ///
    /// Whatever has no length is chunked for HTTP/1.1, also what the upstream ended by closing; HTTP/1.0 knows no chunks,
    /// so there it ends with the connection.
    /// - Parameter keepsAlive: whether downstream and proxy would keep the connection: the request's `keepsAlive`, not draining.
    public func responsePlan(minorVersion downstream: Int, keepsAlive: Bool) -> ResponsePlan {
        switch framing {
        case .none, .length:
            ResponsePlan(framing: framing, keepsAlive: keepsAlive, minorVersion: downstream)
        case .chunked, .untilClose:
            downstream == 1
                ? ResponsePlan(framing: .chunked, keepsAlive: keepsAlive, minorVersion: downstream)
                : ResponsePlan(framing: .untilClose, keepsAlive: false, minorVersion: downstream)
        }
    }
}

/// Writes the head of a response towards the downstream, always as HTTP/1.1 (RFC 9110, 2.5).
public enum ResponseWriter {
    /// What `write` adds at most: `transfer-encoding` 28 or `content-length: 0` 19, `connection` 24, `upgrade` 11, the status line 20; rounded up.
    static let additionMax = 128

    /// Bytes that `write` may need, for `ByteQueue.write(upTo:)`.
    public static func bytesMax(_ head: borrowing Head) -> Int { head.byteCount + head.fieldCount + additionMax }

    /// Writes status line and fields, up to and including the empty line.
    ///
    /// An interim response (`isInterim`) passes without framing and connection fields; it must not be sent to an HTTP/1.0
    /// downstream. A 101 keeps `Upgrade`: the parser lets it through only when one was asked for.
    /// - Returns: false when `out` is too small; what it then holds is no response.
    public static func write(
        _ head: borrowing Head, of bytes: UnsafeRawBufferPointer, _ plan: ResponsePlan, to out: inout ByteWriter
    ) -> Bool {
        precondition(head.byteCount <= bytes.count, "these are not the bytes the head was parsed from")
        guard let base = bytes.baseAddress else { return false }
        writeStatusLine(head, base, to: &out)
        var withheld = FieldSet.perHop
        // No content, no length: 1xx and 204 must not have one (RFC 9110, 8.6); for HEAD and 304 it tells of the content there is.
        if head.status < 200 || head.status == 204 { withheld.insert(.contentLength) }
        writeFields(head, base, except: withheld, to: &out)
        if head.status == 101 {
            if head.upgradeRow >= 0 {
                let value = head.fields[head.upgradeRow].value
                out.write("upgrade: ")
                out.write(base + value.start, count: Int(value.count))
                out.write("\r\n")
            }
            out.write("connection: upgrade\r\n")
        } else if head.status >= 200 {
            if plan.writesChunks {
                out.write("transfer-encoding: chunked\r\n")
            } else if plan.framing == .length(0), head.contentLength == nil {
                out.write("content-length: 0\r\n")
            }
            if !plan.keepsAlive {
                out.write("connection: close\r\n")
            } else if plan.minorVersion == 0 {
                out.write("connection: keep-alive\r\n")
            }
        }
        out.write("\r\n")
        return !out.overflowed
    }

    @inline(__always)
    private static func writeStatusLine(_ head: borrowing Head, _ base: UnsafeRawPointer, to out: inout ByteWriter) {
        out.write("HTTP/1.1 ")
        out.writeDecimal(UInt64(head.status))
        out.write(" ")
        out.write(base + head.reasonPhrase.start, count: Int(head.reasonPhrase.count))
        out.write("\r\n")
    }
}
