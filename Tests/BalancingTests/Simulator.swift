import Glibc

@testable import Balancing

/// Servers, clients and a clock of our own, around the real choices: what a request waits for when so many proxies choose in a certain way.
///
/// Requests come at random times (Poisson) to proxies in turn. Each proxy knows what it has in flight itself and how long its own requests
/// took, and nothing else. A server works on a few requests at a time, in the order they came; how long one takes is chance around the
/// server's own mean (exponential), and now and then a long pause.
struct Simulator {
    enum Algorithm: String, CaseIterable {
        case random = "random"
        case roundRobin = "round robin"
        case leastRequests = "least requests (default)"
        case peakEWMA = "peak EWMA"
        case ringHash = "ring hash"
        case maglev = "Maglev"
    }

    struct Scene {
        var name: String
        /// Mean time of one request on each server, in milliseconds.
        var means: [Double]
        /// Of a request, the chance of a pause, and how long that is.
        var pauseChance = 0.0, pauseMilliseconds = 0.0
        /// Requests that a server works on at a time.
        var hands = 4
        /// Of all servers' capacity together.
        var utilisation: Double
        var proxies = 8
        var requests = 60_000
    }

    struct Result {
        var p50: Double, p99: Double
        /// The busiest server's requests, as a multiple of the mean.
        var busiest: Double
    }

    private struct Completion {
        var at: Double
        var proxy: Int, server: Int
        var began: Double
    }

    /// A proxy's view of the servers.
    private struct View: Candidates {
        let count: Int
        let inFlight: UnsafeMutablePointer<UInt32>
        let latency: UnsafeMutablePointer<PeakLatency>
        var milliseconds: UInt32 = 0

        init(servers: Int) {
            count = servers
            inFlight = .allocate(capacity: servers)
            inFlight.initialize(repeating: 0, count: servers)
            latency = .allocate(capacity: servers)
            latency.initialize(repeating: PeakLatency(rawValue: 0), count: servers)
        }

        func free() {
            inFlight.deallocate()
            latency.deallocate()
        }

        func load(at place: Int) -> EndpointLoad { EndpointLoad(rawValue: inFlight[place]) }
        func isExcluded(_ place: Int) -> Bool { false }
        func warmth(at place: Int) -> UInt32 { 65_536 }
        func cost(at place: Int) -> Float { latency[place].cost(inFlight: inFlight[place], at: milliseconds) }
    }

    static func run(_ scene: Scene, _ algorithm: Algorithm, seed: UInt64) -> Result {
        var random = SplitMix64(seed: seed)
        func exponential(_ mean: Double) -> Double { -mean * log((Double(random.next() >> 11) + 1) / 9_007_199_254_740_992) }
        let count = scene.means.count
        let keys = (0..<count).map { HashTable.mix(UInt64($0) &+ 1) }
        let table = algorithm == .ringHash ? HashTable.ring(keys) : algorithm == .maglev ? HashTable.maglev(keys) : nil
        var proxies = (0..<scene.proxies).map { _ in View(servers: count) }
        defer { for proxy in proxies { proxy.free() } }
        var turns = (0..<scene.proxies).map { UInt64($0 * count / scene.proxies) }
        var totals = [UInt32](repeating: 0, count: scene.proxies)
        var hands = [Double](repeating: 0, count: count * scene.hands)
        var served = [Int](repeating: 0, count: count)
        var under = Heap()
        var latencies: [Double] = []
        let capacity = scene.means.reduce(0) { $0 + Double(scene.hands) / ($1 + scene.pauseChance * scene.pauseMilliseconds) }
        let gap = 1 / (capacity * scene.utilisation)
        var now = 0.0
        for request in 0..<scene.requests {
            now += exponential(gap)
            while let done = under.first, done.at <= now {
                under.removeFirst()
                proxies[done.proxy].inFlight[done.server] -= 1
                totals[done.proxy] -= 1
                let known = proxies[done.proxy].latency[done.server]
                proxies[done.proxy].latency[done.server] = known.with(
                    microseconds: UInt32((done.at - done.began) * 1_000), at: UInt32(done.at))
            }
            let proxy = request % scene.proxies
            proxies[proxy].milliseconds = UInt32(now)
            let view = proxies[proxy]
            let server: Int
            switch algorithm {
            case .random: server = Choice.random(view, using: &random)!
            case .roundRobin:
                server = Choice.roundRobin(view, turn: turns[proxy], using: &random)!
                turns[proxy] += 1
            case .leastRequests: server = Choice.leastRequests(view, using: &random)!
            case .peakEWMA: server = Choice.peakEWMA(view, using: &random)!
            case .ringHash, .maglev: server = Choice.hashed(view, table!.view, random.next(), total: totals[proxy], using: &random)!
            }
            proxies[proxy].inFlight[server] += 1
            totals[proxy] += 1
            served[server] += 1
            var first = server * scene.hands
            for hand in server * scene.hands..<(server + 1) * scene.hands where hands[hand] < hands[first] { first = hand }
            var time = exponential(scene.means[server])
            if Double(random.next() >> 11) / 9_007_199_254_740_992 < scene.pauseChance { time += scene.pauseMilliseconds }
            hands[first] = max(now, hands[first]) + time
            under.insert(Completion(at: hands[first], proxy: proxy, server: server, began: now))
            // The first tenth fills the queues.
            if request >= scene.requests / 10 { latencies.append(hands[first] - now) }
        }
        latencies.sort()
        return Result(
            p50: latencies[latencies.count / 2], p99: latencies[latencies.count * 99 / 100],
            busiest: Double(served.max()!) * Double(count) / Double(scene.requests))
    }

    /// Completions by time, the next one first.
    private struct Heap {
        private var items: [Completion] = []
        var first: Completion? { items.first }

        mutating func insert(_ item: Completion) {
            items.append(item)
            var place = items.count - 1
            while place > 0, items[place].at < items[(place - 1) / 2].at {
                items.swapAt(place, (place - 1) / 2)
                place = (place - 1) / 2
            }
        }

        mutating func removeFirst() {
            items[0] = items[items.count - 1]
            items.removeLast()
            var place = 0
            while true {
                var least = place
                for child in [2 * place + 1, 2 * place + 2] where child < items.count && items[child].at < items[least].at { least = child }
                if least == place { return }
                items.swapAt(place, least)
                place = least
            }
        }
    }
}
