import MeshModel

// A route is read in two kinds of care. What no API server takes either (a parent without a name) is a fault of the object, and none of
// it is used. What is wrong inside one rule, or unknown to Weft, stays with that rule: the others are good.
extension RouteObject {
    init(_ kind: ObjectKind, _ metadata: ObjectMetadata, reading object: ObjectReader) {
        self.metadata = metadata
        self.kind = kind
        (parents, hostnames, rules, problems, remarks) = ([], [], [], [], [])
        guard let spec = object.requiredObject("spec") else { return }
        parents = spec.objects("parentRefs").compactMap { readParent($0) }
        let log = FaultLog(beside: object.log)
        let careful = spec.logging(to: log, at: "spec")
        // useDefaultGateways is about Gateways, as parents of other kinds are: not a word about the mesh.
        careful.allowOnly(["parentRefs", "hostnames", "rules", "useDefaultGateways"])
        careful.limit("parentRefs", to: RouteLimits.parentsMax)
        checkParents(careful)
        hostnames = readHostnames(careful)
        let rules = careful.objects("rules")
        careful.limit("rules", to: RouteLimits.rulesMax)
        for (number, rule) in rules.enumerated() { read(rule, number) }
        checkRules(careful)
        problems += log.faults.map { Problem(fault: $0, reason: .unsupportedValue) }
        // The API server writes this rule where an HTTPRoute has none.
        if rules.isEmpty, kind == .httpRoute { self.rules = [Rule(place: Place(field: "spec.rules", line: spec.line), matches: [Match()])] }
    }

    // MARK: Parents

    private func readParent(_ reader: ObjectReader) -> Parent? {
        guard let name = reader.requiredString("name", remedy: "write the name of the Service") else { return nil }
        return Parent(
            group: reader.string("group") ?? Parent.gatewayGroup, kind: reader.string("kind") ?? "Gateway",
            namespace: reader.nonEmpty("namespace"), name: name, sectionName: reader.nonEmpty("sectionName"), port: reader.port("port"),
            place: Place(field: reader.path, line: reader.line))
    }

    private func checkParents(_ spec: ObjectReader) {
        for reader in spec.objects("parentRefs") { reader.allowOnly(["group", "kind", "namespace", "name", "sectionName", "port"]) }
        // References to one object must say the same parts, with other values (ParentReference, “distinct”).
        for (number, parent) in parents.enumerated() {
            for earlier in parents[..<number] where earlier.isSameObject(as: parent, of: metadata.namespace) {
                let isAlike = (earlier.sectionName == nil) == (parent.sectionName == nil) && (earlier.port == nil) == (parent.port == nil)
                if !isAlike || earlier.sectionName == parent.sectionName && earlier.port == parent.port {
                    spec.log.add(
                        line: parent.place.line, field: parent.place.field, "\(parent.kind) \(parent.name) is a parent already",
                        remedy: "name each parent once, or each of its ports by sectionName or port")
                    break
                }
            }
        }
    }

    private func readHostnames(_ spec: ObjectReader) -> [HostPattern] {
        spec.limit("hostnames", to: RouteLimits.hostnamesMax)
        return spec.strings("hostnames").compactMap { text, path, line in
            let isSuffix = text.hasPrefix("*.")
            let name = isSuffix ? String(text.dropFirst(2)) : text
            guard ObjectMetadata.isDNSName(name), IPAddress(name) == nil else {
                spec.log.add(line: line, field: path, "“\(text.prefix(64))” is no host name", remedy: "write a name in lower case such as cart.example.com or *.example.com")
                return nil
            }
            return isSuffix ? .suffix(".\(name)") : .exact(name)
        }
    }

    // MARK: Rules

    private mutating func read(_ reader: ObjectReader, _ number: Int) {
        let log = FaultLog(beside: reader.log)
        let careful = reader.logging(to: log, at: reader.path)
        var rule = Rule(place: Place(field: reader.path, line: reader.line))
        if let name = careful.nonEmpty("name") {
            rule.name = name
            if !ObjectMetadata.isDNSName(name) {
                careful.fault("name", "“\(name.prefix(64))” is no Kubernetes name", remedy: "use lower-case letters, digits, “-” and “.”, at most 253")
            }
        }
        let common = ["name", "matches", "filters", "backendRefs", "sessionPersistence"]
        careful.allowOnly(isGRPC ? common : common + ["timeouts", "retry"])
        var matching = RouteMatchReading(isGRPC: isGRPC)
        rule.matches = matching.matches(careful)
        var filtering = RouteFilterReading(isGRPC: isGRPC)
        filtering.read(careful, into: &rule)
        rule.backends = filtering.backends(careful)
        if !isGRPC {
            rule.timeouts = RouteTiming.timeouts(careful)
            rule.retry = RouteTiming.retry(careful)
        }
        rule.session = RouteTiming.session(careful)
        filtering.checkPrefix(careful, rule)
        remarks += matching.remarks + filtering.remarks

        let incompatible = FaultLog(beside: reader.log)
        filtering.checkTogether(careful.logging(to: incompatible, at: reader.path), rule)
        rule.isInvalid = !log.faults.isEmpty || !incompatible.faults.isEmpty
        problems += incompatible.faults.map { Problem(fault: $0, reason: .incompatibleFilters, rule: number) }
        problems += log.faults.map { Problem(fault: $0, reason: .unsupportedValue, rule: number) }
        rules.append(rule)
    }

    private func checkRules(_ spec: ObjectReader) {
        if rules.reduce(0, { $0 + $1.matches.count }) > RouteLimits.matchesMax {
            spec.fault("rules", "have more than \(RouteLimits.matchesMax) matches together", remedy: "spread them over several routes")
        }
        var names: Set<String> = []
        for rule in rules where !rule.name.isEmpty && !names.insert(rule.name).inserted {
            spec.log.add(line: rule.place.line, field: "\(rule.place.field).name", "“\(rule.name)” is the name of another rule", remedy: "give each rule its own name")
        }
    }
}

extension RouteObject.Parent {
    fileprivate func isSameObject(as other: Self, of namespace: String) -> Bool {
        group == other.group && kind == other.kind && name == other.name && (self.namespace ?? namespace) == (other.namespace ?? namespace)
    }
}

/// Bounds that the Gateway API sets for a route.
enum RouteLimits {
    static let parentsMax = 32
    static let hostnamesMax = 16
    static let rulesMax = 16
    /// Of one rule.
    static let ruleMatchesMax = 64
    /// Of all rules together.
    static let matchesMax = 128
    /// Headers or query parameters of one match; headers that one filter sets, adds or removes.
    static let fieldsMax = 16
    static let filtersMax = 16
    static let backendsMax = 16
    static let weightMax = 1_000_000
    /// Items of one list of a CORS filter.
    static let corsItemsMax = 64
    static let pathBytesMax = 1_024
    static let headerNameBytesMax = 256
    static let headerValueBytesMax = 4_096
    static let queryValueBytesMax = 1_024
    static let sessionNameBytesMax = 128
    /// Attempts after the first; more would outlast any caller.
    static let retriesMax = 255
}

extension FaultLog {
    /// A log of its own for a part of the same object.
    convenience init(beside other: FaultLog) {
        self.init(file: other.file)
        object = other.object
    }
}

extension ObjectReader {
    /// Nil when absent or empty.
    func nonEmpty(_ field: String) -> String? { string(field).flatMap { $0.isEmpty ? nil : $0 } }

    /// Reports a list that is too long.
    func limit(_ field: String, to most: Int) {
        let count = elements(field).count
        if count > most { fault(field, "lists \(count) items", remedy: "list at most \(most)") }
    }

    /// A duration of the Gateway API (GEP-2257) in milliseconds: `1h`, `90s`, `1m30s`, `250ms`.
    func milliseconds(_ field: String) -> UInt32? {
        guard let text = string(field) else { return nil }
        var total: UInt64 = 0
        var parts = 0
        var rest = Substring(text)
        while !rest.isEmpty {
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            rest = rest.dropFirst(digits.count)
            let unit = rest.prefix { "hms".contains($0) }
            rest = rest.dropFirst(unit.count)
            let scales: [Substring: UInt64] = ["h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1]
            guard (1...5).contains(digits.count), let number = UInt64(digits), let scale = scales[unit], parts < 4 else {
                parts = 0
                break
            }
            total += number * scale
            parts += 1
        }
        guard parts > 0, rest.isEmpty, let milliseconds = UInt32(exactly: total) else {
            fault(field, "“\(text.prefix(64))” is no duration", remedy: "write hours, minutes, seconds and milliseconds such as 1h, 1m30s, 10s or 250ms, at most 49 days")
            return nil
        }
        return milliseconds
    }
}
