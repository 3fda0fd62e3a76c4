import Glibc

/// The writer's private way from keys to records: four open-addressing tables of record numbers in ordinary memory.
/// Numbers are record numbers plus one; 0 is an empty slot. At most half full, so searches are short.
@usableFromInline
struct SeriesIndex {
    @usableFromInline let requests: UnsafeMutablePointer<UInt32>
    @usableFromInline let tcp: UnsafeMutablePointer<UInt32>
    @usableFromInline let decisions: UnsafeMutablePointer<UInt32>
    let labels: UnsafeMutablePointer<UInt32>

    // Powers of two, twice the records' capacity; `init` checks it.
    @inlinable static var requestSlots: Int { 16_384 }
    @inlinable static var tcpSlots: Int { 8_192 }
    @inlinable static var decisionSlots: Int { 8_192 }
    static var labelSlots: Int { 16_384 }

    init() {
        requests = SeriesIndex.table(SeriesIndex.requestSlots, for: CountersLayout.requestSeriesPerWorkerMax)
        tcp = SeriesIndex.table(SeriesIndex.tcpSlots, for: CountersLayout.tcpSeriesPerWorkerMax)
        decisions = SeriesIndex.table(SeriesIndex.decisionSlots, for: CountersLayout.decisionSeriesPerWorkerMax)
        labels = SeriesIndex.table(SeriesIndex.labelSlots, for: CountersLayout.labelSetsPerWorkerMax)
    }

    func release() {
        free(requests)
        free(tcp)
        free(decisions)
        free(labels)
    }

    /// Zeroed by calloc, which leaves untouched pages to the kernel: an idle worker pays for none of it.
    private static func table(_ slots: Int, for records: Int) -> UnsafeMutablePointer<UInt32> {
        precondition(slots.nonzeroBitCount == 1 && slots >= 2 * records, "a table of this size would fill up")
        guard let table = calloc(slots, 4) else { preconditionFailure("memory for a series index") }
        return table.assumingMemoryBound(to: UInt32.self)
    }
}
