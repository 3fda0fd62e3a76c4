import Foundation
@testable import NodeSignals
import Testing

/// A recorded /proc, in a directory that goes away with the test.
final class RecordedTree {
    let root = NSTemporaryDirectory() + "weft-proc-\(UUID().uuidString)"

    init(_ files: [String: String]) throws {
        for (name, text) in files {
            let path = URL(fileURLWithPath: "\(root)/proc/\(name)")
            try FileManager.default.createDirectory(at: path.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(text.utf8).write(to: path)
        }
    }

    deinit { try? FileManager.default.removeItem(atPath: root) }

    static let node = [
        "stat": """
            cpu  300 2 40 900 5 0 6 7 8 9
            cpu0 100 1 20 400 2 0 3 4 5 6
            cpu1 200 1 20 500 3 0 3 3 3 3
            intr 123 0 0
            btime 1700000000
            procs_running 2
            """,
        "meminfo": """
            MemTotal:       16316412 kB
            MemFree:         1000000 kB
            MemAvailable:    8000000 kB
            Active(anon):         12 kB
            HugePages_Total:       0
            Committed_AS:       4096 kB
            """,
        "loadavg": "0.20 0.50 1.25 1/93 19605\n",
        "pressure/cpu": "some avg10=0.38 avg60=1.06 avg300=1.23 total=78329135\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
        "pressure/io": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=500000\n",
        "pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=2\n",
    ]
}

@Suite struct NodeSignalsTests {
    @Test func readsWhatNodeExporterReads() throws {
        let tree = try RecordedTree(RecordedTree.node)
        let reading = NodeSignals(root: tree.root).read()
        #expect(reading.missing.isEmpty)

        let cpu = try #require(reading["node_cpu_seconds_total"])
        #expect(cpu.kind == .counter)
        #expect(cpu.samples.count == 16, "eight modes of two CPUs; the line of their sum stays out")
        #expect(cpu.samples.first == .init(1, labels: [.init("cpu", "0"), .init("mode", "user")]))
        #expect(cpu.samples.last == .init(0.03, labels: [.init("cpu", "1"), .init("mode", "steal")]))

        func value(_ name: String) -> Double? { reading[name]?.samples.first?.value }
        #expect(value("node_memory_MemTotal_bytes") == 16_316_412.0 * 1024)
        #expect(value("node_memory_MemAvailable_bytes") == 8_000_000.0 * 1024)
        #expect(value("node_memory_Committed_AS_bytes") == 4096.0 * 1024)
        #expect(reading.signals.contains { $0.name.contains("HugePages") } == false)
        #expect(value("node_load1") == 0.2 && value("node_load5") == 0.5 && value("node_load15") == 1.25)
        #expect(value("node_boot_time_seconds") == 1_700_000_000)
        #expect(value("node_pressure_cpu_waiting_seconds_total") == 78.329135)
        #expect(reading["node_pressure_cpu_stalled_seconds_total"] == nil)
        #expect(value("node_pressure_io_waiting_seconds_total") == 1.5)
        #expect(value("node_pressure_io_stalled_seconds_total") == 0.5)
        #expect(value("node_pressure_memory_stalled_seconds_total") == 0.000002)
    }

    @Test(arguments: RecordedTree.node.keys.sorted()) func aMissingSourceIsNamedAndTheRestIsThere(_ lost: String) throws {
        var files = RecordedTree.node
        files[lost] = nil
        let tree = try RecordedTree(files)
        let intact = try RecordedTree(RecordedTree.node)
        let whole = NodeSignals(root: intact.root).read()
        let reading = NodeSignals(root: tree.root).read()
        #expect(reading.missing == [MissingSource(source: "\(tree.root)/proc/\(lost)", reason: "No such file or directory")])
        #expect(!reading.signals.isEmpty && reading.signals.count < whole.signals.count)
    }

    @Test func contentThatIsNotUnderstoodIsNamed() throws {
        var files = RecordedTree.node
        for name in files.keys { files[name] = "??\n\n : x kB\ncpu\ncpu0 a b\nsome total=\n" }
        let tree = try RecordedTree(files)
        let reading = NodeSignals(root: tree.root).read()
        #expect(reading.signals.isEmpty)
        #expect(reading.missing.count == RecordedTree.node.count)
        #expect(reading.missing.allSatisfy { $0.reason == "its content is not understood" })
    }

    @Test func readsTheMachineItRunsOn() {
        let reading = NodeSignals().read()
        #expect(reading["node_cpu_seconds_total"] != nil && reading["node_memory_MemTotal_bytes"] != nil)
    }
}

@Suite struct ProcessSignalsTests {
    private static let stat = "42 (we ft) x) S 1 42 42 0 -1 4194304 10 0 0 0 250 50 0 0 20 0 7 0 3000 104857600 256 18446744073709551615 1 1\n"

    @Test func readsAProcessWhateverItsName() throws {
        let tree = try RecordedTree([
            "stat": "btime 1700000000\n", "42/stat": Self.stat, "42/limits": "Limit  Soft Limit Hard Limit Units\nMax open files            1024                 20000                files\n",
            "42/fd/0": "", "42/fd/1": "", "42/fd/2": "",
        ])
        let usage = try #require(ProcessSignals(root: tree.root).usage(of: 42))
        #expect(usage.cpuSeconds == 3)
        #expect(usage.threads == 7)
        #expect(usage.virtualBytes == 104_857_600)
        #expect(usage.residentBytes == 256 * Double(sysconf(Int32(_SC_PAGESIZE))))
        #expect(usage.startTimeSeconds == 1_700_000_030)
        #expect(usage.openDescriptors == 3)
        #expect(usage.descriptorsMax == 1024)
    }

    @Test func aProcessThatIsGoneHasNoUsage() throws {
        let tree = try RecordedTree(["stat": "btime 1700000000\n", "7/stat": "7 (cut"])
        #expect(ProcessSignals(root: tree.root).usage(of: 42) == nil)
        #expect(ProcessSignals(root: tree.root).usage(of: 7) == nil)
    }

    @Test func othersAreLabelledAndOneselfIsNot() throws {
        let own = try #require(ProcessSignals().usage(of: Int(getpid())))
        #expect(own.openDescriptors ?? 0 > 2)
        #expect(ProcessSignals.standardSignals(own).first?.samples.first?.labels == [])
        let foreign = ProcessUsage(cpuSeconds: 1, residentBytes: 2, virtualBytes: 3, threads: 4, startTimeSeconds: 5)
        let signals = ProcessSignals.labelledSignals([("node", own), ("proxy", foreign)])
        #expect(signals.first { $0.name == "weft_process_open_fds" }?.samples.map(\.labels) == [[.init("process", "node")]])
        #expect(signals.first?.name == "weft_process_cpu_seconds_total")
        #expect(signals.first?.samples.map(\.labels) == [[.init("process", "node")], [.init("process", "proxy")]])
    }
}
