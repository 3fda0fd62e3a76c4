/// A `ReferenceGrant`: which objects of other namespaces may name objects of its own.
struct ReferenceGrantObject: Sendable, Hashable, Codable {
    var metadata: ObjectMetadata
    var from: [From]
    var to: [To]

    struct From: Sendable, Hashable, Codable {
        var group: String
        var kind: String
        var namespace: String
    }

    struct To: Sendable, Hashable, Codable {
        var group: String
        var kind: String
        /// Nil: all of the kind.
        var name: String?
    }

    init(_ metadata: ObjectMetadata, reading object: ObjectReader) {
        self.metadata = metadata
        (from, to) = ([], [])
        guard let spec = object.requiredObject("spec") else { return }
        spec.allowOnly(["from", "to"])
        for name in ["from", "to"] where spec.elements(name).isEmpty {
            spec.fault(name, "is empty, so the grant allows nothing", remedy: "name who may refer to what")
        }
        from = spec.objects("from").compactMap { reader in
            reader.allowOnly(["group", "kind", "namespace"])
            guard let group = Self.group(reader), let kind = reader.requiredString("kind", remedy: "write the kind of who refers, such as HTTPRoute"),
                let namespace = reader.requiredString("namespace", remedy: "write the namespace of who refers")
            else { return nil }
            return From(group: group, kind: kind, namespace: namespace)
        }
        to = spec.objects("to").compactMap { reader in
            reader.allowOnly(["group", "kind", "name"])
            guard let group = Self.group(reader), let kind = reader.requiredString("kind", remedy: "write the kind of what is referred to, such as Service")
            else { return nil }
            return To(group: group, kind: kind, name: reader.string("name").flatMap { $0.isEmpty ? nil : $0 })
        }
    }

    /// The group must be written, and is empty for the core group.
    private static func group(_ reader: ObjectReader) -> String? {
        guard reader.has("group") else {
            reader.fault("group", "is missing", remedy: "write gateway.networking.k8s.io for routes, and \"\" for Services")
            return nil
        }
        return reader.string("group")
    }

    /// Whether an object of that kind and namespace may name this one of the grant's own namespace.
    func allows(kind: String, of namespace: String, toServiceNamed name: String) -> Bool {
        from.contains { $0.group == RouteObject.Parent.gatewayGroup && $0.kind == kind && $0.namespace == namespace }
            && to.contains { $0.group.isEmpty && $0.kind == "Service" && ($0.name ?? name) == name }
    }
}
