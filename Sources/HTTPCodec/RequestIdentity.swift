import Bytes

/// What a request is called on its way through several services, as a number: a hash of its `x-request-id`, which applications pass on.
public enum RequestIdentity {
    /// Of the identifier that the head carries and keeps; nil when it gets one of ours.
    public static func of(_ head: borrowing Head, _ bytes: UnsafeRawBufferPointer) -> UInt64? {
        guard head.requestIDCount == 1, let value = head.value(.xRequestID)?.of(bytes), !value.isEmpty else { return nil }
        return hash(value)
    }

    /// Of the identifier that is made by chance.
    public static func of(_ chance: (UInt64, UInt64, UInt64)) -> UInt64 {
        withUnsafeTemporaryAllocation(byteCount: 40, alignment: 1) { memory in
            var writer = ByteWriter(memory)
            writeRequestIDValue(chance, to: &writer)
            return hash(writer.written)
        }
    }

    /// FNV-1a over words of eight bytes: equal texts must meet, and that is all.
    private static func hash(_ text: UnsafeRawBufferPointer) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325 ^ UInt64(text.count)
        var offset = 0
        while offset + 8 <= text.count {
            hash = (hash ^ text.loadUnaligned(fromByteOffset: offset, as: UInt64.self)) &* 0x100_0000_01B3
            hash ^= hash >> 29
            offset += 8
        }
        while offset < text.count {
            hash = (hash ^ UInt64(text[offset])) &* 0x100_0000_01B3
            offset += 1
        }
        return hash | 1
    }
}

/// How long a caller waits for its reply, as `x-request-timeout` says it: a duration of the Gateway API (GEP-2257), `1m30s`, `2s`, `250ms`.
public enum RequestTimeout {
    /// Nil for anything else, and for nothing.
    public static func milliseconds(_ value: UnsafeRawBufferPointer) -> UInt64? {
        var total: UInt64 = 0, offset = 0, parts = 0
        while offset < value.count {
            var number: UInt64 = 0
            let first = offset
            while offset < value.count, value[offset] &- 0x30 < 10, offset - first < 9 {
                number = number * 10 + UInt64(value[offset] &- 0x30)
                offset += 1
            }
            guard offset > first, offset < value.count, parts < 4 else { return nil }
            switch value[offset] {
            case UInt8(ascii: "h"): total += number * 3_600_000
            case UInt8(ascii: "s"): total += number * 1_000
            case UInt8(ascii: "m"):
                if offset + 1 < value.count, value[offset + 1] == UInt8(ascii: "s") {
                    total += number
                    offset += 1
                } else {
                    total += number * 60_000
                }
            default: return nil
            }
            offset += 1
            parts += 1
        }
        return total > 0 ? total : nil
    }
}
