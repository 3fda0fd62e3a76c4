import Balancing
import Bytes
import HTTPCodec
import MeshModel
import Routing

/// Endpoints of a port as the balancer sees them: those of a part, by their places in it.
struct EndpointChoice: Candidates {
    let service: ServiceDestination
    /// The port's place of the part's first endpoint.
    let first: Int
    let count: Int
    let milliseconds: UInt32
    /// Where the attempt before went, and the tables by which its pod is known; or the part of another family, where all are candidates.
    var tried: EndpointAddress?
    let tables: TablesView
    var fitting: Range<Int>?

    @inline(__always) init(_ service: ServiceDestination, _ part: Range<Int>, _ tables: TablesView, milliseconds: UInt32, tried: EndpointAddress? = nil) {
        self.service = service
        first = part.lowerBound
        count = part.count
        self.milliseconds = milliseconds
        self.tried = tried
        self.tables = tables
    }

    @inline(__always) func load(at place: Int) -> EndpointLoad { service.state(at: first &+ place).load }
    func warmth(at place: Int) -> UInt32 { service.state(at: first &+ place).warmth(at: milliseconds) }

    func cost(at place: Int) -> Float {
        let state = service.state(at: first &+ place)
        return state.latency.cost(inFlight: state.inFlight, at: milliseconds)
    }

    func isExcluded(_ place: Int) -> Bool {
        if let fitting, !fitting.contains(first &+ place) { return true }
        return Worker.isSamePod(service.endpoint(at: first &+ place), tried, tables)
    }
}

// Step 5 of the journey: of a service port's endpoints, one.
extension Worker {
    @inline(__always) var milliseconds: UInt32 { UInt32(truncatingIfNeeded: now / 1_000_000) }

    /// The place of the endpoint to use; nil when there is none (left). Endpoints of the family that the client asked in come first: an
    /// application may listen in one only.
    mutating func pick(_ service: ServiceDestination, _ exchange: ExchangePlace, _ connection: ConnectionPlace, mayRepeat: Bool) -> Int? {
        let isIPv4 = connection.pointee.address.isIPv4
        let policy = service.service.policy
        if policy.healthCheck != nil { noteUse(service, connection) }
        if let tried = exchange.pointee.tried { return pickAnother(service, policy, exchange, isIPv4: isIPv4, tried: tried, mayRepeat: mayRepeat) }
        if exchange.pointee.hash != 0 { return pickHashed(service, exchange.pointee.hash, isIPv4: isIPv4, tried: nil) }
        let part = familyPart(service, tierPart(service, isIPv4: isIPv4), isIPv4: isIPv4)
        let choice = EndpointChoice(service, part, tables, milliseconds: milliseconds)
        let place: Int? = switch policy.algorithm {
        case .leastRequests, .ringHash, .maglev: Choice.leastRequests(choice, using: &random)
        case .peakEWMA: Choice.peakEWMA(choice, using: &random)
        case .roundRobin: Choice.roundRobin(choice, turn: service.portState.takeTurn(), using: &random)
        case .random: Choice.random(choice, using: &random)
        }
        guard let place else { return nil }
        return part.count < service.readyCount ? orFarther(service, part.lowerBound + place, part, isIPv4: isIPv4) : part.lowerBound + place
    }

    /// A second try: not where the first has failed, and rather in a farther tier than in the same, for it may be all of that one that is gone.
    private mutating func pickAnother(
        _ service: ServiceDestination, _ policy: PolicyView, _ exchange: ExchangePlace, isIPv4: Bool, tried: EndpointAddress, mayRepeat: Bool
    ) -> Int? {
        if exchange.pointee.hash != 0, let place = pickHashed(service, exchange.pointee.hash, isIPv4: isIPv4, tried: tried) { return place }
        let far = service.port.firstTierCount < service.readyCount ? service.port.firstTierCount..<service.readyCount : 0..<service.readyCount
        let wasNear = service.port.place(of: tried.address, port: tried.port).map { $0 < service.port.firstTierCount } ?? false
        let near = familyPart(service, wasNear ? far : tierPart(service, isIPv4: isIPv4), isIPv4: isIPv4)
        let all = familyPart(service, 0..<service.readyCount, isIPv4: isIPv4)
        let measure: Choice.Measure = policy.algorithm == .peakEWMA ? .cost : .inFlight
        let nearChoice = EndpointChoice(service, near, tables, milliseconds: milliseconds, tried: tried)
        if let place = Choice.carefully(nearChoice, by: measure, using: &random), near == all || !nearChoice.load(at: place).isAvoided {
            return near.lowerBound + place
        }
        let choice = EndpointChoice(service, all, tables, milliseconds: milliseconds, tried: tried)
        if near != all, let place = Choice.carefully(choice, by: measure, using: &random) { return all.lowerBound + place }
        return mayRepeat && !all.isEmpty ? all.lowerBound : nil
    }

    private mutating func pickHashed(_ service: ServiceDestination, _ hash: UInt64, isIPv4: Bool, tried: EndpointAddress?) -> Int? {
        var choice = EndpointChoice(service, 0..<service.readyCount, tables, milliseconds: milliseconds, tried: tried)
        guard let table = service.hashTable else { return tried == nil ? Choice.leastRequests(choice, using: &random) : nil }
        let part = familyPart(service, 0..<service.readyCount, isIPv4: isIPv4)
        if part.count < service.readyCount { choice.fitting = part }
        return Choice.hashed(choice, table, hash, total: service.portState.requests.inFlight, using: &random)
    }

    // MARK: Parts

    /// The tier that a request goes to: the nearest, but for the share that its unfit endpoints leave to the next ones.
    @inline(__always)
    private mutating func tierPart(_ service: ServiceDestination, isIPv4: Bool) -> Range<Int> {
        let ready = service.readyCount, first = service.port.firstTierCount
        return first >= ready ? 0..<ready : nearTier(service, first, ready, isIPv4: isIPv4)
    }

    private mutating func nearTier(_ service: ServiceDestination, _ first: Int, _ ready: Int, isIPv4: Bool) -> Range<Int> {
        let state = service.portState
        let chance = random.next()
        if UInt32(truncatingIfNeeded: chance & 0xffff) >= state.spill(ofTier: 0, isIPv4: isIPv4) { return 0..<first }
        let second = first + service.port.secondTierCount
        return second >= ready || UInt32(truncatingIfNeeded: chance >> 16 & 0xffff) >= state.spill(ofTier: 1, isIPv4: isIPv4) ? first..<second : second..<ready
    }

    /// The endpoint chosen, or one of all if it has much more to do than that one.
    private mutating func orFarther(_ service: ServiceDestination, _ place: Int, _ part: Range<Int>, isIPv4: Bool) -> Int {
        let near = service.state(at: place).inFlight
        guard near >= Tiers.busyRequests else { return place }
        let all = familyPart(service, 0..<service.readyCount, isIPv4: isIPv4)
        let choice = EndpointChoice(service, all, tables, milliseconds: milliseconds)
        guard let other = Choice.leastRequests(choice, using: &random).map({ all.lowerBound + $0 }), !service.state(at: other).load.isAvoided else { return place }
        return Tiers.goesFarther(near: near, far: service.state(at: other).inFlight) ? other : place
    }

    /// Of a range of ready endpoints that are sorted by address, those of one family, IPv4 (mapped) before IPv6; all of them when there are
    /// none of it.
    private func familyPart(_ service: ServiceDestination, _ range: Range<Int>, isIPv4: Bool) -> Range<Int> {
        // Tiers are sorted each for itself: over several, there is no one place where the families meet.
        let part = range.count == service.readyCount && service.port.firstTierCount < service.readyCount ? 0..<service.port.firstTierCount : range
        guard part.count > 1 else { return range }
        let firstIsIPv4 = service.endpoint(at: part.lowerBound).address.isIPv4
        guard firstIsIPv4 != service.endpoint(at: part.upperBound - 1).address.isIPv4 else { return range }
        var low = part.lowerBound, high = part.upperBound - 1
        while low < high {
            let middle = (low + high) / 2
            if service.endpoint(at: middle).address.isIPv4 == firstIsIPv4 { low = middle + 1 } else { high = middle }
        }
        return firstIsIPv4 == isIPv4 ? part.lowerBound..<low : low..<part.upperBound
    }

    // MARK: Hashes

    /// Where a service's requests are hashed, the hash of this one, found once.
    @inline(__always)
    mutating func noteHash(_ exchange: ExchangePlace, _ connection: ConnectionPlace, _ route: Route, _ message: Message) {
        guard case .service(let service) = route, !service.service.policy.isDefault, exchange.pointee.hash == 0 else { return }
        findHash(exchange, connection, service.service.policy, message)
    }

    private mutating func findHash(_ exchange: ExchangePlace, _ connection: ConnectionPlace, _ policy: PolicyView, _ message: Message) {
        guard policy.algorithm == .ringHash || policy.algorithm == .maglev else { return }
        let key = exchange.pointee.isRelay ? .source : policy.hashKey
        var hash: UInt64?
        if key != .source, let bytes = readHead(exchange, message) {
            hash = bytes.isInHead ? Self.hash(key, policy.hashName, head, bytes.head) : Self.hash(key, policy.hashName, accessHead, bytes.head)
        }
        let caller = callerAddress(of: connection, like: connection.pointee.address)
        // Who does not say what is hashed is told apart by its address.
        let found = hash ?? ShardHash.of(caller)
        exchange.pointee.hash = found == 0 ? 1 : found
    }

    private static func hash(_ key: HashKey, _ name: UnsafeRawBufferPointer, _ head: borrowing Head, _ bytes: UnsafeRawBufferPointer) -> UInt64? {
        switch key {
        case .source: return nil
        case .path:
            let path = head.path.of(bytes)
            return hash(UnsafeRawBufferPointer(rebasing: path[..<(path.firstIndex(of: UInt8(ascii: "?")) ?? path.count)]))
        case .header, .cookie:
            var row = 0
            while row < head.fieldCount {
                let field = head.field(row)
                row += 1
                let value = field.value.of(bytes)
                if key == .header {
                    if equalsIgnoringCase(field.name.of(bytes), name) { return hash(value) }
                } else if field.id == .cookie, let cookie = CookieReader.value(of: name, in: value) {
                    return hash(cookie)
                }
            }
            return nil
        }
    }

    /// Letters count as they are: a value is not a name.
    private static func hash(_ text: UnsafeRawBufferPointer) -> UInt64 {
        var hash = UInt64(truncatingIfNeeded: text.count)
        var place = 0
        while place < text.count {
            hash = ShardHash.mix(hash ^ UInt64(text[place]), 0x9e37_79b9_7f4a_7c15)
            place += 1
        }
        return hash
    }
}
