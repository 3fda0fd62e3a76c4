import EventLoop
import Glibc
import Synchronization

/// Ports whose server has spoken before its client, known to all workers of the process. On such a port the upstream is opened as soon as
/// a client has connected, so that nobody waits for the detection's deadline; the client's first bytes are looked at all the same, and whoever
/// speaks HTTP is served HTTP. What is remembered saves time and decides nothing.
///
/// One atomic word per place: a tag of the key and the second at which it is forgotten. A set of four places takes a new key where its own, an
/// expired one or the oldest lies, so that the table never fills up. Two keys with one tag (one in 2^32 of a set's) share what is known.
/// `@unchecked Sendable`: a pointer, but all that lies behind it is atomic.
final class ServerFirstMemory: @unchecked Sendable {
    /// Places: 32 KiB. A node's pods talk to hundreds of services.
    static let capacity = 4_096
    static let waysOfSet = 4

    /// Names a port, by a Service's hash or a pod's address.
    struct Key: Equatable {
        let word: UInt64

        init(high: UInt64, low: UInt64, port: UInt16) {
            var mixed = (high ^ low &* 0x9E37_79B9_7F4A_7C15) ^ UInt64(port) &* 0xD6E8_FEB8_6659_FD93
            mixed = (mixed ^ mixed &>> 32) &* 0xFF51_AFD7_ED55_8CCD
            word = mixed ^ mixed &>> 29
        }

        fileprivate var set: Int { Int(word % UInt64(ServerFirstMemory.capacity / ServerFirstMemory.waysOfSet)) * ServerFirstMemory.waysOfSet }
        fileprivate var tag: UInt64 { word & 0xFFFF_FFFF_0000_0000 }
    }

    private let places: UnsafeMutablePointer<Atomic<UInt64>>

    init() {
        let bytes = UnsafeMutableRawPointer.allocate(byteCount: Self.capacity * 8, alignment: 64)
        bytes.initializeMemory(as: UInt8.self, repeating: 0, count: Self.capacity * 8)
        places = bytes.assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    private static func second(_ time: Nanoseconds) -> UInt64 { min(time / 1_000_000_000, 0xFFFF_FFFF) }

    /// Whether the server of this port has lately spoken first.
    func knows(_ key: Key, now: Nanoseconds) -> Bool {
        for way in 0..<Self.waysOfSet {
            let word = places[key.set + way].load(ordering: .relaxed)
            if word & 0xFFFF_FFFF_0000_0000 == key.tag, word & 0xFFFF_FFFF > Self.second(now) { return true }
        }
        return false
    }

    /// The server of this port has spoken first. Two workers that learn at once may take two places, or one another's: a second
    /// lesson puts it right.
    func remember(_ key: Key, until: Nanoseconds) {
        var best = 0, oldest = UInt64.max
        for way in 0..<Self.waysOfSet {
            let word = places[key.set + way].load(ordering: .relaxed)
            if word & 0xFFFF_FFFF_0000_0000 == key.tag {
                best = way
                break
            }
            if word & 0xFFFF_FFFF < oldest {
                oldest = word & 0xFFFF_FFFF
                best = way
            }
        }
        places[key.set + best].store(key.tag | Self.second(until), ordering: .relaxed)
    }

    deinit { UnsafeMutableRawPointer(places).deallocate() }
}
