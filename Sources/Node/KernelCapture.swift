import Capture
import CLinux
import ControlChannel
import Glibc

/// The hooks in the kernel, as the supervisor sees them.
final class KernelCapture: PodCapturing {
    private let capture: Capture
    /// `BPF_FS_MAGIC` of statfs(2).
    private static let bpfFilesystem = 0xcafe_4a11
    private static let bpfMount = "/sys/fs/bpf"

    init(_ configuration: NodeConfiguration) throws(StartFault) {
        guard access(configuration.bpfObject, R_OK) == 0 else {
            throw .failed("no BPF object at \(configuration.bpfObject): build it with `make`, or name it with --bpf-object")
        }
        try Self.mountBPF()
        if mkdir(Self.bpfMount + "/weft", 0o700) != 0 && errno != EEXIST {
            throw .failed("cannot make \(Self.bpfMount)/weft: \(errorText(errno))")
        }
        do throws(CaptureError) {
            capture = try Capture(CaptureConfiguration(
                objectPath: configuration.bpfObject, pinDirectory: configuration.pinDirectory, podsCgroup: configuration.podsCgroup,
                weftNodeCgroup: configuration.weftCgroup + "/node", kubeletCgroup: configuration.kubeletCgroup,
                hostNamespaceCookie: try Self.hostNamespaceCookie(), workers: configuration.workers))
        } catch {
            if case .lacking(let what) = error { throw .lacking(what) }
            throw .failed("the hooks could not be loaded: \(error.description)")
        }
    }

    /// Node runs in the host's namespace, as the kubelet does.
    private static func hostNamespaceCookie() throws(CaptureError) -> UInt64 {
        let socket = clinux_stock_socket(false, 0)
        guard socket >= 0 else { throw .failed(step: "cannot make a socket", errorNumber: -socket) }
        defer { clinux_close(socket) }
        var cookie: UInt64 = 0
        let result = clinux_namespace_cookie(socket, &cookie)
        guard result == 0 else { throw .failed(step: "SO_NETNS_COOKIE", errorNumber: -result) }
        return cookie
    }

    /// Pins live in bpffs: it is what keeps the hooks when node is gone.
    private static func mountBPF() throws(StartFault) {
        var filesystem = statfs()
        if statfs(bpfMount, &filesystem) == 0, Int(filesystem.f_type) == bpfFilesystem { return }
        guard mount("bpf", bpfMount, "bpf", UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC), "mode=0700") == 0 else {
            throw .lacking("bpffs is not mounted and cannot be: \(errorText(errno)). Run: mount -t bpf bpf \(bpfMount)")
        }
    }

    var heartbeat: Int32 { capture.heartbeat }
    var heartbeatReadOnly: Int32 { capture.heartbeatReadOnly }
    var verdicts: Int32 { capture.verdicts }
    var verdictNames: [String] { Capture.verdictNames }
    func adoptedCookies() -> [UInt64] { capture.adoptedNamespaceCookies() }

    func enrol(_ wish: PodEnrol, pod: UInt32, cookie: UInt64, namespace: Int32, listeners: PodListeners) throws(CaptureRefusal) {
        var pod = PodCapture(
            pod: pod, namespaceCookie: cookie, namespaceFD: namespace,
            ipv4: wish.addresses.lazy.compactMap(\.ipv4).first, ipv6: wish.addresses.first { $0.ipv4 == nil }?.bytes)
        pod.outbound = wish.flags.contains(.outbound)
        pod.inbound = wish.flags.contains(.inbound)
        pod.failClosed = wish.flags.contains(.failClosed)
        pod.isStrict = wish.flags.contains(.strict)
        pod.cgroup = wish.cgroupPath
        pod.probePorts = wish.probePorts
        pod.udpExceptionPorts = wish.udpExceptionPorts
        pod.excludedOutboundPorts = wish.excludedOutboundPorts
        pod.excludedInboundPorts = wish.excludedInboundPorts
        pod.excludedOutboundPrefixes = wish.excludedOutboundPrefixes.map { PodCapture.Prefix(address: $0.address.bytes, bits: Int($0.length)) }
        pod.outboundListener4 = listeners.outbound4
        pod.outboundListener6 = listeners.outbound6
        pod.inboundListener4 = listeners.inbound4
        pod.inboundListener6 = listeners.inbound6
        do throws(CaptureError) { try capture.enrol(pod) } catch { throw CaptureRefusal(reason: error.description) }
    }

    func unenrol(cookie: UInt64) throws(CaptureRefusal) {
        do throws(CaptureError) { try capture.unenrol(namespaceCookie: cookie) } catch { throw CaptureRefusal(reason: error.description) }
    }

    /// In doubt it is: a pod that stays closed is noticed, one that is open is not.
    func isStrict(cookie: UInt64) -> Bool { (try? capture.isStrict(namespaceCookie: cookie)) ?? true }

    func followKubelet() throws(CaptureRefusal) {
        do throws(CaptureError) { try capture.followKubelet() } catch { throw CaptureRefusal(reason: error.description) }
    }

    func detachAll() throws(CaptureRefusal) {
        do throws(CaptureError) { try capture.detach() } catch { throw CaptureRefusal(reason: error.description) }
    }

    static func cleanUp(_ configuration: NodeConfiguration) throws(StartFault) {
        do throws(CaptureError) { try Capture.cleanup(pinDirectory: configuration.pinDirectory) } catch { throw .failed(error.description) }
    }
}
