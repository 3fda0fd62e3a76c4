import CLinux

/// A capability, by its kernel number.
struct Capability: Hashable {
    let number: Int
    let name: String

    /// What node keeps, each with the call that needs it. Nothing else, and no child gets any.
    static let kept: [Capability] = [
        Capability(number: CLINUX_CAP_BPF, name: "CAP_BPF"),                             // load programs, make maps (Capture)
        Capability(number: CLINUX_CAP_PERFMON, name: "CAP_PERFMON"),                     // programs that read kernel records
        Capability(number: CLINUX_CAP_NET_ADMIN, name: "CAP_NET_ADMIN"),                 // cgroup and namespace hooks, rules, transparent sockets
        Capability(number: CLINUX_CAP_SYS_ADMIN, name: "CAP_SYS_ADMIN"),                 // setns; bpffs
        Capability(number: CLINUX_CAP_SYS_PTRACE, name: "CAP_SYS_PTRACE"),               // /proc/PID/ns of other users' processes
        Capability(number: CLINUX_CAP_SETUID, name: "CAP_SETUID"),                       // start children as their own users
        Capability(number: CLINUX_CAP_SETGID, name: "CAP_SETGID"),
        Capability(number: CLINUX_CAP_SETPCAP, name: "CAP_SETPCAP"),                     // empty the bounding set of children
        Capability(number: CLINUX_CAP_KILL, name: "CAP_KILL"),                           // end them although they are other users
        Capability(number: CLINUX_CAP_DAC_READ_SEARCH, name: "CAP_DAC_READ_SEARCH"),     // open namespaces below directories of others
    ]

    /// `kept` as the kernel's bit set.
    static var keptBits: UInt64 { kept.reduce(0) { $0 | 1 << UInt64($1.number) } }
    /// Names of the capabilities in a bit set of `kept`.
    static func names(of bits: UInt64) -> [String] { kept.filter { bits >> UInt64($0.number) & 1 == 1 }.map(\.name) }
}

/// Gives up everything but `Capability.kept`. Capabilities belong to threads: call before the second one is made.
func reducePrivileges() throws(StartFault) {
    var missing: UInt64 = 0
    let result = clinux_reduce_capabilities(Capability.keptBits, &missing)
    if result == 0 { return }
    if missing != 0 {
        let names = Capability.names(of: missing).joined(separator: ", ")
        throw .lacking("weft node lacks \(names): run it as root with these capabilities (in a container: securityContext.capabilities.add)")
    }
    throw .failed("cannot reduce capabilities: \(errorText(-result))")
}
