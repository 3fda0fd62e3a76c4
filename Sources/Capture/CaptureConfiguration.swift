/// Where the hooks come from, where they go, and where they are kept.
public struct CaptureConfiguration: Sendable {
    /// `capture.bpf.o`, built from `bpf/`.
    public var objectPath: String
    /// A directory in a BPF file system; maps and links are pinned below it, and outlive a killed node there. Its parent must exist.
    public var pinDirectory: String
    /// Parent of the pods' cgroups in the v2 hierarchy: the hooks that watch connections attach here.
    public var podsCgroup: String
    /// The cgroup this process has to itself while it makes sockets: whatever socket is made there counts as Weft's own.
    public var weftNodeCgroup: String
    /// The kubelet's cgroup in the v2 hierarchy, whose probes go past the mesh; nil where there is no kubelet.
    public var kubeletCgroup: String?
    /// SO_NETNS_COOKIE of the host's network namespace, where the kubelet's sockets are.
    public var hostNamespaceCookie: UInt64
    /// How many workers stamp the heartbeat, 1 … ``Capture/workersMax``.
    public var workers: Int

    public init(
        objectPath: String, pinDirectory: String, podsCgroup: String, weftNodeCgroup: String, kubeletCgroup: String? = nil,
        hostNamespaceCookie: UInt64 = 0, workers: Int
    ) {
        self.kubeletCgroup = kubeletCgroup
        self.hostNamespaceCookie = hostNamespaceCookie
        self.objectPath = objectPath
        self.pinDirectory = pinDirectory
        self.podsCgroup = podsCgroup
        self.weftNodeCgroup = weftNodeCgroup
        self.workers = workers
    }
}

/// One pod, and how its connections are captured.
public struct PodCapture: Sendable {
    /// Destinations in a block of addresses.
    public struct Prefix: Sendable, Hashable {
        /// 16 bytes in network order, IPv4 mapped (`::ffff:a.b.c.d`).
        public var address: [UInt8]
        /// Significant bits of `address`, 0 … 128: `10.0.0.0/8` is 96 + 8.
        public var bits: Int

        public init(address: [UInt8], bits: Int) {
            self.address = address
            self.bits = bits
        }
    }

    /// The node's number for the pod.
    public var pod: UInt32
    /// SO_NETNS_COOKIE of the pod's namespace: what a pod is known by in the kernel.
    public var namespaceCookie: UInt64
    /// The namespace itself; borrowed for the call.
    public var namespaceFD: Int32
    /// The pod's addresses: 4 and 16 bytes.
    public var ipv4: [UInt8]?
    public var ipv6: [UInt8]?
    /// Capture what the pod's programs connect to.
    public var outbound = true
    /// Capture what connects to the pod.
    public var inbound = true
    /// While the proxy cannot serve, connections are refused (true) or pass the mesh by (false).
    public var failClosed = false
    /// Nothing gets past the proxy: captured in both directions, refused when it cannot serve, inbound exclusions and further addresses of the namespace
    /// included, and UDP too but for the excepted ports. What the three settings above say does not matter then.
    public var isStrict = false
    /// The pod's own cgroup in the v2 hierarchy, where a strict pod's datagrams are judged; borrowed for the call.
    public var cgroup = ""
    public var excludedOutboundPorts: [UInt16] = []
    public var excludedInboundPorts: [UInt16] = []
    public var excludedOutboundPrefixes: [Prefix] = []
    /// The kubelet's connections to these go to the app.
    public var probePorts: [UInt16] = []
    /// UDP ports, local or remote, that stay open to and from a strict pod.
    public var udpExceptionPorts: [UInt16] = []
    /// Listeners in the pod's namespace, made in the node's cgroup, borrowed for the call; -1 where there is none.
    public var outboundListener4: Int32 = -1
    public var outboundListener6: Int32 = -1
    public var inboundListener4: Int32 = -1
    public var inboundListener6: Int32 = -1

    public init(pod: UInt32, namespaceCookie: UInt64, namespaceFD: Int32, ipv4: [UInt8]? = nil, ipv6: [UInt8]? = nil) {
        self.pod = pod
        self.namespaceCookie = namespaceCookie
        self.namespaceFD = namespaceFD
        self.ipv4 = ipv4
        self.ipv6 = ipv6
    }
}
