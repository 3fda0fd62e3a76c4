import CLinux
import Glibc
import Proxy

// weft-proxy --control-fd 3 --stock-fds 4,5,… [--limit name=value]…
// Started by `weft node` with its sockets in place. It opens nothing by itself.
//
// Node passes no `--limit`: it is for the proofs, which run the program that ships and cannot wait 300 s for a timeout. Whoever can
// write this command line is root already.

guard clinux_keep_memory_private() == 0 else {
    say("error", "cannot forbid core files", "errno=\(errno)")
    exit(1)
}

var controlDescriptor: Int32?
var stockDescriptors: [Int32] = []
var limits = ProxyLimits()

func usage(_ complaint: String) -> Never {
    say("error", complaint, "usage=\"weft-proxy --control-fd N --stock-fds N,N… [--limit name=value]…\"")
    exit(64)
}

var arguments = CommandLine.arguments.dropFirst()
while let option = arguments.popFirst() {
    guard let value = arguments.popFirst() else { usage("option without a value") }
    switch option {
    case "--control-fd":
        controlDescriptor = Int32(value)
    case "--stock-fds":
        stockDescriptors = value.split(separator: ",").compactMap { Int32($0) }
    case "--limit":
        let parts = value.split(separator: "=")
        guard parts.count == 2, let number = Int(parts[1]), limits.set(String(parts[0]), number) else { usage("unknown limit \(value)") }
    default:
        usage("unknown option \(option)")
    }
}
guard let controlDescriptor, !stockDescriptors.isEmpty else { usage("--control-fd and --stock-fds are needed") }

// A peer that goes away is an errno, not a signal.
signal(SIGPIPE, SIG_IGN)

do {
    var process = try ProxyProcess(control: controlDescriptor, stock: stockDescriptors, limits: limits)
    try process.start()
    try process.run()
    exit(0)
} catch ProxyFault.nodeGone {
    exit(0)
} catch {
    say("error", "proxy ends", "fault=\(error)")
    exit(1)
}
