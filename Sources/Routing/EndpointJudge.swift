import Balancing
import MeshModel

/// Decides which endpoints get no requests for a while, over all workers. One thread judges, the control thread; the workers count what they
/// see in the endpoints' lines, and read there what was decided.
///
///     fit ──fails──▶ ejected ──its time is over──▶ warming ──grows into its share──▶ fit
///          └─unwell (health check) ──well again──▶ warming
///
/// An endpoint that returns is on probation: its first failure ejects it again, and for longer.
public struct EndpointJudge: Sendable {
    /// What was decided about an endpoint, for the log and the counters.
    public struct Ruling: Sendable, Equatable {
        public enum Kind: Sendable, Equatable {
            case ejected(EjectionReason, milliseconds: UInt64)
            /// It gets requests again, few at first.
            case returned
            case unwell
            case well
        }

        public var kind: Kind
        /// The service's full name, and the port that its clients use.
        public var host: String
        public var port: UInt16
        public var endpoint: IPAddress
        public var endpointPort: UInt16
    }

    /// Success rates and latencies are compared so often, in milliseconds.
    public let intervalMilliseconds: UInt64
    private var nextInterval: UInt64
    /// By slot: those that are out until a time.
    private var ejected: [UInt32: (bucket: Int, until: UInt64)] = [:]
    /// By slot: those that their health check says are unwell.
    private var unwell: [UInt32: Int] = [:]
    private var seenGeneration: UInt64 = 0
    /// Buckets with a service whose latency is compared.
    private var latencyBuckets: Set<Int> = []
    private var rulings: [Ruling] = []

    public init(intervalMilliseconds: UInt64 = 10_000, now: UInt64) {
        self.intervalMilliseconds = intervalMilliseconds
        nextInterval = now + intervalMilliseconds
    }

    /// Endpoints that are out now.
    public var ejectedCount: Int { ejected.count }
    public var unwellCount: Int { unwell.count }

    /// When to look again at the latest, if nobody asks for it before.
    public func nextLook(now: UInt64, isWarming: Bool) -> UInt64 {
        min(ejected.values.map(\.until).min() ?? .max, isWarming ? now + 100 : .max, nextInterval)
    }

    /// Judges what has happened since the last look.
    /// - Parameter now: milliseconds.
    public mutating func look(_ tables: TablesView, _ states: EndpointStates, now: UInt64) -> [Ruling] {
        rulings = []
        if tables.generation != seenGeneration { tablesChanged(tables, states, now: now) }
        for bucket in states.takeUrgent() {
            tables.eachPort(inBucket: bucket) { judgeFailuresInARow(of: $0, bucket, now: now) }
        }
        if now >= nextInterval {
            nextInterval = now + intervalMilliseconds
            for bucket in latencyBuckets.union(states.takeFailed()) {
                tables.eachPort(inBucket: bucket) { judgeInterval(of: $0, bucket, now: now) }
            }
        }
        for (slot, held) in ejected where held.until <= now { takeBack(slot, held.bucket, tables, states, now: now) }
        if !states.warming.isEmpty {
            let moment = UInt32(truncatingIfNeeded: now)
            let buckets = Set(states.warming.map { states.bucket(of: $0) })
            states.warming.removeAll { states.state($0).coolDown(at: moment) }
            // What they bear grows, and with it what stays in their tier.
            for bucket in buckets { tables.eachPort(inBucket: bucket) { if $0.port.firstTierCount < $0.readyCount { settle($0, now: now) } } }
        }
        return rulings
    }

    /// A health check has come to a new conclusion about the endpoint.
    public mutating func checked(_ slot: UInt32, bucket: Int, isWell: Bool, _ tables: TablesView, _ states: EndpointStates, now: UInt64) -> [Ruling] {
        rulings = []
        guard let (port, place) = find(slot, bucket, tables) else { return [] }
        let state = port.state(at: place)
        guard state.record.pointee.isUnwell == isWell else { return [] }
        state.record.pointee.isUnwell = !isWell
        if isWell {
            unwell[slot] = nil
            warmUp(slot, port, states, now: now)
        } else {
            unwell[slot] = bucket
        }
        rule(isWell ? .well : .unwell, port, place)
        settle(port, now: now)
        return rulings
    }

    // MARK: Judging

    private mutating func judgeFailuresInARow(of port: ServiceDestination, _ bucket: Int, now: UInt64) {
        for place in 0..<port.readyCount {
            let state = port.state(at: place)
            let most = UInt32(state.consecutiveFailuresMax)
            guard most > 0, state.failuresInARow.pointee.load(ordering: .relaxed) >= most else { continue }
            eject(port, place, bucket, .consecutiveFailures, now: now)
        }
    }

    private mutating func judgeInterval(of port: ServiceDestination, _ bucket: Int, now: UInt64) {
        let policy = port.service.policy
        let moment = UInt32(truncatingIfNeeded: now)
        let readings = (0..<port.readyCount).map { place in
            let state = port.state(at: place)
            let begun = state.begun
            let reading = Outliers.Reading(
                requests: begun &- state.record.pointee.judgedBegun, failures: state.failures.pointee.exchange(0, ordering: .relaxed),
                latencyMicroseconds: state.latency.microseconds(at: moment))
            state.record.pointee.judgedBegun = begun
            if reading.failures == 0, state.record.pointee.times > 0, state.record.pointee.ejectedFor == 0 { state.record.pointee.times -= 1 }
            return reading
        }
        for place in Outliers.bySuccessRate(readings, deviationHundredths: policy.successRateDeviationHundredths) {
            eject(port, place, bucket, .successRate, now: now)
        }
        for place in Outliers.byLatency(readings, factor: policy.latencyFactor) { eject(port, place, bucket, .latency, now: now) }
    }

    private mutating func eject(_ port: ServiceDestination, _ place: Int, _ bucket: Int, _ reason: EjectionReason, now: UInt64) {
        let state = port.state(at: place)
        let record = state.record
        guard record.pointee.ejectedFor == 0 else { return }
        let policy = port.service.policy
        let out = (0..<port.readyCount).reduce(0) { $0 + (port.state(at: $1).record.pointee.ejectedFor != 0 ? 1 : 0) }
        guard out < Outliers.ejectedMax(of: port.readyCount, percent: policy.ejectedPercentMax) else { return }
        record.pointee.ejectedFor = reason.rawValue
        record.pointee.times = min(record.pointee.times + 1, 1_000)
        let milliseconds = Outliers.ejectionMilliseconds(base: policy.ejectionMilliseconds, times: UInt32(record.pointee.times))
        record.pointee.ejectedUntil = now + milliseconds
        ejected[port.slot(at: place)] = (bucket, now + milliseconds)
        rule(.ejected(reason, milliseconds: milliseconds), port, place)
        settle(port, now: now)
    }

    private mutating func takeBack(_ slot: UInt32, _ bucket: Int, _ tables: TablesView, _ states: EndpointStates, now: UInt64) {
        ejected[slot] = nil
        guard let (port, place) = find(slot, bucket, tables) else { return }
        let state = port.state(at: place)
        state.record.pointee.ejectedFor = 0
        // On probation: one failure from the number that ejects.
        state.failuresInARow.pointee.store(UInt32(max(1, state.consecutiveFailuresMax) - 1), ordering: .relaxed)
        warmUp(slot, port, states, now: now)
        rule(.returned, port, place)
        settle(port, now: now)
    }

    private func warmUp(_ slot: UInt32, _ port: ServiceDestination, _ states: EndpointStates, now: UInt64) {
        let duration = max(port.service.policy.slowStartMilliseconds, SlowStart.returnMillisecondsLeast)
        states.state(slot).warmUp(since: UInt32(truncatingIfNeeded: now), for: duration)
        states.warming.append(slot)
    }

    // MARK: What follows for the port

    /// Tells the workers: who is avoided, and how much of a tier's requests goes farther. Who warms up bears as much of its share as it takes: a zone
    /// whose endpoints all return at once does not get all of its requests at once.
    private func settle(_ port: ServiceDestination, now: UInt64) {
        let policy = port.service.policy
        func isOut(_ place: Int) -> Bool {
            let record = port.state(at: place).record.pointee
            return record.ejectedFor != 0 || record.isUnwell
        }
        let count = port.readyCount
        let fit = (0..<count).reduce(0) { $0 + (isOut($1) ? 0 : 1) }
        let isPanic = Outliers.isPanic(fit: fit, of: count, percent: policy.panicPercent)
        for place in 0..<count {
            let state = port.state(at: place)
            let isAvoided = isOut(place) && !isPanic
            if state.load.isAvoided != isAvoided { state.set(EndpointLoad.avoided, to: isAvoided) }
        }
        let first = port.port.firstTierCount, second = port.port.secondTierCount
        guard first < count else { return }
        for isIPv4 in [true, false] {
            for (tier, places) in [0..<first, first..<(first + second)].enumerated() {
                func fit(_ places: [Int]) -> Int {
                    places.reduce(0) { sum, place in
                        let state = port.state(at: place)
                        if isOut(place) { return sum }
                        return sum + (state.load.isWarming ? Int(state.warmth(at: UInt32(truncatingIfNeeded: now))) : 65_536)
                    }
                }
                // A request uses endpoints of its own family; the same pod's other address says nothing about this one.
                let here = ofFamily(places, isIPv4, port), farther = ofFamily(places.upperBound..<count, isIPv4, port)
                // To where nobody is fit nothing goes.
                let staysHere = isPanic || here.isEmpty || fit(farther) == 0
                port.portState.setSpill(ofTier: tier, isIPv4: isIPv4, staysHere ? 0 : Outliers.spill(fit: fit(here), of: here.count * 65_536))
            }
        }
    }

    /// Places of one family; all of them where there are none of it.
    private func ofFamily(_ places: Range<Int>, _ isIPv4: Bool, _ port: ServiceDestination) -> [Int] {
        let own = places.filter { port.endpoint(at: $0).address.isIPv4 == isIPv4 }
        return own.isEmpty ? Array(places) : own
    }

    /// Who is out stays out, but shares have changed; and who has gone is nobody's any more.
    private mutating func tablesChanged(_ tables: TablesView, _ states: EndpointStates, now: UInt64) {
        seenGeneration = tables.generation
        latencyBuckets = []
        for bucket in 0..<Limits.bucketsPerFamily {
            tables.eachPort(inBucket: bucket) { if $0.service.policy.latencyFactor > 0 { latencyBuckets.insert(bucket) } }
        }
        let gone = ejected.filter { find($0.key, $0.value.bucket, tables) == nil }.map(\.key)
        for slot in gone { ejected[slot] = nil }
        let goneUnwell = unwell.filter { find($0.key, $0.value, tables) == nil }.map(\.key)
        for slot in goneUnwell { unwell[slot] = nil }
        for bucket in Set(ejected.values.map(\.bucket) + unwell.values) { tables.eachPort(inBucket: bucket) { settle($0, now: now) } }
    }

    private func find(_ slot: UInt32, _ bucket: Int, _ tables: TablesView) -> (ServiceDestination, Int)? {
        var found: (ServiceDestination, Int)?
        tables.eachPort(inBucket: bucket) { port in
            if let place = (0..<port.port.endpointCount).first(where: { port.slot(at: $0) == slot }) { found = (port, place) }
        }
        return found
    }

    private mutating func rule(_ kind: Ruling.Kind, _ port: ServiceDestination, _ place: Int) {
        let endpoint = port.endpoint(at: place)
        rulings.append(
            Ruling(
                kind: kind, host: String(decoding: port.service.host, as: UTF8.self), port: port.port.number, endpoint: endpoint.address,
                endpointPort: endpoint.port))
    }
}

extension TablesView {
    /// Every port of the services of one bucket. For the control thread.
    public func eachPort(inBucket bucket: Int, _ body: (ServiceDestination) -> Void) {
        guard let shard = root.pointee.places[bucket]?.view else { return }
        for place in 0..<shard.serviceCount {
            let service = shard.service(at: place)
            for number in 0..<service.portCount { body(with(service, service.port(at: number))) }
        }
    }
}
