import Agent
import ArgumentParser

struct AgentCommand: ConcurrentCommand {
    static let configuration = CommandConfiguration(
        commandName: "agent",
        abstract: "The control plane of one node (started by weft node).",
        discussion: "Reads the configuration, publishes snapshots, serves metrics. Needs no privileges, and the control socket that weft node hands it.")

    @Option(help: ArgumentHelp("Inherited socket to weft node.", valueName: "descriptor"))
    var controlFd: Int32 = 3

    @Option(help: "This node's name, as in Pod.spec.nodeName.")
    var nodeName: String

    @Option(help: ArgumentHelp("Directory of Kubernetes manifests (YAML or JSON), watched.", valueName: "directory"))
    var manifests: String

    @Option(help: ArgumentHelp("Weft's directory for sockets and state.", valueName: "directory"))
    var stateDir = "/run/weft"

    @Option(help: ArgumentHelp("Where /metrics, /healthz and /readyz are served.", valueName: "address:port"))
    var metricsAddress: ListenAddress = ListenAddress(host: "0.0.0.0", port: 15020)

    @Option(help: ArgumentHelp("Where the node's root file system is seen.", valueName: "directory"))
    var hostRoot = "/"

    @Option(help: ArgumentHelp("Directory for what must survive a reboot; the agent owns agent/ in it.", valueName: "directory"))
    var dataDir = "/var/lib/weft"

    @OptionGroup(title: "Identities")
    var identities: IdentityOptions

    func run() async throws {
        try await Agent.run(
            AgentConfiguration(
                controlDescriptor: controlFd, nodeName: nodeName, manifests: manifests, stateDirectory: stateDir,
                metricsAddress: metricsAddress, hostRoot: hostRoot, identities: identities.configuration(dataDirectory: dataDir)))
    }
}

extension ListenAddress: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }
    public var defaultValueDescription: String { description }
}
