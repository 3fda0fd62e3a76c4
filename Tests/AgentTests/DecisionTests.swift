import Glibc
import Telemetry
import Testing

@testable import Agent

@Suite struct DecisionTests {
    private func decision(_ service: String, _ spoken: String, _ reason: String, _ connections: UInt64) -> ProtocolDecision {
        ProtocolDecision(serviceNamespace: "shop", serviceName: service, port: 5432, spoken: spoken, reason: reason, connections: connections)
    }

    @Test func aDecisionIsNewsOnceAndAgainAfterALongSilence() {
        let start = ContinuousClock.now
        var book = DecisionBook(before: [decision("db", "tcp", "server-first", 5)])
        func news(_ seconds: Int, _ decisions: ProtocolDecision...) -> [String] {
            book.take(decisions, at: start + .seconds(seconds)).map { "\($0.service) \($0.spoken)" }
        }
        #expect(news(0, decision("db", "tcp", "server-first", 5)) == [], "an earlier agent has told it")
        #expect(news(2, decision("db", "tcp", "server-first", 5), decision("db", "tls", "first-bytes", 1)) == ["db tls"])
        #expect(news(4, decision("db", "tcp", "server-first", 6), decision("db", "tls", "first-bytes", 1)) == ["db tcp"])
        #expect(news(6, decision("db", "tcp", "server-first", 7), decision("db", "tls", "first-bytes", 9)) == [])
        let later = 6 + AgentLimits.decisionNewsSeconds
        #expect(news(later - 1, decision("db", "tcp", "server-first", 8), decision("db", "tls", "first-bytes", 9)) == [])
        #expect(news(later, decision("db", "tcp", "server-first", 9), decision("db", "tls", "first-bytes", 10)) == ["db tls"])
    }

    @Test func theStatusShowsWhatWasDecidedAndDeclared() async throws {
        let memory = try CountersRegion.create()
        let region = try CountersRegion.map(memory, writable: true)
        region.beginIncarnation(1, workers: 1)
        let counters = region.worker(0)
        let host = Array("cart.shop.svc.cluster.local".utf8)
        let service = host.withUnsafeBytes { host in
            counters.labels(
                ServiceLabels(
                    host: host, name: UnsafeRawBufferPointer(rebasing: host[..<4]), namespace: UnsafeRawBufferPointer(rebasing: host[5..<9])))
        }
        let scene = Scene()
        await scene.read(["shop.yaml": Manifest.shop()])
        try await scene.greet(counters: memory)
        counters.decided(SeriesKey(decision: .http2, reason: .firstBytes, service: service, port: 80))
        counters.decided(SeriesKey(decision: .tcp, reason: .clientSilent, service: .unknown, port: 9))
        await scene.plane.readDecisions()
        let status = await scene.plane.status
        #expect(status.protocols.map { "\($0.namespace)/\($0.service):\($0.port) \($0.declared) \($0.spoken) \($0.reason) \($0.connections)" } == [
            "/:9  tcp client-silent 1", "shop/cart:80 http1 http/2 first-bytes 1",
        ])
        #expect(status.protocols.allSatisfy { ($0.ageSeconds ?? -1) >= 0 })
        #expect(try StatusJSON.decode(StatusJSON.encode(status)) == status)
        withExtendedLifetime(region) {}
    }
}
