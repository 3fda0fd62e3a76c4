import MeshModel

/// All access policies in force, and which workload each of them selects.
public struct AccessBook: Sendable, Equatable {
    /// Sorted by namespace and name.
    private(set) var policies: [AccessPolicyObject] = []
    /// Labels of the pods, by uid.
    private var labels: [String: [String: String]] = [:]
    /// Ports of the Services that policies name, by `namespace/name` and uid of the pod behind.
    private var servicePorts: [String: [String: [UInt16]]] = [:]

    /// Nothing is in force.
    public init() {}

    init(policies: [AccessPolicyObject], labels: [String: [String: String]], services: [Service]) {
        self.policies = policies.sorted { ($0.metadata.namespace, $0.metadata.name) < ($1.metadata.namespace, $1.metadata.name) }
        guard !policies.isEmpty else { return }
        self.labels = labels
        let named = Set(policies.compactMap(\.serviceKey))
        for service in services where named.contains("\(service.namespace)/\(service.name)") {
            var ports: [String: [UInt16]] = [:]
            for endpoint in service.ports.flatMap(\.endpoints) {
                guard let uid = endpoint.workloadUID, ports[uid]?.contains(endpoint.port) != true else { continue }
                ports[uid, default: []].append(endpoint.port)
            }
            servicePorts["\(service.namespace)/\(service.name)"] = ports.mapValues { $0.sorted() }
        }
    }

    /// Whether there is any policy.
    public var isEmpty: Bool { policies.isEmpty }

    /// The rules in force at a workload, in the order in which they are asked.
    public func access(to workload: Workload) -> WorkloadAccess {
        var rules: [AccessRule] = []
        for policy in policies {
            if case .selects(let ports) = selection(of: workload, by: policy) { rules += policy.accessRules(ports: ports) }
        }
        return WorkloadAccess(uid: workload.uid, rules: rules)
    }

    /// What one policy has to do with a workload.
    public struct Consideration: Sendable, Equatable {
        /// `namespace/name`.
        public var policy: String
        public var selects: Bool
        /// Why it selects the workload, or why not.
        public var reason: String
        /// `mandatory`, `default` or `namespace`.
        public var strength: String
        public var isAudit: Bool
        /// `allow`, `deny`, or empty for a policy without rules.
        public var action: String
    }

    /// Every policy there is, and whether it selects the workload.
    public func considerations(of workload: Workload) -> [Consideration] {
        policies.map { policy in
            let (selects, reason): (Bool, String) =
                switch selection(of: workload, by: policy) {
                case .selects(let ports):
                    (true, ports.isEmpty ? policy.scopeText : "\(policy.scopeText), whose ports there are \(ports.map(String.init).joined(separator: ", "))")
                case .passes(let reason): (false, reason)
                }
            return Consideration(
                policy: policy.name, selects: selects, reason: reason, strength: policy.isMeshWide ? policy.strength.rawValue : "namespace",
                isAudit: policy.isAudit, action: policy.action?.rawValue ?? "")
        }
    }

    /// One policy in a few words.
    public struct Summary: Sendable, Equatable {
        public var namespace: String
        public var name: String
        public var action: String
        public var isAudit: Bool
        /// `mandatory`, `default` or `namespace`.
        public var strength: String
        public var rules: Int
        /// How many of the workloads asked about it selects.
        public var selected: Int
    }

    /// All policies, and how many of these workloads each selects.
    public func summaries(over workloads: [Workload]) -> [Summary] {
        policies.map { policy in
            Summary(
                namespace: policy.metadata.namespace, name: policy.metadata.name, action: policy.action?.rawValue ?? "", isAudit: policy.isAudit,
                strength: policy.isMeshWide ? policy.strength.rawValue : "namespace", rules: policy.rules?.count ?? 0,
                selected: workloads.count { workload in
                    if case .selects = selection(of: workload, by: policy) { return true }
                    return false
                })
        }
    }

    /// What is revoked mesh-wide.
    public var revocations: RevocationList {
        let policies = policies.filter(\.isMeshWide)
        return RevocationList(serials: Set(policies.flatMap(\.revokedSerials)).sorted(), identities: Set(policies.flatMap(\.revokedIdentities)).sorted())
    }

    private enum Selection {
        /// On these ports; all of them when there are none.
        case selects(ports: [UInt16])
        case passes(String)
    }

    private func selection(of workload: Workload, by policy: AccessPolicyObject) -> Selection {
        guard policy.isMeshWide || policy.metadata.namespace == workload.namespace else { return .passes("it is for namespace \(policy.metadata.namespace)") }
        switch policy.target {
        case .everything: return .selects(ports: [])
        case .labels(let wanted):
            let own = labels[workload.uid] ?? [:]
            for (name, value) in wanted.sorted(by: { $0.key < $1.key }) where own[name] != value {
                return .passes("the pod has no label \(name): \(value)")
            }
            return .selects(ports: [])
        case .service(let name):
            guard let ports = servicePorts["\(policy.metadata.namespace)/\(name)"]?[workload.uid] else { return .passes("the pod is not behind Service \(name)") }
            return .selects(ports: ports)
        }
    }
}

/// Certificates and identities that count no more, whatever their dates.
public struct RevocationList: Sendable, Equatable {
    /// Lower-case hexadecimal without leading zeros, sorted.
    public var serials: [String]
    /// Whole identities, sorted.
    public var identities: [String]

    public init(serials: [String] = [], identities: [String] = []) {
        self.serials = serials
        self.identities = identities
    }
}

extension AccessPolicyObject {
    var name: String { "\(metadata.namespace)/\(metadata.name)" }

    var serviceKey: String? {
        if case .service(let name) = target { return "\(metadata.namespace)/\(name)" }
        return nil
    }

    fileprivate var scopeText: String {
        switch target {
        case .everything: isMeshWide ? "it selects the whole mesh" : "it selects its whole namespace"
        case .labels: "it selects the pod's labels"
        case .service(let name): "it selects Service \(name)"
        }
    }

    /// What the policy says about a workload that it selects.
    /// - Parameter ports: the only ports it is about; all when empty.
    func accessRules(ports: [UInt16]) -> [AccessRule] {
        let scope = ports.map { AccessTerm(.scopePort, number: $0) }
        func rule(_ step: AccessStep, _ field: String, _ terms: [AccessTerm] = []) -> AccessRule {
            AccessRule(step, isAudit: isAudit, policy: name, field: field, terms: scope + terms)
        }
        var result: [AccessRule] = []
        for (number, identity) in revokedIdentities.enumerated() {
            result.append(rule(.revoked, "spec.revoked.identities[\(number)]", [AccessTerm(.identity, text: identity)]))
        }
        if let rules, let action {
            for (number, written) in rules.enumerated() { result.append(rule(step(action), "spec.rules[\(number)]", written.terms)) }
            if action == .allow { result.append(rule(gate, "spec.rules")) }
        }
        if let rest, let step = step(rest: rest) { result.append(rule(step, "spec.default")) }
        return result
    }

    private func step(_ action: Action) -> AccessStep {
        guard isMeshWide else { return action == .deny ? .deny : .allow }
        switch (strength, action) {
        case (.mandatory, .deny): return .mandatoryDeny
        case (.mandatory, .allow): return .mandatoryAllow
        case (.preset, .deny): return .presetDeny
        case (.preset, .allow): return .presetAllow
        }
    }

    private var gate: AccessStep { !isMeshWide ? .gate : strength == .mandatory ? .mandatoryGate : .presetGate }

    private func step(rest: Action) -> AccessStep? {
        guard isMeshWide else { return rest == .deny ? .denyRest : .allowRest }
        guard rest == .deny else { return nil }      // allowed is what everything is that nobody decides
        return strength == .mandatory ? .mandatoryDenyRest : .presetDenyRest
    }
}

extension AccessPolicyObject.Rule {
    fileprivate var terms: [AccessTerm] {
        var terms: [AccessTerm] = []
        for (place, source) in sources.enumerated() {
            let alternative = UInt16(place)
            terms += source.identities.map { AccessTerm(.identity, $0, alternative, group: 0) }
            terms += source.namespaces.map { AccessTerm(.namespace, $0, alternative, group: 1) }
            terms += source.serviceAccounts.map { AccessTerm(.serviceAccount, $0, alternative, group: 2) }
            if source.unauthenticated { terms.append(AccessTerm(.unauthenticated, alternative: alternative, group: 3)) }
        }
        terms += ports.map { AccessTerm(.port, number: $0) }
        for (place, request) in requests.enumerated() {
            let alternative = UInt16(place)
            terms += request.methods.map { AccessTerm(.method, TextPattern(.exact, $0), alternative, group: 0) }
            terms += request.paths.map { AccessTerm(.path, $0, alternative, group: 1) }
            terms += request.hosts.map { AccessTerm(.host, $0, alternative, group: 2) }
            for (number, header) in request.headers.enumerated() {
                terms.append(
                    AccessTerm(
                        .header, header.value.comparison.known, text: header.name + header.value.text, number: UInt16(header.name.utf8.count),
                        alternative: alternative, group: UInt16(3 + number)))
            }
        }
        return terms
    }
}

extension AccessTerm {
    fileprivate init(_ subject: Subject, _ pattern: TextPattern, _ alternative: UInt16, group: UInt16) {
        self.init(subject, pattern.comparison.known, text: pattern.text, alternative: alternative, group: group)
    }
}

extension TextPattern.Comparison {
    fileprivate var known: AccessTerm.Comparison {
        switch self {
        case .exact: .exact
        case .prefix: .prefix
        case .suffix: .suffix
        case .any: .any
        }
    }
}
