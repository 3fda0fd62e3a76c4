import Agent
import ArgumentParser
import Glibc
import Node

/// `weft node`: the privileged supervisor. Synchronous, and run before any task or queue exists: the process must not have a thread
/// that somebody else might use after a `setns`.
struct NodeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "node",
        abstract: "Run Weft on this node: capture pods, start and supervise the agent and the proxy.",
        discussion: """
            Needs root, a cgroup v2 hierarchy, and a kernel of 6.1 or later with BTF. Keeps only the capabilities it uses. \
            Stops cleanly on SIGTERM and SIGINT: nothing of Weft is left in the kernel, in pods or in cgroups, \
            but the hooks of strict pods, which stay closed until the next node serves them (or --cleanup opens them).
            """)

    @Option(help: ArgumentHelp("Directory of Kubernetes YAML that is watched for configuration.", valueName: "dir"))
    var manifests: String = "/etc/weft/manifests"
    @Option(help: ArgumentHelp("Name of this node; pods with this spec.nodeName are captured.", valueName: "name"))
    var nodeName: String
    @Option(help: ArgumentHelp("Directory for sockets and state.", valueName: "dir"))
    var stateDir: String = "/run/weft"
    @Option(help: ArgumentHelp(
        "Parent of the pods' cgroups in the v2 hierarchy (default: kubepods.slice or kubepods, else the root).", valueName: "path"))
    var podsCgroup: String?
    @Option(help: ArgumentHelp("Weft's own v2 cgroup (default: weft below the v2 mount).", valueName: "path"))
    var weftCgroup: String?
    @Option(help: ArgumentHelp(
        "The kubelet's v2 cgroup: its probes reach strict pods (default: where distributions put it).", valueName: "path"))
    var kubeletCgroup: String?
    @Option(help: ArgumentHelp("Workers of the proxy (default: cores, at most the CPU quota and 8).", valueName: "count"))
    var workers: Int?
    @Option(help: ArgumentHelp("Where metrics and health are served.", valueName: "address:port"))
    var metricsAddress = ListenAddress(host: "0.0.0.0", port: 15020)
    @Option(help: ArgumentHelp("The proxy's executable (default: weft-proxy beside this one).", valueName: "path"))
    var proxy: String?
    @Option(help: ArgumentHelp("The compiled hooks (default: capture.bpf.o beside this executable).", valueName: "path"))
    var bpfObject: String?
    @Option(help: ArgumentHelp("Directory that holds the pods' network namespaces.", valueName: "dir"))
    var namespacesRoot: String = "/run/netns"
    @Option(help: ArgumentHelp(
        "Directory for what must survive a reboot: keys and certificates (default: /var/lib/weft; below another --state-dir, its data/).",
        valueName: "dir"))
    var dataDir: String?
    @OptionGroup(title: "Identities")
    var identities: IdentityOptions
    @Flag(help: "Remove what a killed node left, and exit.")
    var cleanup = false

    func run() throws {
        do throws(StartFault) {
            let configuration = try NodeConfiguration(
                manifests: manifests, nodeName: nodeName, stateDirectory: stateDir, podsCgroup: podsCgroup, weftCgroup: weftCgroup,
                kubeletCgroup: kubeletCgroup, workers: workers, metricsAddress: metricsAddress.description, proxyPath: proxy, bpfObject: bpfObject,
                namespacesRoot: namespacesRoot, dataDirectory: dataDir, agentOptions: identities.arguments)
            if cleanup { try NodeProcess.cleanUp(configuration) } else { try NodeProcess.run(configuration) }
        } catch {
            "weft node: \(error.message)\n".withCString { _ = write(2, $0, strlen($0)) }
            throw ExitCode(error.exitCode)
        }
    }
}
