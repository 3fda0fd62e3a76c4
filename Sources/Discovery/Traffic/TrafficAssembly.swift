import MeshModel

/// Which policy is in force at which Service.
///
/// A Service has one: the oldest that names it, else the oldest of its namespace that names nothing; the others are reported. What policies
/// say about routes is added to the Services that the route is attached to, for their callers are those who choose among its rules.
struct TrafficAssembly {
    private let policies: [(object: TrafficPolicyObject, held: HeldObject)]
    private let routes: [RouteObject]
    private(set) var faults: [Fault] = []

    init(_ policies: [(TrafficPolicyObject, HeldObject)], routes: [RouteObject]) {
        // Manifests written by hand have no time: those with one are older (as among routes), then by name.
        self.policies = policies.sorted { left, right in
            let (older, newer) = (left.0.metadata, right.0.metadata)
            return (older.createdAt ?? "~", older.namespace, older.name) < (newer.createdAt ?? "~", newer.namespace, newer.name)
        }
        self.routes = routes
    }

    /// Puts the policies into the Services.
    mutating func apply(to services: inout [Service]) {
        guard !policies.isEmpty else { return }
        var places: [String: Int] = [:]
        for (place, service) in services.enumerated() { places["\(service.namespace)/\(service.name)"] = place }
        let owners = applyMeshPolicies(&services, places)
        applyBackendTrafficPolicies(&services, places, owners)
        for (object, held) in policies where object.kind == .meshPolicy { applyToRoutes(object, held, &services, places) }
        for (object, held) in policies { check(object, held, places) }
    }

    /// - Returns: by place of the Service, the MeshPolicy that it has.
    private mutating func applyMeshPolicies(_ services: inout [Service], _ places: [String: Int]) -> [Int: TrafficPolicyObject] {
        var owners: [Int: TrafficPolicyObject] = [:]
        for (object, held) in policies where object.kind == .meshPolicy {
            for target in object.targets where target.kind == .service {
                guard let place = places["\(object.metadata.namespace)/\(target.name)"] else { continue }
                if let older = owners[place] {
                    report(object, held, target, "Service \(target.name) has a policy already: \(older.name), which is older", remedy: "write one policy for each Service")
                } else {
                    owners[place] = object
                    services[place].policy = Self.joined(object.policy, services[place].policy)
                }
            }
        }
        var defaults: [String: TrafficPolicyObject] = [:]
        for (object, held) in policies where object.kind == .meshPolicy && object.targets.isEmpty {
            if let older = defaults[object.metadata.namespace] {
                let reason = "its namespace has a policy for all its Services already: \(older.name), which is older"
                faults.append(Fault(file: held.file, line: held.line, object: object.name, field: "spec.targetRefs", reason: reason, remedy: "write one, or name Services"))
            } else {
                defaults[object.metadata.namespace] = object
            }
        }
        for place in services.indices where owners[place] == nil {
            guard let object = defaults[services[place].namespace] else { continue }
            owners[place] = object
            services[place].policy = Self.joined(object.policy, services[place].policy)
        }
        return owners
    }

    /// What the Gateway API says goes before the mesh's own words for the same.
    private mutating func applyBackendTrafficPolicies(_ services: inout [Service], _ places: [String: Int], _ owners: [Int: TrafficPolicyObject]) {
        var known: [Int: TrafficPolicyObject] = [:]
        for (object, held) in policies where object.kind == .backendTrafficPolicy {
            for target in object.targets where target.kind == .service {
                guard let place = places["\(object.metadata.namespace)/\(target.name)"] else { continue }
                if let older = known[place] {
                    report(object, held, target, "Service \(target.name) has a policy already: \(older.name), which is older", remedy: "write one policy for each Service")
                    continue
                }
                known[place] = object
                services[place].policy.retryBudgetPercent = object.policy.retryBudgetPercent
                services[place].policy.retryBudgetPerSecondMin = object.policy.retryBudgetPerSecondMin
                services[place].policy.session = object.policy.session
            }
        }
    }

    private mutating func applyToRoutes(_ object: TrafficPolicyObject, _ held: HeldObject, _ services: inout [Service], _ places: [String: Int]) {
        for target in object.targets where target.kind != .service {
            let kind: ObjectKind = target.kind == .httpRoute ? .httpRoute : .grpcRoute
            guard let route = routes.first(where: { $0.kind == kind && $0.metadata.namespace == object.metadata.namespace && $0.metadata.name == target.name })
            else {
                report(object, held, target, "there is no \(target.kind.rawValue) \(object.metadata.namespace)/\(target.name)", remedy: "write the name of a route of the policy's own namespace")
                continue
            }
            if !target.sectionName.isEmpty, !route.rules.contains(where: { $0.name == target.sectionName }) {
                report(object, held, target, "\(route.name) has no rule named \(target.sectionName)", remedy: "write the name of one of its rules, or leave out sectionName")
                continue
            }
            for parent in Set(route.parents.filter(\.isService).map { "\($0.namespace ?? route.metadata.namespace)/\($0.name)" }) {
                guard let place = places[parent] else { continue }
                func of(_ match: TrafficMatch) -> TrafficMatch {
                    var match = match
                    (match.route, match.rule) = (route.name, target.sectionName)
                    return match
                }
                services[place].policy.rateLimits += object.policy.rateLimits.map {
                    var limit = $0
                    limit.match = of($0.match)
                    return limit
                }
                services[place].policy.faults += object.policy.faults.map {
                    var fault = $0
                    fault.match = of($0.match)
                    return fault
                }
                let count = max(services[place].policy.rateLimits.count, services[place].policy.faults.count)
                if count > Limits.rateLimitsPerServiceMax {
                    services[place].policy.rateLimits.removeLast(max(0, services[place].policy.rateLimits.count - Limits.rateLimitsPerServiceMax))
                    services[place].policy.faults.removeLast(max(0, services[place].policy.faults.count - Limits.faultsPerServiceMax))
                    report(object, held, target, "Service \(parent) has more than \(Limits.rateLimitsPerServiceMax) limits or faults with it", remedy: "write fewer")
                }
            }
        }
    }

    /// What names nothing.
    private mutating func check(_ object: TrafficPolicyObject, _ held: HeldObject, _ places: [String: Int]) {
        for target in object.targets where target.kind == .service && places["\(object.metadata.namespace)/\(target.name)"] == nil {
            report(object, held, target, "there is no Service \(object.metadata.namespace)/\(target.name)", remedy: "write the name of a Service of the policy's own namespace")
        }
        guard case .service(let namespace, let name, _) = object.policy.fallback, places["\(namespace)/\(name)"] == nil else { return }
        faults.append(
            Fault(
                file: held.file, line: held.line, object: object.name, field: "spec.fallback.service.name", reason: "there is no Service \(namespace)/\(name)",
                remedy: "write the name of a Service of the policy's own namespace", consequence: .restInForce))
    }

    /// Sessions that a policy gives a Service, as rules: of its routes that lead to nothing else, and one for each port that has none.
    static func routes(_ routes: [ServiceRoutes], withSessionsOf services: [Service]) -> [ServiceRoutes] {
        var result = routes
        for service in services {
            guard let session = service.policy.session else { continue }
            for port in service.ports where !port.protocolHint.isOpaque {
                let target = BackendTarget.service(namespace: service.namespace, name: service.name, port: port.port)
                for place in result.indices {
                    for number in result[place].rules.indices where result[place].rules[number].session == nil {
                        guard case .forward(let backends) = result[place].rules[number].action, !backends.isEmpty, backends.allSatisfy({ $0.target == target }) else { continue }
                        result[place].rules[number].session = session
                    }
                }
                let isRouted = result.contains {
                    $0.namespace == service.namespace && $0.name == service.name && $0.port == port.port && $0.callersNamespace == nil
                }
                guard !isRouted else { continue }
                let rule = RouteRule(
                    route: "Service \(service.namespace)/\(service.name)", rule: "sessionPersistence", action: .forward([WeightedBackend(target)]), session: session)
                result.append(
                    ServiceRoutes(namespace: service.namespace, name: service.name, port: port.port, matches: [RouteMatch(rule: 0)], rules: [rule]))
            }
        }
        return result.count == routes.count ? result : result.sorted {
            ($0.namespace, $0.name, $0.port, $0.callersNamespace ?? "") < ($1.namespace, $1.name, $1.port, $1.callersNamespace ?? "")
        }
    }

    /// What other objects have said of the Service stays where the policy is silent.
    private static func joined(_ policy: TrafficPolicy, _ before: TrafficPolicy) -> TrafficPolicy {
        var policy = policy
        if policy.locality == TrafficPolicy.default.locality { policy.locality = before.locality }
        return policy
    }

    private mutating func report(_ object: TrafficPolicyObject, _ held: HeldObject, _ target: TrafficPolicyObject.Target, _ reason: String, remedy: String) {
        faults.append(
            Fault(
                file: held.file, line: target.line, object: object.name, field: target.field, reason: reason, remedy: remedy,
                consequence: object.targets.count > 1 ? .restInForce : .leftOut))
    }
}
