/// Whether bytes equal a literal of lower-case letters, digits and hyphens, when the bytes' own letters may be of either
/// case. The bytes must be token characters: only then is setting bit 5 the same as lowering a letter's case.
@inlinable @inline(__always)
public func tokenEquals(_ bytes: UnsafeRawPointer, _ count: Int, _ lowerCase: StaticString) -> Bool {
    guard count == lowerCase.utf8CodeUnitCount else { return false }
    let literal = UnsafeRawPointer(lowerCase.utf8Start)
    let caseBits: UInt64 = 0x2020_2020_2020_2020
    if count >= 8 {
        // Words from the front, then one that ends at the end and may overlap the one before.
        var index = 0
        while true {
            let word = bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self) | caseBits
            if word != literal.loadUnaligned(fromByteOffset: index, as: UInt64.self) { return false }
            if index == count &- 8 { return true }
            index = min(index &+ 8, count &- 8)
        }
    }
    var index = 0
    while index < count {
        let byte = bytes.load(fromByteOffset: index, as: UInt8.self) | 0x20
        if byte != literal.load(fromByteOffset: index, as: UInt8.self) { return false }
        index &+= 1
    }
    return true
}

/// Whether two runs of bytes are equal when ASCII letters of either case count as the same.
@inlinable public func equalsIgnoringCase(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
    guard left.count == right.count else { return false }
    var index = 0
    while index < left.count {
        if lowerCased(left[index]) != lowerCased(right[index]) { return false }
        index &+= 1
    }
    return true
}

/// An ASCII letter in lower case; any other byte as it is.
@inlinable @inline(__always) public func lowerCased(_ byte: UInt8) -> UInt8 {
    byte &- 0x41 < 26 ? byte | 0x20 : byte
}

/// Whether bytes equal a literal, case included.
@inlinable public func equals(_ bytes: UnsafeRawPointer, _ count: Int, _ literal: StaticString) -> Bool {
    guard count == literal.utf8CodeUnitCount else { return false }
    var index = 0
    while index < count {
        if bytes.load(fromByteOffset: index, as: UInt8.self) != literal.utf8Start[index] { return false }
        index &+= 1
    }
    return true
}
