import MeshModel

/// An `AccessPolicy`: who may call what. Decoded strictly: a field that nobody knows could be the misspelt half of a condition, and
/// leaving it out would widen the rule.
struct AccessPolicyObject: Sendable, Hashable, Codable {
    var metadata: ObjectMetadata
    /// What the policy is about.
    var target: Target
    var action: Action?
    /// Counted and told, but not acted on.
    var isAudit: Bool
    /// Mesh-wide policies only.
    var strength: Strength
    /// Nil when the policy has none; an empty list under `action: allow` allows nothing.
    var rules: [Rule]?
    /// `default:`, what becomes of calls that no rule has decided.
    var rest: Action?
    /// Serial numbers of certificates, in lower-case hexadecimal without leading zeros.
    var revokedSerials: [String]
    /// Whole identities.
    var revokedIdentities: [String]

    /// Policies of this namespace concern the whole mesh.
    static let rootNamespace = "weft-system"
    var isMeshWide: Bool { metadata.namespace == Self.rootNamespace }

    enum Target: Sendable, Hashable, Codable {
        /// All workloads of the namespace, or of the mesh.
        case everything
        /// Those with all of these labels.
        case labels([String: String])
        /// Those behind a Service of the policy's own namespace, on its ports.
        case service(String)
    }

    enum Action: String, Sendable, Hashable, Codable, CaseIterable { case allow, deny }
    enum Mode: String, CaseIterable { case enforce, audit }
    enum Strength: String, Sendable, Hashable, Codable, CaseIterable {
        /// No namespace can weaken it.
        case mandatory
        /// In force where a namespace says nothing itself.
        case preset = "default"
    }

    /// One of the policy's rules. Empty lists ask nothing.
    struct Rule: Sendable, Hashable, Codable {
        var sources: [Source] = []
        var ports: [UInt16] = []
        var requests: [Request] = []
    }

    /// Callers: all lists that are not empty must agree.
    struct Source: Sendable, Hashable, Codable {
        var identities: [TextPattern] = []
        var namespaces: [TextPattern] = []
        /// `namespace/name`.
        var serviceAccounts: [TextPattern] = []
        var unauthenticated = false
    }

    /// HTTP requests: all lists that are not empty must agree, and all headers.
    struct Request: Sendable, Hashable, Codable {
        var methods: [String] = []
        var paths: [TextPattern] = []
        var hosts: [TextPattern] = []
        var headers: [Header] = []
    }

    struct Header: Sendable, Hashable, Codable {
        /// In lower case.
        var name: String
        var value: TextPattern
    }

    init(_ metadata: ObjectMetadata, reading object: ObjectReader) {
        self.metadata = metadata
        (target, action, isAudit, strength, rules, rest) = (.everything, nil, false, .mandatory, nil, nil)
        (revokedSerials, revokedIdentities) = ([], [])
        guard let spec = object.requiredObject("spec") else { return }
        spec.allowOnly(["selector", "targetRef", "action", "mode", "strength", "rules", "default", "revoked"])
        readTarget(spec)
        action = spec.choice("action", Action.self)
        isAudit = spec.choice("mode", Mode.self) == .audit
        rest = spec.choice("default", Action.self)
        readStrength(spec)
        if spec.has("rules") { rules = readRules(spec) }
        if let revoked = spec.object("revoked") { readRevoked(revoked, spec) }
        checkWhole(spec)
    }

    // MARK: Parts

    private mutating func readTarget(_ spec: ObjectReader) {
        if spec.has("selector"), spec.has("targetRef") {
            return spec.fault("targetRef", "stands beside selector", remedy: "write one of them, or two policies")
        }
        if let selector = spec.object("selector") {
            selector.allowOnly(["matchLabels"])
            let labels = selector.stringMap("matchLabels")
            if labels.isEmpty { selector.fault("matchLabels", "is empty", remedy: "write labels, or leave out selector to mean the whole namespace") }
            target = .labels(labels)
        } else if let reference = spec.object("targetRef") {
            reference.allowOnly(["group", "kind", "name"])
            if let group = reference.string("group"), !group.isEmpty, group != "core" {
                reference.fault("group", "“\(group)” is not the group of Services", remedy: "leave it out")
            }
            if let kind = reference.requiredString("kind", remedy: "write Service"), kind != "Service" {
                reference.fault("kind", "“\(kind)” cannot be selected", remedy: "write Service, or select workloads by their labels")
            }
            if let name = reference.requiredString("name", remedy: "write the Service's name") { target = .service(name) }
        }
    }

    private mutating func readStrength(_ spec: ObjectReader) {
        guard let word = spec.choice("strength", Strength.self) else { return }
        strength = word
        if !isMeshWide {
            spec.fault("strength", "only mesh-wide policies have one", remedy: "leave it out, or move the policy to namespace \(Self.rootNamespace)")
        }
    }

    private mutating func readRevoked(_ revoked: ObjectReader, _ spec: ObjectReader) {
        revoked.allowOnly(["serials", "identities"])
        if !isMeshWide {
            spec.fault("revoked", "identities are the mesh's, not a namespace's", remedy: "move the policy to namespace \(Self.rootNamespace)")
        }
        if isAudit { spec.fault("revoked", "cannot be tried out", remedy: "write it into a policy whose mode is enforce") }
        for (text, path, line) in revoked.strings("serials") {
            let digits = text.lowercased().filter { $0 != ":" }
            let serial = String(digits.drop { $0 == "0" })
            guard !serial.isEmpty, digits.utf8.count <= 42, digits.allSatisfy(\.isHexDigit), digits.utf8.count == digits.count else {
                revoked.log.add(line: line, field: path, "“\(text.prefix(64))” is no serial number", remedy: "write it in hexadecimal, as openssl x509 -serial does, in quotes")
                continue
            }
            revokedSerials.append(serial)
        }
        for (text, path, line) in revoked.strings("identities") {
            if WorkloadIdentity(text) != nil {
                revokedIdentities.append(text)
            } else {
                revoked.log.add(line: line, field: path, "“\(text.prefix(64))” is no identity", remedy: WorkloadIdentity.example)
            }
        }
    }

    private func readRules(_ spec: ObjectReader) -> [Rule] {
        let readers = spec.objects("rules")
        if readers.count > DiscoveryLimits.accessRulesMax {
            spec.fault("rules", "lists \(readers.count) rules", remedy: "write at most \(DiscoveryLimits.accessRulesMax) into one policy")
            return []
        }
        return readers.map { reader in
            reader.allowOnly(["from", "ports", "http"])
            var rule = Rule()
            for name in ["from", "ports", "http"] where reader.has(name) && reader.elements(name).isEmpty {
                reader.fault(name, "is empty", remedy: "write what is meant, or leave it out to mean any")
            }
            rule.sources = reader.objects("from").map { AccessPatterns.source($0, namespace: metadata.namespace, isMeshWide: isMeshWide) }
            rule.ports = AccessPatterns.ports(reader)
            rule.requests = reader.objects("http").map(AccessPatterns.request)
            return rule
        }
    }

    /// What the fields say together.
    private func checkWhole(_ spec: ObjectReader) {
        if spec.has("rules"), !spec.has("action") { spec.fault("action", "is missing", remedy: "write allow or deny: what becomes of calls that match a rule") }
        if spec.has("action"), !spec.has("rules") {
            spec.fault("rules", "is missing", remedy: "write the rules; “rules: [{}]” means every call, and under allow “rules: []” means none")
        }
        if action == .deny, rules?.isEmpty == true {
            spec.fault("rules", "is empty, so nothing is denied", remedy: "write a rule; “rules: [{}]” denies every call")
        }
        if rest != nil, target != .everything {
            spec.fault("default", "is for a whole namespace or mesh", remedy: "leave out selector and targetRef, or write an allow policy without rules")
        }
        if rest == .allow, isMeshWide, strength == .mandatory {
            spec.fault("default", "“allow” cannot be mandatory: namespaces may always refuse more", remedy: "write strength: default, or default: deny")
        }
        if rules == nil, rest == nil, !spec.has("revoked") {
            spec.fault("rules", "is missing, and so are default and revoked: the policy says nothing", remedy: "write action and rules, default, or revoked")
        }
    }
}

/// A text to compare with: whole, or with one `*` at its beginning or end.
struct TextPattern: Sendable, Hashable, Codable {
    enum Comparison: String, Sendable, Hashable, Codable { case exact, prefix, suffix, any }
    var comparison: Comparison
    var text: String

    init(_ comparison: Comparison, _ text: String) {
        self.comparison = comparison
        self.text = text
    }

    /// Nil when a `*` stands anywhere but at one end.
    init?(_ written: String) {
        if written == "*" {
            self.init(.any, "")
        } else if written.hasSuffix("*") {
            self.init(.prefix, String(written.dropLast()))
        } else if written.hasPrefix("*") {
            self.init(.suffix, String(written.dropFirst()))
        } else {
            self.init(.exact, written)
        }
        if text.contains("*") || written.isEmpty { return nil }
    }
}

/// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
struct WorkloadIdentity: Sendable, Hashable {
    var trustDomain: String
    var namespace: String
    var serviceAccount: String

    static let example = "write spiffe://cluster.local/ns/<namespace>/sa/<service account>"

    init?(_ text: String) {
        guard text.hasPrefix("spiffe://") else { return nil }
        let parts = text.dropFirst(9).split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 5, parts[1] == "ns", parts[3] == "sa", [parts[0], parts[2], parts[4]].allSatisfy(ObjectMetadata.isDNSName) else { return nil }
        (trustDomain, namespace, serviceAccount) = (parts[0], parts[2], parts[4])
    }
}
