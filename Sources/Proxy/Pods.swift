import EventLoop
import Glibc
import MeshModel
import Telemetry

/// What one pod holds of this worker, and how to find its places. Trivial, so that the counters sit in raw memory.
struct PodBudget {
    /// The node's number of the pod.
    var number: UInt32 = nobody
    /// Where the pod is counted; nil when the directory was full.
    var slot: PodSlot?
    var isPresent = false
    var connections: Int32 = 0
    var bufferedBytes: Int = 0
    var pendingRequests: Int32 = 0
    var streams: Int32 = 0
    var idleUpstreams: Int32 = 0
    /// TLS handshakes under way on its connections.
    var handshakes: Int32 = 0
    /// Copies of its requests that are under way.
    var mirrors: Int32 = 0
    /// Pipes with bytes towards its connections.
    var pipes: Int32 = 0
}

/// The pods of this node as one worker knows them: a small place per pod (also its flow number in the scheduler), found by number when
/// the control thread speaks and by address when an endpoint turns out to be a neighbour.
struct PodPlaces: ~Copyable {
    let budgets = Region<PodBudget>(capacity: Limits.podsMax)
    private(set) var count: UInt32 = 0
    private var free: [UInt32] = []
    private var listeners: [[UInt32]] = []
    private var addresses: [[IPAddress]] = []
    private var byAddress: [(address: IPAddress, place: UInt32)] = []
    private var mask = 0

    init() { rehash() }

    func place(numbered number: UInt32) -> UInt32? {
        var place: UInt32 = 0
        while place < count {
            if budgets[Int(place)].number == number { return place }
            place += 1
        }
        return nil
    }

    /// The place of a pod that is new or has new settings; nil when the node has more pods than a worker has places.
    mutating func admit(number: UInt32, slot: PodSlot?, addresses known: [IPAddress]) -> UInt32? {
        let place: UInt32
        if let present = self.place(numbered: number) {
            place = present
        } else if let reused = free.popLast() {
            place = reused
        } else {
            guard Int(count) < Limits.podsMax else { return nil }
            place = count
            count += 1
            listeners.append([])
            addresses.append([])
        }
        if budgets[Int(place)].number != number { budgets[Int(place)] = PodBudget(number: number) }
        budgets.base[Int(place)].isPresent = true
        budgets.base[Int(place)].slot = slot
        addresses[Int(place)] = known
        rehash()
        return place
    }

    mutating func addListener(_ listener: UInt32, at place: UInt32) { listeners[Int(place)].append(listener) }

    /// The pod has gone; its listeners' places are handed back for closing. The place is reused when its last connection has gone.
    mutating func dismiss(_ place: UInt32) -> [UInt32] {
        budgets.base[Int(place)].isPresent = false
        addresses[Int(place)] = []
        rehash()
        defer { listeners[Int(place)] = [] }
        return listeners[Int(place)]
    }

    mutating func allListeners() -> [UInt32] {
        defer { for index in listeners.indices { listeners[index] = [] } }
        return listeners.flatMap { $0 }
    }

    /// Gives the place of a dismissed pod without connections to a future one.
    mutating func recycle(_ place: UInt32) {
        guard !budgets[Int(place)].isPresent, budgets[Int(place)].connections == 0, budgets[Int(place)].streams == 0, budgets[Int(place)].number != nobody else { return }
        budgets[Int(place)] = PodBudget()
        free.append(place)
    }

    /// The pod of this node that has the address.
    func place(at address: IPAddress) -> UInt32? {
        var slot = Int(truncatingIfNeeded: (address.low ^ address.high &* 0x9E37_79B9_7F4A_7C15) &* 0xFF51_AFD7_ED55_8CCD &>> 32) & mask
        while byAddress[slot].place != nobody {
            if byAddress[slot].address == address { return byAddress[slot].place }
            slot = (slot + 1) & mask
        }
        return nil
    }

    /// An address of the pod in the family of `model`; what an upstream on this node shall see as its caller.
    func address(of place: UInt32, like model: IPAddress) -> IPAddress? {
        addresses[Int(place)].first { $0.isIPv4 == model.isIPv4 }
    }

    func anyAddress(of place: UInt32) -> IPAddress? { addresses[Int(place)].first }

    private mutating func rehash() {
        let total = addresses.reduce(0) { $0 + $1.count }
        var size = 64
        while size < total * 2 { size *= 2 }
        mask = size - 1
        byAddress = Array(repeating: (IPAddress(high: 0, low: 0), nobody), count: size)
        for (place, known) in addresses.enumerated() {
            for address in known {
                var slot = Int(truncatingIfNeeded: (address.low ^ address.high &* 0x9E37_79B9_7F4A_7C15) &* 0xFF51_AFD7_ED55_8CCD &>> 32) & mask
                while byAddress[slot].place != nobody { slot = (slot + 1) & mask }
                byAddress[slot] = (address, UInt32(place))
            }
        }
    }
}
