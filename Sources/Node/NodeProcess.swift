import Capture
import CLinux
import Glibc
import Telemetry

/// `weft node`, from the first check to the last clean-up. Called on the main thread, before any other thread exists; returns after a clean stop.
public enum NodeProcess {
    /// Checks the machine, gives up what is not needed, loads the hooks, and supervises until SIGTERM or SIGINT.
    public static func run(_ wanted: NodeConfiguration) throws(StartFault) {
        let hidden = clinux_keep_memory_private()
        guard hidden == 0 else { throw .failed("cannot forbid core files: \(errorText(-hidden))") }
        let mount = try Requirements.check()
        var configuration = wanted
        try configuration.complete(cgroupMount: mount)
        try makeDirectories(configuration)
        // While there still may be CAP_SYS_RESOURCE. Secret memory counts as locked.
        let lockedLimit = clinux_raise_locked_memory_limit(UInt64(Limits.lockedMemoryBytes))
        if lockedLimit < Limits.lockedMemoryBytes {
            Log.warning(
                "the proxy may lock less memory than it wants for keys", ("limit_bytes", "\(lockedLimit)"), ("wanted_bytes", "\(Limits.lockedMemoryBytes)"))
        }
        // From here on, what fails for lack of a right is missing in `Capability.kept`.
        try reducePrivileges()
        let lock = try takeLock(configuration)
        defer { clinux_close(lock) }
        let descriptorLimit = clinux_raise_descriptor_limit()
        guard descriptorLimit > 0 else { throw .failed("cannot raise the descriptor limit: \(errorText(Int32(-descriptorLimit)))") }
        // Writes to a child that is gone answer EPIPE.
        signal(SIGPIPE, SIG_IGN)
        let signals = clinux_signal_descriptor([SIGCHLD, SIGTERM, SIGINT], 3)
        guard signals >= 0 else { throw .failed("cannot make a signalfd: \(errorText(-signals))") }

        let cgroups = CgroupTree(root: configuration.weftCgroup)
        let origin = mount + (readWhole("/proc/self/cgroup", bytesMax: 64 * 1024).flatMap(CgroupTree.ownPath) ?? "/")
        try cgroups.make()
        defer { cgroups.remove() }
        // Before any socket is made for a pod: a socket belongs to the cgroup its maker was in.
        try cgroups.enter(.node)
        defer { _ = writeControl(origin + "/cgroup.procs", "0") }

        Log.info(
            "node starts", ("name", configuration.nodeName), ("workers", "\(configuration.workers)"), ("descriptors_max", "\(descriptorLimit)"),
            ("pods_cgroup", configuration.podsCgroup), ("weft_cgroup", configuration.weftCgroup),
            ("kubelet_cgroup", configuration.kubeletCgroup ?? "none: probes have no way past strict pods' proxy"))
        let capture = try KernelCapture(configuration)
        let supervisor: Supervisor
        do throws(StartFault) {
            supervisor = try Supervisor(
                configuration: configuration, capture: capture, namespaceThread: try NamespaceThread(), cgroups: cgroups, signals: signals,
                counters: try makeCounters(), descriptorLimit: UInt32(clamping: descriptorLimit))
        } catch {
            // Hooks without a node serve nobody; but those of a killed node still guard its pods.
            if capture.adoptedCookies().isEmpty { try? capture.detachAll() }
            throw error
        }
        supervisor.run()
        supervisor.undo()
        Log.info("node stopped")
    }

    /// Removes what a killed node left: rules, routes and settings in namespaces, hooks and their pins, cgroups.
    public static func cleanUp(_ wanted: NodeConfiguration) throws(StartFault) {
        let mount = try Requirements.check()
        var configuration = wanted
        // Parents that have gone meanwhile are no reason to leave the rest.
        do throws(StartFault) { try configuration.complete(cgroupMount: mount) } catch { Log.warning(error.message) }
        let isStateThere = access(configuration.stateDirectory + "/node", F_OK) == 0
        if isStateThere {
            let lock = try takeLock(configuration)
            defer { clinux_close(lock) }
            try restoreNamespaces(configuration)
        }
        try KernelCapture.cleanUp(configuration)
        if !configuration.weftCgroup.isEmpty { CgroupTree(root: configuration.weftCgroup).remove() }
        if isStateThere {
            unlink(configuration.stateDirectory + "/agent/admin.sock")
            unlink(configuration.stateDirectory + "/node/lock")
            rmdir(configuration.stateDirectory + "/node")
        }
        Log.info("cleaned up", ("name", configuration.nodeName))
    }

    private static func restoreNamespaces(_ configuration: NodeConfiguration) throws(StartFault) {
        guard let host = NamespaceIdentity(path: "/proc/self/ns/net") else { throw .failed("cannot read /proc/self/ns/net: is /proc mounted?") }
        let stateFile = StateFile(path: configuration.stateDirectory + "/node/pods.state")
        let root = NamespaceRoot(root: configuration.namespacesRoot, host: host)
        let thread = try NamespaceThread()
        for entry in stateFile.read() {
            // Another namespace of that name was never ours.
            guard let namespace = try? root.open(entry.namespacePath), namespace.identity == entry.identity else { continue }
            let fault = thread.perform(in: namespace.descriptor) { entryError -> SystemFault? in
                entryError == 0 ? PodNetwork.tearDown(before: entry.before) : SystemFault(step: "entering the network namespace", number: entryError)
            }
            if let fault { Log.error("a namespace was not put back entirely", ("namespace", entry.namespacePath), ("fault", fault.text)) }
            else { Log.info("namespace put back", ("namespace", entry.namespacePath)) }
        }
        stateFile.remove()
    }

    /// `<state-dir>` for all to enter, `agent/` for the agent to write (admin.sock), `node/` for node alone.
    /// In `<data-dir>/agent` the agent makes the directories of its keys, for itself alone.
    private static func makeDirectories(_ configuration: NodeConfiguration) throws(StartFault) {
        try makeDirectory(configuration.stateDirectory, mode: 0o755)
        try makeDirectory(configuration.stateDirectory + "/agent", mode: 0o775, group: gid_t(CLINUX_AGENT_USER))
        try makeDirectory(configuration.stateDirectory + "/node", mode: 0o700)
        try makeDirectory(configuration.dataDirectory, mode: 0o755)
        try makeDirectory(configuration.dataDirectory + "/agent", mode: 0o770, group: gid_t(CLINUX_AGENT_USER))
    }

    /// One node per state directory. The lock ends with the process, however it ends.
    private static func takeLock(_ configuration: NodeConfiguration) throws(StartFault) -> Int32 {
        let path = configuration.stateDirectory + "/node/lock"
        let number = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard number >= 0 else { throw .failed("cannot open \(path): \(errorText(errno))") }
        guard flock(number, LOCK_EX | LOCK_NB) == 0 else {
            close(number)
            throw .failed("another weft node runs with the state directory \(configuration.stateDirectory)")
        }
        return number
    }

    private static func makeCounters() throws(StartFault) -> Int32 {
        do throws(CountersFault) { return try CountersRegion.create() } catch { throw .failed("cannot make the counters' memory: \(error)") }
    }
}
