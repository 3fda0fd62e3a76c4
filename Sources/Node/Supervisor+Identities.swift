import ControlChannel

/// Identities on their way between agent and proxy. Node keeps what a later one will need, and passes on the rest.
extension Supervisor {
    /// A message of the agent about identities; false when it is about something else.
    func takeIdentity(_ message: ControlMessage) throws(ControlFault) -> Bool {
        switch message.kind {
        case .identityWanted:
            let wanted = try IdentityWanted(message)
            passOn(wanted, wanted.identity, wanted.number, unless: identities.want(wanted))
        case .identityIssued:
            let issued = try IdentityIssued(message)
            switch identities.issue(issued, runningProxy: proxy.running?.incarnation ?? 0) {
            case .success(let forProxy): sendToProxy(forProxy)
            case .failure(let refusal): refuse(issued.identity, issued.number, refusal.reason)
            }
        case .identityFiles:
            let files = try IdentityFiles(message)
            passOn(files, files.identity, files.number, unless: identities.take(files))
        case .identityWithdrawn:
            let withdrawn = try IdentityWithdrawn(message)
            identities.withdraw(withdrawn.identity)
            sendToProxy(withdrawn)
        case .trustBundle:
            let bundle = try TrustBundle(message)
            identities.take(bundle)
            sendToProxy(bundle)
        case .revocations:
            let revocations = try Revocations(message)
            if let reason = identities.take(revocations) {
                Log.error("the revocations were refused", ("generation", "\(revocations.generation)"), ("reason", reason))
            } else {
                sendToProxy(revocations)
            }
        default: return false
        }
        return true
    }

    /// A message of the running proxy about identities; false when it is about something else.
    func takeIdentityFromProxy(_ message: ControlMessage) throws(ControlFault) -> Bool {
        switch message.kind {
        case .identityRequested:
            let requested = try IdentityRequested(message)
            switch identities.request(requested, by: proxy.incarnation) {
            case .success(let forAgent): sendToAgent(forAgent)
            case .failure(let refusal): refuse(requested.identity, requested.number, refusal.reason)
            case nil: Log.warning("the proxy made a key that nobody waits for", ("identity", requested.identity), ("number", "\(requested.number)"))
            }
        case .identityState:
            let state = try IdentityState(message)
            if identities.take(state) { sendToAgent(state) }
        default: return false
        }
        return true
    }

    private func passOn(_ payload: some ControlPayload, _ identity: String, _ number: UInt64, unless reason: String?) {
        if let reason { refuse(identity, number, reason) } else { sendToProxy(payload) }
    }

    private func refuse(_ identity: String, _ number: UInt64, _ reason: String) {
        Log.warning("identity refused", ("identity", identity), ("number", "\(number)"), ("reason", reason))
        sendToAgent(IdentityState(identity: identity, number: number, state: .refused, reason: reason))
    }
}
