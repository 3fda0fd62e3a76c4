import Testing

@testable import Telemetry

@Suite struct DecisionTests {
    @Test func aDecisionShowsUpWithItsServiceAndReason() throws {
        let sample = try CountersSample()
        for worker in 0..<2 {
            let counters = sample.region.worker(worker)
            // Different numbers for the same labels.
            if worker == 1 { _ = counters.service("other") }
            counters.decided(SeriesKey(decision: .tcp, reason: .serverFirst, service: counters.service("db"), port: 5432))
        }
        sample.region.worker(0).decided(SeriesKey(decision: .http2, reason: .firstBytes, service: .unknown, port: 9000))
        let service = "destination_service=\"db.shop.svc.cluster.local\",destination_service_name=\"db\",destination_service_namespace=\"shop\""
        let page = sample.page
        #expect(page.contains("weft_protocol_decisions_total{\(service),port=\"5432\",protocol=\"tcp\",reason=\"server-first\"} 2\n"))
        #expect(page.contains("destination_service_namespace=\"unknown\",port=\"9000\",protocol=\"http/2\",reason=\"first-bytes\"} 1\n"))
        let expected = [
            ProtocolDecision(serviceNamespace: "shop", serviceName: "db", port: 5432, spoken: "tcp", reason: "server-first", connections: 2),
            ProtocolDecision(serviceNamespace: "", serviceName: "", port: 9000, spoken: "http/2", reason: "first-bytes", connections: 1),
        ]
        #expect(sample.reader.snapshot().protocolDecisions == expected && sample.reader.decisions() == expected)
    }

    @Test func everyProtocolAndReasonHasAWordOfItsOwn() {
        #expect(Set(DecidedProtocol.allCases.map(\.text)).count == DecidedProtocol.allCases.count)
        #expect(Set(DecisionReason.allCases.map(\.text)).count == DecisionReason.allCases.count)
    }

    @Test func decisionsSurviveTheProxy() throws {
        let sample = try CountersSample()
        let first = sample.region.worker(0)
        first.decided(SeriesKey(decision: .tls, reason: .firstBytes, service: first.service("db"), port: 443))
        let second = try sample.successor(2).worker(0)
        second.decided(SeriesKey(decision: .tls, reason: .firstBytes, service: second.service("db"), port: 443))
        #expect(sample.reader.decisions().map(\.connections) == [2])
    }

    @Test func aPortScanLeavesRoomForTheServices() throws {
        let sample = try CountersSample()
        let counters = sample.region.worker(0)
        for port in 0..<UInt16.max { counters.decided(SeriesKey(decision: .tcp, reason: .clientSilent, service: .unknown, port: port)) }
        counters.decided(SeriesKey(decision: .http1, reason: .declared, service: counters.service("cart"), port: 80))
        let decisions = sample.reader.decisions()
        let half = CountersLayout.decisionSeriesPerWorkerMax / 2
        #expect(decisions.count == half + 2)
        #expect(decisions.contains { $0.serviceName == "cart" && $0.connections == 1 })
        #expect(decisions.first { $0.reason == "overflow" }?.connections == UInt64(UInt16.max) - UInt64(half))
        #expect(sample.page.contains("port=\"overflow\",protocol=\"overflow\",reason=\"overflow\"}"))
    }

    @Test func moreServicePortsThanFitOverflowByName() throws {
        let sample = try CountersSample()
        let counters = sample.region.worker(0)
        let service = counters.service("cart")
        for port in 0..<UInt16(CountersLayout.decisionSeriesPerWorkerMax + 10) {
            counters.decided(SeriesKey(decision: .http1, reason: .declared, service: service, port: port))
        }
        #expect(counters.value(of: .seriesOverflow) == 10)
        #expect(sample.reader.decisions().count == CountersLayout.decisionSeriesPerWorkerMax + 1)
    }

    @Test func aStatusThatGRPCDoesNotDefineIsUnknown() throws {
        let sample = try CountersSample()
        let counters = sample.region.worker(0)
        for status: UInt8 in [0, 16, 17, 200] {
            let key = SeriesKey(
                reporter: .source, source: .unknown, destination: .unknown, service: .unknown, requestProtocol: .grpc, responseCode: 200,
                grpcStatus: status)
            counters.record(counters.requestSeries(key), durationNanoseconds: 1, requestBytes: 0, responseBytes: 0)
        }
        let lines = sample.page.split(separator: "\n").filter { $0.hasPrefix("istio_requests_total{") }
        #expect(lines.count == 3)
        #expect(lines.contains { $0.contains("grpc_response_status=\"2\"") && $0.hasSuffix("} 2") })
    }
}
