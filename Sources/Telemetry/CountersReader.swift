import Synchronization

/// Reads the counters' memory for the agent.
///
/// The writer is a process that parses the network's bytes, so nothing it wrote is believed: every number is loaded once,
/// bounded by the layout, and text is copied before it is looked at. The worst a hostile writer achieves is wrong figures.
public struct CountersReader: Sendable {
    private let region: CountersRegion

    /// - Parameter region: mapped with `writable: false`.
    public init(_ region: CountersRegion) { self.region = region }

    /// Workers of the running incarnation.
    public var workers: Int {
        Int(min(load(CountersLayout.workersOffset), UInt64(CountersLayout.workersMax)))
    }

    /// The proxy incarnation that writes; 0 before the first.
    public var incarnation: UInt32 { UInt32(truncatingIfNeeded: load(CountersLayout.incarnationOffset)) }

    /// One worker's value of a counter or gauge.
    public func value(of counter: Counter, worker: Int) -> UInt64 {
        precondition((0..<CountersLayout.workersMax).contains(worker), "no such worker")
        return value(of: counter, area: worker)
    }

    private func value(of counter: Counter, area: Int) -> UInt64 { load(region.areaOffset(area) + Int(counter.rawValue) * 8) }

    /// The sum over all workers and the control thread; a gauge that others have taken more from than given shows 0.
    public func value(of counter: Counter) -> UInt64 {
        (0..<CountersLayout.areasMax).reduce(0) { $0 &+ value(of: counter, area: $1) }
            .clampedIfGauge(counter.definition.kind == .gauge)
    }

    /// Everything, summed over the workers, as of now. Counting goes on meanwhile: values of one series may be one request apart.
    public func snapshot() -> CountersSnapshot {
        var snapshot = CountersSnapshot(workers: workers)
        for counter in Counter.allCases {
            switch counter.definition.workers {
            case .summed: snapshot.counters.append([value(of: counter)])
            case .each: snapshot.counters.append((0..<snapshot.workers).map { value(of: counter, worker: $0) })
            }
        }
        snapshot.pods = pods()
        for worker in 0..<CountersLayout.areasMax { addSeries(of: worker, to: &snapshot) }
        return snapshot
    }

    // MARK: Pods

    private func pods() -> [CountersSnapshot.Pod] {
        var pods: [CountersSnapshot.Pod] = []
        var places: [[[UInt8]]: Int] = [:]
        for slot in 0..<CountersLayout.podsMax where load(region.podRecordOffset(slot) + CountersLayout.podNumberOffset) != 0 {
            guard let labels = podLabels(slot) else { continue }
            let values = PodCounter.allCases.map { counter in
                (0..<CountersLayout.areasMax)
                    .reduce(UInt64(0)) { $0 &+ load(region.podCounterOffset(slot, counter, worker: $1)) }
                    .clampedIfGauge(counter.isGauge)
            }
            // Two slots with one name would be one series twice, and Prometheus would refuse the page.
            if let place = places[labels] {
                for counter in values.indices { pods[place].values[counter] &+= values[counter] }
            } else {
                places[labels] = pods.count
                pods.append(CountersSnapshot.Pod(labels: labels, values: values))
            }
        }
        return pods
    }

    /// Namespace, workload and pod name; `nil` while the pod has no labels, or when its record never holds still.
    private func podLabels(_ slot: Int) -> [[UInt8]]? {
        let record = region.podRecordOffset(slot)
        for _ in 0..<8 {
            let version = region.word(record + CountersLayout.podVersionOffset).pointee.load(ordering: .acquiring)
            guard version != 0, version & 1 == 0 else { continue }
            let counts = load(record + CountersLayout.podCountsOffset)
            var start = record + CountersLayout.podTextOffset
            var labels: [[UInt8]] = []
            let maxima = [CountersLayout.podNamespaceBytesMax, CountersLayout.podWorkloadBytesMax, CountersLayout.podNameBytesMax]
            for (place, maximum) in maxima.enumerated() {
                let count = min(Int(counts >> UInt64(16 * place) & 0xffff), maximum)
                labels.append(copy(start, count))
                start += count
            }
            atomicMemoryFence(ordering: .acquiring)
            if region.word(record + CountersLayout.podVersionOffset).pointee.load(ordering: .relaxed) == version { return labels }
        }
        return nil
    }

    // MARK: Series

    private func addSeries(of worker: Int, to snapshot: inout CountersSnapshot) {
        let area = region.areaOffset(worker)
        let cursors = area + CountersLayout.cursorsOffset
        // Acquire: what the cursors cover is written.
        let requests = cursor(cursors + CountersLayout.requestCursor, atMost: CountersLayout.requestSeriesPerWorkerMax)
        let tcp = cursor(cursors + CountersLayout.tcpCursor, atMost: CountersLayout.tcpSeriesPerWorkerMax)
        let decisions = cursor(cursors + CountersLayout.decisionCursor, atMost: CountersLayout.decisionSeriesPerWorkerMax)
        // Series name label sets that were there before them, so the sets are read last.
        let sets = cursor(cursors + CountersLayout.labelSetCursor, atMost: CountersLayout.labelSetsPerWorkerMax)
        // An honest writer's sets do not overlap; a hostile one's must not make us copy more than there is room for.
        var bytesLeft = CountersLayout.labelBytesPerWorkerMax
        let labels = (0..<sets).map { number in labelSet(number, area: area, in: &snapshot, bytesLeft: &bytesLeft) }

        for number in 0...requests {
            let record = area + CountersLayout.requestSeriesOffset + number * CountersLayout.requestSeriesStride
            let key = number == 0 ? SharedKey.overflow : sharedKey(record, labels)
            if number == 0, isUnused(record, words: CountersLayout.requestWords) { continue }
            snapshot.requests.add(key) { load(record + CountersLayout.keyBytes + $0 * 8) }
        }
        for number in 0...tcp {
            let record = area + CountersLayout.tcpSeriesOffset + number * CountersLayout.tcpSeriesStride
            let key = number == 0 ? SharedKey.overflow : sharedKey(record, labels)
            if number == 0, isUnused(record, words: 4) { continue }
            snapshot.tcp.add(key) { load(record + CountersLayout.keyBytes + $0 * 8) }
        }
        addDecisions(0...decisions, of: worker, to: &snapshot, labels)
    }

    private func addDecisions(_ numbers: ClosedRange<Int>, of worker: Int, to snapshot: inout CountersSnapshot, _ labels: [Int?]) {
        for number in numbers {
            let record = decisionRecord(number, of: worker)
            if number == 0, isUnused(record, words: 1) { continue }
            snapshot.decisions.add(number == 0 ? SharedKey.overflow : sharedKey(record, labels)) { load(record + CountersLayout.keyBytes + $0 * 8) }
        }
    }

    private func decisionRecord(_ number: Int, of worker: Int) -> Int {
        region.areaOffset(worker) + CountersLayout.decisionSeriesOffset + number * CountersLayout.decisionSeriesStride
    }

    /// The decisions alone, with none of the label sets but their own: cheap enough to be asked every few seconds.
    public func decisions() -> [ProtocolDecision] {
        var snapshot = CountersSnapshot(workers: 0)
        for worker in 0..<CountersLayout.areasMax {
            let area = region.areaOffset(worker), cursors = area + CountersLayout.cursorsOffset
            let decisions = cursor(cursors + CountersLayout.decisionCursor, atMost: CountersLayout.decisionSeriesPerWorkerMax)
            let sets = cursor(cursors + CountersLayout.labelSetCursor, atMost: CountersLayout.labelSetsPerWorkerMax)
            var labels = [Int?](repeating: nil, count: sets)
            var bytesLeft = CountersLayout.labelBytesPerWorkerMax
            for number in 0...decisions {
                let set = Int(truncatingIfNeeded: load(decisionRecord(number, of: worker) + 8) & 0xffff_ffff)
                guard set > 0, set <= sets, labels[set - 1] == nil else { continue }
                labels[set - 1] = labelSet(set - 1, area: area, in: &snapshot, bytesLeft: &bytesLeft)
            }
            addDecisions(0...decisions, of: worker, to: &snapshot, labels)
        }
        return snapshot.protocolDecisions
    }

    /// The overflow series appears once something has overflowed.
    private func isUnused(_ record: Int, words: Int) -> Bool {
        (0..<words).allSatisfy { load(record + CountersLayout.keyBytes + $0 * 8) == 0 }
    }

    /// The number of a worker's label set among those of all workers; `nil` for what is no set.
    private func labelSet(_ number: Int, area: Int, in snapshot: inout CountersSnapshot, bytesLeft: inout Int) -> Int? {
        let place = load(area + CountersLayout.labelSetsOffset + number * CountersLayout.labelSetStride + 8)
        let offset = Int(place & 0xffff_ffff), count = Int(place >> 32)
        guard offset + count <= CountersLayout.labelBytesPerWorkerMax, count <= min(LabelBlob.byteCountMax, bytesLeft) else { return nil }
        bytesLeft -= count
        return snapshot.labels.number(of: copy(area + CountersLayout.labelBytesOffset + offset, count))
    }

    private func sharedKey(_ record: Int, _ labels: [Int?]) -> SharedKey {
        let peers = load(record), service = load(record + 8)
        func shared(_ number: UInt64) -> Int {
            // 0 is the unknown set; a number that names nothing can only be a damaged one: unknown as well.
            number == 0 || number > UInt64(labels.count) ? 0 : labels[Int(number) - 1] ?? 0
        }
        return SharedKey(
            source: shared(peers & 0xffff_ffff), destination: shared(peers >> 32), service: shared(service & 0xffff_ffff),
            outcome: service >> 32, kind: load(record + 16))
    }

    // MARK: Bytes of an untrusted writer

    private func load(_ offset: Int) -> UInt64 { region.word(offset).pointee.load(ordering: .relaxed) }

    private func cursor(_ offset: Int, atMost limit: Int) -> Int {
        Int(min(region.word(offset).pointee.load(ordering: .acquiring), UInt64(limit)))
    }

    private func copy(_ offset: Int, _ count: Int) -> [UInt8] {
        [UInt8](UnsafeRawBufferPointer(start: region.base + offset, count: count))
    }
}

extension UInt64 {
    /// A gauge is a sum of additions and subtractions on several workers, read at slightly different times: just below
    /// zero it is zero.
    fileprivate func clampedIfGauge(_ isGauge: Bool) -> UInt64 { isGauge && Int64(bitPattern: self) < 0 ? 0 : self }
}
