import CLinux
import Glibc

/// What the machine must have. Each check says which thing is missing and what to do.
enum Requirements {
    /// The oldest kernel on which the hooks load (SO_NETNS_COOKIE and sk_lookup 5.14/5.9, bpf_set_retval 5.18, tested from 6.1).
    static let kernelMin = (major: 6, minor: 1)

    /// Checks everything; returns the mount point of the v2 cgroup hierarchy.
    static func check() throws(StartFault) -> String {
        guard geteuid() == 0 else { throw .lacking("weft node needs root: it loads BPF programs and enters pods' network namespaces. Run it with sudo.") }
        var name = utsname()
        uname(&name)
        let release = withUnsafeBytes(of: &name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        try checkKernel(release: release)
        guard access("/sys/kernel/btf/vmlinux", R_OK) == 0 else {
            throw .lacking("this kernel has no type information at /sys/kernel/btf/vmlinux: use a kernel built with CONFIG_DEBUG_INFO_BTF=y (Debian's and Ubuntu's are).")
        }
        guard let mounts = readWhole("/proc/self/mountinfo", bytesMax: 4 << 20), let mount = cgroup2Mount(mountinfo: mounts) else {
            throw .lacking("no cgroup v2 hierarchy is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified, or boot with systemd.unified_cgroup_hierarchy=1.")
        }
        return mount
    }

    static func checkKernel(release: String) throws(StartFault) {
        let numbers = release.split(whereSeparator: { !$0.isNumber }).prefix(2).compactMap { Int($0) }
        guard numbers.count == 2, (numbers[0], numbers[1]) >= (kernelMin.major, kernelMin.minor) else {
            throw .lacking("kernel \(release) is too old: Weft needs \(kernelMin.major).\(kernelMin.minor) or later.")
        }
    }

    /// Finds the first cgroup2 mount in the text of /proc/self/mountinfo (proc(5): mount point is field 5, the type follows ` - `).
    static func cgroup2Mount(mountinfo: String) -> String? {
        for line in mountinfo.split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard let dash = fields.firstIndex(of: "-"), fields.count > dash + 1, dash > 4, fields[dash + 1] == "cgroup2" else { continue }
            return unescapedMountPoint(fields[4])
        }
        return nil
    }

    /// Mount points write space, tab, newline and backslash as three octal digits.
    static func unescapedMountPoint(_ text: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            let digits = rest.prefix(3)
            if byte == UInt8(ascii: "\\"), digits.count == 3, let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 8) {
                bytes.append(value)
                rest = rest.dropFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
