import Glibc

/// The bytes of every manifest of a directory at one moment.
public struct DirectoryReading: Sendable, Equatable {
    /// What came of reading one manifest.
    public enum File: Sendable, Equatable {
        case bytes([UInt8])
        /// There, but not readable; the text says why.
        case unreadable(String)
    }

    /// By name relative to the directory.
    public var files: [String: File] = [:]
    /// Why the directory itself could not be read; `files` is then empty and says nothing.
    public var failure: String?
    /// Subdirectories, which are not read.
    public var subdirectories: [String] = []

    public init(files: [String: File] = [:], failure: String? = nil) {
        self.files = files
        self.failure = failure
    }
}

/// Reads the manifests of a directory: `*.yaml`, `*.yml`, `*.json`, symbolic links followed, hidden files and
/// subdirectories not (as `kubectl apply -f DIR` does, and as a mounted ConfigMap needs).
enum ManifestDirectory {
    static func isManifest(_ name: String) -> Bool {
        !name.hasPrefix(".") && [".yaml", ".yml", ".json"].contains { name.hasSuffix($0) }
    }

    static func read(_ path: String) -> DirectoryReading {
        var reading = DirectoryReading()
        guard let directory = opendir(path) else {
            reading.failure = describe(errno)
            return reading
        }
        defer { closedir(directory) }
        errno = 0
        while let entry = Glibc.readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { tuple in
                tuple.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name.hasPrefix(".") { continue }
            let file = "\(path)/\(name)"
            if isManifest(name) {
                guard reading.files.count < DiscoveryLimits.filesMax else {
                    reading.failure = "holds more than \(DiscoveryLimits.filesMax) manifests"
                    return reading
                }
                reading.files[name] = readFile(file)
            } else if entry.pointee.d_type == UInt8(DT_DIR) {
                reading.subdirectories.append(name)
            }
            errno = 0
        }
        if errno != 0 { reading.failure = describe(errno) }
        reading.subdirectories.sort()
        return reading
    }

    /// Nil when the file went away between being listed and being opened.
    static func readFile(_ path: String) -> DirectoryReading.File? {
        // O_NONBLOCK: opening a FIFO must not hang the watcher.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            let reason = errno
            var status = stat()
            if reason == ENOENT, lstat(path, &status) != 0 { return nil }
            return .unreadable(reason == ENOENT ? "the symbolic link leads nowhere" : describe(reason))
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return .unreadable(describe(errno)) }
        guard status.st_mode & S_IFMT == S_IFREG else { return .unreadable("it is not a regular file") }

        // One byte more than allowed, so that ManifestFile can tell that it is too large.
        let most = DiscoveryLimits.fileBytesMax + 1
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 * 1024)
        while bytes.count < most {
            let count = Glibc.read(descriptor, &chunk, min(chunk.count, most - bytes.count))
            if count < 0 && errno == EINTR { continue }
            if count < 0 { return .unreadable(describe(errno)) }
            if count == 0 { break }
            bytes += chunk[..<count]
        }
        return .bytes(bytes)
    }

    static func describe(_ code: Int32) -> String { String(cString: strerror(code)) }
}
