import CLinux
import Glibc

/// A descriptor with one owner.
struct Descriptor: ~Copyable {
    let number: Int32
    init(adopting number: Int32) { self.number = number }
    deinit { close(number) }
}

/// A file's text; nil when it cannot be read or is larger than `bytesMax`.
func readWhole(_ path: String, bytesMax: Int) -> String? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 64 * 1024)
    while true {
        let count = read(descriptor, &chunk, chunk.count)
        if count < 0 && errno == EINTR { continue }
        guard count >= 0 else { return nil }
        if count == 0 { return String(decoding: bytes, as: UTF8.self) }
        guard bytes.count + count <= bytesMax else { return nil }
        bytes += chunk[..<count]
    }
}

/// Writes a small file of /proc, /sys or a cgroup with one write; 0 or an errno.
func writeControl(_ path: String, _ text: String) -> Int32 {
    let descriptor = open(path, O_WRONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return errno }
    defer { close(descriptor) }
    var text = text
    return text.withUTF8 { write(descriptor, $0.baseAddress, $0.count) == $0.count } ? 0 : errno
}

/// Makes one directory below an existing one; an existing directory is fine.
func makeDirectory(_ path: String, mode: mode_t, owner: uid_t = 0) throws(StartFault) {
    if mkdir(path, mode) != 0 && errno != EEXIST { throw .failed("cannot make \(path): \(errorText(errno))") }
    var status = stat()
    guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else { throw .failed("\(path) is not a directory") }
    // After the fact as well: an older node may have left other bits, and umask cuts mkdir's.
    guard chmod(path, mode) == 0, chown(path, owner, owner) == 0 else { throw .failed("cannot set owner and mode of \(path): \(errorText(errno))") }
}

/// Milliseconds of the monotonic clock.
func monotonicMilliseconds() -> UInt64 { clinux_monotonic_nanoseconds() / 1_000_000 }
