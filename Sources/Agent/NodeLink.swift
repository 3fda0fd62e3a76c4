import ControlChannel
import Glibc

/// What node tells the agent.
enum NodeMessage: Sendable, Equatable {
    case hello(AgentHello)
    case pod(PodState)
    case process(ProcessState)
    /// Node keeps the generation and passed it on.
    case accepted(generation: UInt64)
    case applied(generation: UInt64)
    case refused(generation: UInt64, reason: String)
    /// The proxy has made a key, whose public half shall be certified.
    case identityRequested(IdentityRequested)
    /// A certificate that node held before this agent came.
    case identityFound(IdentityIssued)
    case identityState(IdentityState)
    /// A message could not be sent or understood; the socket goes on.
    case fault(ControlFault)

    /// Nil for a kind that is not for the agent; its descriptors are closed.
    init?(_ message: ControlMessage) throws(ControlFault) {
        switch message.kind {
        case .agentHello: self = .hello(try AgentHello(message))
        case .podState: self = .pod(try PodState(message))
        case .processState: self = .process(try ProcessState(message))
        case .snapshotAccepted: self = .accepted(generation: try SnapshotAccepted(message).generation)
        case .snapshotApplied: self = .applied(generation: try SnapshotApplied(message).generation)
        case .snapshotRefused:
            let refusal = try SnapshotRefused(message)
            self = .refused(generation: refusal.generation, reason: refusal.reason)
        case .identityRequested:
            let request = try IdentityRequested(message)
            request.closeDescriptors()
            self = .identityRequested(request)
        case .identityIssued:
            let issued = try IdentityIssued(message)
            issued.closeDescriptors()
            self = .identityFound(issued)
        case .identityState: self = .identityState(try IdentityState(message))
        default:
            var unwanted = message
            unwanted.closeDescriptors()
            return nil
        }
    }
}

/// A message on its way to node, with the descriptors that end with it.
struct Outgoing: Sendable {
    let message: ControlMessage

    /// The link closes the message's descriptors once they are sent, or when it ends before.
    init(_ payload: some ControlPayload) { message = payload.message() }

    func closeDescriptors() { for descriptor in message.descriptors { close(descriptor) } }
}

/// The agent's end of the control socket. One thread owns the socket and sleeps in `poll`; nobody else ever waits for
/// node: messages to it queue here, messages from it arrive in `messages`, which ends when node is gone.
final class NodeLink: Sendable {
    let messages: AsyncStream<NodeMessage>
    private let shared: SharedOutbox

    /// Takes over the descriptor.
    init(adopting descriptor: Int32) throws(LinkError) {
        let flags = fcntl(descriptor, F_GETFL)
        guard flags >= 0, fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) == 0, fcntl(descriptor, F_SETFD, FD_CLOEXEC) == 0 else {
            throw LinkError(call: "fcntl", code: errno)
        }
        var ends: [Int32] = [0, 0]
        guard pipe(&ends) == 0 else { throw LinkError(call: "pipe", code: errno) }
        for end in ends {
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
        }
        shared = SharedOutbox(wake: ends[1])
        let (messages, continuation) = AsyncStream.makeStream(of: NodeMessage.self)
        self.messages = messages
        let loop = LinkLoop(descriptor: descriptor, wake: ends[0], shared: shared, continuation: continuation)
        var thread = pthread_t()
        let context = Unmanaged.passRetained(loop)
        let code = pthread_create(&thread, nil, { context in
            Unmanaged<LinkLoop>.fromOpaque(context!).takeRetainedValue().run()
            return nil
        }, context.toOpaque())
        guard code == 0 else {
            context.release()
            throw LinkError(call: "pthread_create", code: code)
        }
        pthread_detach(thread)
    }

    deinit { shared.finish() }

    /// Queues messages in order; never waits. After node is gone they are dropped.
    func send(_ messages: [Outgoing]) { shared.add(messages) }
}

/// The control descriptor is not usable.
public struct LinkError: Error, CustomStringConvertible {
    public let call: String
    public let code: Int32
    public var description: String {
        "the control socket to weft node is not usable: \(call): \(String(cString: strerror(code))); weft agent is started by weft node, not by hand"
    }
}

/// The thread of a NodeLink.
private final class LinkLoop {
    private let wake: Int32
    private let descriptor: Int32
    private let shared: SharedOutbox
    private let continuation: AsyncStream<NodeMessage>.Continuation

    init(descriptor: Int32, wake: Int32, shared: SharedOutbox, continuation: AsyncStream<NodeMessage>.Continuation) {
        (self.descriptor, self.wake, self.shared, self.continuation) = (descriptor, wake, shared, continuation)
    }

    func run() {
        var socket = ControlSocket(adopting: descriptor)
        var waiting: [Outgoing] = []
        var position = 0
        while !socket.isClosed {
            guard shared.drain(into: &waiting) else { break }
            let isBlocked = send(waiting, from: &position, over: &socket)
            if position == waiting.count { (waiting, position) = ([], 0) }

            var descriptors = [
                pollfd(fd: descriptor, events: Int16(POLLIN) | (isBlocked ? Int16(POLLOUT) : 0), revents: 0),
                pollfd(fd: wake, events: Int16(POLLIN), revents: 0),
            ]
            // A full queue of descriptors in flight (ETOOMANYREFS) does not show in poll: look again soon.
            if poll(&descriptors, 2, isBlocked ? 20 : -1) < 0 && errno != EINTR { break }
            if descriptors[1].revents != 0 { shared.quiet(wake) }
            if descriptors[0].revents != 0 { receive(&socket) }
        }
        for outgoing in waiting[position...] { outgoing.closeDescriptors() }
        shared.close()
        close(wake)
        continuation.finish()
    }

    /// Sends what the socket takes; true when it takes no more for now.
    private func send(_ waiting: [Outgoing], from position: inout Int, over socket: inout ControlSocket) -> Bool {
        while position < waiting.count {
            do throws(ControlFault) {
                try socket.send(waiting[position].message)
            } catch {
                switch error {
                case .wouldBlock, .system(errno: ETOOMANYREFS): return true
                case .closed: return false
                default: continuation.yield(.fault(error))  // this message cannot be sent; the next one may
                }
            }
            waiting[position].closeDescriptors()
            position += 1
        }
        return false
    }

    private func receive(_ socket: inout ControlSocket) {
        while true {
            do throws(ControlFault) {
                guard let message = try socket.receive() else { return }
                if let known = try NodeMessage(message) { continuation.yield(known) }
            } catch {
                if error == .closed { return }
                continuation.yield(.fault(error))
                if case .system = error { return }
            }
        }
    }
}
