import Identity

/// A door through which a node that has no certificate yet proves who it is.
protocol NodeAuthenticator: Sendable {
    /// Whether this question is for this door at all.
    func concerns(_ question: ControllerWire.JoinRequest) -> Bool
    /// Throws when the question does not prove that the node it names is asking, or proves it by what the node had when it was revoked.
    /// - Parameter revokedAt: when that was, unix seconds; nil: it was not.
    func check(_ question: ControllerWire.JoinRequest, revokedAt: Int64?, at now: Int64) async throws(Refusal)
    /// Called when everything else about the question is right, before a certificate is issued: what may be used once is used up here.
    func admit(_ question: ControllerWire.JoinRequest) throws(Refusal)
}

/// One-time tokens of `weft controller token`.
struct JoinTokenDoor: NodeAuthenticator {
    let tokens: JoinTokens

    func concerns(_ question: ControllerWire.JoinRequest) -> Bool { question.kubernetesToken == nil }

    func check(_ question: ControllerWire.JoinRequest, revokedAt: Int64?, at now: Int64) async throws(Refusal) {
        guard let id = question.id, let secret = question.secret else { throw .malformedRequest }
        try tokens.check(id: id, secret: secret, node: question.node, revokedAt: revokedAt, at: now)
    }

    func admit(_ question: ControllerWire.JoinRequest) throws(Refusal) { try tokens.spend(id: question.id ?? "") }
}
