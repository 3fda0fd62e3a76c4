import CLinux
import Discovery
import Foundation
import Identity
import Logging
import ServiceLifecycle

/// `weft agent`: reads the configuration, publishes snapshots to node, has pods enrolled, and shows what is going on.
/// Has no privileges, and holds no traffic: when it is gone, node and proxy go on with what they have.
public enum Agent {
    /// Runs until node closes the control socket or a signal asks for the end.
    public static func run(_ configuration: AgentConfiguration) async throws {
        let hidden = clinux_keep_memory_private()
        guard hidden == 0 else { throw LinkError(call: "prctl(PR_SET_DUMPABLE)", code: -hidden) }
        LoggingSystem.bootstrap { _ in LineLog(component: "agent") }
        let logger = Logger(label: "agent")
        try prepareDirectory(configuration)

        let link = try NodeLink(adopting: configuration.controlDescriptor)
        let watch = try DirectoryWatch(configuration.manifests)
        let plane = ControlPlane(configuration, logger: logger) { link.send($0) }
        let desk = try IdentityDesk(configuration.identities, door: try door(configuration.identities, nodeName: configuration.nodeName), logger: logger) { link.send($0) }
        let revocations = RevocationDesk(file: configuration.identities.revocationFile, logger: logger) { link.send($0) }
        let admin = AdminServer(plane: plane, desk: desk, signals: SignalSource(hostRoot: configuration.hostRoot), logger: logger)

        var group = ServiceGroupConfiguration(
            services: [
                .init(
                    service: admin.service(at: .unixDomainSocket(path: configuration.adminSocket), called: configuration.adminSocket, isPrivate: true)),
                .init(
                    service: admin.service(
                        at: .hostname(configuration.metricsAddress.host, port: configuration.metricsAddress.port),
                        called: configuration.metricsAddress.description, isPrivate: false)),
                .init(service: ManifestService(watch: watch, plane: plane, desk: desk, revocations: revocations)),
                .init(service: DecisionService(plane: plane)),
                .init(service: IdentityService(desk: desk)),
                .init(service: RevocationService(desk: revocations)),
                // Node's end is the agent's end: a new node starts a new agent.
                .init(service: NodeService(link: link, plane: plane, desk: desk, logger: logger), successTerminationBehavior: .gracefullyShutdownGroup),
            ],
            gracefulShutdownSignals: [.sigterm, .sigint], logger: quiet(logger))
        // A scraper in mid-page may finish; one that stalls does not keep the agent, which node kills after three seconds.
        group.maximumGracefulShutdownDuration = .seconds(1)
        do {
            try await ServiceGroup(configuration: group).run()
        } catch is CancellationError {
            logger.info("ended without waiting for open connections")
        }
    }

    /// The directory is node's to make and the agent's to own; made here too, so that an agent can be run by itself.
    private static func prepareDirectory(_ configuration: AgentConfiguration) throws {
        try FileManager.default.createDirectory(atPath: configuration.agentDirectory, withIntermediateDirectories: true)
        // The socket shows the configuration: for root and the agent's group, not for everyone on the machine.
        umask(0o117)
    }

    /// Who signs for this node's pods. Nil: somebody else does, into files.
    private static func door(_ configuration: IdentityConfiguration, nodeName: String) throws -> (any IdentityDoor)? {
        let now = IdentityDesk.wallClock
        switch configuration.source {
        case .files: return nil
        case .controller(let address):
            return try ControllerDoor(address, nodeName: nodeName, trustDomain: configuration.trustDomain, directory: configuration.agentDirectory, now: now)
        case .embedded(let lifetime):
            return EmbeddedDoor(
                directory: configuration.agentDirectory,
                settings: CertificateAuthority.Settings(trustDomain: configuration.trustDomain, workloadLifetimeSeconds: Int64(lifetime)), now: now)
        }
    }

    private static func quiet(_ logger: Logger) -> Logger {
        var logger = logger
        logger.logLevel = .error
        return logger
    }
}

/// Brings the manifests to the control plane, one complete reading at a time.
struct ManifestService: Service {
    let watch: DirectoryWatch
    let plane: ControlPlane
    let desk: IdentityDesk
    let revocations: RevocationDesk

    func run() async throws {
        for await reading in watch.readings.cancelOnGracefulShutdown() {
            await plane.take(reading)
            if let identities = await plane.identities { await desk.want(identities) }
            if let list = await plane.revocations { await revocations.take(list) }
        }
    }
}

/// Has the control plane look at the proxy's decisions about protocols now and then.
struct DecisionService: Service {
    let plane: ControlPlane

    func run() async throws {
        await cancelWhenGracefulShutdown {
            while (try? await Task.sleep(for: .seconds(AgentLimits.decisionsReadSeconds))) != nil { await plane.readDecisions() }
        }
    }
}

/// Brings node's messages to the control plane; ends when node does.
struct NodeService: Service {
    let link: NodeLink
    let plane: ControlPlane
    let desk: IdentityDesk
    let logger: Logger

    func run() async throws {
        for await message in link.messages.cancelOnGracefulShutdown() {
            await plane.take(message)
            await desk.take(message)
        }
        logger.info("the control socket to node has ended")
    }
}
