/// Why the authority gave nothing. The names are labels of `weft_ca_refusals_total`, stand in the audit log and go to whoever asked.
public enum Refusal: String, Error, Sendable, Codable, CaseIterable {
    /// More bytes than `AuthorityLimits.requestBytesMax`, or a body larger than the service takes.
    case requestTooLarge = "request_too_large"
    /// No certification request (RFC 2986), or no JSON where JSON is asked for.
    case malformedRequest = "malformed_request"
    /// Neither ECDSA P-256 or P-384, nor Ed25519, nor RSA of 2,048 to 8,192 bits.
    case unsupportedKey = "unsupported_key"
    /// The request is not signed by the key that it names, or with SHA-1.
    case badSignature = "bad_signature"
    /// The request asks to become an authority.
    case asksForAuthority = "asks_for_authority"
    /// No subject alternative name.
    case noName = "no_name"
    /// More than one.
    case severalNames = "several_names"
    /// A DNS name, an address, or a URI that is no identity of Weft.
    case notAnIdentity = "not_an_identity"
    case wrongTrustDomain = "wrong_trust_domain"
    /// An identity, but not the one that was announced, or not of a kind that is given out so.
    case otherIdentity = "other_identity"
    /// No pod of this identity runs on the node that asks.
    case notEntitled = "not_entitled"
    /// No certificate of a node, or one that the roots in force do not vouch for.
    case notAuthenticated = "not_authenticated"
    /// The node's name was revoked, and what it has shown was given to it before.
    case nodeRevoked = "node_revoked"
    case tokenUnknown = "token_unknown"
    case tokenUsed = "token_used"
    case tokenExpired = "token_expired"
    /// The token is for another node.
    case tokenOfOtherNode = "token_of_other_node"
    /// The API server does not know the token, or it is for another audience or service account.
    case kubernetesTokenRefused = "kubernetes_token_refused"
    /// The pod that the token belongs to does not run on that node.
    case podNotOnNode = "pod_not_on_node"
    case kubernetesUnreachable = "kubernetes_unreachable"
    case rateLimited = "rate_limited"
    /// What is issued must be logged; when it cannot be, nothing is issued.
    case auditUnavailable = "audit_unavailable"
    /// The authority's own files or keys failed it.
    case authorityFailed = "authority_failed"

    /// Whether asking again later, unchanged, may help.
    public var isTransient: Bool {
        switch self {
        case .rateLimited, .auditUnavailable, .authorityFailed, .kubernetesUnreachable, .notEntitled: true
        default: false
        }
    }

    /// For people.
    public var explanation: String {
        switch self {
        case .requestTooLarge: "the question is too large"
        case .malformedRequest: "this is not a question the authority understands"
        case .unsupportedKey: "keys are ECDSA P-256 or P-384, Ed25519, or RSA of \(AuthorityLimits.rsaBitsMin) to \(AuthorityLimits.rsaBitsMax) bits"
        case .badSignature: "the request is not signed by the key it names"
        case .asksForAuthority: "the request asks for a certificate that could sign others"
        case .noName: "the request has no subject alternative name"
        case .severalNames: "the request has more than one subject alternative name"
        case .notAnIdentity: "the name is no identity that Weft gives out"
        case .wrongTrustDomain: "the name is of another trust domain"
        case .otherIdentity: "the request names another identity than the one it is for"
        case .notEntitled: "this node may not have this identity"
        case .notAuthenticated: "only a node with a certificate in force may ask this"
        case .nodeRevoked: "this node was revoked; it joins again with a token made since (weft controller token)"
        case .tokenUnknown: "there is no such token"
        case .tokenUsed: "the token has been used already"
        case .tokenExpired: "the token has expired"
        case .tokenOfOtherNode: "the token is for another node"
        case .kubernetesTokenRefused: "the API server does not vouch for this token, audience and service account"
        case .podNotOnNode: "the pod of this token does not run on this node"
        case .kubernetesUnreachable: "the API server cannot be asked"
        case .rateLimited: "too many questions in a short time"
        case .auditUnavailable: "the audit log cannot be written, so nothing is issued"
        case .authorityFailed: "the authority's own files or keys failed it"
        }
    }
}
