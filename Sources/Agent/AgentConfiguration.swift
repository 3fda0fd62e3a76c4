/// How `weft agent` is started (by `weft node`).
public struct AgentConfiguration: Sendable {
    /// The control socket to node, inherited.
    public var controlDescriptor: Int32
    public var nodeName: String
    /// Directory of Kubernetes manifests.
    public var manifests: String
    /// Weft's directory for its sockets and state; the agent owns `agent/` in it.
    public var stateDirectory: String
    public var metricsAddress: ListenAddress
    /// Where the node's root file system is seen, for its /proc.
    public var hostRoot: String
    public var identities: IdentityConfiguration

    public init(
        controlDescriptor: Int32, nodeName: String, manifests: String, stateDirectory: String, metricsAddress: ListenAddress, hostRoot: String = "/",
        identities: IdentityConfiguration
    ) {
        self.controlDescriptor = controlDescriptor
        self.nodeName = nodeName
        self.manifests = manifests
        self.stateDirectory = stateDirectory
        self.metricsAddress = metricsAddress
        self.hostRoot = hostRoot
        self.identities = identities
    }

    var agentDirectory: String { "\(stateDirectory)/agent" }
    /// The admin socket that `weft status` asks.
    public static func adminSocket(stateDirectory: String) -> String { "\(stateDirectory)/agent/admin.sock" }
    var adminSocket: String { Self.adminSocket(stateDirectory: stateDirectory) }
    var stateFile: String { "\(agentDirectory)/state.json" }
}

/// A host and a port to listen on.
public struct ListenAddress: Sendable, Equatable, CustomStringConvertible {
    public var host: String
    public var port: Int

    public init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    /// Reads `0.0.0.0:15020` or `[::]:15020`.
    public init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"), let port = Int(text[text.index(after: colon)...]), (0...65535).contains(port) else { return nil }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            return nil
        }
        guard !host.isEmpty else { return nil }
        self.init(host: String(host), port: port)
    }

    public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

/// What the agent takes on at most.
enum AgentLimits {
    /// Open connections per listener: a few scrapers and a few people.
    static let adminConnectionsMax = 128
    static let adminIdleSecondsMax: Int64 = 60
    /// Pages of metrics being written at a time; each has a thread.
    static let pagesMax = 8
    /// Pieces (PrometheusText.chunkBytes each) of a page that wait for its scraper. A page of 1,000 series has 40 MB and is
    /// never held whole.
    static let pagePiecesMax = 4
    /// A scraper that takes no piece for this long has given up.
    static let pageStallSecondsMax = 15
    /// Pods of the status and of the per-pod metrics; more than a node may run (MeshModel's `podsMax`) by misconfiguration only.
    static let podsMax = 4_096
    /// How often the proxy's decisions about protocols are read for the log; the status reads them anew.
    static let decisionsReadSeconds = 2
    /// A decision that has not fallen for this long is told again when it does.
    static let decisionNewsSeconds = 3_600
    /// Lines of one reading; the rest is a number. A port scan must not become a log of its own.
    static let decisionLinesMax = 20
    /// A listener that cannot be opened (port in use) is tried again this often.
    static let listenRetryMilliseconds = 1_000
    /// How often the CRL file is looked at: a revocation takes effect within a second.
    static let revocationFileReadMilliseconds = 250
    /// Bytes of one inquiry of `weft explain`.
    static let inquiryBytesMax = 256 << 10
    /// Identities whose next key pair is being made or signed at a time.
    static let identitiesUnderWayMax = 32
    /// An answer of the proxy about an identity that takes longer is not waited for; the question is repeated.
    static let identitySilenceSeconds = 5.0
    /// How often due rotations are looked for.
    static let identityTickMilliseconds = 200
    /// Changes of identity files belong together when they follow each other within this time: certificate and key are two files.
    static let identityFilesQuietMilliseconds = 50
    /// An answer of the controller that takes longer is none.
    static let controllerSecondsMax: Int64 = 10
    /// Roots that could not be asked for are asked for again after this.
    static let bundleRetrySeconds = 2.0
    static let controllerAnswerBytesMax = 256 * 1024
}
