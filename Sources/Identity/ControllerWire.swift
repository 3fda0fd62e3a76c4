/// What goes over the controller's HTTPS, as JSON (Content-Type `application/json`).
///
///     POST /v1/join           JoinRequest         → JoinAnswer     a certificate for a node, against a token
///     POST /v1/certificates   CertificateRequest  → IssueAnswer    a certificate for a workload or the node itself; by mTLS as the node
///     GET  /v1/bundle                             → BundleAnswer
///
/// A refusal is `RefusalAnswer` with status 400, 401, 403, 413, 429 or 503.
public enum ControllerWire {
    /// The name in the controller's certificate, whatever address it is reached at: no workload's certificate has a DNS name.
    public static func serverName(trustDomain: String) -> String { "weft-controller.\(trustDomain.replacing("_", with: "-"))" }

    public struct JoinRequest: Codable, Sendable {
        public var node: String
        /// A join token's two parts; nil with `kubernetesToken`.
        public var id: String?
        public var secret: String?
        /// A projected service account token for the audience `weft`.
        public var kubernetesToken: String?
        /// DER in base64, for `spiffe://<trust domain>/node/<node>`.
        public var request: String

        public init(node: String, id: String? = nil, secret: String? = nil, kubernetesToken: String? = nil, request: String) {
            (self.node, self.id, self.secret, self.kubernetesToken, self.request) = (node, id, secret, kubernetesToken, request)
        }
    }

    public struct CertificateRequest: Codable, Sendable {
        public var identity: String
        /// DER in base64.
        public var request: String

        public init(identity: String, request: String) { (self.identity, self.request) = (identity, request) }
    }

    public struct IssueAnswer: Codable, Sendable {
        public var issued: CertificateAuthority.Issued
        public var bundle: TrustBundle
        public var refreshSeconds: Double

        public init(issued: CertificateAuthority.Issued, bundle: TrustBundle, refreshSeconds: Double) {
            (self.issued, self.bundle, self.refreshSeconds) = (issued, bundle, refreshSeconds)
        }
    }

    public struct BundleAnswer: Codable, Sendable {
        public var bundle: TrustBundle
        /// Ask again after so long.
        public var refreshSeconds: Double

        public init(bundle: TrustBundle, refreshSeconds: Double) { (self.bundle, self.refreshSeconds) = (bundle, refreshSeconds) }
    }

    public struct RefusalAnswer: Codable, Sendable {
        public var reason: Refusal
        public var message: String

        public init(reason: Refusal, message: String) { (self.reason, self.message) = (reason, message) }
    }
}
