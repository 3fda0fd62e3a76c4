import Glibc
import Synchronization

/// Serial numbers and identities whose certificates count no more. Made on the control thread, read by all workers, never changed;
/// counted by hand, for letters carry it.
public struct RevocationList: @unchecked Sendable {
    /// Where one entry's bytes lie; none: count 0.
    struct Slot {
        var offset: UInt32
        var count: UInt16
        var isIdentity: Bool
    }

    private let memory: UnsafeMutableRawPointer
    private var references: UnsafeMutablePointer<Atomic<Int>> { memory.assumingMemoryBound(to: Atomic<Int>.self) }
    private var numbers: UnsafeMutablePointer<Int> { (memory + 8).assumingMemoryBound(to: Int.self) }
    private var slots: UnsafeMutablePointer<Slot> { (memory + 32).assumingMemoryBound(to: Slot.self) }
    private var texts: UnsafeMutableRawPointer { memory + 32 + (numbers[2] + 1) * MemoryLayout<Slot>.stride }

    public var generation: UInt64 { UInt64(bitPattern: Int64(numbers[0])) }
    /// Entries.
    public var count: Int { numbers[1] }

    /// Reads lines of `serial <hex>` and `identity <uri>`; empty lines and lines that begin with `#` say nothing. Throws the number of a line that says
    /// something else: a list that is not understood must not become a shorter one.
    public init(text: [UInt8], generation: UInt64) throws(RevocationFault) {
        var entries: [(bytes: [UInt8], isIdentity: Bool)] = []
        var number = 0
        for line in text.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
            number += 1
            if line.isEmpty || line.first == UInt8(ascii: "#") { continue }
            guard entries.count < TLSLimits.revocationsMax, let entry = Self.entry(line) else { throw RevocationFault(line: number) }
            entries.append(entry)
        }
        var size = 16
        while size < entries.count * 2 { size *= 2 }
        let textBytes = entries.reduce(0) { $0 + $1.bytes.count }
        memory = .allocate(byteCount: 32 + size * MemoryLayout<Slot>.stride + textBytes, alignment: 8)
        (memory.bindMemory(to: Atomic<Int>.self, capacity: 1)).initialize(to: Atomic(1))
        numbers.initialize(to: Int(Int64(bitPattern: generation)))
        (numbers + 1).initialize(to: entries.count)
        (numbers + 2).initialize(to: size - 1)
        slots.initialize(repeating: Slot(offset: 0, count: 0, isIdentity: false), count: size)
        var offset = 0
        for entry in entries {
            entry.bytes.withUnsafeBytes { (texts + offset).copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
            var place = entry.bytes.withUnsafeBytes { Self.hash($0) } & (size - 1)
            while slots[place].count != 0 { place = (place + 1) & (size - 1) }
            slots[place] = Slot(offset: UInt32(offset), count: UInt16(entry.bytes.count), isIdentity: entry.isIdentity)
            offset += entry.bytes.count
        }
    }

    public func retain() { references.pointee.wrappingAdd(1, ordering: .relaxed) }
    public func release() {
        if references.pointee.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue == 0 { memory.deallocate() }
    }

    /// `serial`: big endian, without leading zeros.
    public func contains(serial: UnsafeRawBufferPointer) -> Bool { contains(serial, isIdentity: false) }
    public func contains(identity uri: UnsafeRawBufferPointer) -> Bool { contains(uri, isIdentity: true) }

    private func contains(_ bytes: UnsafeRawBufferPointer, isIdentity: Bool) -> Bool {
        guard count > 0 else { return false }
        var place = Self.hash(bytes) & numbers[2]
        while slots[place].count != 0 {
            let slot = slots[place]
            if slot.isIdentity == isIdentity && same(UnsafeRawBufferPointer(start: texts + Int(slot.offset), count: Int(slot.count)), bytes) { return true }
            place = (place + 1) & numbers[2]
        }
        return false
    }

    /// FNV-1a: the list is the operator's, nobody else chooses what collides in it.
    private static func hash(_ bytes: UnsafeRawBufferPointer) -> Int {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return Int(truncatingIfNeeded: hash ^ hash >> 29) & Int.max
    }

    private static func entry(_ line: ArraySlice<UInt8>) -> (bytes: [UInt8], isIdentity: Bool)? {
        let words = line.split(separator: UInt8(ascii: " "), maxSplits: 1)
        guard words.count == 2, !words[1].isEmpty else { return nil }
        if words[0].elementsEqual("identity".utf8) {
            guard words[1].count <= WorkloadName.bytesMax else { return nil }
            return (Array(words[1]), true)
        }
        guard words[0].elementsEqual("serial".utf8), words[1].count <= 2 * TLSLimits.serialBytesMax + 2 else { return nil }
        var digits: [UInt8] = []
        for byte in words[1] {
            guard let digit = hexDigit(byte) else { return nil }
            digits.append(digit)
        }
        if digits.count % 2 == 1 { digits.insert(0, at: 0) }
        var bytes: [UInt8] = []
        for place in stride(from: 0, to: digits.count, by: 2) {
            let byte = digits[place] << 4 | digits[place + 1]
            if byte != 0 || !bytes.isEmpty { bytes.append(byte) }
        }
        // RFC 5280, 4.1.2.2: positive.
        return bytes.isEmpty ? nil : (bytes, false)
    }

    private static func hexDigit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}

/// A revocation list that cannot be read; `line` counts from 1.
public struct RevocationFault: Error, Equatable, Sendable {
    public let line: Int
}
