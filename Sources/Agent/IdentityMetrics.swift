import Identity
import NodeSignals

/// The identities of a node as metrics. Identities are labels: there are as many as service accounts on the node. No key, no certificate.
enum IdentityMetrics {
    static func families(
        _ status: Status.Identities, attempts: [String: UInt64], authority: CertificateAuthority.Counts?
    ) -> [Signal] {
        typealias Sample = Signal.Sample
        var families = [
            Signal("weft_identities", help: "Identities of this node's pods by state.", .gauge, Status.Identity.states.map { state in
                Sample(Double(status.workloads.count { $0.state == state }), labels: [.init("state", state)])
            }),
            Signal("weft_identity_expiry_timestamp_seconds", help: "When the certificate in force ends, unix time.", .gauge, status.workloads.compactMap { workload in
                workload.notAfter.map { Sample(Double($0), labels: [.init("identity", workload.identity)]) }
            }),
            Signal("weft_identity_attempts_total", help: "Attempts to get a certificate, by what came of them.", .counter, attempts.sorted { $0.key < $1.key }.map {
                Sample(Double($0.value), labels: [.init("result", $0.key)])
            }),
            Signal(
                "weft_identity_authority_reachable", help: "Whether the certificate authority answered when it was last asked.", .gauge,
                [Sample(status.isReachable ? 1 : 0)]),
            Signal("weft_trust_bundle_generation", help: "Generation of the trust bundle.", .gauge, [Sample(Double(status.bundleGeneration))]),
            Signal("weft_trust_bundle_roots", help: "Root certificates in force.", .gauge, [Sample(Double(status.roots.count))]),
        ]
        if let authority {
            families.append(Signal("weft_ca_issued_total", help: "Certificates that the authority in this agent issued.", .counter, [Sample(Double(authority.issued))]))
            families.append(
                Signal("weft_ca_refusals_total", help: "What the authority in this agent refused.", .counter, authority.refused.sorted { $0.key.rawValue < $1.key.rawValue }.map {
                    Sample(Double($0.value), labels: [.init("reason", $0.key.rawValue)])
                }))
        }
        return families.filter { !$0.samples.isEmpty }
    }
}
