import Bytes

extension Head {
    /// Reads a trailer section: fields only, those that may not be there refused, those that mean nothing there dropped
    /// (RFC 9110, 6.5.1). Returns its bytes, the empty line included, or nil when more are needed.
    mutating func parseTrailers(_ source: Source, limits: BodyLimits) throws(HTTPFault) -> Int? {
        reset()
        var line = 0, kept = 0, seen = 0
        while line < source.count {
            if source[line] == Octet.carriageReturn {
                guard line &+ 1 < source.count else { return nil }
                guard source[line &+ 1] == Octet.lineFeed else { throw .bareCarriageReturn }
                fieldCount = kept
                byteCount = line &+ 2
                return byteCount
            }
            guard seen < limits.trailerFieldsMax else { throw .trailersTooLarge }
            var field = HeadField()
            guard let next = try parseFieldLine(source, at: line, into: &field) else { return nil }
            seen &+= 1
            line = next
            switch BodyDecoder.trailerRule(field.id) {
            case .forward:
                keep(field, &kept, from: seen &- 1)
            case .drop: break
            case .refuse: throw .forbiddenTrailer
            }
        }
        return nil
    }
}

extension Head {
    /// Keeps a trailer in the next row. Behind a dropped one it is no neighbour of the row before: runs are copied line by line.
    mutating func keep(_ field: HeadField, _ kept: inout Int, from row: Int) {
        fields[kept] = field
        if kept != row { fields[kept].isPlain = false }
        kept &+= 1
    }
}

/// Writes the end of a chunked body with trailers that came as the fields of a head.
public enum TrailerWriter {
    /// Bytes that `write` may need.
    public static func bytesMax(_ head: borrowing Head) -> Int { head.byteCount + head.fieldCount * 4 + 8 }

    /// Writes the last chunk, the trailers and the empty line. Returns false when `out` is too small.
    public static func write(_ head: borrowing Head, of bytes: UnsafeRawBufferPointer, to out: inout ByteWriter) -> Bool {
        out.write("0\r\n")
        if let base = bytes.baseAddress { writeFields(head, base, except: .perHop, to: &out) }
        out.write("\r\n")
        return !out.overflowed
    }
}
