import Foundation
import Hummingbird
import HummingbirdTLS
import Identity
import Logging
import NIOCore
import NIOPosix
import NIOSSL

/// The controller's HTTPS: see ControllerWire for what is asked and answered.
///
/// A node proves itself by its certificate in the TLS handshake. TLS proves there that the peer has the key; whether the certificate is one of ours, and whose,
/// is judged per question, so that a node whose certificate is of no use is told why.
struct ControllerServer: Sendable {
    let authority: CertificateAuthority
    let entitlements: Entitlements
    let doors: [any NodeAuthenticator]
    let own: OwnCertificate
    let logger: Logger
    /// Unix seconds.
    let now: @Sendable () -> Double
    private let nodeRates = RateLimits(burst: ControllerLimits.nodeBurst, perSecond: ControllerLimits.nodePerSecond)
    private let joinRates = RateLimits(burst: ControllerLimits.joinBurst, perSecond: ControllerLimits.joinPerSecond)
    /// Refusals for their rate are counted all and written down once a second: a flood must not fill the disk.
    private let floodLines = RateLimits(burst: 1, perSecond: 1)

    init(
        authority: CertificateAuthority, entitlements: Entitlements, doors: [any NodeAuthenticator], own: OwnCertificate, logger: Logger,
        now: @escaping @Sendable () -> Double
    ) {
        (self.authority, self.entitlements, self.doors, self.own, self.logger, self.now) = (authority, entitlements, doors, own, logger, now)
    }

    /// What a question's connection is.
    struct Context: RequestContext {
        var coreContext: CoreRequestContextStorage
        let channel: any Channel

        init(source: ApplicationRequestContextSource) {
            coreContext = .init(source: source)
            channel = source.channel
        }
    }

    /// A refusal on its way out.
    private struct Denial: Error {
        let reason: Refusal
        var asker = "unknown"
        var identity: String?
        var detail: String?
        /// The authority has written it down already.
        var isCounted = false
    }

    func router() -> Router<Context> {
        let router = Router(context: Context.self)
        router.get("v1/bundle") { _, _ in try Self.json(.ok, ControllerWire.BundleAnswer(bundle: authority.bundle, refreshSeconds: authority.refreshSeconds)) }
        router.post("v1/join") { request, _ in
            try await answer {
                guard joinRates.take("", at: now()) else { throw Denial(reason: .rateLimited, detail: "joining") }
                return try await join(read(request))
            }
        }
        router.post("v1/certificates") { request, context in
            try await answer {
                let node = try await self.node(at: context.channel)
                guard nodeRates.take(node, at: now()) else { throw Denial(reason: .rateLimited, asker: node) }
                return try certify(try await read(request, asker: node), for: node)
            }
        }
        return router
    }

    // MARK: Questions

    private func join(_ question: ControllerWire.JoinRequest) async throws -> ControllerWire.IssueAnswer {
        let asker = question.node
        guard let identity = SPIFFEIdentity(trustDomain: authority.settings.trustDomain, node: question.node), let der = Data(base64Encoded: question.request) else {
            throw Denial(reason: .malformedRequest, asker: asker)
        }
        guard let door = doors.first(where: { $0.concerns(question) }) else { throw Denial(reason: .kubernetesTokenRefused, asker: asker, detail: "no API server is configured") }
        let issued: CertificateAuthority.Issued
        do throws(Refusal) {
            try await door.check(question, revokedAt: authority.revocation(of: question.node), at: Int64(now()))
            // Before the token is spent: a request that gets nothing must not cost it.
            guard try SigningRequest(der: Array(der)).identity == identity else { throw .otherIdentity }
            try door.admit(question)
        } catch {
            throw Denial(reason: error, asker: asker, identity: identity.description, detail: question.id)
        }
        issued = try issue(Array(der), identity, asker: asker)
        try? authority.audit.append(.init(at: Int64(now()), .nodeJoined, asker: asker, identity: identity.description, serial: issued.serial, detail: question.id))
        logger.info("node joined", metadata: ["node": "\(asker)", "serial": "\(issued.serial)"])
        return ControllerWire.IssueAnswer(issued: issued, bundle: authority.bundle, refreshSeconds: authority.refreshSeconds)
    }

    private func certify(_ question: ControllerWire.CertificateRequest, for node: String) throws -> ControllerWire.IssueAnswer {
        guard let der = Data(base64Encoded: question.request) else { throw Denial(reason: .malformedRequest, asker: node) }
        guard let identity = SPIFFEIdentity(question.identity) else { throw Denial(reason: .notAnIdentity, asker: node, identity: question.identity) }
        guard identity.trustDomain == authority.settings.trustDomain else { throw Denial(reason: .wrongTrustDomain, asker: node, identity: question.identity) }
        switch identity.party {
        case .node(node): break
        case .workload where entitlements.isEntitled(node, to: identity): break
        case .workload:
            throw Denial(
                reason: .notEntitled, asker: node, identity: question.identity,
                detail: entitlements.isKnown ? "no pod of it runs on \(node)" : "the manifests have not been read yet")
        case .node, .controller: throw Denial(reason: .otherIdentity, asker: node, identity: question.identity)
        }
        let issued = try issue(Array(der), identity, asker: node)
        return ControllerWire.IssueAnswer(issued: issued, bundle: authority.bundle, refreshSeconds: authority.refreshSeconds)
    }

    private func issue(_ der: [UInt8], _ identity: SPIFFEIdentity, asker: String) throws -> CertificateAuthority.Issued {
        do throws(Refusal) {
            return try authority.issue(der, entitled: identity, asker: asker, at: Int64(now()))
        } catch {
            throw Denial(reason: error, asker: asker, identity: identity.description, isCounted: true)
        }
    }

    /// The node whose certificate the connection's peer has shown.
    private func node(at channel: any Channel) async throws -> String {
        let certificate = try await channel.nioSSL_peerCertificate().get()
        let known = try certificate.flatMap { authority.known(leaf: try $0.toDERBytes(), at: Int64(now())) }
        let identity = known?.identity
        guard let known, case .node(let name) = known.identity.party else {
            // Nobody is known here: strangers share the bucket of those who want to join.
            guard joinRates.take("", at: now()) else { throw Denial(reason: .rateLimited) }
            throw Denial(
                reason: .notAuthenticated, identity: identity?.description, detail: certificate == nil ? "no certificate" : "the certificate is not a node's, or not in force")
        }
        if let since = authority.revocation(of: name), known.issuedAt <= since { throw Denial(reason: .nodeRevoked, asker: name, identity: known.identity.description) }
        return name
    }

    private func read<Question: Decodable>(_ request: Request, asker: String = "unknown") async throws -> Question {
        let body: ByteBuffer
        do {
            body = try await request.body.collect(upTo: ControllerLimits.bodyBytesMax)
        } catch {
            throw Denial(reason: .requestTooLarge, asker: asker)
        }
        guard let question = try? JSONDecoder().decode(Question.self, from: Data(buffer: body)) else { throw Denial(reason: .malformedRequest, asker: asker) }
        return question
    }

    // MARK: Answers

    private func answer(_ body: () async throws -> ControllerWire.IssueAnswer) async throws -> Response {
        do {
            return try Self.json(.ok, await body())
        } catch let denial as Denial {
            if !denial.isCounted { refuse(denial) }
            logger.warning("refused", metadata: ["node": "\(denial.asker)", "identity": "\(denial.identity ?? "")", "reason": "\(denial.reason.rawValue)"])
            let message = [denial.reason.explanation, denial.detail].compactMap { $0 }.joined(separator: ": ")
            return try Self.json(Self.status(denial.reason), ControllerWire.RefusalAnswer(reason: denial.reason, message: message))
        }
    }

    private func refuse(_ denial: Denial) {
        let isQuiet = denial.reason == .rateLimited && !floodLines.take("", at: now())
        authority.refuse(denial.reason, asker: denial.asker, identity: denial.identity, detail: denial.detail, at: Int64(now()), isWritten: !isQuiet)
    }

    private static func status(_ reason: Refusal) -> HTTPResponse.Status {
        switch reason {
        case .requestTooLarge: .contentTooLarge
        case .rateLimited: .tooManyRequests
        case .notAuthenticated, .nodeRevoked, .tokenUnknown, .tokenUsed, .tokenExpired, .tokenOfOtherNode, .kubernetesTokenRefused, .podNotOnNode: .unauthorized
        case .notEntitled, .otherIdentity, .wrongTrustDomain: .forbidden
        case .auditUnavailable, .authorityFailed, .kubernetesUnreachable: .serviceUnavailable
        default: .badRequest
        }
    }

    private static func json(_ status: HTTPResponse.Status, _ value: some Encodable) throws -> Response {
        Response(status: status, headers: [.contentType: "application/json"], body: ResponseBody(byteBuffer: ByteBuffer(bytes: try JSONEncoder().encode(value))))
    }

    // MARK: Listening

    func application(host: String, port: Int, isUp: @escaping @Sendable (Int) -> Void) throws -> some ApplicationProtocol {
        var quiet = logger
        quiet.logLevel = .error
        // Any certificate passes the handshake, which proves its key; `node(at:)` judges it.
        let channel = TLSChannelConfiguration(tlsConfiguration: try own.configuration(), customVerificationCallback: { _, promise in promise.succeed(.certificateVerified) })
        return Application(
            router: router(),
            server: try .tls(.http1(configuration: .init(idleTimeout: .seconds(ControllerLimits.idleSecondsMax))), configuration: channel),
            configuration: ApplicationConfiguration(
                address: .hostname(host, port: port), serverName: nil,
                availableConnectionsDelegate: .maximum(ControllerLimits.connectionsMax, logger: quiet)),
            onServerRunning: { [logger] channel in
                logger.info("listening", metadata: ["on": "https://\(host):\(channel.localAddress?.port ?? port)"])
                isUp(channel.localAddress?.port ?? port)
            },
            eventLoopGroupProvider: .shared(MultiThreadedEventLoopGroup.singleton), logger: quiet)
    }
}
