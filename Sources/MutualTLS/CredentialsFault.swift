/// Why a certificate or key cannot be used as a workload's own. `name` is what the agent is told.
public enum CredentialsFault: Error, Equatable, Sendable {
    case malformedTrustDomain
    case malformedRoots
    case malformedChain
    /// No PKCS#8, SEC 1 or PKCS#1 key, or an encrypted one.
    case malformedKey
    /// The leaf is another key's.
    case keyMismatch
    /// The leaf has no name that is a workload's, or more than one.
    case malformedName
    /// The leaf is another workload's, or of another trust domain.
    case wrongName
    /// It has ended, or has not begun.
    case expired
    case notYetValid
    /// No root in force has signed it: its peers would not accept it.
    case unknownAuthority
    /// OpenSSL refuses the key or certificate: too short, a kind it cannot sign TLS 1.3 with.
    case unusable
    case outOfMemory
    /// errno of the kernel that has no memory for a key.
    case noKeyMemory(Int32)

    public var name: String {
        switch self {
        case .malformedTrustDomain: "malformed trust domain"
        case .malformedRoots: "malformed root certificates"
        case .malformedChain: "malformed certificate chain"
        case .malformedKey: "malformed private key"
        case .keyMismatch: "certificate and key do not belong together"
        case .malformedName: "the certificate has no workload's name"
        case .wrongName: "the certificate is another workload's"
        case .expired: "the certificate has ended"
        case .notYetValid: "the certificate has not begun"
        case .unknownAuthority: "no root in force has signed the certificate"
        case .unusable: "the certificate or key cannot be used for TLS 1.3"
        case .outOfMemory: "out of memory"
        case .noKeyMemory(let errno): "no memory for keys (errno \(errno))"
        }
    }
}
