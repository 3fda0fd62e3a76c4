import Glibc

/// A file descriptor with one owner.
struct Descriptor: ~Copyable {
    let number: Int32

    init(adopting number: Int32) { self.number = number }

    deinit { if number >= 0 { close(number) } }

    /// What a call returned: a descriptor, or a failure told by a negative number or by -1 and errno.
    init(_ result: Int32, _ step: @autoclosure () -> String) throws(CaptureError) {
        guard result >= 0 else { throw .failed(step: step(), errorNumber: errno) }
        number = result
    }
}
