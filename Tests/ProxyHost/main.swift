import Glibc

do {
    let options = try HostOptions(Array(CommandLine.arguments.dropFirst()))
    exit(try PlayedNode(options).run())
} catch let fault as HostOptions.UsageFault {
    say("weft-proxy-host: \(fault.message)\n\(HostOptions.usage)\n")
    exit(64)
} catch let fault as HostFault {
    say("weft-proxy-host: \(fault.message)\n")
    exit(1)
} catch {
    say("weft-proxy-host: \(error)\n")
    exit(1)
}
