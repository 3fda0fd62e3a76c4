import MeshModel

/// Joins routes with the Services and grants they name: what is in force at each port, and the conditions of each route
/// (Gateway API, `RouteStatus`; GEP-1426 for Services as parents).
struct RouteAssembly {
    private let services: ServiceIndex
    private let backends: RouteBackends
    private var routes: [Route]
    private(set) var faults: [Fault] = []
    private(set) var notes: [Note] = []

    /// A route in force with what became of it.
    struct Route {
        var object: RouteObject
        var held: HeldObject
        /// One for each of its parents.
        var outcomes: [Outcome] = []
    }

    /// What became of a route at one parent.
    enum Outcome {
        /// Something else reads it, a Gateway for instance.
        case foreign
        case refused(RouteCondition.Reason, String)
        case attached(service: ServiceKey, ports: Set<UInt16>)
    }

    init(_ objects: [(RouteObject, HeldObject)], grants: [ReferenceGrantObject], services: [Service], externalNames: Set<ServiceKey>) {
        let index = ServiceIndex(services, externalNames: externalNames)
        self.services = index
        backends = RouteBackends(services: index, grants: grants)
        routes = objects.map { Route(object: $0, held: $1) }
        for number in routes.indices { attach(number) }
        settleConflicts()
        settleLimits()
    }

    // MARK: Attaching

    private mutating func attach(_ number: Int) {
        let (route, held) = (routes[number].object, routes[number].held)
        for parent in route.parents { routes[number].outcomes.append(outcome(of: parent, route)) }
        for remark in route.remarks { notes.append(Note(file: held.file, line: remark.line, text: "\(route.name): \(remark.text)")) }
        for (parent, outcome) in zip(route.parents, routes[number].outcomes) {
            guard case .foreign = outcome else { continue }
            notes.append(Note(file: held.file, line: parent.place.line, text: "\(route.name): \(parent.kind) \(parent.name) is no Service; Weft routes what goes to Services"))
        }
        if route.parents.isEmpty { notes.append(Note(file: held.file, line: held.line, text: "\(route.name): has no parent, so nothing is routed by it")) }
    }

    private func outcome(of parent: RouteObject.Parent, _ route: RouteObject) -> Outcome {
        guard parent.isService else {
            if parent.isForeign { return .foreign }
            let group = parent.group.isEmpty ? "the core group" : "group \(parent.group)"
            return .refused(.noMatchingParent, "there is no kind \(parent.kind) in \(group)")
        }
        let key = ServiceKey(namespace: parent.namespace ?? route.metadata.namespace, name: parent.name)
        if services.isExternalName(key) { return .refused(.noMatchingParent, "Service \(key) is of type ExternalName, which nothing is sent to") }
        guard let service = services[key] else { return .refused(.noMatchingParent, "there is no Service \(key)") }
        let named = service.ports.filter { (parent.port ?? $0.port) == $0.port && (parent.sectionName ?? $0.name) == $0.name }
        guard !named.isEmpty else {
            let section = parent.sectionName.map { " named \($0)" } ?? ""
            return .refused(.noMatchingParent, "Service \(key) has no port\(parent.port.map { " \($0)" } ?? "")\(section)")
        }
        // A declared TCP or TLS port is passed on unread, so no rule would ever be asked there.
        let read = named.filter { !$0.protocolHint.isOpaque }
        guard !read.isEmpty else {
            let list = named.map { "\($0.port) (\($0.protocolHint))" }.joined(separator: ", ")
            return .refused(.noMatchingParent, "no HTTP is read at port \(list) of Service \(key), as it is declared")
        }
        if route.isRejected, let problem = route.problems.first {
            return .refused(problem.reason, "\(problem.fault.field): \(problem.fault.reason)")
        }
        return .attached(service: key, ports: Set(read.map(\.port)))
    }

    /// Routes of both types at one port: only a GRPCRoute is in force there (GEP-1426, route types), unless their hosts have nothing in common.
    private mutating func settleConflicts() {
        var calls: [RoutedPort: [Int]] = [:]
        for (number, route) in routes.enumerated() where route.object.isGRPC {
            for port in route.routedPorts { calls[port, default: []].append(number) }
        }
        guard !calls.isEmpty else { return }
        for number in routes.indices where !routes[number].object.isGRPC {
            for (place, outcome) in routes[number].outcomes.enumerated() {
                guard case .attached(let service, let ports) = outcome else { continue }
                let caller = routes[number].object.callersNamespace(at: service)
                var winners: [UInt16: String] = [:]
                for port in ports {
                    let rivals = calls[RoutedPort(service: service, port: port, callersNamespace: caller)] ?? []
                    let winner = rivals.first { routes[$0].object.sharesHost(with: routes[number].object) }
                    if let winner { winners[port] = routes[winner].object.name }
                }
                guard let (port, winner) = winners.min(by: { $0.key < $1.key }) else { continue }
                let left = ports.subtracting(winners.keys)
                let message = "\(winner) routes port \(port) of Service \(service), and goes before HTTPRoutes"
                routes[number].outcomes[place] = left.isEmpty ? .refused(.conflicted, message) : .attached(service: service, ports: left)
                let held = routes[number].held
                if !left.isEmpty { notes.append(Note(file: held.file, line: held.line, text: "\(routes[number].object.name): \(message)")) }
            }
        }
    }

    /// A port that is asked for more than a shard takes keeps its oldest routes; the others are refused, and everything else goes on.
    private mutating func settleLimits() {
        var attached: [RoutedPort: [Int]] = [:]
        for (number, route) in routes.enumerated() {
            for port in Set(route.routedPorts) { attached[port, default: []].append(number) }
        }
        for (port, numbers) in attached.sorted(by: { $0.key < $1.key }) {
            var (matches, rules) = (0, 0)
            for number in numbers.sorted(by: { routes[$0].object.isOlder(than: routes[$1].object) }) {
                let object = routes[number].object
                let own = object.rules.reduce(0) { $0 + $1.matches.count } * max(1, object.hostnames.count)
                if matches + own <= Limits.routeMatchesPerPortMax, rules + object.rules.count <= Limits.routeRulesPerPortMax {
                    (matches, rules) = (matches + own, rules + object.rules.count)
                    continue
                }
                let message = "older routes leave no room at port \(port.port) of Service \(port.service), which has \(Limits.routeRulesPerPortMax) rules and \(Limits.routeMatchesPerPortMax) matches at most"
                for (place, outcome) in routes[number].outcomes.enumerated() {
                    guard case .attached(port.service, let ports) = outcome, ports.contains(port.port) else { continue }
                    routes[number].outcomes[place] = .refused(.unsupportedValue, message)
                }
            }
        }
    }

    // MARK: What is in force

    /// The rules of every port that routes are attached to, sorted by Service, port and callers' namespace.
    mutating func serviceRoutes() -> [ServiceRoutes] {
        var attached: [RoutedPort: [Int]] = [:]
        for (number, route) in routes.enumerated() {
            for port in Set(route.routedPorts) { attached[port, default: []].append(number) }
        }
        return attached.sorted { $0.key < $1.key }.map { port, numbers in
            var ranked: [RankedMatch] = []
            var rules: [RouteRule] = []
            for number in numbers {
                let object = routes[number].object
                for (place, rule) in object.rules.enumerated() {
                    for (order, match) in rule.matches.enumerated() {
                        for host in object.hostnames.isEmpty ? [.any] : object.hostnames {
                            let match = RouteMatch(
                                hostname: host, path: match.path, method: match.method, headers: match.headers, query: match.query, rule: rules.count + place)
                            ranked.append(RankedMatch(match, object.rules[place].matches[order], of: object, rule: place, order: order))
                        }
                    }
                }
                rules += object.rules.map { backends.rule($0, of: object, at: port.service) }
            }
            return ServiceRoutes(
                namespace: port.service.namespace, name: port.service.name, port: port.port, callersNamespace: port.callersNamespace,
                matches: ranked.sorted().map(\.match), rules: rules)
        }
    }

    // MARK: Conditions

    /// The conditions of every route, sorted by kind, namespace and name; what is wrong is told as faults too.
    mutating func statuses() -> [RouteStatus] {
        routes.map { status(of: $0) }.sorted { ($0.kind, $0.namespace, $0.name) < ($1.kind, $1.namespace, $1.name) }
    }

    private mutating func status(of route: Route) -> RouteStatus {
        let (object, held) = (route.object, route.held)
        // Told once, whichever parents it concerns; and as what is in force, where one of them has the route.
        var known: [[String]: Fault] = [:]
        func tell(_ place: RouteObject.Place, _ reason: String, remedy: String, _ consequence: Fault.Consequence) {
            if known[[place.field, reason]]?.consequence == .restInForce { return }
            known[[place.field, reason]] = Fault(
                file: held.file, line: place.line, object: object.name, field: place.field, reason: reason, remedy: remedy, consequence: consequence)
        }
        var parents: [RouteStatus.Parent] = []
        for (parent, outcome) in zip(object.parents, route.outcomes) {
            var accepted = RouteCondition(type: .accepted, status: .isTrue, reason: .accepted, message: "")
            var isAttached = false
            switch outcome {
            case .foreign: continue
            case .attached: isAttached = true
            case .refused(let reason, let message):
                accepted = RouteCondition(type: .accepted, status: .isFalse, reason: reason, message: message)
                // What is wrong inside the object is told where it stands.
                if !object.isRejected || reason == .noMatchingParent {
                    tell(parent.place, message, remedy: Self.remedy(for: reason, parent), .leftOut)
                }
            }
            let service = ServiceKey(namespace: parent.namespace ?? object.metadata.namespace, name: parent.name)
            let failures = backends.failures(of: object, at: service)
            for failure in failures { tell(failure.place, failure.reason, remedy: failure.remedy, isAttached ? .restInForce : .leftOut) }
            var conditions = [accepted, Self.resolved(failures)]
            if isAttached, let partial = Self.partiallyInvalid(object, held) { conditions.append(partial) }
            parents.append(
                RouteStatus.Parent(
                    parentRef: RouteStatus.ParentReference(
                        group: parent.group, kind: parent.kind, namespace: service.namespace, name: parent.name, sectionName: parent.sectionName, port: parent.port),
                    controllerName: RouteStatus.controllerName, conditions: conditions))
        }
        faults += known.values.sorted()
        return RouteStatus(
            kind: object.kind.rawValue, namespace: object.metadata.namespace, name: object.metadata.name, observedGeneration: object.metadata.generation,
            parents: parents)
    }

    private static func remedy(for reason: RouteCondition.Reason, _ parent: RouteObject.Parent) -> String {
        switch reason {
        case .unsupportedValue: "write fewer, or attach them to different Services"
        case .conflicted: "attach the routes to different ports, or give them different hostnames"
        case _ where !parent.isService: "write group: \"\" and kind: Service"
        default: "write the name, and the port, of a Service that is there"
        }
    }

    private static func resolved(_ failures: [RouteBackends.Failure]) -> RouteCondition {
        guard let first = failures.first else { return RouteCondition(type: .resolvedRefs, status: .isTrue, reason: .resolvedRefs, message: "") }
        let message = failures.map { "\($0.place.field): \($0.reason)" }.joined(separator: "; ")
        return RouteCondition(type: .resolvedRefs, status: .isFalse, reason: first.condition, message: message)
    }

    private static func partiallyInvalid(_ object: RouteObject, _ held: HeldObject) -> RouteCondition? {
        if let newer = held.newerFaults, let first = newer.first {
            return RouteCondition(
                type: .partiallyInvalid, status: .isTrue, reason: .unsupportedValue,
                message: "Fall Back to the last version without a fault: \([first.field, first.reason].filter { !$0.isEmpty }.joined(separator: ": "))")
        }
        guard let first = object.problems.first else { return nil }
        let dropped = object.rules.filter(\.isInvalid).map(\.place.field).joined(separator: ", ")
        return RouteCondition(
            type: .partiallyInvalid, status: .isTrue, reason: first.reason,
            message: "Dropped Rule \(dropped), whose requests are answered 500: \(first.fault.field): \(first.fault.reason)")
    }
}

/// One port of a Service as callers of one namespace, or of all that have no routes of their own, see it.
struct RoutedPort: Hashable, Comparable {
    var service: ServiceKey
    var port: UInt16
    var callersNamespace: String?

    static func < (left: RoutedPort, right: RoutedPort) -> Bool {
        (left.service.namespace, left.service.name, left.port, left.callersNamespace ?? "")
            < (right.service.namespace, right.service.name, right.port, right.callersNamespace ?? "")
    }
}

extension RouteAssembly.Route {
    fileprivate var routedPorts: [RoutedPort] {
        outcomes.flatMap { outcome -> [RoutedPort] in
            guard case .attached(let service, let ports) = outcome else { return [] }
            return ports.map { RoutedPort(service: service, port: $0, callersNamespace: object.callersNamespace(at: service)) }
        }
    }
}

extension RouteObject {
    /// Nil for the producer's routes, which are everybody's; a consumer's are for callers of its own namespace alone.
    fileprivate func callersNamespace(at service: ServiceKey) -> String? {
        service.namespace == metadata.namespace ? nil : metadata.namespace
    }

    /// What the API server has not dated is younger than all that it has; of one time, the first in alphabetical order is older.
    fileprivate func isOlder(than other: RouteObject) -> Bool {
        (metadata.createdAt ?? "~", metadata.namespace, metadata.name) < (other.metadata.createdAt ?? "~", other.metadata.namespace, other.metadata.name)
    }

    fileprivate func sharesHost(with other: RouteObject) -> Bool {
        if hostnames.isEmpty || other.hostnames.isEmpty { return true }
        return hostnames.contains { host in other.hostnames.contains { host.overlaps($0) } }
    }
}

extension HostPattern {
    fileprivate func overlaps(_ other: HostPattern) -> Bool {
        switch (self, other) {
        case (.any, _), (_, .any): true
        case (.exact(let one), .exact(let two)): one == two
        case (.exact(let name), .suffix(let end)), (.suffix(let end), .exact(let name)): name.hasSuffix(end)
        case (.suffix(let one), .suffix(let two)): one.hasSuffix(two) || two.hasSuffix(one)
        }
    }
}

extension ProtocolHint {
    /// Declared as something whose bytes are passed on unread.
    var isOpaque: Bool { self == .tcp || self == .tls }
}
