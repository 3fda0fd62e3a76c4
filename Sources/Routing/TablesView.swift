import MeshModel

/// Step 5 of the journey: finds the service and the workload of an address. Asked once before that, when the original
/// destination has been claimed: what a port is declared to speak saves its detection. After it: `Balancing`.
///
/// One generation as a worker reads it: one pointer, no reference counting. Valid until the worker's next `enter`.
/// No call allocates, makes a String or takes a lock. `@unchecked Sendable`: a pointer to what nobody changes.
public struct TablesView: @unchecked Sendable {
    @usableFromInline let root: UnsafePointer<TablesRoot>

    @inlinable
    init(root: UnsafePointer<TablesRoot>) { self.root = root }

    /// The snapshot's generation; 0 before the first one.
    @inlinable public var generation: UInt64 { root.pointee.generation }

    /// The trust domain of all identities here (`cluster.local`); empty while no snapshot has a shard.
    @inlinable public var trustDomain: UnsafeRawBufferPointer { root.pointee.trustDomain }

    /// What is behind an original destination.
    @inlinable
    public func resolve(address: IPAddress, port: UInt16) -> Destination {
        guard let known = lookUp(address) else { return .unknown }
        if known.isClusterAddress { return destination(of: known.reference(at: 0), port: port) }
        guard let workload = known.workload else { return .unknown }
        return .workload(workload, behind: serviceBehind(known, port: port))
    }

    /// What a Host header names: `name`, `name.namespace`, `name.namespace.svc` or the full name, in any case, with or
    /// without a final dot or a port of its own (which is ignored: `port` is the original destination's).
    ///
    /// - Parameter clientNamespace: where a bare name is looked up; names in other namespaces are always qualified.
    @inlinable
    public func resolve(host: UnsafeRawBufferPointer, port: UInt16, clientNamespace: UnsafeRawBufferPointer) -> Destination {
        guard let service = service(host: host, clientNamespace: clientNamespace) else { return .unknown }
        return destination(of: service, port: port)
    }

    /// The rule for a request: the address decides, unless the mesh does not know it or it is an endpoint of a headless
    /// service; then the Host header may name the service.
    @inlinable
    public func resolve(
        address: IPAddress, port: UInt16, host: UnsafeRawBufferPointer, clientNamespace: UnsafeRawBufferPointer
    ) -> Destination {
        let byAddress = resolve(address: address, port: port)
        switch byAddress {
        case .service, .unknownPort: return byAddress
        case .workload(_, let behind):
            guard let behind, behind.service.isHeadless else { return byAddress }
        case .unknown: break
        }
        if case .service(let byHost) = resolve(host: host, port: port, clientNamespace: clientNamespace) { return .service(byHost) }
        return byAddress
    }

    /// The workload that has an address: who calls, or who is called.
    @inlinable
    public func workload(at address: IPAddress) -> WorkloadView? { lookUp(address)?.workload }

    /// Whether any workload of this node has access rules.
    @inlinable public var hasPolicies: Bool { root.pointee.hasPolicies }

    /// The access rules in force at a workload of this node; nil when none selects it: everybody may call it.
    @inlinable
    public func accessRules(of workload: WorkloadView) -> AccessRulesView? {
        let uid = workload.uid
        let hash = ShardHash.of(uid: uid)
        guard let place = root.pointee.places[ShardID.firstPolicies + ShardHash.bucket(hash)] else { return nil }
        return place.view.accessRules(uid: uid, hash: hash)
    }

    /// What routes say about a service's port to callers of a namespace; nil: nothing, it is for the service's own endpoints.
    /// - Parameter callersNamespace: asked for only where this service has routes for some namespace alone.
    @inlinable
    public func routes(of service: ServiceDestination, callersNamespace: @autoclosure () -> UnsafeRawBufferPointer) -> RouteTableView? {
        guard let place = root.pointee.places[ShardID.firstRoutes + ShardHash.bucket(service.service.hash)] else { return nil }
        return place.view.routes(of: service.service, port: service.port.number, callersNamespace: callersNamespace())
    }

    /// Where requests of a rule's backend go; nil when its reference leads nowhere, or to what the mesh does not know.
    @inlinable
    public func service(of backend: RouteBackendView) -> ServiceDestination? {
        guard !backend.isUnresolved, let service = service(hash: backend.hash, namespace: backend.namespace, name: backend.name),
            let port = service.port(numbered: backend.port)
        else { return nil }
        return with(service, port)
    }

    /// The service port that (address, port) is an endpoint of; a headless service's if there are several.
    /// On the inbound side it names the service for the metrics.
    @inlinable
    public func serviceBehind(address: IPAddress, port: UInt16) -> ServiceDestination? {
        lookUp(address).flatMap { serviceBehind($0, port: port) }
    }

    /// A service by its two names, in any case.
    @inlinable
    public func service(namespace: UnsafeRawBufferPointer, name: UnsafeRawBufferPointer) -> ServiceView? {
        service(hash: ShardHash.of(namespace: namespace, name: name), namespace: namespace, name: name)
    }

    /// A port of a service by its names and number, in any case; nil when there is no such port.
    @inlinable
    public func service(namespace: UnsafeRawBufferPointer, name: UnsafeRawBufferPointer, port: UInt16) -> ServiceDestination? {
        guard let service = service(namespace: namespace, name: name), let port = service.port(numbered: port) else { return nil }
        return with(service, port)
    }

    // MARK: Steps

    @inlinable
    func lookUp(_ address: IPAddress) -> AddressView? {
        let hash = ShardHash.of(address)
        guard let place = root.pointee.places[ShardID.firstAddresses + ShardHash.bucket(hash)] else { return nil }
        return place.view.address(address, hash: hash)
    }

    @inlinable
    func service(hash: UInt64, namespace: UnsafeRawBufferPointer, name: UnsafeRawBufferPointer) -> ServiceView? {
        guard let place = root.pointee.places[ShardHash.bucket(hash)] else { return nil }
        return place.view.service(hash: hash, namespace: namespace, name: name)
    }

    @inlinable
    func destination(of reference: ServiceReferenceView, port: UInt16) -> Destination {
        // Family by family a generation is complete, but a service may be listed by address and, by a writer's fault,
        // be missing by name: then nothing is known of it.
        guard let service = service(reference) else { return .unknown }
        return destination(of: service, port: port)
    }

    @inlinable
    func service(_ reference: ServiceReferenceView) -> ServiceView? {
        root.pointee.places[ShardHash.bucket(reference.hash)]?.view.service(reference)
    }

    @inlinable
    func destination(of service: ServiceView, port: UInt16) -> Destination {
        guard let port = service.port(numbered: port) else { return .unknownPort(service) }
        return .service(with(service, port))
    }

    @inlinable
    func with(_ service: ServiceView, _ port: PortView) -> ServiceDestination {
        // The service was found in this place, by this hash.
        let place = root.pointee.places[ShardHash.bucket(service.hash)].unsafelyUnwrapped
        return ServiceDestination(service: service, port: port, slots: place.slots, statesBase: root.pointee.statesBase)
    }

    @inlinable
    func serviceBehind(_ known: AddressView, port: UInt16) -> ServiceDestination? {
        var found: ServiceDestination?
        for place in 0..<known.referenceCount {
            let reference = known.reference(at: place)
            guard reference.endpointPort == port, found == nil || reference.isHeadless else { continue }
            guard let service = service(reference), let servicePort = service.port(numbered: reference.servicePort) else { continue }
            found = with(service, servicePort)
            if reference.isHeadless { break }
        }
        return found
    }

    /// Splits a host into name and namespace, and checks what follows against the service's full name.
    @inlinable
    func service(host given: UnsafeRawBufferPointer, clientNamespace: UnsafeRawBufferPointer) -> ServiceView? {
        let host = HostName.withoutPort(given)
        guard host.count > 0, host.count <= Limits.hostBytesMax else { return nil }
        guard let nameEnd = HostName.dot(in: host, from: 0) else { return service(namespace: clientNamespace, name: host) }
        let namespaceEnd = HostName.dot(in: host, from: nameEnd + 1) ?? host.count
        let name = UnsafeRawBufferPointer(rebasing: host[..<nameEnd])
        let namespace = UnsafeRawBufferPointer(rebasing: host[(nameEnd + 1)..<namespaceEnd])
        guard let service = service(namespace: namespace, name: name) else { return nil }
        return HostName.isName(host, of: service, from: namespaceEnd) ? service : nil
    }
}
