import MeshModel

/// An `HTTPRoute` or a `GRPCRoute` as it was written. What it leads to is found when all objects are known.
struct RouteObject: Sendable, Hashable, Codable {
    var metadata: ObjectMetadata
    /// `httpRoute` or `grpcRoute`.
    var kind: ObjectKind
    var parents: [Parent]
    /// None: any host.
    var hostnames: [HostPattern]
    var rules: [Rule]
    /// What Weft cannot do of it, or what the Gateway API forbids.
    var problems: [Problem]
    /// What the Gateway API says is to be left out, such as the second of two matches of one header.
    var remarks: [Remark]

    /// What the route is attached to (`spec.parentRefs`).
    struct Parent: Sendable, Hashable, Codable {
        var group: String
        var kind: String
        /// Nil: the route's own.
        var namespace: String?
        var name: String
        /// The name of a port.
        var sectionName: String?
        var port: UInt16?
        var place: Place

        static let gatewayGroup = "gateway.networking.k8s.io"
        var isService: Bool { group.isEmpty && kind == "Service" }
        /// Something else reads it, a Gateway for instance. A Service without its group is a mistake, and ours to tell.
        var isForeign: Bool { !group.isEmpty && kind != "Service" }
    }

    /// One of the route's rules.
    struct Rule: Sendable, Hashable, Codable {
        /// Empty when it has none.
        var name = ""
        var place: Place
        var matches: [Match] = []
        var backends: [Backend] = []
        var redirect: RequestRedirect?
        var rewrite: URLRewrite?
        var requestHeaders = FieldEdits()
        var responseHeaders = FieldEdits()
        var mirrors: [Mirror] = []
        var cors: CORSRule?
        /// Filters that other systems define, which Weft has none of.
        var extensions: [Reference] = []
        var timeouts = RouteTimeouts()
        var retry: RetryRule?
        var session: SessionRule?
        /// Something of it cannot be done. The requests that it takes must not fall to a wider rule, so they are answered 500.
        var isInvalid = false
    }

    /// One match of a rule that Weft understands.
    struct Match: Sendable, Hashable, Codable {
        var path = PathPattern.any
        var method: String?
        var headers: [FieldPattern] = []
        var query: [FieldPattern] = []
        /// Of a GRPCRoute: what its precedence counts (characters of the service, and of the method).
        var call: Call?

        struct Call: Sendable, Hashable, Codable {
            var isExpression = false
            var serviceCount = 0
            var methodCount = 0
        }
    }

    /// An object that a rule names.
    struct Reference: Sendable, Hashable, Codable {
        var group: String
        var kind: String
        /// Nil: the route's own.
        var namespace: String?
        var name: String
        var port: UInt16?
        var place: Place

        var isService: Bool { group.isEmpty && kind == "Service" }
    }

    struct Backend: Sendable, Hashable, Codable {
        var reference: Reference
        var weight: UInt32
        var requestHeaders = FieldEdits()
        var responseHeaders = FieldEdits()
    }

    struct Mirror: Sendable, Hashable, Codable {
        var reference: Reference
        var numerator: UInt32 = 100
        var denominator: UInt32 = 100
    }

    /// A field of the object, for whoever reports something about it.
    struct Place: Sendable, Hashable, Codable {
        var field: String
        var line: Int
    }

    struct Problem: Sendable, Hashable, Codable {
        var fault: Fault
        var reason: RouteCondition.Reason
        /// The number of its rule; nil when it concerns the whole route.
        var rule: Int?
    }

    struct Remark: Sendable, Hashable, Codable {
        var line: Int
        var text: String
    }

    var name: String { "\(kind.rawValue) \(metadata.namespace)/\(metadata.name)" }
    var isGRPC: Bool { kind == .grpcRoute }

    /// One of its parents is a Service, or was meant to be one.
    var isForServices: Bool { parents.contains { !$0.isForeign } }

    /// Nothing of it can be in force: it is wrong as a whole, or each of its rules is.
    var isRejected: Bool { problems.contains { $0.rule == nil } || !rules.isEmpty && rules.allSatisfy(\.isInvalid) }
}
