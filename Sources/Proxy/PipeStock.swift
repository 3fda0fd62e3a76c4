import Glibc

/// A pipe from the node: a way for bytes from one socket to the other that no copy lies on.
struct Pipe {
    var readEnd: Int32 = -1
    var writeEnd: Int32 = -1

    func closeBoth() {
        close(readEnd)
        close(writeEnd)
    }
}

/// Bytes that leave towards a connection and wait in a pipe, as those of `output` wait in our memory. A pipe is held exactly while there are some.
struct PipedOutput {
    var pipe = PipeStock.none
    var count: UInt32 = 0
}

/// The pipes of one worker. Empty until bulk first comes by; each is lent while bytes are in it and no longer, so as many as
/// are stuck behind slow readers bound what the kernel holds for us: `pipesMax` × `pipeBytes`. Whoever finds none copies.
struct PipeStock: ~Copyable {
    static let none = UInt16.max
    /// Pipes asked of the node at a time.
    static let batch: UInt32 = 4
    /// A pipe that would hold less is worse than copying: an unprivileged maker gets 8 KiB beyond its share.
    static let bytesMin: UInt32 = 64 * 1024
    /// How long a node that had none to give is not asked again.
    static let patienceNanoseconds: UInt64 = 10_000_000_000

    private var places: [Pipe] = []
    /// Places whose pipe is not lent, the last one given back last: its buffers are still in the cache.
    private var free: [UInt16] = []
    /// Places without a pipe.
    private var vacant: [UInt16] = []
    /// Fewest that lay free since the last trim: what was never needed.
    private var spare = 0
    private(set) var bytes: UInt32
    /// Most pipes of this worker, and of one pod here.
    let pipesMax: Int, perPodMax: Int
    private var isAsked = false
    private var quietUntil: UInt64 = 0

    init(pipesMax: Int, bytes: UInt32) {
        self.pipesMax = min(max(1, pipesMax), Int(Self.none))
        // A quarter is always there for the other pods.
        perPodMax = max(1, self.pipesMax * 3 / 4)
        self.bytes = bytes
    }

    /// Pipes of this worker, and those of them with bytes inside.
    var owned: Int { places.count - vacant.count }
    var lent: Int { owned - free.count }

    subscript(place: UInt16) -> Pipe { places[Int(place)] }

    mutating func lend() -> UInt16? {
        guard let place = free.popLast() else { return nil }
        spare = min(spare, free.count)
        return place
    }

    /// Takes an empty pipe back.
    mutating func giveBack(_ place: UInt16) { free.append(place) }

    /// Closes a pipe with bytes inside that nobody wants any more: it must never be lent again.
    mutating func discard(_ place: UInt16) {
        places[Int(place)].closeBoth()
        places[Int(place)] = Pipe()
        vacant.append(place)
    }

    /// How many to ask the node for now; 0 when enough are on their way, or had, or the node has none.
    mutating func wanted(now: UInt64) -> UInt32 {
        guard !isAsked, now >= quietUntil, owned < pipesMax else { return 0 }
        isAsked = true
        return min(Self.batch, UInt32(pipesMax - owned))
    }

    /// The request did not leave.
    mutating func notAsked() { isAsked = false }

    mutating func deliver(_ pipe: Pipe) {
        guard owned < pipesMax else { return pipe.closeBoth() }
        if let place = vacant.popLast() {
            places[Int(place)] = pipe
            free.append(place)
        } else {
            places.append(pipe)
            free.append(UInt16(places.count - 1))
        }
    }

    /// The node's delivery is complete.
    mutating func delivered() { isAsked = false }

    mutating func refused(now: UInt64) {
        isAsked = false
        quietUntil = now + Self.patienceNanoseconds
    }

    /// Once a second: a pipe that nobody has needed since goes.
    mutating func trim() {
        if spare > 0, let place = free.first {
            free.removeFirst()
            discard(place)
        }
        spare = free.count
    }

    deinit { for place in places where place.readEnd >= 0 { place.closeBoth() } }
}
