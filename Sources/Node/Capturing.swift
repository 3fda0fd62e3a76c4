import Capture
import ControlChannel

/// What node asks of the hooks. Module Capture answers it; tests answer it themselves.
protocol PodCapturing: AnyObject {
    /// The heartbeat map, for the proxy to write.
    var heartbeat: Int32 { get }
    /// The same map, for readers only.
    var heartbeatReadOnly: Int32 { get }
    /// The verdict counters, for readers only.
    var verdicts: Int32 { get }
    var verdictNames: [String] { get }
    /// Captures a pod, or changes how.
    func enrol(_ wish: PodEnrol, pod: UInt32, cookie: UInt64, namespace: Int32, listeners: PodListeners) throws(CaptureRefusal)
    func unenrol(cookie: UInt64) throws(CaptureRefusal)
    /// Whether this namespace is closed to whatever does not come through the proxy.
    func isStrict(cookie: UInt64) -> Bool
    /// Looks whether the kubelet has a new cgroup.
    func followKubelet() throws(CaptureRefusal)
    /// What a previous node left.
    func adoptedCookies() -> [UInt64]
    func detachAll() throws(CaptureRefusal)
}

/// A text from the hooks' side.
struct CaptureRefusal: Error, Equatable { let reason: String }
