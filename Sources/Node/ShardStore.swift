import CLinux
import ControlChannel
import Glibc

/// The last good snapshot, kept for proxies to come, and the next one while the agent sends it.
///
/// An agent that dies in the middle leaves nothing behind: the proxy gets shards only when a snapshot is complete.
struct ShardStore: ~Copyable {
    struct Key: Hashable { let family: UInt8, index: UInt16 }
    private struct Shard { var version: UInt64, descriptor: Int32 }

    private var kept: [Key: Shard] = [:]
    private var next: [Key: ShardPublished] = [:]
    /// A new agent starts from nothing: what its first snapshot does not mention does not exist any more.
    private var isFirstOfAgent = true
    /// Generation of the kept snapshot; nil before the first.
    private(set) var generation: UInt64?

    deinit {
        for shard in kept.values { clinux_close(shard.descriptor) }
        for shard in next.values { shard.closeDescriptors() }
    }

    var count: Int { kept.count }

    /// A new agent speaks: what the previous one had not completed is void.
    mutating func beginAgent() {
        for shard in next.values { shard.closeDescriptors() }
        next = [:]
        isFirstOfAgent = true
    }

    /// Keeps a shard of the next snapshot and owns its descriptor. A text says why it was refused; then the descriptor is closed.
    mutating func stage(_ shard: ShardPublished) -> String? {
        let key = Key(family: shard.family, index: shard.index)
        if next[key] == nil, next.count + kept.count >= 2 * Limits.shardsMax {
            shard.closeDescriptors()
            return "more than \(Limits.shardsMax) shards"
        }
        if let descriptor = shard.shard {
            // The proxy maps it and validates it once: after that nobody may change it, or cut it off under the reader.
            guard clinux_memory_is_sealed(descriptor, true) == 1 else {
                shard.closeDescriptors()
                return "not a sealed memory file"
            }
        }
        next.updateValue(shard, forKey: key)?.closeDescriptors()
        return nil
    }

    /// The next snapshot is whole: it becomes the kept one. Answers what the running proxy must be told, in order; the store still owns
    /// the descriptors.
    mutating func complete(generation: UInt64) -> [ShardPublished] {
        if isFirstOfAgent {
            for (key, shard) in kept where next[key] == nil {
                next[key] = ShardPublished(family: key.family, index: key.index, version: shard.version + 1, shard: nil)
            }
            isFirstOfAgent = false
        }
        let changes = next.values.sorted { ($0.family, $0.index) < ($1.family, $1.index) }
        for change in changes {
            let key = Key(family: change.family, index: change.index)
            let previous = change.shard.map { kept.updateValue(Shard(version: change.version, descriptor: $0), forKey: key) }
                ?? kept.removeValue(forKey: key)
            if let previous { clinux_close(previous.descriptor) }
        }
        next = [:]
        self.generation = generation
        return changes
    }

    /// Everything a new proxy must be told.
    func all() -> [ShardPublished] {
        kept.map { ShardPublished(family: $0.key.family, index: $0.key.index, version: $0.value.version, shard: $0.value.descriptor) }
            .sorted { ($0.family, $0.index) < ($1.family, $1.index) }
    }
}
