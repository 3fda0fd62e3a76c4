/// The number of decimal digits of a value; 1 for zero.
@inlinable public func decimalDigitCount(_ value: UInt64) -> Int {
    var digits = 1, rest = value
    while rest >= 10 { rest /= 10; digits &+= 1 }
    return digits
}

/// The number of hexadecimal digits of a value; 1 for zero.
@inlinable public func hexDigitCount(_ value: UInt64) -> Int {
    value == 0 ? 1 : (67 &- value.leadingZeroBitCount) &>> 2
}

/// The value of a hexadecimal digit of either case, or nil for any other byte.
@inlinable public func hexDigitValue(_ byte: UInt8) -> UInt8? {
    let digit = byte &- 0x30
    if digit < 10 { return digit }
    let letter = (byte | 0x20) &- 0x61
    return letter < 6 ? letter &+ 10 : nil
}

/// The value of a run of decimal digits and nothing else. Nil when it is empty, holds another byte (sign and space
/// included), or exceeds `Int64.max`.
@inlinable public func parseDecimal(_ bytes: UnsafeRawBufferPointer) -> Int? {
    guard !bytes.isEmpty else { return nil }
    var value = 0
    for byte in bytes {
        let digit = byte &- 0x30
        guard digit < 10 else { return nil }
        let (tenfold, overflow) = value.multipliedReportingOverflow(by: 10)
        let (sum, carry) = tenfold.addingReportingOverflow(Int(digit))
        guard !overflow, !carry else { return nil }
        value = sum
    }
    return value
}
