import Glibc
import Synchronization

// Finding a label set or a series, and adding it when it is new. Reading the private index is all that a known one costs.

extension WorkerCounters {
    // MARK: Series

    /// The series with a key; the overflow series when there is no room for it or for one of its label sets.
    @inlinable
    public func requestSeries(_ key: SeriesKey) -> RequestSeries {
        var slot = Int(truncatingIfNeeded: key.hash) & (SeriesIndex.requestSlots - 1)
        while case let entry = index.requests[slot], entry != 0 {
            let record = area + CountersLayout.requestSeriesOffset + Int(entry - 1) * CountersLayout.requestSeriesStride
            if WorkerCounters.hasKey(record, key) { return RequestSeries(number: entry - 1) }
            slot = (slot + 1) & (SeriesIndex.requestSlots - 1)
        }
        return RequestSeries(
            number: appendSeries(
                key, table: index.requests, slot: slot, cursor: CountersLayout.requestCursor,
                first: CountersLayout.requestSeriesOffset, stride: CountersLayout.requestSeriesStride,
                capacity: CountersLayout.requestSeriesPerWorkerMax))
    }

    /// The TCP series with a key; the overflow series when there is no room for it or for one of its label sets.
    @inlinable
    public func tcpSeries(_ key: SeriesKey) -> TCPSeries {
        var slot = Int(truncatingIfNeeded: key.hash) & (SeriesIndex.tcpSlots - 1)
        while case let entry = index.tcp[slot], entry != 0 {
            let record = area + CountersLayout.tcpSeriesOffset + Int(entry - 1) * CountersLayout.tcpSeriesStride
            if WorkerCounters.hasKey(record, key) { return TCPSeries(number: entry - 1) }
            slot = (slot + 1) & (SeriesIndex.tcpSlots - 1)
        }
        return TCPSeries(
            number: appendSeries(
                key, table: index.tcp, slot: slot, cursor: CountersLayout.tcpCursor,
                first: CountersLayout.tcpSeriesOffset, stride: CountersLayout.tcpSeriesStride,
                capacity: CountersLayout.tcpSeriesPerWorkerMax))
    }

    /// Counts a decision; under `overflow` when there is no room for it or for its service.
    @inlinable
    public func decided(_ key: SeriesKey) {
        var slot = Int(truncatingIfNeeded: key.hash) & (SeriesIndex.decisionSlots - 1)
        while case let entry = index.decisions[slot], entry != 0 {
            let record = CountersLayout.decisionSeriesOffset + Int(entry - 1) * CountersLayout.decisionSeriesStride
            if WorkerCounters.hasKey(area + record, key) { return add(at: record + CountersLayout.keyBytes, 1) }
            slot = (slot + 1) & (SeriesIndex.decisionSlots - 1)
        }
        let capacity = CountersLayout.decisionSeriesPerWorkerMax
        let number = appendSeries(
            key, table: index.decisions, slot: slot, cursor: CountersLayout.decisionCursor, first: CountersLayout.decisionSeriesOffset,
            stride: CountersLayout.decisionSeriesStride, capacity: key.service == 0 ? capacity / 2 : capacity)
        add(at: CountersLayout.decisionSeriesOffset + Int(number) * CountersLayout.decisionSeriesStride + CountersLayout.keyBytes, 1)
    }

    @inlinable
    static func hasKey(_ record: UnsafeMutableRawPointer, _ key: SeriesKey) -> Bool {
        record.load(as: UInt64.self) == key.peers && record.load(fromByteOffset: 8, as: UInt64.self) == key.service
            && record.load(fromByteOffset: 16, as: UInt64.self) == key.kind
    }

    /// The number of a new record, or 0, the overflow series.
    @usableFromInline
    func appendSeries(
        _ key: SeriesKey, table: UnsafeMutablePointer<UInt32>, slot: Int, cursor: Int, first: Int, stride: Int, capacity: Int
    ) -> UInt32 {
        let count = cursorValue(cursor)
        guard !key.isOverflow, count < capacity else {
            add(.seriesOverflow)
            return 0
        }
        let number = count + 1
        let record = area + first + number * stride
        // A predecessor may have died here, half-way: what no cursor covers means nothing.
        record.initializeMemory(as: UInt8.self, repeating: 0, count: stride)
        record.storeBytes(of: key.peers, as: UInt64.self)
        record.storeBytes(of: key.service, toByteOffset: 8, as: UInt64.self)
        record.storeBytes(of: key.kind, toByteOffset: 16, as: UInt64.self)
        setCursor(cursor, to: count + 1)
        table[slot] = UInt32(number + 1)
        return UInt32(number)
    }

    // MARK: Label sets

    /// The set of a workload's labels; `.unknown` when all of them are empty, `.overflow` when there is no room.
    ///
    /// Hashing and comparing some 100 bytes takes about 40 ns: keep the result beside the pod or the upstream connection.
    public func labels(_ labels: PeerLabels) -> LabelSet {
        withUnsafeBytes(of: labels) { intern($0.assumingMemoryBound(to: UnsafeRawBufferPointer.self)) }
    }

    /// The set of a service's labels; as for workloads.
    public func labels(_ labels: ServiceLabels) -> LabelSet {
        withUnsafeBytes(of: labels) { intern($0.assumingMemoryBound(to: UnsafeRawBufferPointer.self)) }
    }

    private func intern(_ texts: UnsafeBufferPointer<UnsafeRawBufferPointer>) -> LabelSet {
        var hash = UInt64(texts.count)
        var textBytes = 0
        for text in texts {
            let count = min(text.count, CountersLayout.labelTextBytesMax)
            hash = LabelBlob.hash(text, count: count, after: hash)
            textBytes += count
        }
        if textBytes == 0 { return .unknown }
        let mask = SeriesIndex.labelSlots - 1
        var slot = Int(truncatingIfNeeded: hash) & mask
        while case let entry = index.labels[slot], entry != 0 {
            let record = area + CountersLayout.labelSetsOffset + Int(entry - 1) * CountersLayout.labelSetStride
            if record.load(as: UInt64.self) == hash, LabelBlob.matches(blob(record), texts) { return LabelSet(number: entry) }
            slot = (slot + 1) & mask
        }
        return append(texts, hash: hash, byteCount: LabelBlob.headBytes(texts.count) + textBytes, slot: slot)
    }

    private func append(_ texts: UnsafeBufferPointer<UnsafeRawBufferPointer>, hash: UInt64, byteCount: Int, slot: Int) -> LabelSet {
        let count = cursorValue(CountersLayout.labelSetCursor)
        let used = cursorValue(CountersLayout.labelBytesCursor)
        guard count < CountersLayout.labelSetsPerWorkerMax, used + byteCount <= CountersLayout.labelBytesPerWorkerMax else {
            add(.seriesOverflow)
            return .overflow
        }
        LabelBlob.write(texts, to: area + CountersLayout.labelBytesOffset + used)
        let record = area + CountersLayout.labelSetsOffset + count * CountersLayout.labelSetStride
        record.storeBytes(of: hash, as: UInt64.self)
        record.storeBytes(of: UInt64(used) | UInt64(byteCount) << 32, toByteOffset: 8, as: UInt64.self)
        // Rounded, so that the byte counts at a blob's start are aligned.
        setCursor(CountersLayout.labelBytesCursor, to: (used + byteCount + 7) & ~7)
        setCursor(CountersLayout.labelSetCursor, to: count + 1)
        index.labels[slot] = UInt32(count + 1)
        return LabelSet(number: UInt32(count + 1))
    }

    /// The bytes of a label set; only for records that `adopt` has checked or this process has written.
    private func blob(_ record: UnsafeMutableRawPointer) -> UnsafeRawBufferPointer {
        let place = record.load(fromByteOffset: 8, as: UInt64.self)
        return UnsafeRawBufferPointer(
            start: area + CountersLayout.labelBytesOffset + Int(place & 0xffff_ffff), count: Int(place >> 32))
    }

    // MARK: Cursors

    private func cursorValue(_ cursor: Int) -> Int {
        Int(truncatingIfNeeded: word(at: CountersLayout.cursorsOffset + cursor).pointee.load(ordering: .relaxed))
    }

    /// Everything written before becomes visible with this.
    private func setCursor(_ cursor: Int, to value: Int) {
        word(at: CountersLayout.cursorsOffset + cursor).pointee.store(UInt64(value), ordering: .releasing)
    }

    // MARK: A predecessor's records

    /// Builds the index from what an earlier incarnation left. When that is not what a writer leaves (it was an untrusted
    /// process), the area starts anew, and says so in a counter.
    func adopt() {
        if !indexRecords() {
            // Whole, so that no record of the damaged state shows through again.
            area.initializeMemory(as: UInt8.self, repeating: 0, count: CountersLayout.areaBytes)
            memset(index.requests, 0, SeriesIndex.requestSlots * 4)
            memset(index.tcp, 0, SeriesIndex.tcpSlots * 4)
            memset(index.decisions, 0, SeriesIndex.decisionSlots * 4)
            memset(index.labels, 0, SeriesIndex.labelSlots * 4)
            add(.countersReset)
        }
    }

    private func indexRecords() -> Bool {
        let sets = cursorValue(CountersLayout.labelSetCursor)
        let bytes = cursorValue(CountersLayout.labelBytesCursor)
        let requests = cursorValue(CountersLayout.requestCursor)
        let tcp = cursorValue(CountersLayout.tcpCursor)
        let decisions = cursorValue(CountersLayout.decisionCursor)
        guard (0...CountersLayout.labelSetsPerWorkerMax).contains(sets), (0...CountersLayout.labelBytesPerWorkerMax).contains(bytes),
            (0...CountersLayout.requestSeriesPerWorkerMax).contains(requests), (0...CountersLayout.tcpSeriesPerWorkerMax).contains(tcp),
            (0...CountersLayout.decisionSeriesPerWorkerMax).contains(decisions)
        else { return false }
        for number in 0..<sets {
            let record = area + CountersLayout.labelSetsOffset + number * CountersLayout.labelSetStride
            let place = record.load(fromByteOffset: 8, as: UInt64.self)
            guard place & 0xffff_ffff + place >> 32 <= UInt64(bytes), LabelBlob.isWellFormed(blob(record)) else { return false }
            insert(UInt32(number + 1), hash: record.load(as: UInt64.self), table: index.labels, slots: SeriesIndex.labelSlots)
        }
        indexSeries(requests, at: CountersLayout.requestSeriesOffset, CountersLayout.requestSeriesStride, index.requests, SeriesIndex.requestSlots)
        indexSeries(tcp, at: CountersLayout.tcpSeriesOffset, CountersLayout.tcpSeriesStride, index.tcp, SeriesIndex.tcpSlots)
        indexSeries(
            decisions, at: CountersLayout.decisionSeriesOffset, CountersLayout.decisionSeriesStride, index.decisions, SeriesIndex.decisionSlots)
        return true
    }

    private func indexSeries(_ count: Int, at first: Int, _ step: Int, _ table: UnsafeMutablePointer<UInt32>, _ slots: Int) {
        for number in stride(from: 1, through: count, by: 1) {
            insert(UInt32(number + 1), hash: key(first + number * step).hash, table: table, slots: slots)
        }
    }

    private func key(_ offset: Int) -> SeriesKey {
        let record = area + offset
        return SeriesKey(
            peers: record.load(as: UInt64.self), service: record.load(fromByteOffset: 8, as: UInt64.self),
            kind: record.load(fromByteOffset: 16, as: UInt64.self))
    }

    private func insert(_ entry: UInt32, hash: UInt64, table: UnsafeMutablePointer<UInt32>, slots: Int) {
        var slot = Int(truncatingIfNeeded: hash) & (slots - 1)
        while table[slot] != 0 { slot = (slot + 1) & (slots - 1) }
        table[slot] = entry
    }
}
