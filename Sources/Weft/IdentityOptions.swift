import Agent
import ArgumentParser
import Glibc

/// Where a node's identities come from. `weft node` takes these options for the agent that it starts.
struct IdentityOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Trust domain: the first part of every identity, spiffe://<domain>/ns/…/sa/….", valueName: "domain"))
    var trustDomain = "cluster.local"
    @Option(help: ArgumentHelp("Lifetime of a workload's certificate in seconds, where this node issues them itself.", valueName: "seconds"))
    var certificateLifetime = 86_400
    @Option(help: ArgumentHelp("The controller that issues this node's certificates (default: the node issues them itself).", valueName: "https://host:port"))
    var controller: String?
    @Option(help: ArgumentHelp("File with the token that lets this node join its controller, once.", valueName: "file"))
    var joinTokenFile: String?
    @Option(help: ArgumentHelp("File with a Kubernetes token for the audience weft, which proves this node to its controller.", valueName: "file"))
    var kubernetesTokenFile: String?
    @Option(help: ArgumentHelp("File with the controller's root certificates (PEM), needed with --kubernetes-token-file.", valueName: "file"))
    var controllerRootsFile: String?
    @Option(help: ArgumentHelp("Directory of certificates that something else issues and renews: <dir>/<namespace>/<service-account>/tls.crt and tls.key.", valueName: "dir"))
    var identityFiles: String?

    @Option(help: ArgumentHelp("File of certificate revocation lists (PEM), read again when it changes.", valueName: "file"))
    var crlFile: String?

    func validate() throws {
        guard (1...31_536_000).contains(certificateLifetime) else { throw ValidationError("--certificate-lifetime is 1 to 31536000 seconds") }
        if identityFiles != nil, controller != nil { throw ValidationError("identities come from --identity-files or from --controller, not from both") }
        if controller == nil, joinTokenFile != nil || kubernetesTokenFile != nil { throw ValidationError("a token needs the --controller that it is for") }
        if let controller, !controller.hasPrefix("https://") { throw ValidationError("--controller begins with https://") }
        if kubernetesTokenFile != nil, controllerRootsFile == nil { throw ValidationError("--kubernetes-token-file needs --controller-roots-file") }
    }

    /// The same options as a command line; paths absolute, for the agent's current directory is another's choice.
    var arguments: [String] {
        var arguments = ["--trust-domain", trustDomain, "--certificate-lifetime", "\(certificateLifetime)"]
        if let controller { arguments += ["--controller", controller] }
        let paths = [
            ("--join-token-file", joinTokenFile), ("--kubernetes-token-file", kubernetesTokenFile), ("--controller-roots-file", controllerRootsFile),
            ("--identity-files", identityFiles), ("--crl-file", crlFile),
        ]
        for (option, path) in paths { if let path { arguments += [option, Self.absolute(path)] } }
        return arguments
    }

    /// - Parameter dataDirectory: the directory that node made for the agent.
    func configuration(dataDirectory: String) -> IdentityConfiguration {
        let source: IdentityConfiguration.Source =
            if let identityFiles {
                .files(directory: identityFiles)
            } else if let controller {
                .controller(
                    ControllerAddress(
                        url: controller, joinTokenFile: joinTokenFile, kubernetesTokenFile: kubernetesTokenFile, rootsFile: controllerRootsFile))
            } else {
                .embedded(certificateLifetimeSeconds: certificateLifetime)
            }
        return IdentityConfiguration(trustDomain: trustDomain, dataDirectory: dataDirectory, source: source, revocationFile: crlFile)
    }

    private static func absolute(_ path: String) -> String {
        guard !path.hasPrefix("/"), let directory = getcwd(nil, 0) else { return path }
        defer { free(directory) }
        return String(cString: directory) + "/" + path
    }
}
