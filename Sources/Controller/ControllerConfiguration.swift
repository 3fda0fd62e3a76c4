import Identity

/// How `weft controller` is started.
public struct ControllerConfiguration: Sendable {
    /// Directory of Kubernetes manifests: which pod runs where.
    public var manifests: String
    /// The authority's keys, tokens and audit log.
    public var dataDirectory: String
    public var listen: (host: String, port: Int)
    /// Where /metrics and /healthz are served, over plain HTTP.
    public var metrics: (host: String, port: Int)
    public var authority: CertificateAuthority.Settings
    /// Nil: no Kubernetes, nodes join by token.
    public var kubernetes: KubernetesAddress?

    public init(
        manifests: String, dataDirectory: String, listen: (host: String, port: Int), metrics: (host: String, port: Int),
        authority: CertificateAuthority.Settings, kubernetes: KubernetesAddress? = nil
    ) {
        self.manifests = manifests
        self.dataDirectory = dataDirectory
        self.listen = listen
        self.metrics = metrics
        self.authority = authority
        self.kubernetes = kubernetes
    }
}

/// The API server that is asked about tokens.
public struct KubernetesAddress: Sendable, Equatable {
    /// `https://host:port`, or `http://` for one behind a local proxy.
    public var url: String
    /// The controller's own token, renewed by the kubelet.
    public var tokenFile: String
    /// Roots of the API server, PEM; nil: the system's.
    public var rootsFile: String?
    /// `<namespace>/<name>`: the service account that Weft's node pods run as.
    public var agentAccount: String

    public init(url: String, tokenFile: String, rootsFile: String?, agentAccount: String) {
        (self.url, self.tokenFile, self.rootsFile, self.agentAccount) = (url, tokenFile, rootsFile, agentAccount)
    }
}

/// What the controller takes on at most.
enum ControllerLimits {
    /// Open connections: each agent keeps one or two.
    static let connectionsMax = 4_096
    static let idleSecondsMax: Int64 = 60
    static let metricsConnectionsMax = 128
    /// Body of a question.
    static let bodyBytesMax = 32 * 1024
    /// Certificates of one node: at once, and per second. A node has 110 pods, and a restart asks for all of them.
    static let nodeBurst = 500.0, nodePerSecond = 50.0
    /// Attempts to join, of all nodes together: each costs a hash and a file.
    static let joinBurst = 50.0, joinPerSecond = 10.0
    /// Nodes whose rate is remembered.
    static let nodesMax = 20_000
    /// How often rotations are moved on and the audit log is brought to the disk.
    static let tickMilliseconds = 1_000
    /// An answer of the API server.
    static let kubernetesSecondsMax: Int64 = 10
    static let kubernetesAnswerBytesMax = 1 << 20
    /// A projected token has about 1 KB.
    static let kubernetesTokenBytesMax = 16 * 1024
}
