import ControlChannel
import EventLoop
import MeshModel
import MutualTLS
import Telemetry

/// A connection that one worker accepted and another shall serve.
struct HandedOver: Sendable {
    var descriptor: Int32
    var podNumber: UInt32
    var listener: (isInbound: Bool, readsSocketName: Bool, isIPv6: Bool)
    var peer: IPAddress
}

/// What the control thread and the other workers tell a worker.
enum WorkerMessage: Sendable {
    case podAdded(number: UInt32, slot: PodSlot?, addresses: [IPAddress])
    case podRemoved(number: UInt32)
    /// `descriptor` is this worker's own duplicate.
    case listener(descriptor: Int32, podNumber: UInt32, isInbound: Bool, readsSocketName: Bool, isIPv6: Bool)
    case handedOver(HandedOver)
    /// New tables are current: go and enter them, even if idle.
    case tablesPublished
    case identity(IdentityLetter)
    case probe(HealthProbe)
    /// Counted once for this worker.
    case revocations(RevocationList)
    /// Peers are judged by other roots now; the identities' letters follow.
    case rootsChanged
    case drain(until: Nanoseconds)
}
