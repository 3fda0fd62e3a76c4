import MeshModel

/// What the host was asked to play.
struct HostOptions {
    struct Address { var ip: IPAddress; var port: UInt16 }
    /// A listener, and what its service declares.
    struct Listen { var address: Address; var protocolHint: ProtocolHint? }
    /// A workload's name within the trust domain.
    struct Account { var namespace: String; var name: String }
    struct Holder { var uri: String; var chain: String; var key: String }
    struct UsageFault: Error { var message: String }

    /// One pod per address: each listener is its own pod, so that fairness between pods can be tried.
    var listens: [Listen] = []
    var upstreams: [Address] = []
    var protocolHint = ProtocolHint.http1
    var workers: UInt32 = 1
    /// Services `h0.test` … reached by their host name instead of the listener's address.
    var hosts = 0
    var proxyPath: String?
    /// Passed on to the proxy, as `name=value`.
    var proxyLimits: [String] = []
    /// Services and routes beside those, as JSON; read again on SIGHUP.
    var routesPath: String?
    /// Where the counters go, as Prometheus text, on SIGUSR1 and at the end.
    var metricsPath: String?

    /// Of every service.
    var policy = TrafficPolicy.default

    // Mutual TLS.
    /// Whom the listeners' pods are.
    var account = Account(namespace: "test", name: "default")
    /// Pods of this host that take what other proxies send, on port 15008 of their addresses.
    var inbound: [(ip: IPAddress, account: Account)] = []
    /// Meshed workloads of other nodes.
    var workloads: [(ip: IPAddress, account: Account)] = []
    /// Certificates, each with its key, as PEM files. Read again on SIGHUP, like the roots and the revocations.
    var identities: [Holder] = []
    var rootsPath: String?
    var revocationsPath: String?
    var trustDomain = "cluster.local"
    /// What the workloads' namespaces say about a node whose mesh is down.
    var failsOpen = false
    static let wirePort: UInt16 = 15_008

    static let usage = """
        usage: weft-proxy-host --listen ADDRESS:PORT[/PROTOCOL] … --upstream ADDRESS:PORT[,ADDRESS:PORT…]
                               [--protocol http|http2|grpc|tls|tcp|undeclared] [--workers N] [--hosts N] [--proxy PATH] [--limit NAME=VALUE] [--metrics-file PATH]
                               [--as NAMESPACE/ACCOUNT] [--identity URI=CHAIN,KEY …] [--roots FILE] [--trust-domain NAME] [--revocations FILE]
                               [--routes FILE]
                               [--workload ADDRESS=NAMESPACE/ACCOUNT …] [--inbound ADDRESS=NAMESPACE/ACCOUNT …] [--failure open|closed]
                               [--policy FIELD=NUMBER[:NUMBER…] …]
        Plays `weft node` towards one weft-proxy: every listener is a pod of its own, and a service at its own address,
        whose port declares PROTOCOL, else what --protocol says (http).
        An upstream whose address is a --workload is another node's, reached over mutual TLS as the workload --as; --inbound is the other end, a
        pod with that address whose port 15008 takes it. On SIGHUP, certificates, roots, revocations and --routes are read again.
        """

    init(_ arguments: [String]) throws(UsageFault) {
        var rest = arguments[...]
        while let option = rest.popFirst() {
            guard let value = rest.popFirst() else { throw UsageFault(message: "\(option) needs a value") }
            switch option {
            case "--listen": listens.append(try Self.listen(value))
            case "--upstream": for part in value.split(separator: ",") { upstreams.append(try Self.address(String(part), of: option)) }
            case "--protocol": protocolHint = try Self.hint(value)
            case "--workers": workers = try Self.number(value, of: option, in: 1...Limits.workersMax)
            case "--hosts": hosts = try Self.number(value, of: option, in: 0...100_000)
            case "--proxy": proxyPath = value
            case "--limit": proxyLimits.append(value)
            case "--routes": routesPath = value
            case "--metrics-file": metricsPath = value
            case "--as": account = try Self.account(value, of: option)
            case "--inbound": inbound.append(try Self.workload(value, of: option))
            case "--workload": workloads.append(try Self.workload(value, of: option))
            case "--identity": identities.append(try Self.holder(value, of: option))
            case "--roots": rootsPath = value
            case "--revocations": revocationsPath = value
            case "--trust-domain": trustDomain = value
            case "--policy": try PolicyOption.read(value, into: &policy)
            case "--failure": failsOpen = try Self.failsOpen(value)
            default: throw UsageFault(message: "unknown option \(option)")
            }
        }
        guard !listens.isEmpty && !upstreams.isEmpty || listens.isEmpty && !inbound.isEmpty else {
            throw UsageFault(message: "--listen and --upstream are needed, or --inbound")
        }
    }

    static func address(_ text: String, of option: String) throws(UsageFault) -> Address {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]),
            let ip = IPAddress(String(text[..<colon].drop { $0 == "[" }.prefix { $0 != "]" }))
        else { throw UsageFault(message: "\(option): '\(text)' is not ADDRESS:PORT") }
        return Address(ip: ip, port: port)
    }

    private static func listen(_ text: String) throws(UsageFault) -> Listen {
        let parts = text.split(separator: "/", maxSplits: 1)
        let address = try address(String(parts.first ?? ""), of: "--listen")
        return Listen(address: address, protocolHint: parts.count > 1 ? try hint(String(parts[1])) : nil)
    }

    private static func failsOpen(_ text: String) throws(UsageFault) -> Bool {
        guard text == "open" || text == "closed" else { throw UsageFault(message: "--failure: '\(text)' is neither open nor closed") }
        return text == "open"
    }

    private static func account(_ text: String, of option: String) throws(UsageFault) -> Account {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2 else { throw UsageFault(message: "\(option): '\(text)' is not NAMESPACE/ACCOUNT") }
        return Account(namespace: String(parts[0]), name: String(parts[1]))
    }

    private static func workload(_ text: String, of option: String) throws(UsageFault) -> (ip: IPAddress, account: Account) {
        let parts = text.split(separator: "=", maxSplits: 1)
        guard parts.count == 2, let ip = IPAddress(String(parts[0])) else { throw UsageFault(message: "\(option): '\(text)' is not ADDRESS=NAMESPACE/ACCOUNT") }
        return (ip, try account(String(parts[1]), of: option))
    }

    private static func holder(_ text: String, of option: String) throws(UsageFault) -> Holder {
        let parts = text.split(separator: "=", maxSplits: 1), files = parts.last?.split(separator: ",") ?? []
        guard parts.count == 2, files.count == 2 else { throw UsageFault(message: "\(option): '\(text)' is not URI=CHAIN,KEY") }
        return Holder(uri: String(parts[0]), chain: String(files[0]), key: String(files[1]))
    }

    static func hint(_ text: String) throws(UsageFault) -> ProtocolHint {
        switch text {
        case "http": .http1
        case "http2": .http2
        case "grpc": .grpc
        case "tls": .tls
        case "tcp": .tcp
        case "undeclared": .undeclared
        default: throw UsageFault(message: "--protocol: '\(text)' is none of http, http2, grpc, tls, tcp, undeclared")
        }
    }

    private static func number<Number: FixedWidthInteger>(_ text: String, of option: String, in range: ClosedRange<Int>) throws(UsageFault) -> Number {
        guard let value = Int(text), range.contains(value) else {
            throw UsageFault(message: "\(option): '\(text)' is not a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return Number(value)
    }
}

extension HostOptions {
    /// The listeners' pods as workloads; the upstreams as endpoints of a service at the listeners' address, or of each host name.
    var meshState: MeshState {
        let endpoints = upstreams.map { Endpoint(address: $0.ip, port: $0.port) }
        let pods = listens.indices.map { index in
            Workload(
                uid: "host-pod-\(index + 1)", name: "client-\(index + 1)", namespace: account.namespace, serviceAccount: account.name, nodeName: "host",
                addresses: [podAddress(index)], app: "client-\(index + 1)", isMeshed: true)
        }
        let targets = inbound.map { target($0, nodeName: "host") } + workloads.map { target($0, nodeName: "elsewhere") }
        let services = hosts > 0
            ? (0..<hosts).map {
                Service(namespace: "test", name: "h\($0)", isHeadless: true, ports: [
                    ServicePort(name: "http", port: listens[0].address.port, protocolHint: protocolHint, endpoints: [endpoints[$0 % endpoints.count]])
                ], policy: policy)
            }
            : Set(listens.map(\.address.ip)).sorted().enumerated().map { index, ip in
                Service(namespace: "test", name: "service-\(index + 1)", addresses: [ip], ports: listens.filter { $0.address.ip == ip }.map {
                    ServicePort(
                        name: "port-\($0.address.port)", port: $0.address.port, protocolHint: $0.protocolHint ?? protocolHint, endpoints: endpoints)
                }, policy: policy)
            }
        return MeshState(nodeName: "host", trustDomain: trustDomain, workloads: pods + targets, services: services)
    }

    private func target(_ known: (ip: IPAddress, account: Account), nodeName: String) -> Workload {
        let name = "\(known.account.name)-\(known.ip)"
        return Workload(
            uid: name, name: name, namespace: known.account.namespace, serviceAccount: known.account.name, nodeName: nodeName, addresses: [known.ip],
            app: known.account.name, isMeshed: true, failsOpen: failsOpen)
    }

    /// An address of the benchmarking network (RFC 2544): a name for the pod, never sent to.
    func podAddress(_ index: Int) -> IPAddress { IPAddress("198.18.\(index / 250).\(index % 250 + 1)")! }
}
