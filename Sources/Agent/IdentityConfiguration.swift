/// Whose identities a node's pods get, and from where.
public struct IdentityConfiguration: Sendable, Equatable {
    /// The first part of every identity, `spiffe://<trust domain>/…`.
    public var trustDomain: String
    /// Keys and certificates that survive a reboot, in `agent/` of it: the embedded authority's, or this node's own.
    public var dataDirectory: String
    public var source: Source
    /// Certificate revocation lists (PEM); nil: none.
    public var revocationFile: String?

    /// Who signs.
    public enum Source: Sendable, Equatable {
        /// An authority inside the agent: for one node alone.
        case embedded(certificateLifetimeSeconds: Int)
        /// `weft controller`.
        case controller(ControllerAddress)
        /// Something else writes certificates and keys into files, and renews them.
        case files(directory: String)
    }

    public init(trustDomain: String, dataDirectory: String, source: Source, revocationFile: String? = nil) {
        self.revocationFile = revocationFile
        self.trustDomain = trustDomain
        self.dataDirectory = dataDirectory
        self.source = source
    }

    /// The agent's part of the data directory, which node made for it.
    var agentDirectory: String { "\(dataDirectory)/agent" }
}

/// Where the controller is, and what proves this node to it the first time.
public struct ControllerAddress: Sendable, Equatable {
    /// `https://host:port`.
    public var url: String
    /// The token of `weft controller token`.
    public var joinTokenFile: String?
    /// A projected service account token, renewed by the kubelet.
    public var kubernetesTokenFile: String?
    /// The controller's roots in PEM; with a join token they come from the controller and must have the fingerprint that the token names.
    public var rootsFile: String?

    public init(url: String, joinTokenFile: String? = nil, kubernetesTokenFile: String? = nil, rootsFile: String? = nil) {
        self.url = url
        self.joinTokenFile = joinTokenFile
        self.kubernetesTokenFile = kubernetesTokenFile
        self.rootsFile = rootsFile
    }
}
