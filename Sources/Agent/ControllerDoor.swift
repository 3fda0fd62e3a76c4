import AsyncHTTPClient
import Foundation
import Identity
import NIOCore
import NIOSSL

/// A controller somewhere else. This node proves itself to it by a certificate of its own (`spiffe://<trust domain>/node/<name>`), which it got once for a token and
/// renews at half of its life; the key is in `<data directory>/agent/controller`, for the agent alone.
///
/// Who the controller is, is proven by the roots in force and by a name that no workload's certificate has. The first time, the roots come from the controller itself and
/// must have a fingerprint that the join token names; the token's secret is told only behind that.
actor ControllerDoor: IdentityDoor {
    private let address: ControllerAddress
    private let identity: SPIFFEIdentity
    private let serverName: String
    private let url: String
    /// Where `standing.json` is; made when it is first needed.
    private let directory: String
    private var place: SecretDirectory?
    private let client: HTTPClient
    private let now: @Sendable () -> Double
    private var standing: Standing
    /// When to try to join or to renew next.
    private var clock: RotationClock
    private var lastFault: DoorFault?
    /// The controller does not take this node's certificate.
    private var isDisowned = false

    /// What survives a restart.
    private struct Standing: Codable {
        var bundle: Identity.TrustBundle?
        var refreshSeconds = 60.0
        /// This node's certificate and its key, PEM.
        var chain: String?
        var key: String?
        /// Unix seconds.
        var notBefore = 0.0, notAfter = 0.0
        /// Id of the token that was spent for it.
        var spentToken: String?
    }

    init(_ address: ControllerAddress, nodeName: String, trustDomain: String, directory: String, now: @escaping @Sendable () -> Double) throws {
        guard let identity = SPIFFEIdentity(trustDomain: trustDomain, node: nodeName), let parts = URLComponents(string: address.url), let host = parts.host else {
            throw ControllerAddressFault(url: address.url)
        }
        (self.address, self.identity, self.now) = (address, identity, now)
        serverName = ControllerWire.serverName(trustDomain: trustDomain)
        url = "https://\(serverName):\(parts.port ?? 15012)"
        self.directory = directory
        standing = Standing()
        clock = RotationClock(at: now())
        var configuration = HTTPClient.Configuration()
        configuration.dnsOverride = [serverName: host.trimmingCharacters(in: ["[", "]"])]
        configuration.timeout = .init(connect: .seconds(3), read: .seconds(AgentLimits.controllerSecondsMax))
        configuration.redirectConfiguration = .disallow
        client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    }

    var counts: CertificateAuthority.Counts? { nil }

    /// Reads what an earlier agent left.
    @discardableResult
    private func prepare() throws(DoorFault) -> SecretDirectory {
        if let place { return place }
        do {
            _ = try SecretDirectory(making: directory)
            let made = try SecretDirectory(making: "\(directory)/controller")
            if let kept = try made.read("standing.json").flatMap({ try? JSONDecoder().decode(Standing.self, from: Data($0)) }) {
                standing = kept
                if kept.chain != nil {
                    clock.issued(notAfter: kept.notAfter, at: min(now(), kept.notBefore + Double(AuthorityLimits.clockSkewSeconds)), dice: 0.5)
                }
            }
            place = made
            return made
        } catch {
            throw .unreachable("\(error)")
        }
    }

    func close() async { try? await client.shutdown() }

    // MARK: The door

    func issue(_ identity: SPIFFEIdentity, request: [UInt8]) async throws(DoorFault) -> CertificateAuthority.Issued {
        try prepare()
        guard standing.chain != nil else { throw lastFault ?? .unreachable("this node has not joined its controller yet") }
        let answer: ControllerWire.IssueAnswer = try await post(
            "/v1/certificates", ControllerWire.CertificateRequest(identity: identity.description, request: Data(request).base64EncodedString()), tls: try tls())
        keep(answer.bundle, answer.refreshSeconds)
        return answer.issued
    }

    /// Joins and renews as well: one task asks for the bundle, so there is never more than one attempt under way.
    func bundle() async throws(DoorFault) -> (bundle: Identity.TrustBundle, refreshSeconds: Double) {
        try prepare()
        try await haveCertificate()
        let answer: ControllerWire.BundleAnswer = try await call("GET", "/v1/bundle", body: nil, tls: try tls())
        keep(answer.bundle, answer.refreshSeconds)
        return (answer.bundle, answer.refreshSeconds)
    }

    // MARK: This node's own certificate

    private func haveCertificate() async throws(DoorFault) {
        let isUsable = standing.chain != nil && now() < standing.notAfter && !isDisowned
        guard clock.isDue(at: now()) || !isUsable && clock.failures == 0 else {
            if !isUsable { throw lastFault ?? .unreachable("this node has not joined its controller yet") }
            return
        }
        do throws(DoorFault) {
            let pair = NodeKeyPair()
            guard let request = try? pair.request(for: identity), let key = try? pair.pem else { throw .unreachable("no key can be made") }
            let answer = isUsable ? try await renew(request) : try await join(request)
            (standing.chain, standing.key) = (answer.issued.chain, key)
            (standing.notBefore, standing.notAfter) = (Double(answer.issued.notBefore), Double(answer.issued.notAfter))
            isDisowned = false
            keep(answer.bundle, answer.refreshSeconds)
            try save()
            clock.issued(notAfter: standing.notAfter, at: now(), dice: Double.random(in: 0..<1))
            lastFault = nil
        } catch {
            lastFault = error
            clock.failed(notAfter: isUsable ? standing.notAfter : nil, at: now(), dice: Double.random(in: 0..<1))
            // A renewal that fails is no reason to stop using the certificate.
            if !isUsable { throw error }
        }
    }

    private func renew(_ request: [UInt8]) async throws(DoorFault) -> ControllerWire.IssueAnswer {
        try await post(
            "/v1/certificates", ControllerWire.CertificateRequest(identity: identity.description, request: Data(request).base64EncodedString()), tls: try tls())
    }

    private func join(_ request: [UInt8]) async throws(DoorFault) -> ControllerWire.IssueAnswer {
        guard case .node(let node) = identity.party else { throw .unreachable("“\(identity)” is no node") }
        var question = ControllerWire.JoinRequest(node: node, request: Data(request).base64EncodedString())
        if let file = address.kubernetesTokenFile {
            question.kubernetesToken = try Self.read(file).trimmingCharacters(in: .whitespacesAndNewlines)
            return try await post("/v1/join", question, tls: try Self.tls(roots: try Self.read(address.rootsFile ?? "")))
        }
        guard let file = address.joinTokenFile else { throw .unreachable("this node has no certificate, and no --join-token-file to get one with") }
        guard let token = JoinTokens.Text(try Self.read(file)) else { throw .unreachable("\(file) holds no join token") }
        guard token.id != standing.spentToken else { throw .unreachable("the token in \(file) is spent, and this node's certificate is of no use any more: put a new token there") }
        (question.id, question.secret) = (token.id, token.secret)
        let roots = try await roots(of: token)
        let answer: ControllerWire.IssueAnswer = try await post("/v1/join", question, tls: try Self.tls(roots: roots))
        standing.spentToken = token.id
        return answer
    }

    /// The controller's roots, as far as the token vouches for them. Nothing secret is told on this connection, and what it answers is believed only by fingerprint.
    private func roots(of token: JoinTokens.Text) async throws(DoorFault) -> String {
        var unproven = TLSConfiguration.makeClientConfiguration()
        unproven.certificateVerification = .none
        unproven.minimumTLSVersion = .tlsv13
        let answer: ControllerWire.BundleAnswer = try await call("GET", "/v1/bundle", body: nil, tls: unproven)
        guard let roots = answer.bundle.only(fingerprints: token.fingerprints) else { throw .unreachable("the controller's roots are not those that the join token names") }
        return roots
    }

    private func keep(_ bundle: Identity.TrustBundle, _ refreshSeconds: Double) {
        guard bundle != standing.bundle || refreshSeconds != standing.refreshSeconds else { return }
        (standing.bundle, standing.refreshSeconds) = (bundle, refreshSeconds)
        try? save()
    }

    private func save() throws(DoorFault) {
        let place = try prepare()
        do {
            try place.write("standing.json", Array(JSONEncoder().encode(standing)))
        } catch {
            throw .unreachable("\(error)")
        }
    }

    // MARK: HTTPS

    /// As this node, towards the controller that the roots in force vouch for.
    private func tls() throws(DoorFault) -> TLSConfiguration {
        guard let bundle = standing.bundle, let chain = standing.chain, let key = standing.key else { throw .unreachable("this node has not joined its controller yet") }
        var configuration = try Self.tls(roots: bundle.roots)
        do {
            configuration.certificateChain = try NIOSSLCertificate.fromPEMBytes(Array(chain.utf8)).map { .certificate($0) }
            configuration.privateKey = .privateKey(try NIOSSLPrivateKey(bytes: Array(key.utf8), format: .pem))
        } catch {
            throw .unreachable("this node's own certificate cannot be used: \(error)")
        }
        return configuration
    }

    private static func tls(roots: String) throws(DoorFault) -> TLSConfiguration {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.minimumTLSVersion = .tlsv13
        do {
            configuration.trustRoots = .certificates(try NIOSSLCertificate.fromPEMBytes(Array(roots.utf8)))
        } catch {
            throw .unreachable("the controller's roots cannot be used: \(error)")
        }
        return configuration
    }

    private func post<Answer: Decodable>(_ path: String, _ body: some Encodable, tls: TLSConfiguration) async throws(DoorFault) -> Answer {
        guard let bytes = try? JSONEncoder().encode(body) else { throw .unreachable("a request cannot be written") }
        return try await call("POST", path, body: Array(bytes), tls: tls)
    }

    private func call<Answer: Decodable>(_ method: String, _ path: String, body: [UInt8]?, tls: TLSConfiguration) async throws(DoorFault) -> Answer {
        var request = HTTPClientRequest(url: url + path)
        request.method = .init(rawValue: method)
        request.tlsConfiguration = tls
        if let body {
            request.headers.add(name: "content-type", value: "application/json")
            request.body = .bytes(body)
        }
        let status: UInt
        let bytes: ByteBuffer
        do {
            let response = try await client.execute(request, timeout: .seconds(AgentLimits.controllerSecondsMax))
            status = response.status.code
            bytes = try await response.body.collect(upTo: AgentLimits.controllerAnswerBytesMax)
        } catch {
            throw .unreachable("\(address.url): \(error)")
        }
        if status == 200 {
            guard let answer = try? JSONDecoder().decode(Answer.self, from: Data(buffer: bytes)) else { throw .unreachable("\(address.url) answered something else than a controller does") }
            return answer
        }
        guard let refusal = try? JSONDecoder().decode(ControllerWire.RefusalAnswer.self, from: Data(buffer: bytes)) else { throw .unreachable("\(address.url) answered \(status)") }
        if refusal.reason == .notAuthenticated || refusal.reason == .nodeRevoked { isDisowned = true }
        throw .refused(refusal.reason)
    }

    private static func read(_ path: String) throws(DoorFault) -> String {
        do {
            return try String(contentsOfFile: path, encoding: .utf8)
        } catch {
            throw .unreachable("\(path) cannot be read: \(error)")
        }
    }
}

/// What was given is no controller's address.
struct ControllerAddressFault: Error, CustomStringConvertible {
    let url: String
    var description: String { "“\(url)” is no controller's address, or the node's name cannot stand in an identity" }
}
