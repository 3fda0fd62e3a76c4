import Foundation
import Glibc

/// A directory for its owner alone (0700), whose files are for their owner alone (0600) and change as a whole or not at all.
public struct SecretDirectory: Sendable {
    public let path: String

    /// A step that the file system refused.
    public struct Fault: Error, CustomStringConvertible {
        let step: String
        let path: String
        let code: Int32
        public var description: String { "\(step) \(path): \(String(cString: strerror(code)))" }
    }

    /// Makes it below an existing directory; an existing one must belong to this process's user, or this process is root.
    public init(making path: String) throws {
        self.path = path
        if mkdir(path, 0o700) != 0, errno != EEXIST { throw Fault(step: "cannot make", path: path, code: errno) }
        try Self.giveToOwner(of: (path as NSString).deletingLastPathComponent, path)
        guard chmod(path, 0o700) == 0 || errno == EPERM else { throw Fault(step: "cannot set the mode of", path: path, code: errno) }
    }

    /// An existing one.
    init(at path: String) { self.path = path }

    /// The file's bytes; nil when there is none.
    public func read(_ name: String) throws -> [UInt8]? {
        let file = "\(path)/\(name)"
        let descriptor = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor >= 0 else {
            if errno == ENOENT { return nil }
            throw Fault(step: "cannot open", path: file, code: errno)
        }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16 * 1024)
        while true {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw Fault(step: "cannot read", path: file, code: errno) }
            if count == 0 { return bytes }
            bytes += chunk[..<count]
        }
    }

    /// Written beside, synced, renamed over the old one: after a power cut there is the old file or the new.
    public func write(_ name: String, _ bytes: [UInt8]) throws {
        let file = "\(path)/\(name)"
        let fresh = "\(file).\(getpid()).new"
        let descriptor = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw Fault(step: "cannot make", path: fresh, code: errno) }
        var failed = fchmod(descriptor, 0o600) != 0
        var offset = 0
        while !failed, offset < bytes.count {
            let count = bytes[offset...].withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno != EINTR { failed = true }
            offset += max(0, count)
        }
        failed = failed || fsync(descriptor) != 0
        let code = errno
        close(descriptor)
        guard !failed else {
            unlink(fresh)
            throw Fault(step: "cannot write", path: fresh, code: code)
        }
        try Self.giveToOwner(of: path, fresh)
        guard rename(fresh, file) == 0 else { throw Fault(step: "cannot replace", path: file, code: errno) }
        sync()
    }

    public func write(_ name: String, _ text: String) throws { try write(name, Array(text.utf8)) }

    /// Makes renames in it last.
    func sync() {
        let directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { return }
        fsync(directory)
        close(directory)
    }

    /// What root makes in a directory of somebody else is that somebody's: `weft controller token` may be run by root for a service that is not.
    static func giveToOwner(of parent: String, _ path: String) throws {
        var status = stat()
        guard geteuid() == 0, stat(parent, &status) == 0, status.st_uid != 0 else { return }
        guard lchown(path, status.st_uid, status.st_gid) == 0 else { throw Fault(step: "cannot give away", path: path, code: errno) }
    }
}

/// Holds a lock file while it lives: processes that change one directory take turns.
struct DirectoryLock: ~Copyable {
    private let descriptor: Int32

    init(_ directory: SecretDirectory) throws {
        let path = "\(directory.path)/lock"
        descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw SecretDirectory.Fault(step: "cannot open", path: path, code: errno) }
        try? SecretDirectory.giveToOwner(of: directory.path, path)
        while flock(descriptor, LOCK_EX) != 0 {
            let code = errno
            if code == EINTR { continue }
            close(descriptor)
            throw SecretDirectory.Fault(step: "cannot lock", path: path, code: code)
        }
    }

    deinit { close(descriptor) }
}
