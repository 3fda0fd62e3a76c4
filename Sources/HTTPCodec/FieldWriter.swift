import Bytes

/// A set of known fields, as one bit each.
struct FieldSet {
    private var bits: UInt32 = 0

    private init(bits: UInt32) { self.bits = bits }

    @inline(__always) static func bit(_ field: KnownField) -> UInt32 { 1 &<< UInt32(field.rawValue) }
    @inline(__always) func contains(_ field: KnownField) -> Bool { bits & Self.bit(field) != 0 }
    @inline(__always) mutating func insert(_ field: KnownField) { bits |= Self.bit(field) }

    /// What ends at this hop (RFC 9110, 7.6.1), and Host, which is written anew.
    @inline(__always) static var perHop: FieldSet {
        FieldSet(
            bits: bit(.host) | bit(.connection) | bit(.transferEncoding) | bit(.keepAlive) | bit(.proxyConnection) | bit(.upgrade)
                | bit(.te) | bit(.http2Settings) | bit(.weftAttempt))
    }
}

/// Copies the fields that pass. Neighbours that are spelled plainly are copied as one run: a typical head takes two or three.
@inline(__always)
func writeFields(_ head: borrowing Head, _ base: UnsafeRawPointer, except withheld: FieldSet, to out: inout ByteWriter) {
    var runStart = 0, runEnd = 0
    var row = 0
    while row < head.fieldCount {
        let field = head.fields[row]
        row &+= 1
        let passes = !field.isForThisHop && !withheld.contains(field.id)
        if passes && field.isPlain {
            if runStart == runEnd { runStart = Int(field.nameOffset) }
            runEnd = field.plainLineEnd
            continue
        }
        if runStart < runEnd { out.write(base + runStart, count: runEnd &- runStart) }
        runStart = 0
        runEnd = 0
        if passes { writeNormalised(field, head, base, to: &out) }
    }
    if runStart < runEnd { out.write(base + runStart, count: runEnd &- runStart) }
}

/// One field in the plain spelling: one space before the value, none behind it; a length without leading zeros.
private func writeNormalised(_ field: HeadField, _ head: borrowing Head, _ base: UnsafeRawPointer, to out: inout ByteWriter) {
    out.write(base + Int(field.nameOffset), count: Int(field.nameCount))
    out.write(": ")
    if field.id == .contentLength, let length = head.contentLength {
        out.writeDecimal(UInt64(length))
    } else {
        out.write(base + Int(field.valueOffset), count: Int(field.valueCount))
    }
    out.write("\r\n")
}
