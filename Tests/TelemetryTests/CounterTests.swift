import Testing

@testable import Telemetry

@Suite struct CounterTests {
    @Test func familiesStandTogetherAndAreNamedAsPrometheusWants() {
        var seen: Set<String> = []
        var previous = ""
        for counter in Counter.allCases {
            let definition = counter.definition
            let name = "\(definition.name)"
            if name != previous { #expect(seen.insert(name).inserted, "\(name) is split") }
            previous = name
            #expect(name.hasPrefix("weft_") && name.hasSuffix("_total") == (definition.kind == .counter), "\(name)")
        }
    }

    @Test func casesOfAFamilyDifferInTheirLabel() {
        var series: Set<String> = []
        for counter in Counter.allCases {
            let side = counter.definition.side.map { ",side=\($0)" } ?? ""
            let label = (counter.definition.label.map { "\($0.name)=\($0.value)" } ?? "") + side
            #expect(series.insert("\(counter.definition.name){\(label)}").inserted, "\(counter)")
        }
    }

    @Test func countersAddUpOverWorkers() throws {
        let sample = try CountersSample()
        sample.region.worker(0).add(.upstreamConnects, 3)
        sample.region.worker(1).add(.upstreamConnects)
        #expect(sample.reader.value(of: .upstreamConnects) == 4)
        #expect(sample.page.contains("weft_upstream_connects_total 4\n"))
    }

    @Test func theControlThreadHasItsOwn() throws {
        let sample = try CountersSample(workers: 16)
        sample.region.control.add(.snapshotsRefused)
        sample.region.worker(15).add(.snapshotsRefused)
        #expect(sample.reader.value(of: .snapshotsRefused) == 2 && sample.reader.value(of: .snapshotsRefused, worker: 15) == 1)
    }

    @Test func aGaugeMayBeTakenDownByAnotherWorker() throws {
        let sample = try CountersSample()
        sample.region.worker(0).add(.connectionsOpen, 5)
        sample.region.worker(1).subtract(.connectionsOpen, 2)
        #expect(sample.reader.value(of: .connectionsOpen) == 3)
        sample.region.worker(1).subtract(.connectionsOpen, 4)
        #expect(sample.reader.value(of: .connectionsOpen) == 0)
    }

    @Test func someGaugesAreShownPerWorker() throws {
        let sample = try CountersSample(workers: 2)
        sample.region.worker(0).set(.snapshotGeneration, to: 7)
        sample.region.worker(1).set(.snapshotGeneration, to: 8)
        #expect(sample.page.contains("weft_snapshot_applied_generation{worker=\"0\"} 7\nweft_snapshot_applied_generation{worker=\"1\"} 8\n"))
        #expect(!sample.page.contains("worker=\"2\""))
    }

    @Test func nanosecondsAreShownAsSeconds() throws {
        let sample = try CountersSample()
        sample.region.worker(0).add(.workerBusyNanoseconds, 1_500_000_000)
        #expect(sample.page.contains("weft_worker_busy_seconds_total{worker=\"0\"} 1.5\n"))
    }

    // MARK: Pods

    private func label(_ pods: PodDirectory, _ pod: UInt32, _ name: String) {
        withTexts(["shop", "cart", name]) { pods.label(pod: pod, namespace: $0[0], workload: $0[1], name: $0[2]) }
    }

    @Test func podsAreCountedAndNamed() throws {
        let sample = try CountersSample()
        let pods = PodDirectory(sample.region)
        let slot = try #require(pods.add(pod: 7))
        sample.region.worker(0).add(.requests, to: slot, 2)
        sample.region.worker(1).add(.cpuNanoseconds, to: slot, 250_000_000)
        #expect(!sample.page.contains("weft_workload_requests_total"))
        label(pods, 7, "cart-1")
        #expect(sample.page.contains("weft_workload_requests_total{namespace=\"shop\",workload=\"cart\",pod=\"cart-1\"} 2\n"))
        #expect(sample.page.contains("weft_workload_proxy_cpu_seconds_total{namespace=\"shop\",workload=\"cart\",pod=\"cart-1\"} 0.25\n"))
        pods.remove(pod: 7)
        #expect(!sample.page.contains("cart-1"))
        #expect(try #require(pods.add(pod: 8)) == slot)
        label(pods, 8, "cart-2")
        #expect(sample.page.contains("weft_workload_requests_total{namespace=\"shop\",workload=\"cart\",pod=\"cart-2\"} 0\n"))
    }

    @Test func aPodsTotalsSurviveTheProxyItsGaugesDoNot() throws {
        let sample = try CountersSample()
        let first = PodDirectory(sample.region)
        for pod: UInt32 in [7, 9] {
            let slot = try #require(first.add(pod: pod))
            label(first, pod, "cart-\(pod)")
            sample.region.worker(0).add(.requests, to: slot, 5)
            sample.region.worker(0).add(.connections, to: slot, 3)
        }
        let region = try sample.successor(2)
        let second = PodDirectory(region)
        let slot = try #require(second.add(pod: 7))
        region.worker(0).add(.requests, to: slot)
        second.removeUnclaimed()
        #expect(sample.page.contains("weft_workload_requests_total{namespace=\"shop\",workload=\"cart\",pod=\"cart-7\"} 6\n"))
        #expect(sample.page.contains("weft_workload_connections{namespace=\"shop\",workload=\"cart\",pod=\"cart-7\"} 0\n"))
        #expect(!sample.page.contains("cart-9"))
    }

    @Test func moreThanAllPodsHaveNoSlot() throws {
        let sample = try CountersSample()
        let pods = PodDirectory(sample.region)
        for pod in 0..<UInt32(CountersLayout.podsMax) { #expect(pods.add(pod: pod) != nil) }
        #expect(pods.add(pod: 99_999) == nil)
        pods.remove(pod: 3)
        #expect(pods.add(pod: 99_999) != nil)
    }

    @Test func longPodNamesAreCut() throws {
        let sample = try CountersSample()
        let pods = PodDirectory(sample.region)
        _ = pods.add(pod: 1)
        label(pods, 1, String(repeating: "p", count: 10_000))
        #expect(sample.page.contains("pod=\"\(String(repeating: "p", count: 253))\"}"))
    }
}
