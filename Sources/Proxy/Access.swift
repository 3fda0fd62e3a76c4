import Bytes
import EventLoop
import HTTPCodec
import MeshModel
import Routing
import Telemetry

// Between steps 5 and 6 of the journey, on the destination's side: who calls, and whether it may. One place asks, `dispatch`, when the endpoint
// is known and nothing has been leased or opened. The other node's proxy does not ask: the destination's own does.
extension Worker {
    /// Who is at the other end of a downstream connection.
    func caller(of connection: ConnectionPlace) -> Caller {
        if connection.pointee.caller != nobody {
            let proven = callers.at(connection.pointee.caller)
            return Caller(
                trustDomain: proven.pointee.trustDomain, namespace: proven.pointee.namespace, serviceAccount: proven.pointee.serviceAccount)
        }
        guard !connection.pointee.listener.isInbound else { return .unauthenticated }
        // The kernel says in which pod's namespace the socket was made, and the snapshot who that pod is.
        guard let own = pods.anyAddress(of: connection.pointee.pod), let workload = tables.workload(at: own) else { return .unauthenticated }
        return Caller(trustDomain: tables.trustDomain, namespace: workload.namespace, serviceAccount: workload.serviceAccount)
    }

    /// Whether a plaintext connection from outside must be refused because its destination is strict, or may be: of a pod that the tables do not
    /// name nobody knows. Counted.
    func refusesPlaintext(_ connection: ConnectionPlace) -> Bool {
        guard connection.pointee.listener.isInbound, tables.workload(at: connection.pointee.address)?.isStrict != false else { return false }
        ledger.count(.connectionsRefusedPlaintext)
        return true
    }

    // MARK: Asking

    /// Whether a connection of undeclared protocol could be opaque, and not only HTTP, as far as policy goes.
    func mayBeOpaque(_ connection: ConnectionPlace) -> Bool {
        guard tables.hasPolicies else { return true }
        let caller = caller(of: connection)
        let address = connection.pointee.address
        guard !connection.pointee.listener.isInbound, case .service(let service) = tables.resolve(address: address, port: connection.pointee.port) else {
            return mayBeOpaque(caller, at: address, port: connection.pointee.port)
        }
        // Any of its endpoints on this node may be the one that is chosen; a node has few of one Service.
        for place in 0..<service.readyCount {
            let endpoint = service.endpoint(at: place)
            if endpoint.isSameNode, !mayBeOpaque(caller, at: endpoint.address, port: endpoint.port) { return false }
        }
        return true
    }

    private func mayBeOpaque(_ caller: Caller, at address: IPAddress, port: UInt16) -> Bool {
        guard let rules = accessRules(at: address) else { return true }
        return rules.judge(caller, port: port).refusal == nil
    }

    /// Why the exchange may not go to its target, which was chosen just now; nil when it may. A refusal is counted by the answer.
    mutating func refusal(of exchange: ExchangePlace, _ connection: ConnectionPlace, _ message: Message) -> AccessFault? {
        guard isJudgedHere(exchange, connection) else { return nil }
        let address = exchange.pointee.target.address, port = exchange.pointee.target.port
        // A pod that the tables do not know yet has rules that they do not know either.
        guard let workload = tables.workload(at: address) else { return .noRule }
        guard tables.hasPolicies, let rules = tables.accessRules(of: workload) else { return nil }
        let caller = caller(of: connection)
        var decision = rules.judge(caller, port: port)
        var audited = rules.hasAudit ? rules.judge(caller, port: port, withAudit: true) : decision
        if !exchange.pointee.isRelay, decision.needsRequest || audited.needsRequest {
            guard let bytes = readHead(exchange, message) else { return .ambiguousPath }
            decision = judge(rules, caller, port, bytes.head, isInHead: bytes.isInHead, withAudit: false)
            audited = rules.hasAudit ? judge(rules, caller, port, bytes.head, isInHead: bytes.isInHead, withAudit: true) : decision
        }
        if let (rule, fault) = decision.refusal {
            note(.refused, rule, fault, caller, address, port)
            return fault
        }
        if rules.hasAudit, let (rule, fault) = audited.refusal { noteAudited(rule, fault, caller, address, port) }
        return nil
    }

    /// The destination is on this node: behind this listener, or a neighbour of the calling pod.
    private func isJudgedHere(_ exchange: ExchangePlace, _ connection: ConnectionPlace) -> Bool {
        connection.pointee.listener.isInbound || exchange.pointee.target.source != nil
    }

    private func accessRules(at address: IPAddress) -> AccessRulesView? {
        tables.workload(at: address).flatMap { tables.accessRules(of: $0) }
    }

    /// The head of the request, in the worker's head where it came as content, else read from the request as it goes out.
    mutating func readHead(_ exchange: ExchangePlace, _ message: Message) -> (head: UnsafeRawBufferPointer, isInHead: Bool)? {
        switch message {
        case .head, .held: return (takeUp(exchange, message), true)
        case .inHand, .unsent, .replay:
            let bytes = self.bytes(of: message, exchange)
            var progress = HeadProgress()
            // Nil: larger than what is written here can be.
            guard (try? accessHead.parseRequest(bytes, limits: limits.head, progress: &progress)) != nil else { return nil }
            return (bytes, false)
        }
    }

    private func judge(
        _ rules: AccessRulesView, _ caller: Caller, _ port: UInt16, _ bytes: UnsafeRawBufferPointer, isInHead: Bool, withAudit: Bool
    ) -> AccessDecision {
        isInHead
            ? Self.judge(rules, caller, port, head, bytes, withAudit: withAudit) : Self.judge(rules, caller, port, accessHead, bytes, withAudit: withAudit)
    }

    private static func judge(
        _ rules: AccessRulesView, _ caller: Caller, _ port: UInt16, _ head: borrowing Head, _ bytes: UnsafeRawBufferPointer, withAudit: Bool
    ) -> AccessDecision {
        let request = AccessRequest(method: head.methodName.of(bytes), path: head.path.of(bytes), host: head.host.of(bytes))
        return rules.judge(caller, port: port, request: request, withAudit: withAudit) { name, row in
            while row < head.fieldCount {
                let field = head.field(row)
                row += 1
                if equalsIgnoringCase(field.name.of(bytes), name) { return field.value.of(bytes) }
            }
            return nil
        }
    }

    // MARK: What is under way

    /// New tables: what is under way is asked about once more, a bounded number at a time.
    mutating func rejudgeSome() {
        guard tables.hasPolicies else { return rejudgedTo = nobody }
        let last = exchanges.highWater
        var looked = 0
        while looked < WorkerSizes.rejudgedPerTurn, rejudgedTo < last {
            if exchanges.isOccupied(rejudgedTo) { rejudge(rejudgedTo) }
            rejudgedTo += 1
            looked += 1
        }
        if rejudgedTo >= last { rejudgedTo = nobody }
    }

    private mutating func rejudge(_ number: UInt32) {
        let exchange = exchanges.at(number)
        let connection = connections.at(exchange.pointee.downstream)
        guard exchange.pointee.attempts > 0, connection.pointee.stage != .dead, isJudgedHere(exchange, connection) else { return }
        let address = exchange.pointee.target.address, port = exchange.pointee.target.port
        guard let rules = accessRules(at: address) else { return }
        let caller = caller(of: connection)
        let decision = rules.judge(caller, port: port)
        // A request was judged by what it asked for, which nobody knows any more; the next one on its connection will be judged anew.
        guard exchange.pointee.isRelay || !decision.needsRequest, let (rule, fault) = decision.refusal else { return }
        ledger.count(.accessEnded)
        note(.ended, rule, fault, caller, address, port)
        answer(number, .denied(fault))
    }

    // MARK: Telling

    /// A session of a revoked client ends, whichever rule or list says so.
    func noteRevoked(_ connection: ConnectionPlace) {
        let caller = caller(of: connection), nothing = UnsafeRawBufferPointer(start: nil, count: 0)
        let destination = tables.workload(at: connection.pointee.address)
        accessNotes.add(.ended, .revoked, port: connection.pointee.port) { texts in
            texts.add(nothing)
            texts.add(nothing)
            texts.add(caller.namespace)
            texts.add(caller.serviceAccount)
            guard let destination else { return }
            texts.add(destination.namespace)
            texts.add(destination.name)
        }
    }

    private func noteAudited(_ rule: AccessRuleView, _ fault: AccessFault, _ caller: Caller, _ address: IPAddress, _ port: UInt16) {
        ledger.count(.accessAudited)
        note(.audited, rule, fault, caller, address, port)
    }

    private func note(_ kind: AccessNoteKind, _ rule: AccessRuleView, _ fault: AccessFault, _ caller: Caller, _ address: IPAddress, _ port: UInt16) {
        let destination = tables.workload(at: address)
        accessNotes.add(kind, fault, port: port) { texts in
            texts.add(rule.policy)
            texts.add(rule.field)
            texts.add(caller.namespace)
            texts.add(caller.serviceAccount)
            guard let destination else { return }
            texts.add(destination.namespace)
            texts.add(destination.name)
        }
    }
}

extension AccessDecision {
    /// The rule and the reason of a refusal. What would have to be HTTP and is not is refused.
    var refusal: (AccessRuleView, AccessFault)? {
        switch self {
        case .allow: nil
        case .deny(let rule, let fault): (rule, fault)
        case .needsRequest(let rule): (rule, .notHTTP)
        }
    }

    var needsRequest: Bool {
        if case .needsRequest = self { return true }
        return false
    }
}

extension AccessFault {
    /// What the client is told: not more than it needs in order to ask the right person.
    var reason: StaticString {
        switch self {
        case .rule, .noRule, .revoked: "access-denied"
        case .notHTTP: "access-needs-http"
        case .ambiguousPath: "ambiguous-path"
        }
    }

    var counter: Counter {
        switch self {
        case .rule: .accessRefusedRule
        case .noRule: .accessRefusedNoRule
        case .notHTTP: .accessRefusedNotHTTP
        case .ambiguousPath: .accessRefusedAmbiguousPath
        case .revoked: .accessRefusedRevoked
        }
    }
}
