import Glibc
import Synchronization

/// Where other threads leave messages for the link's thread.
final class SharedOutbox: Sendable {
    private struct State {
        var messages: [Outgoing] = []
        /// The writing end of the wake pipe; nil once the thread is gone.
        var wake: Int32?
        var isFinished = false
    }
    private let state: Mutex<State>

    init(wake: Int32) { state = Mutex(State(wake: wake)) }

    func add(_ messages: [Outgoing]) {
        let isTaken = state.withLock { state in
            guard let wake = state.wake else { return false }
            state.messages += messages
            Self.ring(wake)
            return true
        }
        if !isTaken { for message in messages { message.closeDescriptors() } }
    }

    /// Moves what was left here; false when nobody will send any more.
    func drain(into waiting: inout [Outgoing]) -> Bool {
        let (messages, isFinished) = state.withLock { state in
            defer { state.messages = [] }
            return (state.messages, state.isFinished)
        }
        waiting += messages
        return !isFinished
    }

    /// The owner is gone: the thread shall end.
    func finish() {
        state.withLock { state in
            state.isFinished = true
            if let wake = state.wake { Self.ring(wake) }
        }
    }

    /// The thread is gone: what comes now is dropped.
    func close() {
        let dropped = state.withLock { state in
            if let wake = state.wake { Glibc.close(wake) }
            state.wake = nil
            defer { state.messages = [] }
            return state.messages
        }
        for message in dropped { message.closeDescriptors() }
    }

    /// Empties the wake pipe.
    func quiet(_ wake: Int32) {
        var bytes = [UInt8](repeating: 0, count: 256)
        while read(wake, &bytes, bytes.count) == bytes.count {}
    }

    /// A full pipe wakes too, so a refused byte is no loss.
    private static func ring(_ wake: Int32) {
        var byte: UInt8 = 1
        _ = write(wake, &byte, 1)
    }
}
