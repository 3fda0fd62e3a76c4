internal import CLibBPF
internal import CLinux
internal import CaptureABI
import Glibc

/// The hooks that capture pods' connections: loads and attaches them, and says which pods are captured and how.
///
/// Everything it makes is pinned, so a node that is killed leaves the hooks in force (each pod's `failClosed` then decides), and the next
/// node finds them: maps are taken over with their contents, links keep their place and get this build's programs.
///
/// One thread owns it. Not `Sendable`.
public final class Capture {
    /// Port of the outbound listeners inside pods (127.0.0.1 and ::1).
    public static let outboundPort = UInt16(CAPTURE_OUTBOUND_PORT)
    /// Port of the transparent inbound listeners inside pods.
    public static let inboundPort = UInt16(CAPTURE_INBOUND_PORT)
    /// Slots of the heartbeat.
    public static let workersMax = CAPTURE_WORKERS_MAX
    /// Captured IPv6 connections are spread over this /64 (16 bytes, network order): `local` route to `lo` in every pod that is captured.
    public static let spreadPrefix6: [UInt8] = [CAPTURE_SPREAD_IPV6_WORD0, CAPTURE_SPREAD_IPV6_WORD1, 0, 0].flatMap { word in
        withUnsafeBytes(of: UInt32(word).bigEndian, Array.init)
    }
    /// A stamp older than this is no sign of life.
    public static let silentAfterMilliseconds = UInt64(CAPTURE_SILENT_AFTER_MILLISECONDS)
    /// Metric labels of the verdicts, in the order of their counters in ``verdicts``.
    public static let verdictNames: [String] = (0..<UInt32(CAPTURE_VERDICT_COUNT.rawValue)).map { String(cString: capture_verdict_name($0)) }

    private let pins: Pins
    private let image: [UInt8]
    private let workers: UInt32
    private let maps: CaptureMaps
    private let adopted: [UInt64]
    private let kubeletCgroup: String?
    private let hostNamespaceCookie: UInt64
    /// The kubelet's cgroup that is watched now.
    private var kubeletIdentity: UInt64?

    /// An mmapable array of u64, one slot for each worker, to stamp with CLOCK_MONOTONIC nanoseconds every 100 ms. The hooks take the proxy for gone
    /// when no worker's stamp is younger than 2 s. Belongs to this object; for the proxy.
    public var heartbeat: Int32 { maps.heartbeat.number }
    /// The same map through a descriptor that only reads. It cannot be mapped (Linux maps BPF maps shared only, and a read-only descriptor
    /// never shared): read all slots at once with BPF_MAP_LOOKUP_ELEM of key 0 (`clinux_bpf_read`), which needs no privilege.
    public var heartbeatReadOnly: Int32 { maps.heartbeatReader.number }
    /// An mmapable array of u64, one counter for each of ``verdictNames``. The map is frozen: programs count in it, processes can only
    /// read it (PROT_READ).
    public var verdicts: Int32 { maps.verdicts.number }

    /// Loads, attaches and pins the hooks, or takes over those a previous node left.
    public init(_ configuration: CaptureConfiguration) throws(CaptureError) {
        precondition((1...Self.workersMax).contains(configuration.workers), "the heartbeat has \(Self.workersMax) slots")
        workers = UInt32(configuration.workers)
        pins = Pins(root: configuration.pinDirectory)
        image = try Self.read(configuration.objectPath)
        guard geteuid() == 0 else {
            throw .lacking("loading BPF programs needs root (CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN): run weft node as root.")
        }
        try pins.make()
        maps = try Self.load(image, pins, configuration)
        kubeletCgroup = configuration.kubeletCgroup
        hostNamespaceCookie = configuration.hostNamespaceCookie
        adopted = Array(Set(try maps.pods.keys()).union(pins.namespaceCookies()))
        if kubeletCgroup == nil { try pins.removeLink(pins.link(Self.kubeletProgram)) }
        try followKubelet()
    }

    /// Namespaces that a previous node left enrolled, wholly or in part. Enrol them again (listeners die with their holder) or unenrol them.
    public func adoptedNamespaceCookies() -> [UInt64] { adopted }

    /// Captures a pod, or changes how it is captured. New sockets only: existing connections stay what they are.
    ///
    /// The pod's record goes last, so nothing is redirected before there is somebody to take it.
    public func enrol(_ pod: PodCapture) throws(CaptureError) {
        let cookie = pod.namespaceCookie
        try setListener(pod.outboundListener4, cookie, CAPTURE_DIRECTION_OUTBOUND, family: 4)
        try setListener(pod.outboundListener6, cookie, CAPTURE_DIRECTION_OUTBOUND, family: 6)
        try setListener(pod.inboundListener4, cookie, CAPTURE_DIRECTION_INBOUND, family: 4)
        try setListener(pod.inboundListener6, cookie, CAPTURE_DIRECTION_INBOUND, family: 6)
        try setLists(cookie, ports: ListedPort.all(of: pod), prefixes: Set(pod.excludedOutboundPrefixes))
        let record = capture_pod(pod)
        try setAddresses(cookie, record.addresses)
        try attachToNamespace(pod)
        try maps.pods.set(cookie, record)
        // Last, as it was first: a pod that ceases to be strict sends what it likes when everything else has changed.
        if !pod.isStrict { try pins.removeLink(pins.egressLink(namespaceCookie: cookie)) }
    }

    /// Ends a pod's capture and leaves nothing of it. The pod's record goes first; connections already on their way still find the listener.
    public func unenrol(namespaceCookie cookie: UInt64) throws(CaptureError) {
        try setAddresses(cookie, [])
        try maps.pods.remove(cookie)
        try pins.removeLink(pins.link(namespaceCookie: cookie))
        try pins.removeLink(pins.egressLink(namespaceCookie: cookie))
        for direction in [CAPTURE_DIRECTION_OUTBOUND, CAPTURE_DIRECTION_INBOUND] {
            for family: UInt32 in [4, 6] { try setListener(-1, cookie, direction, family: family) }
        }
        try setLists(cookie, ports: [], prefixes: [])
    }

    /// Watches the kubelet's cgroup when it is a new one: systemd makes it afresh whenever the kubelet starts. Cheap when nothing has changed.
    public func followKubelet() throws(CaptureError) {
        // While the kubelet is down there is nothing to watch.
        guard let kubeletCgroup, access(kubeletCgroup, F_OK) == 0 else { return }
        let place = try CgroupPlace(kubeletCgroup)
        guard place.identity != kubeletIdentity else { return }
        let object = try CaptureObject(opening: image, pins: pins)
        object.setConstants(capture_constants(network_namespace: hostNamespaceCookie, workers: workers, is_strict: 0))
        let programs = try object.load { $0 == Self.kubeletProgram }
        try programs.attach(Self.kubeletProgram, to: place, pinnedAt: pins.link(Self.kubeletProgram))
        kubeletIdentity = place.identity
    }

    /// Whether a pod is captured with `isStrict`, by this process or by a previous one.
    public func isStrict(namespaceCookie cookie: UInt64) throws(CaptureError) -> Bool {
        (try maps.pods.value(cookie)?.flags ?? 0) & UInt32(CAPTURE_POD_STRICT) != 0
    }

    /// Detaches and unpins everything. The object is of no use afterwards.
    public func detach() throws(CaptureError) { try pins.removeAll() }

    /// Detaches and unpins what a killed node left below `pinDirectory`; fine when there is nothing.
    public static func cleanup(pinDirectory: String) throws(CaptureError) { try Pins(root: pinDirectory).removeAll() }
}

extension Capture {
    /// Programs on the pods' cgroup. The last one hooked is the one that redirects: by then all others can do their part.
    private static let podPrograms = ["weft_sockops_pods", "weft_getpeername4", "weft_getpeername6", "weft_connect4", "weft_connect6"]
    /// Programs on the node's own cgroup.
    private static let nodePrograms = ["weft_sock_create", "weft_sockops_node", "weft_getsockopt"]
    /// The program on the kubelet's cgroup.
    private static let kubeletProgram = "weft_sockops_kubelet"
    /// The program in each pod's namespace.
    private static let namespaceProgram = "weft_sk_lookup"
    /// The program on each strict pod's cgroup.
    private static let egressProgram = "weft_egress"

    /// Brings the hooks into force. What fails half-way is undone, unless hooks of an earlier node were there: those go on as they are.
    private static func load(_ image: [UInt8], _ pins: Pins, _ configuration: CaptureConfiguration) throws(CaptureError) -> CaptureMaps {
        let isFirst = pins.isEmpty
        do throws(CaptureError) {
            let object = try CaptureObject(opening: image, pins: pins)
            if !object.fitsPinnedMaps(pins) {
                // An older build's records. Its captures cannot be continued, so they end here and these begin.
                try pins.removeAll()
                try pins.make()
            }
            object.setConstants(capture_constants(network_namespace: 0, workers: UInt32(configuration.workers), is_strict: 0))
            let wanted = nodePrograms + podPrograms
            let programs = try object.load { wanted.contains($0) }
            try attach(nodePrograms, of: programs, to: configuration.weftNodeCgroup, pins)
            try attach(podPrograms, of: programs, to: configuration.podsCgroup, pins)
            return try CaptureMaps.open(pins)
        } catch {
            if isFirst { try? pins.removeAll() }
            throw error
        }
    }

    private static func attach(_ names: [String], of programs: borrowing LoadedPrograms, to cgroup: String, _ pins: Pins) throws(CaptureError) {
        let target = try CgroupPlace(cgroup)
        for name in names { try programs.attach(name, to: target, pinnedAt: pins.link(name)) }
    }

    /// The programs that carry the pod's cookie. A strict pod's datagrams are judged before anything else of it changes.
    private func attachToNamespace(_ pod: PodCapture) throws(CaptureError) {
        var status = stat()
        guard fstat(pod.namespaceFD, &status) == 0 else { throw .failed(step: "cannot look at the pod's namespace", errorNumber: errno) }
        let identity = UInt32(truncatingIfNeeded: status.st_ino)
        let object = try CaptureObject(opening: image, pins: pins)
        object.setConstants(capture_constants(network_namespace: pod.namespaceCookie, workers: workers, is_strict: pod.isStrict ? 1 : 0))
        let programs = try object.load { $0 == Self.namespaceProgram || pod.isStrict && $0 == Self.egressProgram }
        if pod.isStrict {
            try programs.attach(Self.egressProgram, to: try CgroupPlace(pod.cgroup), pinnedAt: pins.egressLink(namespaceCookie: pod.namespaceCookie))
        }
        // A copy, since the caller keeps its own.
        let namespace = try Descriptor(fcntl(pod.namespaceFD, F_DUPFD_CLOEXEC, 0), "cannot hold the pod's namespace")
        try programs.attach(Self.namespaceProgram, to: namespace, pinnedAt: pins.link(namespaceCookie: pod.namespaceCookie)) {
            $0.netns.netns_ino == identity
        }
    }

    private func setListener(_ listener: Int32, _ cookie: UInt64, _ direction: capture_direction, family: UInt32) throws(CaptureError) {
        let key = capture_listener_key(network_namespace: cookie, direction: direction.rawValue, family: family)
        if listener >= 0 {
            try maps.listeners.set(key, UInt64(listener))
        } else {
            try maps.listeners.remove(key)
        }
    }

    /// The pod that has these addresses; those that it had before and has no more are nobody's.
    private func setAddresses(_ cookie: UInt64, _ addresses: Set<[UInt8]>) throws(CaptureError) {
        for address in addresses { try maps.addresses.set(capture_address(mapped: address), cookie) }
        guard let before = try maps.pods.value(cookie) else { return }
        for address in before.addresses.subtracting(addresses).map(capture_address.init(mapped:)) {
            // Another pod may have got it meanwhile.
            if try maps.addresses.value(address) == cookie { try maps.addresses.remove(address) }
        }
    }

    /// Brings the lists of one pod in line: new entries first, so that no port is captured for a moment that should not be.
    private func setLists(_ cookie: UInt64, ports: Set<ListedPort>, prefixes: Set<PodCapture.Prefix>) throws(CaptureError) {
        for port in ports { try maps.portLists.set(port.key(cookie), 1) }
        for key in try maps.portLists.keys() where key.network_namespace == cookie && !ports.contains(ListedPort(key)) {
            try maps.portLists.remove(key)
        }
        let wanted = prefixes.map { capture_prefix_key($0, cookie) }
        for key in wanted { try maps.excludedPrefixes.set(key, 1) }
        let kept = Set(wanted.map(\.prefix))
        for key in try maps.excludedPrefixes.keys() where key.namespaceCookie == cookie && !kept.contains(key.prefix) {
            try maps.excludedPrefixes.remove(key)
        }
    }

    private static func read(_ path: String) throws(CaptureError) -> [UInt8] {
        let file = Descriptor(adopting: open(path, O_RDONLY | O_CLOEXEC))
        var status = stat()
        guard file.number >= 0, fstat(file.number, &status) == 0 else {
            throw .lacking("cannot read the BPF object \(path) (\(String(cString: strerror(errno)))): make builds it beside the executables; or name it with --bpf-object.")
        }
        let bytes = [UInt8](unsafeUninitializedCapacity: Int(status.st_size)) { buffer, count in
            count = max(0, Glibc.read(file.number, buffer.baseAddress, buffer.count))
        }
        guard bytes.count == Int(status.st_size) else { throw .failed(step: "cannot read \(path)", errorNumber: errno) }
        return bytes
    }
}
