import CLinux
import Glibc
import Testing

@testable import Telemetry

@Suite struct CountersRegionTests {
    @Test func totalsGoOnGaugesStartAnew() throws {
        let sample = try CountersSample()
        let first = sample.region.worker(1)
        first.add(.upstreamConnects, 10)
        first.add(.connectionsOpen, 10)
        first.record(first.requestSeries(first.get("web", "cart")), durationNanoseconds: 1, requestBytes: 0, responseBytes: 0)

        // One worker fewer: what the second one counted still counts.
        let region = try sample.successor(2, workers: 1)
        let second = region.worker(0)
        second.add(.upstreamConnects)
        second.record(second.requestSeries(second.get("web", "cart")), durationNanoseconds: 1, requestBytes: 0, responseBytes: 0)
        #expect(sample.reader.incarnation == 2 && sample.reader.workers == 1)
        #expect(sample.reader.value(of: .upstreamConnects) == 11 && sample.reader.value(of: .connectionsOpen) == 0)
        #expect(sample.reader.snapshot().requestsTotal == 2 && sample.reader.snapshot().seriesCounts.requests == 1)

        let third = try sample.successor(3).worker(1)
        let series = third.requestSeries(third.get("web", "cart"))
        #expect(series == first.requestSeries(first.get("web", "cart")), "a successor finds its predecessor's series")
    }

    /// Whatever a writer left above its cursors when it was killed, the next one writes over.
    @Test func aHalfWrittenRecordIsNeverSeen() throws {
        let sample = try CountersSample()
        let first = sample.region.worker(0)
        _ = first.requestSeries(first.get("web", "cart"))
        let record = first.area + CountersLayout.requestSeriesOffset + 2 * CountersLayout.requestSeriesStride
        memset(record, 0xa5, CountersLayout.requestSeriesStride)
        #expect(sample.reader.snapshot().seriesCounts.requests == 1)
        let second = try sample.successor(2).worker(0)
        second.record(second.requestSeries(second.get("web", "db")), durationNanoseconds: 1, requestBytes: 0, responseBytes: 0)
        #expect(sample.reader.snapshot().requestsTotal == 1)
    }

    @Test func aKilledWriterLeavesWhatItHadCounted() throws {
        let sample = try CountersSample()
        let counters = sample.region.worker(0)
        // Once before the fork: the child has but one thread, and must not wait for a lock that another one held.
        _ = counters.requestSeries(counters.get("web", "cart"))
        let ready = try #require(Pipe())
        let child = forked()
        if child == 0 {
            var number: UInt16 = 0
            while true {
                counters.record(counters.requestSeries(counters.get("web", "cart", code: number)), durationNanoseconds: 1, requestBytes: 0, responseBytes: 0)
                number &+= 1
                if number == 100 { ready.signal() }
            }
        }
        let hasCounted = ready.wait(milliseconds: 10_000)
        kill(child, SIGKILL)
        waitpid(child, nil, 0)
        #expect(hasCounted)
        let snapshot = sample.reader.snapshot()
        #expect(snapshot.seriesCounts.requests >= 100 && snapshot.requestsTotal >= 100)
        let next = try sample.successor(2).worker(0)
        #expect(next.value(of: .countersReset) == 0)
        let before = sample.reader.snapshot().requestsTotal
        next.record(next.requestSeries(next.get("web", "cart", code: 3)), durationNanoseconds: 1, requestBytes: 0, responseBytes: 0)
        #expect(sample.reader.snapshot().requestsTotal == before + 1)
    }

    // MARK: A hostile writer

    @Test(arguments: 1...8) func theReaderSurvivesAnyBytes(seed: UInt64) throws {
        let sample = try CountersSample()
        let counters = sample.region.worker(0)
        for number in 0..<50 { _ = counters.requestSeries(counters.get("web\(number)", "cart\(number)")) }
        var state = seed
        func random() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state ^ state >> 31
        }
        // Noise over the pods' labels and the first kilobytes of each table, and extreme cursors.
        let starts = [0, CountersLayout.cursorsOffset, CountersLayout.labelSetsOffset, CountersLayout.labelBytesOffset,
            CountersLayout.tcpSeriesOffset, CountersLayout.decisionSeriesOffset, CountersLayout.requestSeriesOffset]
        for start in starts {
            for word in 0..<512 where random() % 4 != 0 {
                let value = [random(), random() & 0xffff, .max, 1 << 63, random() << 32 | 64].shuffled()[0]
                counters.area.storeBytes(of: value, toByteOffset: start + word * 8, as: UInt64.self)
            }
        }
        for word in 0..<(CountersLayout.podsMax * CountersLayout.podRecordBytes / 8) {
            (sample.region.base + CountersLayout.podsOffset).storeBytes(of: random(), toByteOffset: word * 8, as: UInt64.self)
        }
        sample.region.word(CountersLayout.workersOffset).pointee.store(.max, ordering: .relaxed)
        // Few series at a time keep the page small; the cursors themselves were noise above.
        _ = sample.reader.snapshot().protocolDecisions
        _ = sample.reader.decisions()
        counters.area.storeBytes(of: UInt64(40), toByteOffset: CountersLayout.cursorsOffset + CountersLayout.requestCursor, as: UInt64.self)
        counters.area.storeBytes(of: UInt64(40), toByteOffset: CountersLayout.cursorsOffset + CountersLayout.tcpCursor, as: UInt64.self)
        let page = sample.page
        #expect(page.contains("istio_requests_total{"))
        // The successor starts anew or goes on, but never traps.
        let next = try sample.successor(2).worker(0)
        next.record(next.requestSeries(next.get("web", "cart")), durationNanoseconds: 1, requestBytes: 0, responseBytes: 0)
    }

    @Test func aDamagedAreaStartsAnewAndSaysSo() throws {
        let sample = try CountersSample()
        let first = sample.region.worker(0)
        _ = first.requestSeries(first.get("web", "cart"))
        first.area.storeBytes(of: UInt64.max, toByteOffset: CountersLayout.cursorsOffset, as: UInt64.self)
        let second = try sample.successor(2).worker(0)
        #expect(second.value(of: .countersReset) == 1)
        second.record(second.requestSeries(second.get("web", "cart")), durationNanoseconds: 1, requestBytes: 0, responseBytes: 0)
        #expect(sample.reader.snapshot().requestsTotal == 1)
    }

    // MARK: The descriptor

    @Test func theMemoryCannotBeCutOffUnderTheReader() throws {
        let sample = try CountersSample()
        #expect(ftruncate(sample.descriptor, 4_096) == -1)
    }

    @Test func otherFilesAreRefused() throws {
        let file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC)
        defer { close(file) }
        #expect(throws: CountersFault.self) { try CountersRegion.map(file, writable: false) }
        let blank = clinux_memory_sealed("blank", nil, CountersLayout.byteCount, false)
        defer { close(blank) }
        #expect(throws: CountersFault.self) { try CountersRegion.map(blank, writable: true) }
    }

    @Test func anEmptyMemoryOccupiesLittle() throws {
        let sample = try CountersSample()
        for worker in 0..<2 { _ = sample.region.worker(worker) }
        var info = stat()
        fstat(sample.descriptor, &info)
        #expect(info.st_blocks * 512 < 1 << 20, "\(info.st_blocks * 512) bytes")
    }
}

/// One byte from a child to its parent.
private struct Pipe {
    private var ends: (read: Int32, write: Int32)

    init?() {
        var pair: [Int32] = [0, 0]
        guard pipe(&pair) == 0 else { return nil }
        ends = (pair[0], pair[1])
    }

    func signal() {
        var byte: UInt8 = 1
        _ = write(ends.write, &byte, 1)
    }

    func wait(milliseconds: Int32) -> Bool {
        defer {
            close(ends.read)
            close(ends.write)
        }
        var waiting = pollfd(fd: ends.read, events: Int16(POLLIN), revents: 0)
        return poll(&waiting, 1, milliseconds) == 1
    }
}

/// fork(2), which Swift hides because most of what a child could do is unsafe; ours counts in shared memory.
@_silgen_name("fork") private func forked() -> Int32
