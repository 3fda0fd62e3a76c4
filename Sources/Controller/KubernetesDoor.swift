import AsyncHTTPClient
import Foundation
import Identity
import NIOCore
import NIOSSL

/// Kubernetes' word for a node: a projected service account token for the audience `weft`, reviewed by the API server (TokenReview, authentication.k8s.io/v1), and a
/// look at the pod that the token is bound to: it must exist under the token's uid and run on the node that asks.
struct KubernetesDoor: NodeAuthenticator {
    static let audience = "weft"
    private let address: KubernetesAddress
    private let client: HTTPClient

    init(_ address: KubernetesAddress) throws {
        self.address = address
        var configuration = HTTPClient.Configuration()
        configuration.redirectConfiguration = .disallow
        if let file = address.rootsFile {
            var tls = TLSConfiguration.makeClientConfiguration()
            tls.trustRoots = .file(file)
            configuration.tlsConfiguration = tls
        }
        client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    }

    func close() async { try? await client.shutdown() }

    func concerns(_ question: ControllerWire.JoinRequest) -> Bool { question.kubernetesToken != nil }

    func check(_ question: ControllerWire.JoinRequest, revokedAt: Int64?, at now: Int64) async throws(Refusal) {
        // Who has the node gets its pods' tokens: the API server's word about them is worth nothing until the operator gives his.
        guard revokedAt == nil else { throw .nodeRevoked }
        guard let token = question.kubernetesToken, token.utf8.count <= ControllerLimits.kubernetesTokenBytesMax else { throw .malformedRequest }
        let review: Reviewed = try await call(
            "POST", "/apis/authentication.k8s.io/v1/tokenreviews", TokenReview(spec: .init(token: token, audiences: [Self.audience])), missing: .kubernetesUnreachable)
        guard let status = review.status, status.authenticated == true, status.audiences?.contains(Self.audience) == true else { throw .kubernetesTokenRefused }
        let account = address.agentAccount.replacing("/", with: ":")
        guard let user = status.user, user.username == "system:serviceaccount:\(account)" else { throw .kubernetesTokenRefused }
        // Names of a bound token's claims (KEP-1205, KEP-4193).
        guard let pod = user.extra?["authentication.kubernetes.io/pod-name"]?.first, let uid = user.extra?["authentication.kubernetes.io/pod-uid"]?.first,
            Self.isName(pod)
        else { throw .kubernetesTokenRefused }
        let namespace = address.agentAccount.split(separator: "/").first ?? ""
        let found: Pod = try await call("GET", "/api/v1/namespaces/\(namespace)/pods/\(pod)", TokenReview?.none, missing: .podNotOnNode)
        guard found.metadata.uid == uid, found.spec.nodeName == question.node else { throw .podNotOnNode }
    }

    /// A token is good for as long as the kubelet renews it; nothing is used up.
    func admit(_ question: ControllerWire.JoinRequest) throws(Refusal) {}

    /// It becomes part of a path.
    private static func isName(_ text: String) -> Bool {
        (1...253).contains(text.utf8.count)
            && text.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: ".") }
    }

    private func call<Answer: Decodable>(_ method: String, _ path: String, _ body: (some Encodable)?, missing: Refusal) async throws(Refusal) -> Answer {
        var request = HTTPClientRequest(url: address.url + path)
        request.method = .init(rawValue: method)
        do {
            let token = try String(contentsOfFile: address.tokenFile, encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
            request.headers.add(name: "authorization", value: "Bearer \(token)")
            request.headers.add(name: "accept", value: "application/json")
            if let body {
                request.headers.add(name: "content-type", value: "application/json")
                request.body = .bytes(try JSONEncoder().encode(body))
            }
            let response = try await client.execute(request, timeout: .seconds(ControllerLimits.kubernetesSecondsMax))
            if response.status == .notFound { throw missing }
            guard (200..<300).contains(response.status.code) else { throw Refusal.kubernetesUnreachable }
            return try JSONDecoder().decode(Answer.self, from: Data(buffer: try await response.body.collect(upTo: ControllerLimits.kubernetesAnswerBytesMax)))
        } catch let refusal as Refusal {
            throw refusal
        } catch {
            throw .kubernetesUnreachable
        }
    }

    private struct TokenReview: Encodable {
        var apiVersion = "authentication.k8s.io/v1"
        var kind = "TokenReview"
        var spec: Spec

        init(spec: Spec) { self.spec = spec }

        struct Spec: Encodable {
            var token: String
            var audiences: [String]
        }
    }

    private struct Reviewed: Decodable {
        var status: Status?

        struct Status: Decodable {
            var authenticated: Bool?
            var audiences: [String]?
            var user: User?
        }
        struct User: Decodable {
            var username: String?
            var extra: [String: [String]]?
        }
    }

    private struct Pod: Decodable {
        var metadata: Metadata
        var spec: Spec
        struct Metadata: Decodable { var uid: String? }
        struct Spec: Decodable { var nodeName: String? }
    }
}
