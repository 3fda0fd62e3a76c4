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

/// Makes one directory below an existing one; an existing directory is fine. `group` may be another's: root without CAP_CHOWN cannot give a
/// directory away, but it can make it while wearing the group.
func makeDirectory(_ path: String, mode: mode_t, group: gid_t = 0) throws(StartFault) {
    if group != 0 { setegid(group) }
    let isMade = mkdir(path, mode) == 0
    let error = errno
    if group != 0 { setegid(0) }
    guard isMade || error == EEXIST else { throw .failed("cannot make \(path): \(errorText(error))") }
    var status = stat()
    guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else { throw .failed("\(path) is not a directory") }
    if status.st_uid != 0 || status.st_gid != group, chown(path, 0, group) != 0 {
        throw .failed("\(path) is there already and belongs to \(status.st_uid):\(status.st_gid) instead of 0:\(group): remove it")
    }
    // After the fact as well: an older node may have left other bits, and umask cuts mkdir's.
    guard chmod(path, mode) == 0 else { throw .failed("cannot set the mode of \(path): \(errorText(errno))") }
}

/// Milliseconds of the monotonic clock.
func monotonicMilliseconds() -> UInt64 { clinux_monotonic_nanoseconds() / 1_000_000 }
