/// A write cursor over memory that someone else owns.
///
/// Every write is checked against the end of that memory. A write that does not fit is left out whole and remembered in
/// `overflowed`, so a caller writes a dozen pieces and asks once at the end. No write allocates.
///
/// The memory must outlive the writer; the writer is a plain cursor and frees nothing.
public struct ByteWriter {
    @usableFromInline let base: UnsafeMutableRawPointer
    /// How many bytes the memory holds.
    public let capacity: Int
    @usableFromInline var position = 0
    @usableFromInline var missed = false

    @inlinable public init(_ memory: UnsafeMutableRawBufferPointer) {
        // An empty buffer may have no address; no byte of it is ever touched, so any address serves.
        base = memory.baseAddress ?? UnsafeMutableRawPointer(bitPattern: 8)!
        capacity = memory.count
    }

    /// How many bytes have been written.
    @inlinable public var count: Int { position }
    /// How many bytes can still be written.
    @inlinable public var remaining: Int { capacity &- position }
    /// True once a write did not fit; what is in the memory is then incomplete.
    @inlinable public var overflowed: Bool { missed }
    /// What has been written so far.
    @inlinable public var written: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: position) }

    /// Takes `count` bytes of the memory, or none when they do not fit.
    @inlinable @inline(__always)
    mutating func take(_ count: Int) -> UnsafeMutableRawPointer? {
        guard count <= capacity &- position else { missed = true; return nil }
        let start = base + position
        position &+= count
        return start
    }

    /// Writes one byte; like every `write`, wholly or, when there is no room, not at all.
    @inlinable public mutating func write(_ byte: UInt8) {
        take(1)?.storeBytes(of: byte, as: UInt8.self)
    }

    /// Writes the UTF-8 bytes of a text that is part of the program.
    @inlinable @inline(__always) public mutating func write(_ text: StaticString) {
        take(text.utf8CodeUnitCount)?.copyMemory(from: text.utf8Start, byteCount: text.utf8CodeUnitCount)
    }

    /// Copies bytes.
    @inlinable public mutating func write(_ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress else { return }
        take(bytes.count)?.copyMemory(from: source, byteCount: bytes.count)
    }

    /// Copies `count` bytes.
    @inlinable public mutating func write(_ source: UnsafeRawPointer, count: Int) {
        take(count)?.copyMemory(from: source, byteCount: count)
    }

    /// Writes a number in decimal digits, without leading zeros.
    @inlinable public mutating func writeDecimal(_ value: UInt64) {
        let digits = decimalDigitCount(value)
        guard let start = take(digits) else { return }
        var rest = value, index = digits
        repeat {
            index &-= 1
            (start + index).storeBytes(of: 0x30 &+ UInt8(truncatingIfNeeded: rest % 10), as: UInt8.self)
            rest /= 10
        } while index > 0
    }

    /// Writes a number in lower-case hexadecimal digits, padded with zeros to at least `digitsMin` (at most 16) digits.
    @inlinable public mutating func writeHex(_ value: UInt64, digitsMin: Int = 1) {
        let digits = max(hexDigitCount(value), min(digitsMin, 16))
        guard let start = take(digits) else { return }
        storeHex(value, at: start, digits: digits)
    }

    /// Leaves `count` bytes to be filled in later by `patchHex(at:)`. Returns where they start, or nil when they do not fit.
    @inlinable public mutating func leaveGap(_ count: Int) -> Int? {
        let start = position
        return take(count) == nil ? nil : start
    }

    /// Leaves `count` bytes to whoever fills the memory returned; nil when they do not fit.
    @inlinable public mutating func leave(_ count: Int) -> UnsafeMutableRawPointer? { take(count) }

    /// Fills a gap of `digits` bytes at `offset` with a number in zero-padded hexadecimal.
    @inlinable public mutating func patchHex(_ value: UInt64, at offset: Int, digits: Int) {
        precondition(offset >= 0 && digits <= position &- offset, "the gap is not inside what was written")
        storeHex(value, at: base + offset, digits: digits)
    }
}

/// Stores the low `digits` hexadecimal digits of a value, lower case, most significant first.
@inlinable func storeHex(_ value: UInt64, at start: UnsafeMutableRawPointer, digits: Int) {
    var index = digits, rest = value
    while index >= 8 {
        index &-= 8
        (start + index).storeBytes(of: hexText(UInt32(truncatingIfNeeded: rest)), as: UInt64.self)
        rest &>>= 32
    }
    while index > 0 {
        index &-= 1
        let digit = UInt8(truncatingIfNeeded: rest & 15)
        (start + index).storeBytes(of: digit < 10 ? 0x30 &+ digit : 0x57 &+ digit, as: UInt8.self)
        rest &>>= 4
    }
}

/// Eight hexadecimal digits as text, in memory order: the nibbles are spread to one byte each, and each byte from 10 on is
/// moved on to the letters. Sixteen digits one by one cost 12 ns, and a new trace has 48.
@inlinable @inline(__always) func hexText(_ value: UInt32) -> UInt64 {
    var nibbles = UInt64(value)
    nibbles = (nibbles | nibbles &<< 16) & 0x0000_FFFF_0000_FFFF
    nibbles = (nibbles | nibbles &<< 8) & 0x00FF_00FF_00FF_00FF
    nibbles = (nibbles | nibbles &<< 4) & 0x0F0F_0F0F_0F0F_0F0F
    // 0x06 lifts 10…15 over 16, so bit 4 tells the letters; they stand 39 behind the digits.
    let letters = ((nibbles &+ 0x0606_0606_0606_0606) &>> 4) & 0x0101_0101_0101_0101
    return (nibbles &+ 0x3030_3030_3030_3030 &+ letters &* 39).byteSwapped
}
