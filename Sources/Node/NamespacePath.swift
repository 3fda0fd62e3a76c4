import CLinux
import Glibc

/// Why a pod is not enrolled, in words for `weft status`.
struct PodRefusal: Error, Equatable {
    let reason: String
    /// Trying again may help without a new wish of the agent: the namespace may appear, a port may become free.
    let mayPass: Bool
}

/// A pod's network namespace, open, and known not to be the host's.
/// Shared by the pod and by jobs under way; the namespace lives at least as long.
final class NamespaceFile {
    let descriptor: Int32
    /// Device and inode of the namespace: its identity while anybody holds it open.
    let identity: NamespaceIdentity

    init(adopting descriptor: Int32, identity: NamespaceIdentity) { self.descriptor = descriptor; self.identity = identity }
    deinit { clinux_close(descriptor) }
}

struct NamespaceIdentity: Hashable {
    let device: UInt64, inode: UInt64

    init(device: UInt64, inode: UInt64) { self.device = device; self.inode = inode }
    init(_ status: stat) { device = UInt64(status.st_dev); inode = UInt64(status.st_ino) }

    /// Of the file a path names now; nil when there is none.
    init?(path: String) {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        self.init(status)
    }
}

/// Opens namespaces by name, below one directory only.
struct NamespaceRoot {
    /// Path of the directory that holds the namespaces, e.g. /run/netns.
    let root: String
    /// The namespace node itself is in.
    let host: NamespaceIdentity
    /// `NSFS_MAGIC` of statfs(2): the file is a namespace and not something that merely has its name.
    private static let namespaceFilesystem = 0x6e73_6673

    /// Syntax alone: absolute, below the root, no empty, `.` or `..` component.
    static func isBelow(_ path: String, root: String) -> Bool {
        guard path.hasPrefix("/"), !path.utf8.contains(0) else { return false }
        let components = path.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
        guard !components.contains(where: { $0.isEmpty || $0 == "." || $0 == ".." }) else { return false }
        let rootComponents = root.split(separator: "/")
        return components.count > rootComponents.count && components.starts(with: rootComponents)
    }

    /// Opens the namespace. The agent's word is not trusted: outside the root, a symbolic link, not a namespace, or the host's own are refused.
    func open(_ path: String) throws(PodRefusal) -> NamespaceFile {
        guard Self.isBelow(path, root: root) else {
            throw PodRefusal(reason: "network namespace \(path) is not below \(root)", mayPass: false)
        }
        let number = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard number >= 0 else {
            throw PodRefusal(reason: "cannot open the network namespace \(path): \(errorText(errno))", mayPass: errno == ENOENT)
        }
        var status = stat(), filesystem = statfs()
        guard fstat(number, &status) == 0, fstatfs(number, &filesystem) == 0, Int(filesystem.f_type) == Self.namespaceFilesystem else {
            // `ip netns add` makes the file first and mounts the namespace on it a moment later.
            clinux_close(number)
            throw PodRefusal(reason: "\(path) is not a namespace", mayPass: true)
        }
        let file = NamespaceFile(adopting: number, identity: NamespaceIdentity(status))
        guard file.identity != host else { throw PodRefusal(reason: "\(path) is the host's own network namespace", mayPass: false) }
        return file
    }
}
