import CLinux
import Glibc

/// The bytes of one validated shard: a read-only mapping of a sealed memfd, unmapped when the last table lets go.
///
/// It is a class because generations share unchanged shards; only the control thread touches the reference, workers read
/// through `view`. `@unchecked Sendable`: the bytes are sealed, the rest is constant.
public final class ShardMemory: @unchecked Sendable {
    public let view: ShardView
    private let bytes: UnsafeMutableRawBufferPointer
    private let isMapped: Bool

    /// Maps and validates a shard. The descriptor is closed in every case.
    ///
    /// A file that could still be written or shrunk would make validation worthless, so it must carry the seals.
    public init(adopting descriptor: Int32, expected id: ShardID) throws(SnapshotFault) {
        defer { close(descriptor) }
        guard clinux_memory_is_sealed(descriptor, true) == 1 else { throw .notSealed }
        let size = clinux_memory_size(descriptor)
        guard size > 0 else { throw .truncated }
        guard size <= Limits.shardBytesMax else { throw .limit("shardBytesMax") }
        guard let start = mmap(nil, Int(size), PROT_READ, MAP_SHARED, descriptor, 0), start != MAP_FAILED
        else { throw .system(call: "mmap", errno: errno) }
        let mapping = UnsafeMutableRawBufferPointer(start: start, count: Int(size))
        do throws(SnapshotFault) {
            let view = try ShardView(validating: UnsafeRawBufferPointer(mapping))
            guard view.id == id else { throw .wrongPlace }
            self.view = view
        } catch {
            munmap(start, Int(size))
            throw error
        }
        bytes = mapping
        isMapped = true
    }

    /// Validates a copy of bytes in ordinary memory.
    public init(copying source: [UInt8]) throws(SnapshotFault) {
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: source.count, alignment: 8)
        copy.copyBytes(from: source)
        do throws(SnapshotFault) {
            view = try ShardView(validating: UnsafeRawBufferPointer(copy))
        } catch {
            copy.deallocate()
            throw error
        }
        bytes = copy
        isMapped = false
    }

    deinit {
        if isMapped {
            munmap(bytes.baseAddress, bytes.count)
        } else {
            bytes.deallocate()
        }
    }
}

/// One shard as the writer made it.
public struct ShardImage: Sendable, Equatable {
    public let id: ShardID
    /// The generation that last changed it.
    public let version: UInt64
    /// The shard; empty when nothing is in this bucket any more, so that no descriptor need be sent.
    public let bytes: [UInt8]

    /// A new memfd with the bytes, sealed against everything. The caller closes it. Not for an empty image.
    public func sealedMemory() throws(SnapshotFault) -> Int32 {
        precondition(!bytes.isEmpty, "an empty shard is published without a descriptor")
        let descriptor = bytes.withUnsafeBytes { clinux_memory_sealed("weft-shard", $0.baseAddress, $0.count, true) }
        guard descriptor >= 0 else { throw .system(call: "memfd_create", errno: -descriptor) }
        return descriptor
    }
}
