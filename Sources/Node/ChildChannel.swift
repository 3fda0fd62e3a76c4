import CLinux
import ControlChannel
import Glibc

/// A control socket to a child, with what the child has not taken yet.
///
/// Node never waits for a child: what does not fit into the socket waits here, and a child that leaves too much waiting is ended by the owner.
final class ChildChannel {
    private var socket: ControlSocket
    /// In order. Each holds duplicates of its descriptors, because their owner may close them meanwhile.
    private var waiting: [ControlMessage] = []
    /// The child has left more waiting than `Limits.outboxPacketsMax`, or a descriptor could not be kept: it must be ended.
    private(set) var isOverrun = false
    /// Pipes handed out over it in the current second.
    let pipes = StockBudget(perSecond: Limits.pipesPerWorkerAndSecondMax)
    /// The other side is gone.
    var isClosed: Bool { socket.isClosed }
    var descriptor: Int32 { socket.descriptor }
    var hasWaiting: Bool { !waiting.isEmpty }

    /// Takes over a non-blocking descriptor.
    init(adopting descriptor: Int32) { socket = ControlSocket(adopting: descriptor) }

    deinit { for index in waiting.indices { waiting[index].closeDescriptors() } }

    /// Sends now, or as soon as there is room. The caller keeps its descriptors.
    func send(_ payload: some ControlPayload) {
        guard !isOverrun, !isClosed else { return }
        let message = payload.message()
        if waiting.isEmpty, attempt(message) { return }
        guard !isClosed else { return }
        guard waiting.count < Limits.outboxPacketsMax, let kept = duplicated(message) else { isOverrun = true; return }
        waiting.append(kept)
    }

    /// Sends now or not at all: for answers that are worth nothing later. False when there was no room.
    func sendNow(_ payload: some ControlPayload) -> Bool { waiting.isEmpty && attempt(payload.message()) }

    /// Sends what waits, as far as there is room.
    func flush() {
        var sent = 0
        while sent < waiting.count, attempt(waiting[sent]) {
            waiting[sent].closeDescriptors()
            sent += 1
        }
        waiting.removeFirst(sent)
    }

    /// The next message, or nil.
    func receive() throws(ControlFault) -> ControlMessage? { try socket.receive() }

    /// True when the packet left, or never can (the child is gone, or it is not a packet): then nothing is left to do for it.
    private func attempt(_ message: ControlMessage) -> Bool {
        do throws(ControlFault) {
            try socket.send(message)
            return true
        } catch {
            switch error {
            // ETOOMANYREFS: too many descriptors are under way to readers that do not read.
            case .wouldBlock, .system(errno: ETOOMANYREFS), .system(errno: ENOBUFS): return false
            case .closed: return true
            default:
                Log.error("a control packet could not be sent", ("kind", "\(message.rawKind)"), ("fault", "\(error)"))
                return true
            }
        }
    }

    private func duplicated(_ message: ControlMessage) -> ControlMessage? {
        var copy = message
        copy.descriptors = []
        for descriptor in message.descriptors {
            let duplicate = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
            guard duplicate >= 0 else { copy.closeDescriptors(); return nil }
            copy.descriptors.append(duplicate)
        }
        return copy
    }
}
