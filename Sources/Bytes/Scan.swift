// Scanning eight bytes at a time in a UInt64 (SWAR). On x86-64 and arm64, both little-endian, byte k of memory is bits
// 8k..<8k+8, so the first hit is the lowest set bit. `SIMD16` with `any()` was measured at fifteen times this cost.




/// The high bit of each byte that is less than `limit` (at most 0x80). Borrows run upwards only from a true hit, so
/// everything below and including the lowest set bit is exact, and that is the bit a scan looks at.
@inlinable @inline(__always) func bytesBelow(_ limit: UInt64, in word: UInt64) -> UInt64 {
    (word &- 0x0101_0101_0101_0101 &* limit) & ~word & 0x8080_8080_8080_8080
}

/// The high bit of each byte that equals `byte`; exact up to the lowest set bit.
@inlinable @inline(__always) func bytesEqual(to byte: UInt64, in word: UInt64) -> UInt64 {
    bytesBelow(1, in: word ^ (0x0101_0101_0101_0101 &* byte))
}

/// The offset of the first control character (0x00–0x1F or 0x7F; a tab is one) in `start..<end`, or `end`.
@inlinable @inline(__always)
public func firstControl(in bytes: UnsafeRawPointer, from start: Int, to end: Int) -> Int {
    var index = start
    while index &+ 8 <= end {
        let word = bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self)
        let hits = bytesBelow(0x20, in: word) | bytesEqual(to: 0x7F, in: word)
        if hits != 0 { return index &+ hits.trailingZeroBitCount &>> 3 }
        index &+= 8
    }
    while index < end {
        let byte = bytes.load(fromByteOffset: index, as: UInt8.self)
        if byte < 0x20 || byte == 0x7F { return index }
        index &+= 1
    }
    return end
}

/// The offset of the first byte that is not visible ASCII (0x21–0x7E) in `start..<end`, or `end`.
@inlinable @inline(__always)
public func firstNotVisible(in bytes: UnsafeRawPointer, from start: Int, to end: Int) -> Int {
    var index = start
    while index &+ 8 <= end {
        let word = bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self)
        let hits = bytesBelow(0x21, in: word) | bytesEqual(to: 0x7F, in: word) | (word & 0x8080_8080_8080_8080)
        if hits != 0 { return index &+ hits.trailingZeroBitCount &>> 3 }
        index &+= 8
    }
    while index < end {
        let byte = bytes.load(fromByteOffset: index, as: UInt8.self)
        if byte < 0x21 || byte > 0x7E { return index }
        index &+= 1
    }
    return end
}

/// The offset of the first `byte` (ASCII) in `start..<end`, or `end`.
@inlinable @inline(__always)
public func firstIndex(of byte: UInt8, in bytes: UnsafeRawPointer, from start: Int, to end: Int) -> Int {
    var index = start
    while index &+ 8 <= end {
        let hits = bytesEqual(to: UInt64(byte), in: bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self))
        if hits != 0 { return index &+ hits.trailingZeroBitCount &>> 3 }
        index &+= 8
    }
    while index < end {
        if bytes.load(fromByteOffset: index, as: UInt8.self) == byte { return index }
        index &+= 1
    }
    return end
}

/// The offset of the first byte that is no token character in `start..<end`, or `end`.
@inlinable @inline(__always)
public func firstNotToken(in bytes: UnsafeRawPointer, from start: Int, to end: Int) -> Int {
    var index = start
    while true {
        // Letters, digits and hyphens are nearly all there is; eight of them at a time.
        while index &+ 8 <= end {
            let common = commonTokenBytes(in: bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self))
            let others = ~common & 0x8080_8080_8080_8080
            if others != 0 { index &+= others.trailingZeroBitCount &>> 3; break }
            index &+= 8
        }
        guard index < end, isTokenCharacter(bytes.load(fromByteOffset: index, as: UInt8.self)) else { return index }
        index &+= 1
    }
}

/// The offset of the first byte in `start..<end` that is no letter, digit, hyphen or point, or `end`: most host names whole.
@inlinable @inline(__always)
public func firstNotPlainName(in bytes: UnsafeRawPointer, from start: Int, to end: Int) -> Int {
    var index = start
    while index &+ 8 <= end {
        let word = bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self)
        let plain = commonTokenBytes(in: word) | exactlyEqual(to: 0x2E2E_2E2E_2E2E_2E2E, in: word)
        let others = ~plain & 0x8080_8080_8080_8080
        if others != 0 { return index &+ others.trailingZeroBitCount &>> 3 }
        index &+= 8
    }
    while index < end {
        let byte = bytes.load(fromByteOffset: index, as: UInt8.self)
        guard (byte | 0x20) &- 0x61 < 26 || byte &- 0x30 < 10 || byte == 0x2D || byte == 0x2E else { return index }
        index &+= 1
    }
    return end
}

/// The high bit of each byte that is a letter, a digit or a hyphen. Adding to a byte below 0x80 carries into its own high bit
/// at most, so every bit is exact; bytes from 0x80 are none of these and are masked out.
@inlinable @inline(__always) func commonTokenBytes(in word: UInt64) -> UInt64 {
    let low = word & 0x7F7F_7F7F_7F7F_7F7F
    let folded = low | 0x2020_2020_2020_2020
    let letter = (folded &+ 0x1F1F_1F1F_1F1F_1F1F) & ~(folded &+ 0x0505_0505_0505_0505)
    let digit = (low &+ 0x5050_5050_5050_5050) & ~(low &+ 0x4646_4646_4646_4646)
    return (letter | digit) & ~word & 0x8080_8080_8080_8080 | exactlyEqual(to: 0x2D2D_2D2D_2D2D_2D2D, in: word)
}

/// The high bit of each byte that equals that of a repeated ASCII byte; every bit exact, unlike `bytesEqual`.
@inlinable @inline(__always) func exactlyEqual(to repeated: UInt64, in word: UInt64) -> UInt64 {
    let difference = word ^ repeated
    return ~((difference & 0x7F7F_7F7F_7F7F_7F7F) &+ 0x7F7F_7F7F_7F7F_7F7F) & ~difference & 0x8080_8080_8080_8080
}

/// Whether a byte is a `tchar` (RFC 9110, 5.6.2): a letter, a digit, or one of !#$%&'*+-.^_`|~
@inlinable @inline(__always) public func isTokenCharacter(_ byte: UInt8) -> Bool {
    // One bit per byte 0–63 and 64–127.
    let bits: UInt64 = byte < 64 ? 0x03FF_6CFA_0000_0000 : 0x57FF_FFFF_C7FF_FFFE
    return byte < 128 && (bits &>> UInt64(byte & 63)) & 1 == 1
}
