import Glibc

/// What the command line says, checked and completed.
public struct NodeConfiguration: Equatable, Sendable {
    public var manifests: String
    public var nodeName: String
    public var stateDirectory: String
    /// What must survive a reboot: keys and certificates of the agent, in `agent/` of it.
    public var dataDirectory: String
    /// Parent of the pods' cgroups; nil: `kubepods.slice` or `kubepods` where there is one, else the whole hierarchy.
    public var wantedPodsCgroup: String?
    /// Weft's own cgroup; nil: `weft` in the v2 hierarchy.
    public var wantedWeftCgroup: String?
    /// The kubelet's cgroup; nil: looked for where distributions put it.
    public var wantedKubeletCgroup: String?
    public var workers: Int
    public var metricsAddress: String
    public var proxyPath: String
    public var bpfObject: String
    public var namespacesRoot: String
    /// Options of the agent that node passes on as they are.
    public var agentOptions: [String]
    /// This executable: the agent is one of its subcommands.
    public var ownPath: String

    /// Set by `complete`.
    public internal(set) var podsCgroup = "", weftCgroup = ""
    /// Set by `complete`; nil where there is no kubelet.
    public internal(set) var kubeletCgroup: String?

    public init(
        manifests: String, nodeName: String, stateDirectory: String, podsCgroup: String?, weftCgroup: String?, kubeletCgroup: String?, workers: Int?,
        metricsAddress: String, proxyPath: String?, bpfObject: String?, namespacesRoot: String, dataDirectory: String? = nil,
        agentOptions: [String] = []
    ) throws(StartFault) {
        self.manifests = try Self.absolute(manifests, "--manifests")
        self.stateDirectory = try Self.absolute(stateDirectory, "--state-dir")
        let usualData = self.stateDirectory == "/run/weft" ? "/var/lib/weft" : self.stateDirectory + "/data"
        self.dataDirectory = try Self.absolute(dataDirectory ?? usualData, "--data-dir")
        self.agentOptions = agentOptions
        self.namespacesRoot = try Self.absolute(namespacesRoot, "--namespaces-root")
        wantedPodsCgroup = podsCgroup
        wantedWeftCgroup = weftCgroup
        wantedKubeletCgroup = kubeletCgroup
        // It names a directory of pins and travels in labels: RFC 1123, as Kubernetes has it.
        let isName = !nodeName.isEmpty && nodeName.utf8.count <= 253 && nodeName.first != "." && nodeName.first != "-"
            && nodeName.unicodeScalars.allSatisfy { ("a"..."z").contains($0) || ("0"..."9").contains($0) || $0 == "-" || $0 == "." }
        guard isName else { throw .usage("--node-name \(nodeName) is not a node name: lower-case letters, digits, '-' and '.'") }
        self.nodeName = nodeName
        if let workers, !(1...Limits.workersMax).contains(workers) { throw .usage("--workers is 1 to \(Limits.workersMax)") }
        self.workers = workers ?? Self.workersByDefault()
        self.metricsAddress = metricsAddress
        guard let own = Self.executablePath() else { throw .failed("cannot read /proc/self/exe: is /proc mounted?") }
        ownPath = own
        let directory = own.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(own[..<$0]) } ?? ""
        self.proxyPath = try Self.absolute(proxyPath ?? directory + "/weft-proxy", "--proxy")
        self.bpfObject = try Self.absolute(bpfObject ?? directory + "/capture.bpf.o", "--bpf-object")
    }

    /// Fills in what depends on where the v2 hierarchy is mounted.
    mutating func complete(cgroupMount mount: String) throws(StartFault) {
        let candidates: [String] = ["\(mount)/kubepods.slice", "\(mount)/kubepods"]
        let usual = candidates.first { access($0, F_OK) == 0 }
        podsCgroup = Self.withoutTrailingSlash(wantedPodsCgroup ?? usual ?? mount)
        weftCgroup = Self.withoutTrailingSlash(wantedWeftCgroup ?? mount + "/weft")
        for (path, option) in [(podsCgroup, "--pods-cgroup"), (weftCgroup, "--weft-cgroup")] {
            guard path == mount || NamespaceRoot.isBelow(path, root: mount) else {
                throw .usage("\(option) \(path) is not below the v2 hierarchy at \(mount)")
            }
        }
        guard access(podsCgroup + "/cgroup.procs", F_OK) == 0 else { throw .usage("--pods-cgroup \(podsCgroup) does not exist") }
        kubeletCgroup = wantedKubeletCgroup.map(Self.withoutTrailingSlash) ?? Self.usualKubeletCgroups.map { mount + $0 }.first { access($0, F_OK) == 0 }
        if let kubeletCgroup {
            guard NamespaceRoot.isBelow(kubeletCgroup, root: mount) else {
                throw .usage("--kubelet-cgroup \(kubeletCgroup) is not below the v2 hierarchy at \(mount)")
            }
            guard access(kubeletCgroup + "/cgroup.procs", F_OK) == 0 else { throw .usage("--kubelet-cgroup \(kubeletCgroup) does not exist") }
            // Whatever connects from there counts as a probe.
            guard kubeletCgroup != podsCgroup, !NamespaceRoot.isBelow(podsCgroup, root: kubeletCgroup), !NamespaceRoot.isBelow(kubeletCgroup, root: podsCgroup) || podsCgroup == mount
            else { throw .usage("--kubelet-cgroup \(kubeletCgroup) and the pods' cgroup \(podsCgroup) lie in each other") }
        }
        guard weftCgroup != mount else { throw .usage("--weft-cgroup must be a cgroup of its own below \(mount)") }
    }

    /// Where the kubelet runs: systemd units of kubeadm and the clouds, Bottlerocket, kind, Talos, k3s, RKE2 and MicroK8s, whose kubelets are part of them.
    private static let usualKubeletCgroups = [
        "/system.slice/kubelet.service", "/runtime.slice/kubelet.service", "/kubelet.slice/kubelet.service", "/podruntime/kubelet",
        "/system.slice/k3s.service", "/system.slice/k3s-agent.service", "/system.slice/rke2-server.service", "/system.slice/rke2-agent.service",
        "/system.slice/snap.microk8s.daemon-kubelite.service",
    ]

    var pinDirectory: String { "/sys/fs/bpf/weft/\(nodeName)" }

    private static func absolute(_ path: String, _ option: String) throws(StartFault) -> String {
        guard !path.isEmpty else { throw .usage("\(option) is empty") }
        if path.hasPrefix("/") { return withoutTrailingSlash(path) }
        guard let directory = getcwd(nil, 0) else { throw .failed("cannot read the current directory: \(errorText(errno))") }
        defer { free(directory) }
        return withoutTrailingSlash(String(cString: directory) + "/" + path)
    }

    private static func withoutTrailingSlash(_ path: String) -> String {
        var path = path
        while path.utf8.count > 1, path.hasSuffix("/") { path.removeLast() }
        return path
    }

    private static func executablePath() -> String? {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(PATH_MAX)) { buffer in
            let count = readlink("/proc/self/exe", buffer.baseAddress!, buffer.count)
            guard count > 0, count < buffer.count else { return nil }
            return String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
    }

    /// min(cores, CPU quota rounded up, 8).
    static func workersByDefault() -> Int {
        let cores = max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        let quota = (readWhole("/sys/fs/cgroup/cpu.max", bytesMax: 256)).flatMap(quotaCores(cpuMax:)) ?? cores
        return min(cores, quota, Limits.workersByDefaultMax)
    }

    /// `cpu.max` is `<quota|max> <period>`; nil without a quota.
    static func quotaCores(cpuMax: String) -> Int? {
        let fields = cpuMax.split(whereSeparator: \.isWhitespace).compactMap { Int($0) }
        guard fields.count == 2, fields[0] > 0, fields[1] > 0 else { return nil }
        return max(1, (fields[0] + fields[1] - 1) / fields[1])
    }
}
