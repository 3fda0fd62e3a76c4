import ControlChannel
import MeshModel

/// Decides which generation goes to node, and when.
///
/// At most one generation is under way: a change that comes before node has accepted the last one waits, and of several
/// the newest goes. So a busy node is never buried, and what it gets next is the present.
///
/// unsynced ──offer──▶ underWay(n) ──accepted(n)──▶ current(n)
///                        ▲  └──offer: remembered──┘    │
///                        └────────────offer────────────┘
struct SnapshotPublisher {
    private var writer = SnapshotWriter()
    /// Added to the writer's numbers, so that generations grow over restarts of the agent.
    private var offset: UInt64
    /// Whether the next generation must carry every shard: nobody knows what stands where.
    private var owesWhole = true
    /// Whether the last generation did.
    private var lastWasWhole = false
    private var waiting: MeshState?
    private(set) var published: UInt64 = 0
    private(set) var accepted: UInt64 = 0
    private(set) var applied: UInt64 = 0
    /// What the proxy said against the last generation it refused.
    private(set) var refusal: Refusal?

    struct Refusal: Sendable, Equatable {
        var generation: UInt64
        var reason: String
    }

    /// - Parameter generation: the last one an earlier agent published.
    init(after generation: UInt64) { offset = generation }

    /// Node, proxy and agent have the same generation.
    var isAgreed: Bool { published > 0 && published == accepted && published == applied }

    /// A new state of the mesh. Answers the messages that carry it to node, none when nothing changed or one is under way.
    mutating func offer(_ state: MeshState) throws(SnapshotFault) -> [Outgoing] {
        guard published == accepted || published == 0 else {
            waiting = state
            return []
        }
        return try publish(state)
    }

    /// Node has accepted a generation; what waited meanwhile goes now.
    mutating func nodeAccepted(_ generation: UInt64) throws(SnapshotFault) -> [Outgoing] {
        if generation > published {
            // Node keeps a generation of an agent before us that our own state file does not know: go on behind it.
            return try continueBehind(generation)
        }
        accepted = generation
        guard generation == published, let state = waiting else { return [] }
        waiting = nil
        return try publish(state)
    }

    mutating func proxyApplied(_ generation: UInt64) {
        applied = generation
        if let refusal, refusal.generation <= generation { self.refusal = nil }
    }

    /// The proxy could not use a generation and keeps refusing until the shard it could not use is replaced. It gets all
    /// of them once more; should it refuse those too, only another configuration can help.
    mutating func proxyRefused(_ generation: UInt64, reason: String) throws(SnapshotFault) -> [Outgoing] {
        refusal = Refusal(generation: generation, reason: reason)
        owesWhole = true
        guard generation == published, published == accepted, !lastWasWhole else { return [] }
        return try publishWhole(isChanged: false)
    }

    private mutating func continueBehind(_ generation: UInt64) throws(SnapshotFault) -> [Outgoing] {
        accepted = generation
        offset = generation - writer.generation
        return published > 0 ? try publishWhole(isChanged: false) : []
    }

    private mutating func publish(_ state: MeshState) throws(SnapshotFault) -> [Outgoing] {
        let change = try writer.update(state)
        // An empty mesh is a generation too: it replaces what an earlier agent published.
        if owesWhole, published == 0 || !change.shards.isEmpty { return try publishWhole(isChanged: !change.shards.isEmpty) }
        guard !change.shards.isEmpty else { return [] }
        lastWasWhole = false
        published = offset + change.generation
        return try messages(change.shards)
    }

    /// - Parameter isChanged: the writer has counted this generation already.
    private mutating func publishWhole(isChanged: Bool) throws(SnapshotFault) -> [Outgoing] {
        if !isChanged { offset += 1 }
        published = offset + writer.generation
        (owesWhole, lastWasWhole) = (false, true)
        return try everything()
    }

    /// All shards, the empty ones too: node may still hold shards of an earlier agent that nothing stands in now.
    private func everything() throws(SnapshotFault) -> [Outgoing] {
        let present = Dictionary(uniqueKeysWithValues: writer.current.map { ($0.id, $0) })
        var images: [ShardImage?] = []
        var absent: [Outgoing] = []
        for family in ShardFamily.allCases {
            for index in 0..<UInt16(Limits.bucketsPerFamily) {
                let image = present[ShardID(family: family, index: index)]
                images.append(image)
                if image == nil { absent.append(Outgoing(ShardPublished(family: family.rawValue, index: index, version: published, shard: nil))) }
            }
        }
        return absent + (try messages(images.compactMap { $0 }))
    }

    /// The shards as messages and the word that they are all.
    private func messages(_ images: [ShardImage]) throws(SnapshotFault) -> [Outgoing] {
        var messages: [Outgoing] = []
        for image in images {
            do throws(SnapshotFault) {
                let shard = image.bytes.isEmpty ? nil : try image.sealedMemory()
                messages.append(
                    Outgoing(ShardPublished(family: image.id.family.rawValue, index: image.id.index, version: offset + image.version, shard: shard)))
            } catch {
                for message in messages { message.closeDescriptors() }
                throw error
            }
        }
        return messages + [Outgoing(SnapshotComplete(generation: published))]
    }
}
