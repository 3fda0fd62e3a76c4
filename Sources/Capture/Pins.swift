internal import CLibBPF
internal import CLinux
import Glibc

/// The pin directory: `maps/NAME`, `links/PROGRAM`, `links/namespace-COOKIE` for each enrolled pod, and `links/egress-COOKIE` for each
/// strict one.
///
/// What is pinned lives on without this process. A pin is the only record of a link: nothing has to be remembered between a node and its successor.
struct Pins {
    let root: String
    private let claim = Claim()

    init(root: String) { self.root = root }

    var maps: String { root + "/maps" }
    var links: String { root + "/links" }

    func map(_ name: String) -> String { maps + "/" + name }
    func link(_ program: String) -> String { links + "/" + program }

    private static let namespacePrefix = "namespace-", egressPrefix = "egress-"
    /// The pod's program in its namespace.
    func link(namespaceCookie: UInt64) -> String { links + "/" + Self.namespacePrefix + String(namespaceCookie, radix: 16) }
    /// A strict pod's program on its cgroup.
    func egressLink(namespaceCookie: UInt64) -> String { links + "/" + Self.egressPrefix + String(namespaceCookie, radix: 16) }

    /// Makes the directories; refuses a place where nothing can be pinned.
    func make() throws(CaptureError) {
        for path in [root, maps, links] where mkdir(path, 0o700) != 0 && errno != EEXIST {
            throw .failed(step: "cannot make \(path)", errorNumber: errno)
        }
        try claim.take(root)
        var status = statfs()
        guard statfs(root, &status) == 0 else { throw .failed(step: "cannot look at \(root)", errorNumber: errno) }
        // BPF_FS_MAGIC of <linux/magic.h>.
        guard UInt32(truncatingIfNeeded: status.f_type) == 0xcafe_4a11 else {
            for path in [links, maps, root] { rmdir(path) }
            throw .lacking("\(root) is not in a BPF file system, so hooks would not survive a restart: mount -t bpf bpf /sys/fs/bpf.")
        }
    }

    /// Whether no node left anything here.
    var isEmpty: Bool { Self.names(in: links).isEmpty && Self.names(in: maps).isEmpty }

    /// Namespaces for which a link is pinned.
    func namespaceCookies() -> [UInt64] {
        Self.names(in: links).compactMap { name in
            let prefix = [Self.namespacePrefix, Self.egressPrefix].first { name.hasPrefix($0) }
            return prefix.flatMap { UInt64(name.dropFirst($0.count), radix: 16) }
        }
    }

    /// Names of the maps that are pinned.
    var mapNames: [String] { Self.names(in: maps) }

    /// Detaches a pinned link and forgets it. A link whose cgroup or namespace is gone has nothing left to detach.
    func removeLink(_ path: String) throws(CaptureError) {
        let link = Descriptor(adopting: bpf_obj_get(path))
        if link.number < 0 {
            if errno == ENOENT { return }
            throw .failed(step: "cannot open the link at \(path)", errorNumber: errno)
        }
        bpf_link_detach(link.number)
        guard unlink(path) == 0 || errno == ENOENT else { throw .failed(step: "cannot remove \(path)", errorNumber: errno) }
    }

    /// Detaches and removes everything. Connect hooks go first: until the rest is gone too, new connections are plain ones.
    func removeAll() throws(CaptureError) {
        guard access(root, F_OK) == 0 else { return }
        try claim.take(root)
        let connectFirst = Self.names(in: links).sorted { $0.contains("connect") && !$1.contains("connect") }
        for name in connectFirst { try removeLink(link(name)) }
        for name in Self.names(in: maps) {
            guard unlink(map(name)) == 0 || errno == ENOENT else { throw .failed(step: "cannot remove \(map(name))", errorNumber: errno) }
        }
        for path in [links, maps, root] {
            guard rmdir(path) == 0 || errno == ENOENT else { throw .failed(step: "cannot remove \(path)", errorNumber: errno) }
        }
    }

    private static func names(in directory: String) -> [String] {
        guard let stream = opendir(directory) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            if name != "." && name != ".." { names.append(name) }
        }
        return names
    }
}

/// That these pins are ours as long as we live: two nodes of one name would take each other's hooks away. The lock ends with the process, however it ends.
private final class Claim {
    private var descriptor: Int32 = -1

    deinit { if descriptor >= 0 { close(descriptor) } }

    func take(_ root: String) throws(CaptureError) {
        guard descriptor < 0 else { return }
        let opened = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard opened >= 0 else { throw .failed(step: "cannot open \(root)", errorNumber: errno) }
        guard flock(opened, LOCK_EX | LOCK_NB) == 0 else {
            let number = errno
            close(opened)
            throw .failed(step: "another weft node of this name runs, and holds \(root)", errorNumber: number)
        }
        // Its last holder may have removed it between our opening and locking it.
        var held = stat(), there = stat()
        guard fstat(opened, &held) == 0, stat(root, &there) == 0, held.st_ino == there.st_ino else {
            close(opened)
            throw .failed(step: "another weft node is just removing \(root)", errorNumber: EAGAIN)
        }
        descriptor = opened
    }
}
