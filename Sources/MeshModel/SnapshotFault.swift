/// Why bytes are not a shard, or a mesh cannot become one.
public enum SnapshotFault: Error, Equatable {
    /// Shorter than a header, or the header's length is not the bytes' length.
    case truncated
    /// The base address is not aligned to eight bytes.
    case misaligned
    /// Not a shard at all.
    case wrongMagic
    /// Written by another format version.
    case wrongVersion(UInt16)
    case unknownFamily(UInt8)
    case bucketOutOfRange(UInt16)
    /// The content does not match its checksum.
    case wrongChecksum
    /// A section or a reference leaves its bounds; the section is numbered as in `ShardHeader`.
    case outOfBounds(section: Int)
    /// The index is more than half full, does not name each record, or its size is not a power of two.
    case badIndex
    /// The shard is not for the place it was published for.
    case wrongPlace
    /// The descriptor is not a memfd sealed against writing and resizing.
    case notSealed
    /// A limit of `Limits` is exceeded, by its name.
    case limit(String)
    /// An expression that cannot be run; who made the state should have reported it.
    case expression(String, ExpressionFault)
    /// A text of a route that no head of a message may carry.
    case text(String)
    /// A match of a rule that its table does not have, by the Service's name.
    case missingRule(String)
    /// A system call failed.
    case system(call: String, errno: Int32)
}
