internal import CLinux
import Glibc

/// A directory of the cgroup v2 hierarchy, opened for attaching programs there.
struct CgroupPlace: ~Copyable {
    let descriptor: Descriptor
    let identity: UInt64

    init(_ path: String) throws(CaptureError) {
        let opened = try Descriptor(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "cannot open the cgroup \(path)")
        var status = stat(), system = statfs()
        guard fstat(opened.number, &status) == 0, fstatfs(opened.number, &system) == 0 else {
            throw .failed(step: "cannot look at the cgroup \(path)", errorNumber: errno)
        }
        // CGROUP2_SUPER_MAGIC of <linux/magic.h>.
        guard UInt32(truncatingIfNeeded: system.f_type) == 0x6367_7270 else {
            throw .lacking("\(path) is not in a cgroup v2 hierarchy, where alone programs can be attached: mount -t cgroup2 none /sys/fs/cgroup/unified.")
        }
        descriptor = opened
        identity = UInt64(status.st_ino)
    }
}
