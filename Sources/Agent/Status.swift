import Discovery

/// Everything `weft status` shows: one moment of one node. The JSON names are these, in camelCase, and only ever grow.
public struct Status: Codable, Sendable, Equatable {
    public var nodeName: String
    /// When this was taken, RFC 3339.
    public var time: String
    /// Node, proxy and snapshot are there and agree; otherwise `notReady` says what is missing.
    public var isReady: Bool
    public var notReady: [String]
    public var processes: [Process]
    public var generations: Generations
    public var configuration: Configuration
    public var pods: [Pod]
    /// Access policies in force; absent where the agent that was asked knows none.
    public var policies: [Policy]?
    /// Routes in force with their conditions, as `status.parents` of the Gateway API; absent where the agent that was asked knows none.
    public var routes: [RouteStatus]?
    public var services: [Service]
    /// What connections were taken for, sorted by service and port.
    public var protocols: [ProtocolDecision]
    /// Who signs for this node, and how its identities stand; absent where the agent that was asked has none.
    public var identities: Identities?
    /// The cgroup whose connections to probe ports pass by the mesh; empty: none is known, and strict pods refuse probes.
    public var kubeletCgroup: String
    /// Decisions of the hooks since node loaded them.
    public var verdicts: [Verdict]

    /// One of the three processes.
    public struct Process: Codable, Sendable, Equatable {
        /// `node`, `agent` or `proxy`.
        public var name: String
        public var pid: Int
        /// Counts starts since node began; 0 for node itself.
        public var incarnation: UInt32
        public var restarts: UInt32
        /// `starting`, `ready`, `stale` (no heartbeat) or `down`.
        public var state: String
        /// Age of the oldest worker's last heartbeat; absent for processes that stamp none.
        public var heartbeatAgeMilliseconds: Int?
    }

    /// How far the newest snapshot has come. All three numbers equal: the processes agree.
    public struct Generations: Codable, Sendable, Equatable {
        /// What the agent last sent to node.
        public var published: UInt64
        /// What node holds.
        public var accepted: UInt64
        /// What the proxy serves by.
        public var applied: UInt64
        public var agree: Bool
        /// Seconds since the agent last published.
        public var ageSeconds: Double
        /// Why a generation could not be made or was refused; absent when all is well.
        public var refusal: String?
    }

    /// What was read, and what is wrong with it.
    public struct Configuration: Codable, Sendable, Equatable {
        public var directory: String
        /// Seconds since the manifests last changed.
        public var ageSeconds: Double
        public var faults: [Fault]
        public var notes: [Note]
    }

    /// A pod of this node, and what became of its enrolment.
    public struct Pod: Codable, Sendable, Equatable {
        public var namespace: String
        public var name: String
        public var uid: String
        /// `enrolled`, `pending`, `refused`, `gone`, or `unmeshed` when Weft is not to capture it.
        public var state: String
        /// Why it is pending, refused or unmeshed; empty otherwise.
        public var reason: String
        public var addresses: [String]
        /// The pod's number in the proxy; 0 while there is none.
        public var pod: UInt32
        /// The kernel's cookie of the pod's network namespace; 0 while unknown.
        public var namespaceCookie: UInt64
        /// Listeners made in the pod's namespace.
        public var listeners: UInt8
        /// TCP connections older than enrolment, which go on unmeshed.
        public var olderConnections: UInt32
        /// It takes no plaintext (`weft.mesh/mtls: strict`); absent for pods that are not captured.
        public var isStrict: Bool?
    }

    /// An AccessPolicy.
    public struct Policy: Codable, Sendable, Equatable {
        public var namespace: String
        public var name: String
        /// `allow`, `deny`, or empty for one without rules.
        public var action: String
        /// `enforce` or `audit`.
        public var mode: String
        /// `namespace`, or for a mesh-wide one `mandatory` or `default`.
        public var strength: String
        public var rules: Int
        /// Pods of this node that it selects.
        public var podsHere: Int
    }

    /// A service as the snapshot has it.
    public struct Service: Codable, Sendable, Equatable {
        public var namespace: String
        public var name: String
        /// Cluster addresses; empty when headless.
        public var addresses: [String]
        public var isHeadless: Bool
        public var ports: [Port]

        public struct Port: Codable, Sendable, Equatable {
            public var name: String
            public var port: UInt16
            /// What was declared: `undeclared`, `http1`, `http2`, `grpc`, `tcp` or `tls`.
            public var protocolHint: String
            /// Pods (or foreign addresses) behind the port; one with addresses of both families counts once.
            public var endpointsReady: Int
            public var endpointsTotal: Int
        }
    }

    /// What connections to one port were taken for, why, and how many; a port has as many of these as decisions fell.
    public struct ProtocolDecision: Codable, Sendable, Equatable {
        /// Empty where no service is known.
        public var namespace: String
        public var service: String
        /// The service's port; the one asked for where no service is known.
        public var port: UInt16
        /// What the port's Service declares, as in `Service.Port.protocolHint`; empty where no service is known.
        public var declared: String
        /// `http/1.1`, `http/2`, `tls` or `tcp`.
        public var spoken: String
        /// `declared`, `first-bytes`, `server-first`, `remembered`, `client-silent` or `client-ended`.
        public var reason: String
        public var connections: UInt64
        /// Seconds since the last of them; absent when that was before this agent.
        public var ageSeconds: Double?
    }

    /// How often the hooks decided so.
    public struct Verdict: Codable, Sendable, Equatable {
        public var name: String
        public var count: UInt64
    }
}
