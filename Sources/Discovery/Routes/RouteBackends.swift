import MeshModel

/// A Service's name.
struct ServiceKey: Sendable, Hashable, CustomStringConvertible {
    var namespace: String
    var name: String

    var description: String { "\(namespace)/\(name)" }
}

/// The Services that are there, by name.
struct ServiceIndex {
    private let services: [ServiceKey: Service]
    private let externalNames: Set<ServiceKey>

    init(_ services: [Service], externalNames: Set<ServiceKey>) {
        self.services = Dictionary(services.map { (ServiceKey(namespace: $0.namespace, name: $0.name), $0) }) { first, _ in first }
        self.externalNames = externalNames
    }

    subscript(key: ServiceKey) -> Service? { services[key] }
    func isExternalName(_ key: ServiceKey) -> Bool { externalNames.contains(key) }
}

/// Follows the references of a route's rules.
struct RouteBackends {
    let services: ServiceIndex
    /// By namespace.
    private let grants: [String: [ReferenceGrantObject]]

    init(services: ServiceIndex, grants: [ReferenceGrantObject]) {
        self.services = services
        self.grants = Dictionary(grouping: grants, by: \.metadata.namespace)
    }

    /// A reference that leads nowhere, or may not.
    struct Failure {
        var condition: RouteCondition.Reason
        var place: RouteObject.Place
        var reason: String
        var remedy: String
    }

    /// Everything in a route that cannot be resolved towards one parent, in the order in which it stands there.
    func failures(of route: RouteObject, at parent: ServiceKey) -> [Failure] {
        route.rules.flatMap { rule in
            rule.extensions.map(Self.unknownFilter)
                + (rule.mirrors.map(\.reference) + rule.backends.map(\.reference)).compactMap { failure(of: $0, in: route, at: parent) }
        }
    }

    private static func unknownFilter(_ reference: RouteObject.Reference) -> Failure {
        Failure(
            condition: .invalidKind, place: reference.place, reason: "Weft has no filter of kind \(reference.kind) (group \(reference.group))",
            remedy: "remove the filter; until then its rule answers 500")
    }

    /// Nil when the reference leads to a port.
    private func failure(of reference: RouteObject.Reference, in route: RouteObject, at parent: ServiceKey) -> Failure? {
        func failure(_ condition: RouteCondition.Reason, _ field: String, _ reason: String, _ remedy: String) -> Failure {
            var place = reference.place
            place.field += field
            return Failure(condition: condition, place: place, reason: reason, remedy: remedy)
        }
        let key = key(reference, route)
        guard reference.isService else {
            let group = reference.group.isEmpty ? "core" : reference.group
            return failure(.invalidKind, ".kind", "\(reference.kind) (group \(group)) is no backend that Weft knows", "name a Service")
        }
        // Whoever calls the parent reaches it anyway, so sending its requests on to itself opens nothing (GEP-1426, namespace boundaries).
        let isGranted = key.namespace == route.metadata.namespace || key == parent
            || (grants[key.namespace] ?? []).contains { $0.allows(kind: route.kind.rawValue, of: route.metadata.namespace, toServiceNamed: key.name) }
        guard isGranted else {
            return failure(
                .refNotPermitted, ".namespace", "no ReferenceGrant in namespace \(key.namespace) lets \(route.kind.rawValue)s of \(route.metadata.namespace) name Service \(key.name)",
                "write one there, or name a Service of \(route.metadata.namespace)")
        }
        if services.isExternalName(key) { return failure(.invalidKind, ".name", "Service \(key) is of type ExternalName, which is no backend for routes", "name a Service with endpoints") }
        guard let service = services[key] else { return failure(.backendNotFound, ".name", "there is no Service \(key)", "write the name of a Service that is there") }
        guard let port = reference.port else { return nil }      // told when it was read
        guard let found = service.ports.first(where: { $0.port == port }) else {
            return failure(.backendNotFound, ".port", "Service \(key) has no port \(port)", "write one of \(service.ports.map { "\($0.port)" }.joined(separator: ", "))")
        }
        if found.protocolHint.isOpaque {
            return failure(
                .unsupportedProtocol, ".port", "port \(port) of Service \(key) is declared as \(found.protocolHint), which carries no requests", "name a port that speaks HTTP, or declare it by appProtocol")
        }
        return nil
    }

    private func key(_ reference: RouteObject.Reference, _ route: RouteObject) -> ServiceKey {
        ServiceKey(namespace: reference.namespace ?? route.metadata.namespace, name: reference.name)
    }

    private func target(_ reference: RouteObject.Reference, _ route: RouteObject, _ parent: ServiceKey) -> BackendTarget {
        guard let port = reference.port, failure(of: reference, in: route, at: parent) == nil else { return .unresolved }
        let key = key(reference, route)
        return .service(namespace: key.namespace, name: key.name, port: port)
    }

    // MARK: Rules

    /// The rule as the proxy follows it. One that is invalid, or has a filter nobody knows, answers 500.
    func rule(_ rule: RouteObject.Rule, of route: RouteObject, at parent: ServiceKey) -> RouteRule {
        let label = rule.name.isEmpty ? rule.place.field : rule.name
        guard !rule.isInvalid, rule.extensions.isEmpty else {
            return RouteRule(route: route.name, rule: label, isGRPC: route.isGRPC, action: .forward([WeightedBackend(.unresolved)]))
        }
        let backends = rule.backends.map { backend in
            WeightedBackend(
                target(backend.reference, route, parent), weight: backend.weight, requestHeaders: backend.requestHeaders, responseHeaders: backend.responseHeaders)
        }
        // A copy that cannot be sent is none; the request itself goes on.
        let mirrors = rule.mirrors.compactMap { mirror -> RequestMirror? in
            let target = target(mirror.reference, route, parent)
            return target == .unresolved || mirror.numerator == 0 ? nil : RequestMirror(target: target, numerator: mirror.numerator, denominator: mirror.denominator)
        }
        return RouteRule(
            route: route.name, rule: label, isGRPC: route.isGRPC, action: rule.redirect.map { .redirect($0) } ?? .forward(backends),
            requestHeaders: rule.requestHeaders, responseHeaders: rule.responseHeaders, rewrite: rule.rewrite, mirrors: mirrors, cors: rule.cors,
            timeouts: rule.timeouts, retry: rule.retry, session: rule.session)
    }
}
