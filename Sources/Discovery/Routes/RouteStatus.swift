/// What became of one route, as `status.parents` of the Gateway API has it: an entry for each Service that it names as a parent.
public struct RouteStatus: Sendable, Hashable, Codable {
    /// `HTTPRoute` or `GRPCRoute`.
    public var kind: String
    public var namespace: String
    public var name: String
    /// The generation of the object in force; absent where its manifest has none.
    public var observedGeneration: Int?
    public var parents: [Parent]

    /// The route towards one parent.
    public struct Parent: Sendable, Hashable, Codable {
        public var parentRef: ParentReference
        public var controllerName: String
        public var conditions: [RouteCondition]
    }

    /// A parent as the route names it, with its namespace always said.
    public struct ParentReference: Sendable, Hashable, Codable {
        public var group: String
        public var kind: String
        public var namespace: String
        public var name: String
        public var sectionName: String?
        public var port: UInt16?
    }

    /// Who these conditions are from (`controllerName`).
    public static let controllerName = "weft.mesh/routes"
}

extension RouteStatus.ParentReference: CustomStringConvertible {
    /// `Service shop/cart port 80`
    public var description: String {
        let section = sectionName.map { " section \($0)" } ?? ""
        return "\(kind) \(namespace)/\(name)\(section)\(port.map { " port \($0)" } ?? "")"
    }
}

/// One condition of a route towards one of its parents (Gateway API, `RouteConditionType` and `RouteConditionReason`).
public struct RouteCondition: Sendable, Hashable, Codable {
    public var type: Kind
    public var status: Status
    public var reason: Reason
    /// Empty when there is nothing to say.
    public var message: String

    public enum Kind: String, Sendable, Hashable, Codable {
        /// At least one rule of the route is in force at the parent.
        case accepted = "Accepted"
        /// Every object that its rules name is there and may be used.
        case resolvedRefs = "ResolvedRefs"
        /// Some of its rules are not in force, or an earlier version of the route is. Only ever true.
        case partiallyInvalid = "PartiallyInvalid"
    }

    public enum Status: String, Sendable, Hashable, Codable {
        case isTrue = "True"
        case isFalse = "False"
    }

    public enum Reason: String, Sendable, Hashable, Codable {
        case accepted = "Accepted"
        case resolvedRefs = "ResolvedRefs"
        case noMatchingParent = "NoMatchingParent"
        case unsupportedValue = "UnsupportedValue"
        case incompatibleFilters = "IncompatibleFilters"
        /// A GRPCRoute has the same port (GEP-1426, route types).
        case conflicted = "Conflicted"
        case refNotPermitted = "RefNotPermitted"
        case invalidKind = "InvalidKind"
        case backendNotFound = "BackendNotFound"
        case unsupportedProtocol = "UnsupportedProtocol"
    }

    /// Something that the route's author did not want.
    public var isTrouble: Bool { type == .partiallyInvalid || status == .isFalse }
}

extension RouteCondition: CustomStringConvertible {
    /// `Accepted=True`, `ResolvedRefs=False (BackendNotFound: …)`
    public var description: String {
        let head = "\(type.rawValue)=\(status.rawValue)"
        guard isTrouble else { return head }
        return "\(head) (\([reason.rawValue, message].filter { !$0.isEmpty }.joined(separator: ": ")))"
    }
}

extension RouteStatus: CustomStringConvertible {
    /// A line for each parent: `HTTPRoute shop/cart at Service shop/cart port 80: Accepted=True, ResolvedRefs=True`.
    public var description: String {
        parents.map { parent in
            "\(kind) \(namespace)/\(name) at \(parent.parentRef): \(parent.conditions.map(\.description).joined(separator: ", "))"
        }.joined(separator: "\n")
    }
}
