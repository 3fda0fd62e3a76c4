import Discovery
import Foundation
import Hummingbird
import Identity
import Logging
import NIOCore
import NIOPosix
import ServiceLifecycle

/// `weft controller`: the certificate authority of many nodes. Knows from the configuration which pod runs where, and gives each node the identities of its own pods.
public enum Controller {
    /// Runs until a signal asks for the end, or a listener cannot be opened.
    /// - Parameter isUp: told the port of the HTTPS listener.
    public static func run(_ configuration: ControllerConfiguration, logger: Logger, isUp: @escaping @Sendable (Int) -> Void = { _ in }) async throws {
        let now: @Sendable () -> Double = { Date().timeIntervalSince1970 }
        let data = try ControllerData(configuration.dataDirectory)
        let authority = try CertificateAuthority(directory: data.authority, settings: configuration.authority, now: Int64(now()))
        let own = try OwnCertificate(authority, at: now())
        let entitlements = Entitlements(trustDomain: configuration.authority.trustDomain)
        let kubernetes = try configuration.kubernetes.map { try KubernetesDoor($0) }
        let doors: [any NodeAuthenticator] = [JoinTokenDoor(tokens: data.tokens)] + (kubernetes.map { [$0] } ?? [])
        let server = ControllerServer(authority: authority, entitlements: entitlements, doors: doors, own: own, logger: logger, now: now)
        logger.info(
            "controller starts",
            metadata: ["trust_domain": "\(configuration.authority.trustDomain)", "data": "\(configuration.dataDirectory)", "roots": "\(authority.bundle.fingerprints.joined(separator: ","))"])

        var quiet = logger
        quiet.logLevel = .error
        let metrics = Application(
            router: ControllerMetrics.router(authority, entitlements),
            configuration: ApplicationConfiguration(
                address: .hostname(configuration.metrics.host, port: configuration.metrics.port), serverName: nil,
                availableConnectionsDelegate: .maximum(ControllerLimits.metricsConnectionsMax, logger: quiet)),
            eventLoopGroupProvider: .shared(MultiThreadedEventLoopGroup.singleton), logger: quiet)
        var group = ServiceGroupConfiguration(
            services: [
                .init(service: EntitlementService(watch: try DirectoryWatch(configuration.manifests), entitlements: entitlements, logger: logger)),
                .init(service: AuthorityService(authority: authority, own: own, logger: logger, now: now)),
                .init(service: try server.application(host: configuration.listen.host, port: configuration.listen.port, isUp: isUp)),
                .init(service: metrics),
            ],
            gracefulShutdownSignals: [.sigterm, .sigint], logger: quiet)
        group.maximumGracefulShutdownDuration = .seconds(1)
        do {
            try await ServiceGroup(configuration: group).run()
        } catch is CancellationError {
            logger.info("ended without waiting for open connections")
        }
        await kubernetes?.close()
        authority.audit.sync()
    }
}

/// A controller's data directory.
public struct ControllerData: Sendable {
    /// Where the authority is.
    public let authority: String
    public let tokens: JoinTokens

    /// Makes it when it is not there; its parent must be.
    public init(_ directory: String) throws {
        let place = try SecretDirectory(making: directory)
        authority = "\(place.path)/ca"
        tokens = try JoinTokens(directory: place.path)
    }

    /// A token for a node, written down in the audit log. The authority must exist: the token names its roots.
    public func makeToken(node: String, lifetimeSeconds: Int64, at now: Int64) throws -> String {
        let bundle = try CertificateAuthority.bundle(directory: authority)
        guard SPIFFEIdentity(trustDomain: bundle.trustDomain, node: node) != nil else { throw ControllerFault("“\(node)” is no node's name") }
        let token = try tokens.make(
            node: node, bundle: bundle, lifetimeSeconds: lifetimeSeconds, revokedAt: try CertificateAuthority.revocation(of: node, directory: authority), at: now)
        try CertificateAuthority.note(.init(at: now, .tokenMade, asker: "operator", detail: "for node \(node)"), directory: authority)
        return token
    }

    /// From now on what a node was given counts no more.
    /// - Returns: certificates of its pods that are alive.
    public func revoke(node: String, at now: Int64) throws -> [CertificateAuthority.Alive] {
        try CertificateAuthority.revoke(node: node, directory: authority, now: now)
    }
}

/// Why the controller cannot do what it was asked.
public struct ControllerFault: Error, CustomStringConvertible {
    public let description: String
    init(_ description: String) { self.description = description }
}

/// Moves rotations on, renews the controller's own certificate, brings the audit log to the disk.
struct AuthorityService: Service {
    let authority: CertificateAuthority
    let own: OwnCertificate
    let logger: Logger
    let now: @Sendable () -> Double

    func run() async throws {
        await cancelWhenGracefulShutdown {
            var lastFailure = ""
            repeat {
                do {
                    let generation = authority.bundle.generation
                    try authority.advance(at: Int64(now()))
                    try own.renew(at: now())
                    if authority.bundle.generation != generation {
                        logger.info("trust bundle", metadata: ["generation": "\(authority.bundle.generation)", "roots": "\(authority.bundle.fingerprints.joined(separator: ","))"])
                    }
                    lastFailure = ""
                } catch {
                    if "\(error)" != lastFailure { logger.error("the authority cannot go on", metadata: ["error": "\(error)"]) }
                    lastFailure = "\(error)"
                }
                authority.audit.sync()
            } while (try? await Task.sleep(for: .milliseconds(ControllerLimits.tickMilliseconds))) != nil
        }
    }
}
