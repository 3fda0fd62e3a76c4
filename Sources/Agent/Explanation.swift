import Discovery
import MeshModel
import Routing

/// What somebody wants to know: may this caller do this? Names are those of Kubernetes objects.
public struct AccessInquiry: Codable, Sendable, Equatable {
    /// `namespace/pod`, an identity (`spiffe://…`), or `unauthenticated`.
    public var from: String
    /// `namespace/service[:port]`, or `namespace/pod:port`.
    public var to: String
    /// Absent: opaque bytes.
    public var method: String?
    public var path: String?
    /// Absent: the Service's own name.
    public var host: String?
    public var headers: [Header]

    public struct Header: Codable, Sendable, Equatable {
        public var name: String
        public var value: String

        public init(name: String, value: String) {
            self.name = name
            self.value = value
        }
    }

    public init(from: String, to: String, method: String? = nil, path: String? = nil, host: String? = nil, headers: [Header] = []) {
        self.from = from
        self.to = to
        self.method = method
        self.path = path
        self.host = host
        self.headers = headers
    }
}

/// The answer of `weft explain`: what would be decided, and by which rule. Nothing is sent. The JSON names only ever grow.
public struct Explanation: Codable, Sendable, Equatable {
    public var inquiry: AccessInquiry
    /// Who the destination takes the caller for.
    public var caller: String
    public var callerReason: String
    /// One per pod that may be asked.
    public var destinations: [Destination]

    /// Allowed at every destination.
    public var isAllowed: Bool { destinations.allSatisfy(\.isAllowed) }

    public struct Destination: Codable, Sendable, Equatable {
        /// `namespace/pod`.
        public var pod: String
        public var address: String
        public var port: UInt16
        public var isAllowed: Bool
        /// `rule`, `noRule`, `notHTTP`, `ambiguousPath`, `revoked`, `strict`; absent when allowed.
        public var fault: String?
        /// The decision in words.
        public var reason: String
        /// `namespace/name` of the policy that decides, and the field that says so; absent where none does.
        public var policy: String?
        public var field: String?
        /// A policy in audit that would refuse it, were it enforced.
        public var audit: Rule?
        /// Every rule that was asked, in order.
        public var rules: [Rule]
        /// Every policy there is.
        public var policies: [Policy]
    }

    /// One rule and what it says about this call.
    public struct Rule: Codable, Sendable, Equatable {
        public var policy: String
        public var field: String
        /// When it is asked: `mandatoryDeny`, `allow`, `gate` …
        public var step: String
        public var isAudit: Bool
        /// Whether it holds; absent where it would need to see a request, or a path that means one thing only.
        public var holds: Bool?
    }

    /// One policy, and whether it is about this destination.
    public struct Policy: Codable, Sendable, Equatable {
        public var policy: String
        public var selects: Bool
        public var reason: String
        public var strength: String
        public var action: String
        public var isAudit: Bool
    }
}

/// Why an inquiry has no answer, in the words of whoever asked.
public struct InquiryFault: Error, Sendable, Equatable, CustomStringConvertible {
    public var description: String

    init(_ description: String) { self.description = description }
}

/// Answers inquiries from one reading of the cluster, with the same shards and the same engine as the proxy.
struct AccessExplainer {
    let view: ClusterView

    func explain(_ inquiry: AccessInquiry) throws(InquiryFault) -> Explanation {
        let (caller, callerReason) = try caller(inquiry.from)
        let (targets, serviceHost) = try targets(inquiry.to)
        let name = caller.map { "spiffe://\($0.trustDomain)/ns/\($0.namespace)/sa/\($0.serviceAccount)" } ?? "unauthenticated"
        var destinations: [Explanation.Destination] = []
        for target in targets { destinations.append(try destination(target, caller, inquiry, serviceHost)) }
        return Explanation(inquiry: inquiry, caller: name, callerReason: callerReason, destinations: destinations)
    }

    // MARK: Names

    private struct Identity {
        var trustDomain, namespace, serviceAccount: String
    }

    private func caller(_ text: String) throws(InquiryFault) -> (Identity?, String) {
        if text == "unauthenticated" { return (nil, "nothing is proven about it") }
        if text.hasPrefix("spiffe://") {
            let parts = text.dropFirst(9).split(separator: "/", omittingEmptySubsequences: false).map(String.init)
            guard parts.count == 5, parts[1] == "ns", parts[3] == "sa" else {
                throw InquiryFault("“\(text)” is no identity; write spiffe://\(view.state.trustDomain)/ns/<namespace>/sa/<service account>")
            }
            guard parts[0] == view.state.trustDomain else { return (nil, "its trust domain is not \(view.state.trustDomain), so no handshake succeeds") }
            return (Identity(trustDomain: parts[0], namespace: parts[2], serviceAccount: parts[4]), "given")
        }
        let pod = try pod(text)
        guard pod.isMeshed else { return (nil, "pod \(text) is not in the mesh, so nothing proves who it is") }
        return (
            Identity(trustDomain: view.state.trustDomain, namespace: pod.namespace, serviceAccount: pod.serviceAccount),
            "the service account of pod \(pod.namespace)/\(pod.name)"
        )
    }

    private func pod(_ text: String) throws(InquiryFault) -> Workload {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 2 else { throw InquiryFault("“\(text)” is not namespace/pod") }
        if let exact = view.state.workloads.first(where: { $0.namespace == parts[0] && $0.name == parts[1] }) { return exact }
        // A Deployment's name is enough where its pods have one account.
        let made = view.state.workloads.filter { $0.namespace == parts[0] && $0.workloadName == parts[1] }
        guard let first = made.first else { throw InquiryFault("there is no pod \(text)") }
        guard Set(made.map(\.serviceAccount)).count == 1, Set(made.map(\.isMeshed)).count == 1 else {
            throw InquiryFault("the pods of \(text) differ in account or mesh; name one of \(made.map(\.name).sorted().joined(separator: ", "))")
        }
        return first
    }

    private struct Target {
        var workload: Workload?
        var address: String
        var port: UInt16
    }

    private func targets(_ text: String) throws(InquiryFault) -> ([Target], host: String) {
        var name = text
        var port: UInt16?
        if let colon = text.lastIndex(of: ":") {
            guard let number = UInt16(text[text.index(after: colon)...]), number > 0 else { throw InquiryFault("“\(text)” ends with no port") }
            port = number
            name = String(text[..<colon])
        }
        let parts = name.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 2 else { throw InquiryFault("“\(text)” is not namespace/service[:port]") }
        let isPodsPort = port != nil && view.state.workloads.contains { $0.namespace == parts[0] && $0.name == parts[1] }
        guard let service = view.state.services.first(where: { $0.namespace == parts[0] && $0.name == parts[1] }),
            // A pod may have its Service's name; a port that only it can have means the pod.
            !isPodsPort || service.ports.contains(where: { $0.port == port })
        else {
            guard let pod = try? pod(name) else { throw InquiryFault("there is neither a Service nor a pod \(name)") }
            guard let port else { throw InquiryFault("\(name) is a pod; name one of its ports: \(name):8080") }
            return ([Target(workload: pod, address: pod.addresses.first?.description ?? "", port: port)], "\(parts[1])")
        }
        let known = service.ports.map { "\($0.port)" }.joined(separator: ", ")
        guard let found = port.map({ port in service.ports.first { $0.port == port } }) ?? (service.ports.count == 1 ? service.ports[0] : nil) else {
            throw InquiryFault(port == nil ? "Service \(name) has several ports; name one of \(known)" : "Service \(name) has no port \(port ?? 0), only \(known)")
        }
        let ready = found.endpoints.filter(\.isReady)
        let endpoints = ready.isEmpty ? found.endpoints : ready
        guard !endpoints.isEmpty else { throw InquiryFault("Service \(name) has no endpoint, so there is nobody whose policy could be asked") }
        var seen: Set<String> = []
        let targets = endpoints.compactMap { endpoint -> Target? in
            let workload = view.state.workloads.first { $0.uid == endpoint.workloadUID }
            guard seen.insert(workload?.uid ?? endpoint.address.description).inserted else { return nil }
            return Target(workload: workload, address: endpoint.address.description, port: endpoint.port)
        }
        return (targets, "\(service.name).\(service.namespace).svc.\(view.state.clusterDomain)")
    }

    // MARK: Deciding

    private func destination(
        _ target: Target, _ caller: Identity?, _ inquiry: AccessInquiry, _ serviceHost: String
    ) throws(InquiryFault) -> Explanation.Destination {
        var result = Explanation.Destination(
            pod: target.workload.map { "\($0.namespace)/\($0.name)" } ?? "", address: target.address, port: target.port, isAllowed: true, reason: "",
            rules: [], policies: [])
        guard let workload = target.workload else {
            result.reason = "the address is no pod's, and nobody on its side asks"
            return result
        }
        result.policies = view.access.considerations(of: workload).map {
            Explanation.Policy(policy: $0.policy, selects: $0.selects, reason: $0.reason, strength: $0.strength, action: $0.action, isAudit: $0.isAudit)
        }
        guard workload.isMeshed else {
            result.reason = "the pod is not in the mesh, so nobody on its side asks"
            return result
        }
        if workload.isStrict, caller == nil {
            (result.isAllowed, result.fault) = (false, "strict")
            result.reason = "the pod is strict (weft.mesh/mtls), and plaintext is refused before any policy is asked"
            return result
        }
        let access = view.access.access(to: workload)
        guard !access.rules.isEmpty else {
            result.reason = "no policy selects the pod: everybody may call it"
            return result
        }
        try ask(access, caller, inquiry, serviceHost, &result)
        return result
    }

    private func ask(
        _ access: WorkloadAccess, _ caller: Identity?, _ inquiry: AccessInquiry, _ serviceHost: String, _ result: inout Explanation.Destination
    ) throws(InquiryFault) {
        let memory: ShardMemory
        do throws(SnapshotFault) {
            var writer = SnapshotWriter()
            let images = try writer.update(MeshState(nodeName: "", trustDomain: view.state.trustDomain, access: [access])).shards
            guard let image = images.first else { throw SnapshotFault.truncated }
            memory = try ShardMemory(copying: image.bytes)
        } catch {
            throw InquiryFault("the rules of \(result.pod) cannot be compiled: \(error)")
        }
        let texts = BorrowedTexts(
            [caller?.trustDomain ?? "", caller?.namespace ?? "", caller?.serviceAccount ?? "", inquiry.method ?? "", inquiry.path ?? "/", host(inquiry, serviceHost)]
                + inquiry.headers.flatMap { [$0.name.lowercased(), $0.value] })
        defer { withExtendedLifetime((memory, texts)) {} }
        let asking = caller == nil ? Caller.unauthenticated : Caller(trustDomain: texts[0], namespace: texts[1], serviceAccount: texts[2])
        let request = inquiry.method.map { _ in AccessRequest(method: texts[3], path: texts[4], host: texts[5]) }
        let count = inquiry.headers.count
        func field(_ name: UnsafeRawBufferPointer, _ row: inout Int) -> UnsafeRawBufferPointer? {
            while row < count {
                row += 1
                if texts[4 + 2 * row].elementsEqual(name) { return texts[5 + 2 * row] }
            }
            return nil
        }
        let rules = memory.view.accessSubject(at: 0)
        result.rules = (0..<rules.ruleCount).map { place in
            let rule = rules.rule(at: place)
            return Self.told(rule, holds: rule.holds(for: asking, port: result.port, request: request, field: field))
        }
        switch rules.judge(asking, port: result.port, request: request, field: field) {
        case .allow(let rule):
            if let rule { (result.policy, result.field) = (Self.text(rule.policy), Self.text(rule.field)) }
            result.reason = rule == nil ? "no rule decides it, so it is allowed" : "the rule allows it"
        case .deny(let rule, let fault): Self.refuse(&result, rule, fault)
        case .needsRequest(let rule): Self.refuse(&result, rule, .notHTTP)
        }
        guard result.isAllowed, rules.hasAudit else { return }
        switch rules.judge(asking, port: result.port, request: request, withAudit: true, field: field) {
        case .allow: break
        case .deny(let rule, _), .needsRequest(let rule): result.audit = Self.told(rule, holds: true)
        }
    }

    private func host(_ inquiry: AccessInquiry, _ serviceHost: String) -> String {
        let host = inquiry.host ?? serviceHost
        guard let colon = host.lastIndex(of: ":"), !host.hasSuffix("]") else { return host }
        return String(host[..<colon])
    }

    private static func refuse(_ result: inout Explanation.Destination, _ rule: AccessRuleView, _ fault: AccessFault) {
        result.isAllowed = false
        result.fault = "\(fault)"
        (result.policy, result.field) = (text(rule.policy), text(rule.field))
        result.reason =
            switch fault {
            case .rule: "the rule denies it"
            case .noRule: "calls must be allowed here, and no rule allows this one"
            case .notHTTP: "the rule asks for something that only HTTP has, and this is not HTTP"
            case .ambiguousPath: "the rule asks for the path, and this one may mean another to the application"
            case .revoked: "the identity was revoked"
            }
    }

    private static func told(_ rule: AccessRuleView, holds: Bool?) -> Explanation.Rule {
        Explanation.Rule(policy: text(rule.policy), field: text(rule.field), step: "\(rule.step)", isAudit: rule.isAudit, holds: holds)
    }

    private static func text(_ bytes: UnsafeRawBufferPointer) -> String { String(decoding: bytes, as: UTF8.self) }
}

/// Texts as the engine reads them: bytes that stay where they are.
private final class BorrowedTexts {
    private let memory: [UnsafeMutableRawBufferPointer]

    init(_ texts: [String]) {
        memory = texts.map { text in
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, text.utf8.count), alignment: 1)
            copy.copyBytes(from: text.utf8)
            return UnsafeMutableRawBufferPointer(rebasing: copy[..<text.utf8.count])
        }
    }

    deinit { for text in memory { text.baseAddress?.deallocate() } }

    subscript(_ place: Int) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(memory[place]) }
}
