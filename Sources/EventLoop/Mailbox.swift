import CLinux
import Glibc
import Synchronization

/// Messages to a worker from the control thread and from other workers: many writers, one reader, no lock.
///
/// Letters form a stack that writers push onto with one compare-and-swap; the reader takes the whole stack with one exchange and turns it
/// round, so letters of one writer arrive in order. The eventfd is written only by whoever found the box empty.
public final class Mailbox<Message: Sendable>: Sendable {
    private struct Letter {
        let message: Message
        var next: UnsafeMutablePointer<Letter>?
    }

    /// Address of the newest letter, or 0.
    private let top = Atomic<UInt>(0)
    /// Becomes readable when a letter lies in the empty box.
    public let bell: Int32

    public init() {
        bell = eventfd(0, Int32(EFD_NONBLOCK | EFD_CLOEXEC))
        precondition(bell >= 0, "no descriptor for a mailbox")
    }

    /// Leaves a letter; from any thread. Allocates: for hand-overs and configuration, not for requests.
    public func post(_ message: Message) {
        let letter = UnsafeMutablePointer<Letter>.allocate(capacity: 1)
        letter.initialize(to: Letter(message: message, next: nil))
        var seen = top.load(ordering: .relaxed)
        while true {
            letter.pointee.next = UnsafeMutablePointer(bitPattern: seen)
            let (done, now) = top.weakCompareExchange(expected: seen, desired: UInt(bitPattern: letter), successOrdering: .acquiringAndReleasing, failureOrdering: .relaxed)
            if done { break }
            seen = now
        }
        if seen == 0 {
            var one: UInt64 = 1
            _ = write(bell, &one, 8)    // cannot fail in a way that matters: the counter would have to overflow
        }
    }

    /// Takes everything that has arrived, oldest first. Called by the owner only.
    public func collect(_ body: (Message) -> Void) {
        var count: UInt64 = 0
        _ = read(bell, &count, 8)
        var stack = UnsafeMutablePointer<Letter>(bitPattern: top.exchange(0, ordering: .acquiringAndReleasing))
        var ordered: UnsafeMutablePointer<Letter>?
        while let letter = stack {
            stack = letter.pointee.next
            letter.pointee.next = ordered
            ordered = letter
        }
        while let letter = ordered {
            ordered = letter.pointee.next
            body(letter.move().message)
            letter.deallocate()
        }
    }

    deinit {
        collect { _ in }
        close(bell)
    }
}
