import Glibc

/// Weft's own v2 cgroups: one for each process. The hooks that recognise Weft's sockets attach to `node`'s only, so nothing else may ever live there.
struct CgroupTree {
    enum Room: String, CaseIterable { case node, agent, proxy }
    let root: String

    func path(_ room: Room) -> String { root + "/" + room.rawValue }

    /// Makes the rooms. Parents of `root` must exist, except its own last component.
    func make() throws(StartFault) {
        try makeOne(root)
        for room in Room.allCases { try makeOne(path(room)) }
    }

    private func makeOne(_ path: String) throws(StartFault) {
        if mkdir(path, 0o755) != 0 && errno != EEXIST {
            throw .failed("cannot make the cgroup \(path): \(errorText(errno)). Its parent must exist in the v2 hierarchy and be writable.")
        }
    }

    /// Moves this process into a room.
    func enter(_ room: Room) throws(StartFault) {
        let result = writeControl(path(room) + "/cgroup.procs", "0")
        if result != 0 { throw .failed("cannot enter the cgroup \(path(room)): \(errorText(result))") }
    }

    /// A descriptor through which a child enters a room before it gives up root.
    func entrance(_ room: Room) -> Int32 { open(path(room) + "/cgroup.procs", O_WRONLY | O_CLOEXEC) }

    /// Removes the rooms and the root when they are empty. A cgroup stays busy for a moment after its last process: tried for up to half a second.
    func remove() {
        for path in Room.allCases.map(path) + [root] {
            for _ in 0..<50 where rmdir(path) != 0 && errno == EBUSY { usleep(10_000) }
        }
    }

    /// Pids in all rooms.
    func processes() -> [Int32] {
        Room.allCases.flatMap { room in
            (readWhole(path(room) + "/cgroup.procs", bytesMax: 1 << 20) ?? "").split(separator: "\n").compactMap { Int32($0) }
        }
    }

    /// The path below the v2 mount of the cgroup this process is in now.
    static func ownPath(procSelfCgroup: String) -> String? {
        for line in procSelfCgroup.split(separator: "\n") where line.hasPrefix("0::") { return String(line.dropFirst(3)) }
        return nil
    }
}
