import Testing

@testable import Telemetry

@Suite struct SeriesTests {
    @Test func aRequestShowsUpWithIstiosLabels() throws {
        let sample = try CountersSample()
        let counters = sample.region.worker(0)
        counters.record(counters.requestSeries(counters.get("web", "cart")), durationNanoseconds: 3_000_000, requestBytes: 0, responseBytes: 1_024)
        let labels = """
            reporter="source",source_workload="web",source_workload_namespace="shop",\
            source_principal="spiffe://cluster.local/ns/shop/sa/default",source_app="web",source_version="v1",\
            source_canonical_service="web",source_canonical_revision="v1",source_cluster="k",destination_workload="cart",\
            destination_workload_namespace="shop",destination_principal="spiffe://cluster.local/ns/shop/sa/default",\
            destination_app="cart",destination_version="v1",destination_canonical_service="cart",destination_canonical_revision="v1",\
            destination_cluster="k",destination_service="cart.shop.svc.cluster.local",destination_service_name="cart",\
            destination_service_namespace="shop",request_protocol="http",response_code="200",response_flags="-",\
            connection_security_policy="unknown"
            """
        let page = sample.page
        #expect(page.contains("istio_requests_total{\(labels)} 1\n"))
        #expect(page.contains("istio_request_duration_milliseconds_bucket{\(labels),le=\"1\"} 0\n"))
        #expect(page.contains("istio_request_duration_milliseconds_bucket{\(labels),le=\"5\"} 1\n"))
        #expect(page.contains("istio_request_duration_milliseconds_bucket{\(labels),le=\"+Inf\"} 1\n"))
        #expect(page.contains("istio_request_duration_milliseconds_sum{\(labels)} 3\n"))
        #expect(page.contains("istio_response_bytes_bucket{\(labels),le=\"1000\"} 0\n"))
        #expect(page.contains("istio_response_bytes_bucket{\(labels),le=\"10000\"} 1\n"))
        #expect(page.contains("istio_response_bytes_sum{\(labels)} 1024\n"))
        #expect(page.contains("istio_request_bytes_bucket{\(labels),le=\"1\"} 1\n"))
    }

    @Test func whoIsNotKnownIsUnknown() throws {
        let sample = try CountersSample()
        let counters = sample.region.worker(0)
        let key = SeriesKey(
            reporter: .destination, source: .unknown, destination: counters.peer("cart"), service: .unknown, requestProtocol: .grpc,
            responseCode: 0, grpcStatus: 14, flags: .upstreamConnectionFailure, security: .mutualTLS)
        counters.record(counters.requestSeries(key), durationNanoseconds: 1, requestBytes: 0, responseBytes: 0)
        let page = sample.page
        #expect(page.contains("source_workload=\"unknown\"") && page.contains("destination_service=\"unknown\""))
        #expect(page.contains("request_protocol=\"grpc\",response_code=\"0\",grpc_response_status=\"14\",response_flags=\"UF\",connection_security_policy=\"mutual_tls\""))
        #expect(withTexts(Array(repeating: "", count: 3)) { counters.labels(ServiceLabels(host: $0[0], name: $0[1], namespace: $0[2])) } == .unknown)
    }

    @Test func opaqueConnectionsAreCounted() throws {
        let sample = try CountersSample()
        let counters = sample.region.worker(0)
        let series = counters.tcpSeries(SeriesKey(tcp: .source, source: counters.peer("web"), destination: counters.peer("db"), service: counters.service("db")))
        counters.opened(series)
        counters.sent(series, bytes: 1_000)
        counters.received(series, bytes: 20)
        counters.closed(series)
        let lines = sample.page.split(separator: "\n").filter { $0.hasPrefix("istio_tcp_") }
        #expect(lines.count == 4 && lines.allSatisfy { $0.contains("request_protocol=\"tcp\",response_flags=\"-\"") && !$0.contains("response_code") })
        #expect(lines.map { $0.split(separator: " ").last! } == ["1", "1", "1000", "20"])
    }

    @Test func workersMeetInOneSeries() throws {
        let sample = try CountersSample()
        for worker in 0..<2 {
            let counters = sample.region.worker(worker)
            // Different numbers for the same labels.
            if worker == 1 { _ = counters.peer("other") }
            counters.record(counters.requestSeries(counters.get("web", "cart")), durationNanoseconds: 1, requestBytes: 5, responseBytes: 6)
        }
        let snapshot = sample.reader.snapshot()
        #expect(snapshot.seriesCounts.requests == 1 && snapshot.requestsTotal == 2)
        #expect(render(snapshot).components("istio_requests_total{").count == 2)
    }

    @Test func oneKeyIsOneSeries() throws {
        let sample = try CountersSample()
        let counters = sample.region.worker(0)
        let first = counters.requestSeries(counters.get("web", "cart"))
        #expect(counters.requestSeries(counters.get("web", "cart")) == first)
        #expect(counters.requestSeries(counters.get("web", "cart", code: 503)) != first)
        #expect(counters.peer("web") == counters.peer("web") && counters.peer("web") != counters.peer("web2"))
        // Texts do not flow into each other.
        let split = withTexts(["ab", "c", "d"]) { counters.labels(ServiceLabels(host: $0[0], name: $0[1], namespace: $0[2])) }
        let other = withTexts(["a", "bc", "d"]) { counters.labels(ServiceLabels(host: $0[0], name: $0[1], namespace: $0[2])) }
        #expect(split != other)
    }

    // MARK: Bounds

    @Test func aFullSeriesTableOverflowsByName() throws {
        let sample = try CountersSample()
        let counters = sample.region.worker(0)
        let web = counters.peer("web"), cart = counters.peer("cart"), service = counters.service("cart")
        for number in 0..<(CountersLayout.requestSeriesPerWorkerMax + 100) {
            let key = SeriesKey(
                reporter: number < 8_000 ? .source : .destination, source: web, destination: cart, service: service, requestProtocol: .http,
                responseCode: UInt16(number))
            counters.record(counters.requestSeries(key), durationNanoseconds: 1, requestBytes: 0, responseBytes: 0)
        }
        let snapshot = sample.reader.snapshot()
        #expect(snapshot.seriesCounts.requests == CountersLayout.requestSeriesPerWorkerMax + 1)
        #expect(snapshot.requestsTotal == UInt64(CountersLayout.requestSeriesPerWorkerMax + 100))
        #expect(snapshot.value(of: .seriesOverflow) == 100)
    }

    @Test func theOverflowSeriesSaysSoInEveryLabel() throws {
        let sample = try CountersSample()
        let counters = sample.region.worker(0)
        let key = SeriesKey(reporter: .source, source: .overflow, destination: .unknown, service: .unknown, requestProtocol: .http, responseCode: 200)
        counters.record(counters.requestSeries(key), durationNanoseconds: 1, requestBytes: 0, responseBytes: 0)
        let lines = sample.page.split(separator: "\n").filter { $0.hasPrefix("istio_requests_total{") }
        #expect(lines.count == 1 && lines[0].hasSuffix("} 1"))
        #expect(lines[0].components("=\"overflow\"").count == lines[0].components("=\"").count)
    }

    @Test func fullLabelSetsOverflowToo() throws {
        let sample = try CountersSample()
        let counters = sample.region.worker(0)
        var last = LabelSet.unknown
        for number in 0...CountersLayout.labelSetsPerWorkerMax { last = counters.service("s\(number)") }
        #expect(last == .overflow && counters.value(of: .seriesOverflow) == 1)
        #expect(counters.service("s5") != .overflow)
        let key = SeriesKey(reporter: .source, source: .unknown, destination: .unknown, service: last, requestProtocol: .http, responseCode: 200)
        #expect(counters.requestSeries(key) == RequestSeries(number: 0))
        #expect(counters.tcpSeries(SeriesKey(tcp: .source, source: last, destination: .unknown, service: .unknown)) == TCPSeries(number: 0))
    }

    @Test func longLabelsFillTheirBytesAndNoMore() throws {
        let sample = try CountersSample()
        let counters = sample.region.worker(0)
        let long = String(repeating: "x", count: 5_000)
        let filled = (0..<8_000).filter { counters.peer("\($0)-\(long)", long) == .overflow }
        #expect(!filled.isEmpty && counters.peer("0-\(long)", long) != .overflow)
        _ = sample.page
    }

    @Test func valuesFallIntoTheirBuckets() {
        let scale = HistogramScale.durationNanoseconds
        for (place, milliseconds) in HistogramScale.durationMilliseconds.enumerated() {
            let bound = UInt64(milliseconds * 1e6)
            #expect(scale.bucket(of: bound - 1) == place && scale.bucket(of: bound) == place && scale.bucket(of: bound + 1) == place + 1)
        }
        #expect(scale.bucket(of: 0) == 0 && scale.bucket(of: .max) == 19)
        for (place, bytes) in HistogramScale.bytes.enumerated() {
            #expect(HistogramScale.byteCounts.bucket(of: UInt64(bytes)) == place && HistogramScale.byteCounts.bucket(of: UInt64(bytes) + 1) == place + 1)
        }
    }
}

extension StringProtocol {
    /// The parts between occurrences of a separator.
    func components(_ separator: String) -> [Substring] {
        var parts: [Substring] = []
        var rest = Substring(self)
        while let found = rest.firstRange(of: separator) {
            parts.append(rest[..<found.lowerBound])
            rest = rest[found.upperBound...]
        }
        return parts + [rest]
    }
}
