import Glibc

/// Reads the small text files of procfs, whole, as one moment: procfs renders a file when it is read.
enum ProcFile {
    /// The largest of them, /proc/stat, has about 100 bytes per CPU and per interrupt.
    static let bytesMax = 1 << 20

    static func read(_ path: String) throws(ReadFailure) -> String {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw ReadFailure(errno) }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16 * 1024)
        while bytes.count < bytesMax {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            if count < 0 && errno == EINTR { continue }
            // A kernel without the feature may let the file be opened and refuse to read it (PSI: EOPNOTSUPP).
            if count < 0 { throw ReadFailure(errno) }
            if count == 0 { break }
            bytes += chunk[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    struct ReadFailure: Error {
        let reason: String
        init(_ code: Int32) { reason = String(cString: strerror(code)) }
    }
}
