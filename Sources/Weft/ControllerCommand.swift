import Agent
import ArgumentParser
import CLinux
import Controller
import Discovery
import Foundation
import Identity
import Logging

struct ControllerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "controller",
        abstract: "The certificate authority of several nodes.",
        discussion: """
            Gives each node the identities of the pods that the manifests put on it, and of no others. A node joins with a token that is good once: \
            weft controller token --node NAME, and then weft node --controller https://HOST:15012 --join-token-file FILE on that node.
            """,
        subcommands: [RunCommand.self, TokenCommand.self, RevokeNodeCommand.self, RotateRootCommand.self], defaultSubcommand: RunCommand.self)

    struct RunCommand: ConcurrentCommand {
        static let configuration = CommandConfiguration(commandName: "run", abstract: "Run the authority (what weft controller does by itself).")

        @Option(help: ArgumentHelp("Directory of Kubernetes manifests (YAML or JSON), watched.", valueName: "dir"))
        var manifests = "/etc/weft/manifests"
        @Option(help: ArgumentHelp("Directory of the authority's keys, tokens and audit log.", valueName: "dir"))
        var data = "/var/lib/weft/controller"
        @Option(help: ArgumentHelp("Where nodes ask, over HTTPS.", valueName: "address:port"))
        var listen = ListenAddress(host: "0.0.0.0", port: 15012)
        @Option(help: ArgumentHelp("Where /metrics, /healthz and /readyz are served.", valueName: "address:port"))
        var metricsAddress = ListenAddress(host: "0.0.0.0", port: 15013)
        @Option(help: ArgumentHelp("Trust domain: the first part of every identity.", valueName: "domain"))
        var trustDomain = "cluster.local"
        @Option(help: ArgumentHelp("Lifetime of a workload's certificate.", valueName: "seconds"))
        var certificateLifetime = AuthorityLimits.workloadLifetimeSeconds
        @Option(help: ArgumentHelp("Lifetime of a node's certificate. A node that was off for longer must join again.", valueName: "seconds"))
        var nodeCertificateLifetime = AuthorityLimits.nodeLifetimeSeconds
        @Option(help: ArgumentHelp("How long a new root is in the trust bundle before it signs (default: the lifetime of a workload's certificate).", valueName: "seconds"))
        var rootOverlap: Int64?
        @Option(help: ArgumentHelp("API server that reviews the tokens of nodes (default: none; nodes join by token).", valueName: "url"))
        var kubernetesApi: String?
        @Option(help: ArgumentHelp("The controller's own token for the API server.", valueName: "file"))
        var kubernetesTokenFile = "/var/run/secrets/kubernetes.io/serviceaccount/token"
        @Option(help: ArgumentHelp("Roots of the API server (PEM).", valueName: "file"))
        var kubernetesRootsFile: String?
        @Option(help: ArgumentHelp("Service account that Weft's node pods run as.", valueName: "namespace/name"))
        var agentServiceAccount = "weft-system/weft-node"

        func validate() throws {
            for (option, seconds) in [("--certificate-lifetime", certificateLifetime), ("--node-certificate-lifetime", nodeCertificateLifetime), ("--root-overlap", rootOverlap ?? 1)] {
                guard (1...31_536_000).contains(seconds) else { throw ValidationError("\(option) is 1 to 31536000 seconds") }
            }
            guard agentServiceAccount.split(separator: "/").count == 2 else { throw ValidationError("--agent-service-account is <namespace>/<name>") }
        }

        func run() async throws {
            // The authority's keys will be in memory.
            let hidden = clinux_keep_memory_private()
            guard hidden == 0 else { throw ValidationError("the memory that will hold the authority's keys cannot be kept from core files (errno \(-hidden))") }
            LoggingSystem.bootstrap { _ in LineLog(component: "controller") }
            let kubernetes = kubernetesApi.map {
                KubernetesAddress(url: $0, tokenFile: kubernetesTokenFile, rootsFile: kubernetesRootsFile, agentAccount: agentServiceAccount)
            }
            let settings = CertificateAuthority.Settings(
                trustDomain: trustDomain, workloadLifetimeSeconds: certificateLifetime, nodeLifetimeSeconds: nodeCertificateLifetime, overlapSeconds: rootOverlap)
            try await Controller.run(
                ControllerConfiguration(
                    manifests: manifests, dataDirectory: data, listen: (listen.host, listen.port), metrics: (metricsAddress.host, metricsAddress.port),
                    authority: settings, kubernetes: kubernetes), logger: Logger(label: "controller"))
        }
    }

    struct TokenCommand: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "token", abstract: "Make a token with which one node may join once, and print it.",
            discussion: "The token is a secret. Only a hash of it is kept.")

        @Option(help: "The node's name, as in weft node --node-name.")
        var node: String
        @Option(help: ArgumentHelp("The controller's data directory.", valueName: "dir"))
        var data = "/var/lib/weft/controller"
        @Option(help: ArgumentHelp("How long the token is good.", valueName: "seconds"))
        var lifetime = AuthorityLimits.tokenLifetimeSeconds

        func run() throws {
            let now = Int64(Date().timeIntervalSince1970)
            print(try ControllerData(data).makeToken(node: node, lifetimeSeconds: lifetime, at: now))
        }
    }

    struct RevokeNodeCommand: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "revoke-node", abstract: "Take back what a node was given: its certificate, and tokens made for it.",
            discussion: """
                The controller notices within a second and renews nothing for it any more. The certificates of its pods go on until they end: what is printed is an \
                AccessPolicy that revokes them at once. A token made afterwards lets the node join again.
                """)

        @Argument(help: "The node's name, as in weft node --node-name.")
        var node: String
        @Option(help: ArgumentHelp("The controller's data directory.", valueName: "dir"))
        var data = "/var/lib/weft/controller"

        func run() throws {
            let alive = try ControllerData(data).revoke(node: node, at: Int64(Date().timeIntervalSince1970))
            guard !alive.isEmpty else { return print("# No certificate of a pod of \(node) is alive.") }
            print("""
                apiVersion: weft.mesh/v1alpha1
                kind: AccessPolicy
                metadata: {name: revoked-\(node), namespace: weft-system}
                spec:
                  revoked:
                    serials:
                """)
            for each in alive { print("    - \"\(each.serial)\"     # \(each.identity)") }
        }
    }

    struct RotateRootCommand: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "rotate-root", abstract: "Begin to replace the root certificate.",
            discussion: """
                The new root enters the trust bundle now and signs after the overlap; the old one leaves when nothing it signed is alive. Whoever runs with this \
                directory, weft controller or an agent (its data directory's agent/), notices within a second.
                """)

        @Option(help: ArgumentHelp("The data directory.", valueName: "dir"))
        var data = "/var/lib/weft/controller"

        func run() throws {
            try CertificateAuthority.rotateRoot(directory: "\(data)/ca", now: Int64(Date().timeIntervalSince1970))
            print("A new root is announced; weft_ca_roots and the audit log tell how far the rotation is.")
        }
    }
}
