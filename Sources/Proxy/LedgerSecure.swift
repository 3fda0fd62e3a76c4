import MutualTLS
import Telemetry

extension Ledger {
    /// A TLS handshake that has succeeded.
    func countHandshake(isServer: Bool, isResumed: Bool) {
        count(Counter.handshake(isServer: isServer, place: 0))
        if isResumed { count(isServer ? .tlsResumedServer : .tlsResumedClient) }
    }

    /// One that was not over in time.
    func countHandshakeTimeout(isServer: Bool) { count(Counter.handshake(isServer: isServer, place: 1)) }

    /// One that was refused, by us or by the peer, or broke.
    func countHandshake(isServer: Bool, fault: TLSFault) { count(Counter.handshake(isServer: isServer, place: 2 + Int(fault.rawValue))) }
}
