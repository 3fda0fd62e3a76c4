import Glibc

/// What one process uses, read from procfs.
public struct ProcessUsage: Sendable, Equatable {
    public var cpuSeconds: Double
    public var residentBytes: Double
    public var virtualBytes: Double
    public var threads: Double
    /// Seconds since 1970.
    public var startTimeSeconds: Double
    /// Nil for a process of another user: its descriptors are not ours to list.
    public var openDescriptors: Double?
    public var descriptorsMax: Double?
}

/// Reads processes of this PID namespace.
public struct ProcessSignals: Sendable {
    private let proc: String

    public init(root: String = "/") {
        proc = (root.hasSuffix("/") ? root : root + "/") + "proc"
    }

    /// Usage of a process; nil when it is not there (any more).
    public func usage(of processID: Int) -> ProcessUsage? {
        guard let stat = try? ProcFile.read("\(proc)/\(processID)/stat"), let bootTime else { return nil }
        // The name in parentheses may hold anything, also spaces and parentheses: fields count from its last “)”.
        guard let nameEnd = stat.lastIndex(of: ")") else { return nil }
        let fields = stat[stat.index(after: nameEnd)...].split(separator: " ").map { Double($0) ?? 0 }
        // proc(5) counts from 1 with the name as 2, so field N is here at N - 3.
        guard fields.count > 21 else { return nil }
        let ticksPerSecond = 100.0  // USER_HZ
        return ProcessUsage(
            cpuSeconds: (fields[11] + fields[12]) / ticksPerSecond,
            residentBytes: fields[21] * Double(sysconf(Int32(_SC_PAGESIZE))),
            virtualBytes: fields[20],
            threads: fields[17],
            startTimeSeconds: bootTime + fields[19] / ticksPerSecond,
            openDescriptors: openDescriptors(of: processID),
            descriptorsMax: descriptorsMax(of: processID))
    }

    private var bootTime: Double? {
        guard let stat = try? ProcFile.read("\(proc)/stat") else { return nil }
        return stat.split(separator: "\n").first { $0.hasPrefix("btime ") }.flatMap { Double($0.dropFirst(6)) }
    }

    private func openDescriptors(of processID: Int) -> Double? {
        guard let directory = opendir("\(proc)/\(processID)/fd") else { return nil }
        defer { closedir(directory) }
        var count = -2.0  // "." and ".."
        while Glibc.readdir(directory) != nil { count += 1 }
        // The directory that is being read is a descriptor of this process itself.
        return processID == Int(getpid()) ? count - 1 : count
    }

    private func descriptorsMax(of processID: Int) -> Double? {
        guard let limits = try? ProcFile.read("\(proc)/\(processID)/limits") else { return nil }
        let line = limits.split(separator: "\n").first { $0.hasPrefix("Max open files") }
        return line?.split(separator: " ").dropFirst(3).first.flatMap { Double($0) }
    }

    /// The standard `process_*` families of the process that serves the page.
    public static func standardSignals(_ usage: ProcessUsage) -> [Signal] {
        families(usageOf: [(nil, usage)], prefix: "process")
    }

    /// The same readings of several processes, as `weft_process_*{process="proxy"}`: Prometheus reserves the plain
    /// names for the process that is scraped.
    public static func labelledSignals(_ usages: [(name: String, usage: ProcessUsage)]) -> [Signal] {
        families(usageOf: usages.map { ($0.name, $0.usage) }, prefix: "weft_process")
    }

    private static func families(usageOf processes: [(name: String?, usage: ProcessUsage)], prefix: String) -> [Signal] {
        func family(_ name: String, _ help: String, _ kind: Signal.Kind, _ value: (ProcessUsage) -> Double?) -> Signal? {
            let samples = processes.compactMap { process in
                value(process.usage).map { Signal.Sample($0, labels: process.name.map { [.init("process", $0)] } ?? []) }
            }
            return samples.isEmpty ? nil : Signal("\(prefix)_\(name)", help: help, kind, samples)
        }
        return [
            family("cpu_seconds_total", "Total user and system CPU time spent in seconds.", .counter, \.cpuSeconds),
            family("resident_memory_bytes", "Resident memory size in bytes.", .gauge, \.residentBytes),
            family("virtual_memory_bytes", "Virtual memory size in bytes.", .gauge, \.virtualBytes),
            family("threads", "Number of threads.", .gauge, \.threads),
            family("start_time_seconds", "Start time of the process since unix epoch in seconds.", .gauge, \.startTimeSeconds),
            family("open_fds", "Number of open file descriptors.", .gauge, \.openDescriptors),
            family("max_fds", "Maximum number of open file descriptors.", .gauge, \.descriptorsMax),
        ].compactMap { $0 }
    }
}
