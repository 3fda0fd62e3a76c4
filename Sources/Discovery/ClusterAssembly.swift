import MeshModel

/// Joins the objects in force into what one node needs to know. Faults here lie between objects (two Services claim
/// one address); each object is right on its own.
struct ClusterAssembly {
    let nodeName: String
    let trustDomain: String
    private var faults: [Fault] = []
    private var notes: [Note] = []
    private var namespaces: [String: NamespaceObject] = [:]
    private var nodes: [String: NodeObject] = [:]
    private var pods: [(PodObject, HeldObject)] = []
    private var services: [(ServiceObject, HeldObject)] = []
    private var policies: [(AccessPolicyObject, HeldObject)] = []
    private var routes: [(RouteObject, HeldObject)] = []
    private var grants: [ReferenceGrantObject] = []
    private var trafficPolicies: [(TrafficPolicyObject, HeldObject)] = []
    private var slices: [ObjectKey: [EndpointSliceObject]] = [:]

    static func view(of held: [ObjectKey: HeldObject], nodeName: String, trustDomain: String) -> ClusterView {
        var assembly = ClusterAssembly(held, nodeName: nodeName, trustDomain: trustDomain)
        return assembly.view()
    }

    private init(_ held: [ObjectKey: HeldObject], nodeName: String, trustDomain: String) {
        self.nodeName = nodeName
        self.trustDomain = trustDomain
        // Sorted, so that equal objects give equal views, and of two claims to one address the same one always wins.
        for (_, entry) in held.sorted(by: { $0.key < $1.key }) {
            switch entry.object {
            case .namespace(let object): namespaces[object.metadata.name] = object
            case .node(let object): nodes[object.metadata.name] = object
            case .pod(let object): pods.append((object, entry))
            case .service(let object): services.append((object, entry))
            case .accessPolicy(let object): policies.append((object, entry))
            case .route(let object): routes.append((object, entry))
            case .referenceGrant(let object): grants.append(object)
            case .trafficPolicy(let object): trafficPolicies.append((object, entry))
            case .endpointSlice(let object):
                slices[ObjectKey(kind: .service, namespace: object.metadata.namespace, name: object.serviceName), default: []].append(object)
            }
        }
    }

    private mutating func view() -> ClusterView {
        let workloads = workloads()
        var services = meshServices(workloads)
        var traffic = TrafficAssembly(trafficPolicies, routes: routes.map(\.0))
        traffic.apply(to: &services)
        let access = accessBook(workloads, services)
        var routing = RouteAssembly(
            routes, grants: grants, services: services,
            externalNames: Set(self.services.filter(\.0.isExternalName).map { ServiceKey(namespace: $0.0.metadata.namespace, name: $0.0.metadata.name) }))
        let routeStatuses = routing.statuses()
        let state = MeshState(
            nodeName: nodeName, zone: nodes[nodeName]?.zone ?? "", trustDomain: trustDomain,
            workloads: workloads,
            services: services,
            namespaces: namespaces.values.map(settings).sorted { $0.name < $1.name },
            access: access.isEmpty ? [] : workloads.filter { $0.nodeName == nodeName && $0.isMeshed }.map(access.access),
            routes: TrafficAssembly.routes(routing.serviceRoutes(), withSessionsOf: services))
        return ClusterView(
            state: state, access: access, routes: routeStatuses, pods: nodePods(workloads), faults: faults + traffic.faults + routing.faults, notes: notes + routing.notes)
    }

    private func settings(_ namespace: NamespaceObject) -> NamespaceSettings {
        NamespaceSettings(
            name: namespace.metadata.name, isMeshed: namespace.mode == .enabled, failure: namespace.failure == .closed ? .closed : .open,
            mode: namespace.protection == .strict ? .strict : .permissive)
    }

    // MARK: Pods

    private func isMeshed(_ pod: PodObject) -> Bool {
        !pod.usesHostNetwork && (pod.mode ?? namespaces[pod.metadata.namespace]?.mode) == .enabled
    }

    /// A pod may be stricter than its namespace, never less strict.
    private func isStrict(_ pod: PodObject) -> Bool {
        namespaces[pod.metadata.namespace]?.protection == .strict || pod.protection == .strict
    }

    private mutating func workloads() -> [Workload] {
        var owners: [IPAddress: String] = [:]
        var uids: Set<String> = []
        var result: [Workload] = []
        for (pod, entry) in pods {
            // The addresses of a finished pod may already belong to another.
            guard pod.phase != .succeeded, pod.phase != .failed else { continue }
            let uid = pod.uid
            guard uids.insert(uid).inserted else {
                report(
                    entry, pod.metadata, .pod, "metadata.uid", "“\(uid)” is the uid of another pod", remedy: "remove it, or give each pod its own")
                continue
            }
            var addresses: [IPAddress] = []
            // Host-network pods share the node's addresses: those identify no workload.
            for address in pod.usesHostNetwork ? [] : pod.addresses {
                if let owner = owners[address] {
                    let reason = "\(address) is the address of Pod \(owner) too"
                    report(entry, pod.metadata, .pod, "status.podIPs", reason, remedy: "give each pod its own address")
                } else {
                    owners[address] = "\(pod.metadata.namespace)/\(pod.metadata.name)"
                    addresses.append(address)
                }
            }
            if pod.protection == .permissive, isStrict(pod) {
                report(
                    entry, pod.metadata, .pod, "metadata.annotations[\(MeshNames.protection)]", "“permissive” would weaken its namespace, which is strict",
                    remedy: "remove it, or make the namespace permissive")
            }
            result.append(workload(pod, uid: uid, addresses: addresses))
        }
        return result
    }

    private func workload(_ pod: PodObject, uid: String, addresses: [IPAddress]) -> Workload {
        let labels = pod.metadata.labels
        let workloadName = pod.workloadName
        let app = labels["app.kubernetes.io/name"] ?? labels["app"] ?? ""
        let version = labels["app.kubernetes.io/version"] ?? labels["version"] ?? ""
        return Workload(
            uid: uid, name: pod.metadata.name, namespace: pod.metadata.namespace, serviceAccount: pod.serviceAccount,
            nodeName: pod.nodeName, addresses: addresses, workloadName: workloadName, app: app, version: version,
            canonicalService: labels["service.istio.io/canonical-name"] ?? (app.isEmpty ? workloadName : app),
            canonicalRevision: labels["service.istio.io/canonical-revision"] ?? (version.isEmpty ? "latest" : version),
            isMeshed: isMeshed(pod), isReady: pod.isReady, isStrict: isStrict(pod),
            failsOpen: namespaces[pod.metadata.namespace]?.failure != .closed)
    }

    private func nodePods(_ workloads: [Workload]) -> [NodePod] {
        let byUID = Dictionary(uniqueKeysWithValues: workloads.map { ($0.uid, $0) })
        return pods.compactMap { pod, _ in
            guard pod.nodeName == nodeName, let workload = byUID[pod.uid], workload.name == pod.metadata.name else { return nil }
            return NodePod(uid: pod.uid, namespace: workload.namespace, name: workload.name, wish: wish(pod, workload))
        }
    }

    private func wish(_ pod: PodObject, _ workload: Workload) -> NodePod.Wish {
        if pod.usesHostNetwork { return .leave(because: "it uses the host's network") }
        if pod.mode == .disabled { return .leave(because: "its label \(MeshNames.mode) is disabled") }
        guard isMeshed(pod) else { return .leave(because: "its namespace is not in the mesh (label \(MeshNames.mode): enabled)") }
        guard pod.phase == .running else { return .leave(because: "its phase is \(pod.phase.rawValue), not Running") }
        guard !workload.addresses.isEmpty else { return .leave(because: "it has no address (status.podIPs)") }
        guard let namespacePath = pod.capture.networkNamespacePath, let cgroupPath = pod.capture.cgroupPath else {
            return .leave(because: "annotations \(MeshNames.networkNamespace) and \(MeshNames.cgroup) are missing, and there is no kubelet to ask")
        }
        return .enrol(
            Enrolment(
                networkNamespacePath: namespacePath, cgroupPath: cgroupPath, addresses: workload.addresses,
                isFailClosed: workload.isStrict || namespaces[workload.namespace]?.failure == .closed, isStrict: workload.isStrict,
                probePorts: pod.probePorts,
                udpExceptionPorts: pod.capture.udpExceptionPorts ?? namespaces[workload.namespace]?.udpExceptionPorts ?? [DiscoveryLimits.dnsPort],
                excludedOutboundPorts: pod.capture.excludedOutboundPorts,
                excludedInboundPorts: pod.capture.excludedInboundPorts,
                excludedOutboundPrefixes: pod.capture.excludedOutboundPrefixes))
    }

    // MARK: Services

    private mutating func meshServices(_ workloads: [Workload]) -> [Service] {
        var podUIDs: [String: String] = [:]
        var addressUIDs: [IPAddress: String] = [:]
        for workload in workloads {
            podUIDs["\(workload.namespace)/\(workload.name)"] = workload.uid
            for address in workload.addresses { addressUIDs[address] = workload.uid }
        }
        var owners: [IPAddress: String] = [:]
        var result: [Service] = []
        for (service, entry) in services where !service.isExternalName {
            let (namespace, name) = (service.metadata.namespace, service.metadata.name)
            var addresses: [IPAddress] = []
            for address in service.addresses {
                if let owner = owners[address] ?? addressUIDs[address].map({ "pod \($0)" }) {
                    let reason = "\(address) is the address of \(owner) too"
                    report(entry, service.metadata, .service, "spec.clusterIPs", reason, remedy: "give each Service its own address")
                } else {
                    owners[address] = "Service \(namespace)/\(name)"
                    addresses.append(address)
                }
            }
            let own = slices[ObjectKey(kind: .service, namespace: namespace, name: name)] ?? []
            for port in service.ports {
                guard let word = port.appProtocol, !word.isEmpty, !ProtocolConvention.knows(appProtocol: word) else { continue }
                let text = "Service \(namespace)/\(name), port \(port.number): appProtocol “\(word)” is no protocol that Weft knows; the first bytes decide"
                notes.append(Note(file: entry.file, line: entry.line, text: text))
            }
            let ports = service.ports.map { port in
                ServicePort(
                    name: port.name, port: port.number,
                    protocolHint: ProtocolConvention.hint(appProtocol: port.appProtocol, portName: port.name, port: port.number),
                    endpoints: Self.endpoints(of: port, in: own, allReady: service.publishesNotReady) { member in
                        member.podName.flatMap { podUIDs["\(namespace)/\($0)"] } ?? addressUIDs[member.address]
                    })
            }
            var policy = TrafficPolicy.default
            policy.locality = Self.locality(of: service, ports)
            result.append(Service(namespace: namespace, name: name, addresses: addresses, isHeadless: service.isHeadless, ports: ports, policy: policy))
        }
        return result
    }

    /// What the Service says; else, with topology-aware routing (`service.kubernetes.io/topology-mode: Auto`), what the hints say, if there are any.
    private static func locality(of service: ServiceObject, _ ports: [ServicePort]) -> LocalityPreference {
        if let distribution = service.trafficDistribution { return distribution.locality }
        guard service.metadata.annotations["service.kubernetes.io/topology-mode"]?.lowercased() == "auto" else { return .none }
        let isHinted = ports.contains { port in port.endpoints.contains { !$0.zoneHints.isEmpty } }
        return isHinted ? .sameZone : .none
    }

    /// Endpoints of one port, each address once: slices may overlap for a moment while the cluster rebalances them.
    private static func endpoints(
        of port: ServiceObject.Port, in slices: [EndpointSliceObject], allReady: Bool, uid: (EndpointSliceObject.Member) -> String?
    ) -> [Endpoint] {
        struct Place: Hashable { var address: IPAddress, port: UInt16 }
        var found: [Place: Endpoint] = [:]
        for slice in slices where !slice.isFQDN {
            guard let number = slice.ports.first(where: { $0.name == port.name })?.number else { continue }
            for member in slice.endpoints {
                // A terminating endpoint is a last resort while it still serves; after that it is nobody.
                if member.isTerminating && !member.isServing { continue }
                let place = Place(address: member.address, port: number)
                var endpoint = Endpoint(
                    address: member.address, port: number, isReady: member.isReady || allReady, isTerminating: member.isTerminating,
                    zone: member.zone, nodeName: member.nodeName, workloadUID: uid(member))
                endpoint.zoneHints = member.zoneHints ?? []
                endpoint.nodeHints = member.nodeHints ?? []
                if found[place]?.isReady != true { found[place] = endpoint }
            }
        }
        return found.values.sorted { ($0.address, $0.port) < ($1.address, $1.port) }
    }

    // MARK: Access

    private mutating func accessBook(_ workloads: [Workload], _ services: [Service]) -> AccessBook {
        for (policy, entry) in policies {
            if case .service(let name) = policy.target, !services.contains(where: { $0.namespace == policy.metadata.namespace && $0.name == name }) {
                report(
                    entry, policy.metadata, .accessPolicy, "spec.targetRef.name", "there is no Service \(policy.metadata.namespace)/\(name), so the policy selects nothing",
                    remedy: "write the name of a Service of the policy's own namespace")
            }
            for source in (policy.rules ?? []).flatMap(\.sources) {
                for pattern in source.identities where pattern.comparison == .exact {
                    guard let identity = WorkloadIdentity(pattern.text), identity.trustDomain != trustDomain else { continue }
                    let text = "AccessPolicy \(policy.name): nobody is \(pattern.text) here, where the trust domain is \(trustDomain)"
                    notes.append(Note(file: entry.file, line: entry.line, text: text))
                }
            }
        }
        let labels = Dictionary(pods.map { ($0.0.uid, $0.0.metadata.labels) }) { first, _ in first }
        return AccessBook(policies: policies.map(\.0), labels: labels, services: services)
    }

    private mutating func report(
        _ entry: HeldObject, _ metadata: ObjectMetadata, _ kind: ObjectKind, _ field: String, _ reason: String, remedy: String
    ) {
        let key = ObjectKey(kind: kind, namespace: metadata.namespace, name: metadata.name)
        faults.append(Fault(file: entry.file, line: entry.line, object: key.description, field: field, reason: reason, remedy: remedy))
    }
}

extension PodObject {
    /// Identity of the pod towards `node`: manifests written by hand have no uid.
    var uid: String { metadata.uid ?? "\(metadata.namespace)/\(metadata.name)" }

    /// The Deployment, CronJob, StatefulSet … that made the pod; the pod's own name when nothing did.
    var workloadName: String {
        guard let owner = metadata.owner else { return metadata.name }
        switch owner.kind {
        // A Deployment's ReplicaSet is named after it and the pod template's hash.
        case "ReplicaSet": return Self.withoutSuffix(owner.name, hash: metadata.labels["pod-template-hash"])
        // A CronJob's Job ends in the minute it is for.
        case "Job":
            guard let dash = owner.name.lastIndex(of: "-"), owner.name[dash...].dropFirst().utf8.count >= 8,
                owner.name[dash...].dropFirst().utf8.allSatisfy({ (0x30...0x39).contains($0) })
            else { return owner.name }
            return String(owner.name[..<dash])
        default: return owner.name
        }
    }

    private static func withoutSuffix(_ name: String, hash: String?) -> String {
        if let hash { return name.hasSuffix("-\(hash)") ? String(name.dropLast(hash.count + 1)) : name }
        guard let dash = name.lastIndex(of: "-") else { return name }
        let suffix = name[dash...].dropFirst()
        // Kubernetes writes hashes in letters that spell nothing ("bcdfghjklmnpqrstvwxz2456789", up to ten).
        let isHash = (8...10).contains(suffix.count) && suffix.allSatisfy { "bcdfghjklmnpqrstvwxz2456789".contains($0) }
        return isHash ? String(name[..<dash]) : name
    }
}
