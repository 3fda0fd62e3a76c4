import Bytes

/// Whether a value is a W3C `traceparent` (Trace Context level 1, 3.2): version, trace id, parent id and flags in lower-case
/// hexadecimal, neither id zero. A later version may have more behind the flags, set off by a hyphen.
func isTraceparent(_ base: UnsafeRawPointer, _ value: ByteSpan) -> Bool {
    guard value.count >= 55 else { return false }
    let text = base + value.start
    @inline(__always) func byte(_ index: Int) -> UInt8 { text.load(fromByteOffset: index, as: UInt8.self) }
    guard byte(2) == UInt8(ascii: "-"), byte(35) == UInt8(ascii: "-"), byte(52) == UInt8(ascii: "-") else { return false }
    var traceBits: UInt8 = 0, parentBits: UInt8 = 0
    var index = 0
    while index < 55 {
        let digit = byte(index)
        switch index {
        case 2, 35, 52: break
        default:
            guard digit &- 0x30 < 10 || digit &- 0x61 < 6 else { return false }
            if index > 2 && index < 35 { traceBits |= digit &- 0x30 }
            if index > 35 && index < 52 { parentBits |= digit &- 0x30 }
        }
        index &+= 1
    }
    guard traceBits != 0, parentBits != 0 else { return false }
    let isVersion00 = byte(0) == 0x30 && byte(1) == 0x30
    if isVersion00 { return value.count == 55 }
    guard !(byte(0) == UInt8(ascii: "f") && byte(1) == UInt8(ascii: "f")) else { return false }
    return value.count == 55 || byte(55) == UInt8(ascii: "-")
}

/// Whether a value names one of the two schemes.
func isProtocolName(_ base: UnsafeRawPointer, _ value: ByteSpan) -> Bool {
    tokenEquals(base + value.start, Int(value.count), "http") || tokenEquals(base + value.start, Int(value.count), "https")
}

/// Writes `x-request-id` as a random UUID (RFC 9562, 5.4).
func writeRequestID(_ random: (UInt64, UInt64, UInt64), to out: inout ByteWriter) {
    out.write("x-request-id: ")
    writeRequestIDValue(random, to: &out)
    out.write("\r\n")
}

func writeRequestIDValue(_ random: (UInt64, UInt64, UInt64), to out: inout ByteWriter) {
    let high = random.0 & ~0xF000 | 0x4000
    let low = random.1 & ~(0b11 << 62) | 0b10 << 62
    out.writeHex(high >> 32, digitsMin: 8)
    out.write("-")
    out.writeHex(high >> 16 & 0xFFFF, digitsMin: 4)
    out.write("-")
    out.writeHex(high & 0xFFFF, digitsMin: 4)
    out.write("-")
    out.writeHex(low >> 48, digitsMin: 4)
    out.write("-")
    out.writeHex(low & 0xFFFF_FFFF_FFFF, digitsMin: 12)
}

/// Writes a new `traceparent`, not sampled: Weft records no spans, and who does decides for itself.
func writeTraceparent(_ random: (UInt64, UInt64, UInt64), to out: inout ByteWriter) {
    out.write("traceparent: ")
    writeTraceparentValue(random, to: &out)
    out.write("\r\n")
}

func writeTraceparentValue(_ random: (UInt64, UInt64, UInt64), to out: inout ByteWriter) {
    out.write("00-")
    out.writeHex(random.0 & ~0xF000 | 0x4000, digitsMin: 16)
    out.writeHex(random.1 & ~(0b11 << 62) | 0b10 << 62, digitsMin: 16)
    out.write("-")
    // Zero means "no parent".
    out.writeHex(random.2 | 1, digitsMin: 16)
    out.write("-00")
}

/// The 16 bytes of a `sec-websocket-key`.
func webSocketKeyWords(_ random: (UInt64, UInt64, UInt64)) -> (UInt64, UInt64) { (random.2 &* 0x9E37_79B9_7F4A_7C15, random.1 ^ random.0.byteSwapped) }
