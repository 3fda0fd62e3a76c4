import Glibc

@testable import Telemetry

/// A counters' memory with both sides mapped, as proxy and agent have it.
final class CountersSample {
    let descriptor: Int32
    let region: CountersRegion
    let reader: CountersReader

    init(workers: Int = 2) throws {
        descriptor = try CountersRegion.create()
        region = try CountersRegion.map(descriptor, writable: true)
        region.beginIncarnation(1, workers: workers)
        keep(region)
        let readOnly = open("/proc/self/fd/\(descriptor)", O_RDONLY | O_CLOEXEC)
        defer { close(readOnly) }
        reader = CountersReader(try CountersRegion.map(readOnly, writable: false))
    }

    deinit { close(descriptor) }

    /// The next proxy: maps the same memory anew.
    func successor(_ incarnation: UInt32, workers: Int = 2) throws -> CountersRegion {
        let region = try CountersRegion.map(descriptor, writable: true)
        region.beginIncarnation(incarnation, workers: workers)
        keep(region)
        return region
    }

    var page: String { render(reader.snapshot()) }
}

func render(_ snapshot: CountersSnapshot) -> String {
    let text = Text()
    var page = PrometheusText { text.bytes += $0 }
    snapshot.render(into: &page)
    page.finish()
    return String(decoding: text.bytes, as: UTF8.self)
}

/// Workers' counters borrow their region: in tests, as in the proxy, regions live as long as the process.
private func keep(_ region: CountersRegion) { _ = Unmanaged.passRetained(region) }

final class Text {
    var bytes: [UInt8] = []
}

extension WorkerCounters {
    func peer(_ workload: String, _ namespace: String = "shop") -> LabelSet {
        withTexts([workload, namespace, "spiffe://cluster.local/ns/\(namespace)/sa/default", workload, "v1", workload, "v1", "k"]) {
            labels(PeerLabels(
                workload: $0[0], namespace: $0[1], principal: $0[2], app: $0[3], version: $0[4], canonicalService: $0[5],
                canonicalRevision: $0[6], cluster: $0[7]))
        }
    }

    func service(_ name: String, _ namespace: String = "shop") -> LabelSet {
        withTexts(["\(name).\(namespace).svc.cluster.local", name, namespace]) {
            labels(ServiceLabels(host: $0[0], name: $0[1], namespace: $0[2]))
        }
    }

    func get(_ source: String, _ destination: String, code: UInt16 = 200) -> SeriesKey {
        SeriesKey(
            reporter: .source, source: peer(source), destination: peer(destination), service: service(destination), requestProtocol: .http,
            responseCode: code)
    }
}

/// The texts' bytes for the length of a call.
func withTexts<Result>(_ texts: [String], _ body: ([UnsafeRawBufferPointer]) -> Result) -> Result {
    let joined = texts.flatMap { Array($0.utf8) }
    return joined.withUnsafeBytes { bytes in
        var start = 0
        return body(texts.map { text in
            defer { start += text.utf8.count }
            return UnsafeRawBufferPointer(rebasing: bytes[start..<(start + text.utf8.count)])
        })
    }
}
