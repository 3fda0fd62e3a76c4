/// Why a handshake was refused or a session broke. One case per reason that an operator would act on differently; `name` labels the metric.
public enum TLSFault: UInt8, Error, CaseIterable, Sendable {
    /// The peer has shown no certificate.
    case noCertificate
    /// Its chain ends in no root of the trust bundle.
    case unknownAuthority
    /// A certificate of its chain has ended, by more than the tolerated skew of clocks.
    case expired
    /// A certificate of its chain has not begun.
    case notYetValid
    /// Its name is of another trust domain.
    case wrongTrustDomain
    /// We asked for one workload, and another has answered.
    case wrongIdentity
    /// More than one URI among its names (X509-SVID §2 allows exactly one).
    case severalNames
    /// No URI among its names.
    case noName
    /// Its URI is not `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`.
    case malformedName
    /// A certificate that is not one, or extensions that contradict each other.
    case malformedCertificate
    /// A certificate for something else: an authority's, or one whose key may not sign or not be used here (X509-SVID §4).
    case badUsage
    /// A signature in the chain or over the handshake does not fit its key.
    case badSignature
    /// Its serial number or its identity is revoked.
    case revoked
    /// It speaks no TLS 1.3.
    case protocolVersion
    /// No application protocol in common (RFC 7301).
    case noCommonProtocol
    /// No cipher, group or signature algorithm in common.
    case noCommonParameters
    /// What it says is not TLS.
    case notTLS
    /// It has refused us: `TLSSession.peerAlert` is its reason.
    case peerAlert
    /// It has closed the connection in the handshake.
    case closed
    /// The connection has ended without close_notify: what came last may be missing (RFC 8446, 6.1).
    case truncated
    /// The socket has failed.
    case reset
    /// It has broken the protocol otherwise.
    case malformed
    case outOfMemory

    public static let count = Int(outOfMemory.rawValue) + 1

    /// Stable label of metrics and logs.
    public var name: StaticString {
        switch self {
        case .noCertificate: "no_certificate"
        case .unknownAuthority: "unknown_ca"
        case .expired: "expired"
        case .notYetValid: "not_yet_valid"
        case .wrongTrustDomain: "wrong_trust_domain"
        case .wrongIdentity: "wrong_identity"
        case .severalNames: "several_uri_names"
        case .noName: "no_uri_name"
        case .malformedName: "not_spiffe"
        case .malformedCertificate: "malformed_certificate"
        case .badUsage: "bad_usage"
        case .badSignature: "bad_signature"
        case .revoked: "revoked"
        case .protocolVersion: "protocol_version"
        case .noCommonProtocol: "no_protocol"
        case .noCommonParameters: "no_parameters"
        case .notTLS: "not_tls"
        case .peerAlert: "peer_alert"
        case .closed: "closed"
        case .truncated: "truncated"
        case .reset: "reset"
        case .malformed: "malformed"
        case .outOfMemory: "out_of_memory"
        }
    }
}

/// What a handshake needs to go on.
public enum TLSStep: Equatable, Sendable {
    case done
    case wantsRead
    case wantsWrite
    /// Our alert, if any, has been sent.
    case failed(TLSFault)
}

/// What became of bytes.
public enum TLSTransfer: Equatable, Sendable {
    /// So many, at least one.
    case moved(Int)
    /// None: the socket must become readable first.
    case wantsRead
    /// None: the socket must become writable first.
    case wantsWrite
    /// The peer has said that it sends no more (close_notify).
    case ended
    case failed(TLSFault)
}

/// What the two ends have agreed to speak inside (RFC 7301).
public enum TLSProtocol: UInt8, Sendable {
    /// `weft-h2`: HTTP/2 between Weft's own proxies, requests as ordinary streams.
    case weft
    /// `h2`: HBONE, HTTP/2 with nothing but CONNECT.
    case hbone
}
