import Glibc

/// CPU, memory, pressure and load of the node, under the names and with the meaning that node_exporter gives them.
public struct NodeSignals: Sendable {
    private let proc: String
    private let ticksPerSecond: Double

    /// - Parameter root: where the node's root file system is seen: `/`, or the host's as mounted into a pod.
    public init(root: String = "/") {
        proc = (root.hasSuffix("/") ? root : root + "/") + "proc"
        ticksPerSecond = 100  // USER_HZ: what procfs counts in, on every architecture Linux still has
    }

    /// Reads everything once. A source that is missing is named in `missing`; the rest is there.
    public func read() -> SignalReading {
        var reading = SignalReading()
        take("stat", into: &reading, parse: cpu)
        take("meminfo", into: &reading, parse: Self.memory)
        take("loadavg", into: &reading, parse: Self.load)
        for resource in PressureResource.allCases {
            take("pressure/\(resource.rawValue)", into: &reading) { Self.pressure($0, of: resource) }
        }
        return reading
    }

    private func take(_ file: String, into reading: inout SignalReading, parse: (String) -> [Signal]) {
        let path = "\(proc)/\(file)"
        do throws(ProcFile.ReadFailure) {
            let signals = parse(try ProcFile.read(path))
            if signals.isEmpty { reading.missing.append(MissingSource(source: path, reason: "its content is not understood")) }
            reading.signals += signals
        } catch {
            reading.missing.append(MissingSource(source: path, reason: error.reason))
        }
    }

    // MARK: /proc/stat

    /// Columns of a `cpuN` line. Guest time is part of user time already and stays out, as in node_exporter's sum.
    private static let cpuModes = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"]

    private func cpu(_ text: String) -> [Signal] {
        var samples: [Signal.Sample] = []
        var bootTime: Double?
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard let name = words.first else { continue }
            if name == "btime", words.count > 1 { bootTime = Double(words[1]) }
            guard name.hasPrefix("cpu"), let number = Int(name.dropFirst(3)) else { continue }
            for (mode, word) in zip(Self.cpuModes, words.dropFirst()) {
                guard let ticks = Double(word) else { continue }
                samples.append(.init(ticks / ticksPerSecond, labels: [.init("cpu", "\(number)"), .init("mode", mode)]))
            }
        }
        var signals: [Signal] = []
        if !samples.isEmpty { signals.append(Signal("node_cpu_seconds_total", help: "Seconds the CPUs spent in each mode.", .counter, samples)) }
        if let bootTime { signals.append(Signal("node_boot_time_seconds", help: "Node boot time, in unixtime.", .gauge, [.init(bootTime)])) }
        return signals
    }

    // MARK: /proc/meminfo

    /// What dashboards and autoscalers use of some fifty fields; the list bounds the page.
    private static let memoryFields: Set<String> = [
        "MemTotal", "MemFree", "MemAvailable", "Buffers", "Cached", "SwapCached", "SwapTotal", "SwapFree", "Active", "Inactive", "Dirty",
        "Writeback", "AnonPages", "Mapped", "Shmem", "Slab", "SReclaimable", "SUnreclaim", "KernelStack", "PageTables", "Committed_AS", "CommitLimit",
    ]

    private static func memory(_ text: String) -> [Signal] {
        text.split(separator: "\n").compactMap { line in
            let words = line.split { $0 == " " || $0 == ":" }
            guard words.count == 3, words[2] == "kB", let kibibytes = Double(words[1]), memoryFields.contains(String(words[0])) else { return nil }
            return Signal("node_memory_\(words[0])_bytes", help: "Memory information field \(words[0])_bytes.", .gauge, [.init(kibibytes * 1024)])
        }
    }

    // MARK: /proc/loadavg

    private static func load(_ text: String) -> [Signal] {
        let values = text.split(separator: " ").prefix(3).compactMap { Double($0) }
        guard values.count == 3 else { return [] }
        return zip([1, 5, 15], values).map { minutes, value in
            Signal("node_load\(minutes)", help: "\(minutes)m load average.", .gauge, [.init(value)])
        }
    }

    // MARK: /proc/pressure

    private enum PressureResource: String, CaseIterable {
        case cpu, io, memory
    }

    /// `some` is time in which at least one task waited, `full` time in which all did. For the CPU of a whole system
    /// the kernel defines no `full` (it prints zeros), so node_exporter has no `node_pressure_cpu_stalled` either.
    private static func pressure(_ text: String, of resource: PressureResource) -> [Signal] {
        var signals: [Signal] = []
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard let total = words.first(where: { $0.hasPrefix("total=") }).flatMap({ Double($0.dropFirst(6)) }) else { continue }
            let seconds = total / 1_000_000
            let (waiting, stalled) = phrases(resource)
            switch words.first {
            case "some":
                signals.append(Signal("node_pressure_\(resource.rawValue)_waiting_seconds_total", help: waiting, .counter, [.init(seconds)]))
            case "full" where resource != .cpu:
                signals.append(Signal("node_pressure_\(resource.rawValue)_stalled_seconds_total", help: stalled, .counter, [.init(seconds)]))
            default: break
            }
        }
        return signals
    }

    private static func phrases(_ resource: PressureResource) -> (waiting: String, stalled: String) {
        switch resource {
        case .cpu: ("Total time in seconds that processes have waited for CPU time.", "")
        case .io: (
            "Total time in seconds that processes have waited due to IO congestion.",
            "Total time in seconds no process could make progress due to IO congestion.")
        case .memory: (
            "Total time in seconds that processes have waited for memory.",
            "Total time in seconds no process could make progress due to memory congestion.")
        }
    }
}
