/// The one hash of shards, their writer and their readers: 64 × 64 → 128-bit multiplication folded to 64 bits
/// (the step of wyhash). It spreads keys over buckets; equality is always decided by comparing the keys themselves.
public enum ShardHash {
    // wyhash's secrets: half of the bits of each are set, and of each pair's difference too.
    @inlinable static var first: UInt64 { 0xa076_1d64_78bd_642f }
    @inlinable static var second: UInt64 { 0xe703_7ed1_a0b4_28db }
    @inlinable static var third: UInt64 { 0x8ebc_6af0_9c88_c6e3 }
    @inlinable static var fourth: UInt64 { 0x5899_65cc_7537_4cc3 }

    /// One step: both halves of the 128-bit product, folded.
    @inlinable
    public static func mix(_ left: UInt64, _ right: UInt64) -> UInt64 {
        let product = left.multipliedFullWidth(by: right)
        return product.high ^ product.low
    }

    /// An address's key.
    @inlinable
    public static func of(_ address: IPAddress) -> UInt64 {
        mix(address.high ^ first, address.low ^ second)
    }

    /// A service's key. Bit 5 of every byte is set while hashing, so `Cart` and `cart` meet in one slot
    /// (host names are case-insensitive, RFC 9110, 4.2.3).
    @inlinable
    public static func of(namespace: UnsafeRawBufferPointer, name: UnsafeRawBufferPointer) -> UInt64 {
        mix(folded(namespace), folded(name) ^ second)
    }

    /// A workload's key.
    @inlinable
    public static func of(uid: UnsafeRawBufferPointer) -> UInt64 { folded(uid) }

    /// The key of a path in a routes table's index, of which a prefix is another than the path itself.
    @inlinable
    public static func of(path: UnsafeRawBufferPointer, isPrefix: Bool) -> UInt64 { folded(path) ^ (isPrefix ? 1 : 0) }

    /// A text's, without regard to case.
    @inlinable
    public static func of(text: UnsafeRawBufferPointer) -> UInt64 { folded(text) }

    /// Hash of ASCII text without regard to case.
    @inlinable
    static func folded(_ text: UnsafeRawBufferPointer) -> UInt64 {
        var hash = UInt64(truncatingIfNeeded: text.count) ^ first
        var offset = 0
        while offset + 8 <= text.count {
            let word = text.loadUnaligned(fromByteOffset: offset, as: UInt64.self) | 0x2020_2020_2020_2020
            hash = mix(hash ^ word, third)
            offset += 8
        }
        var tail: UInt64 = 0
        while offset < text.count {
            tail = tail << 8 | UInt64(text[offset] | 0x20)
            offset += 1
        }
        return mix(hash ^ tail, fourth)
    }

    /// Checksum of a shard's bytes: it finds torn and mixed-up files, it is no defence against a forger.
    static func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        var hash = UInt64(truncatingIfNeeded: bytes.count) ^ second
        var offset = 0
        while offset + 16 <= bytes.count {
            hash = mix(
                hash ^ bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self),
                first ^ bytes.loadUnaligned(fromByteOffset: offset + 8, as: UInt64.self))
            hash = hash &+ UInt64(truncatingIfNeeded: offset)
            offset += 16
        }
        while offset < bytes.count {
            hash = mix(hash ^ UInt64(bytes[offset]), first)
            offset += 1
        }
        return hash
    }

    /// The bucket of a key: the hash's top bits. The low bits choose the slot inside it.
    @inlinable
    public static func bucket(_ hash: UInt64) -> Int {
        Int(truncatingIfNeeded: hash >> 56) & (Limits.bucketsPerFamily - 1)
    }
}
