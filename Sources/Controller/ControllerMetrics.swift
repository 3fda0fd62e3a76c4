import Hummingbird
import Identity
import NIOCore
import Telemetry

/// The controller's numbers, over plain HTTP: nothing in them is secret.
enum ControllerMetrics {
    static func router(_ authority: CertificateAuthority, _ entitlements: Entitlements) -> Router<BasicRequestContext> {
        let router = Router()
        router.get("healthz") { _, _ in text(.ok, "ok\n") }
        router.get("readyz") { _, _ in
            entitlements.isKnown ? text(.ok, "ready\n") : text(.serviceUnavailable, "not ready: the manifests have not been read yet\n")
        }
        router.get("metrics") { _, _ in text(.ok, page(authority)) }
        return router
    }

    static func page(_ authority: CertificateAuthority) -> String {
        var bytes: [UInt8] = []
        var page = PrometheusText { bytes += $0 }
        let counts = authority.counts
        page.family("weft_ca_issued_total", help: "Certificates issued.", kind: .counter)
        page.sample("weft_ca_issued_total", count: counts.issued)
        page.family("weft_ca_refusals_total", help: "What was refused, by reason.", kind: .counter)
        for reason in Refusal.allCases { page.sample("weft_ca_refusals_total", labels: [("reason", reason.rawValue)], count: counts.refused[reason] ?? 0) }
        page.family("weft_ca_roots", help: "Root certificates by phase of their rotation.", kind: .gauge)
        let phases = authority.rootPhases
        for phase in ["announced", "active", "retiring"] { page.sample("weft_ca_roots", labels: [("phase", phase)], Double(phases[phase] ?? 0)) }
        page.family("weft_ca_issuer_expiry_timestamp_seconds", help: "When the issuing certificate ends, unix time.", kind: .gauge)
        page.sample("weft_ca_issuer_expiry_timestamp_seconds", Double(authority.issuerNotAfter))
        page.family("weft_trust_bundle_generation", help: "Generation of the trust bundle.", kind: .gauge)
        page.sample("weft_trust_bundle_generation", Double(authority.bundle.generation))
        page.finish()
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func text(_ status: HTTPResponse.Status, _ text: String) -> Response {
        Response(status: status, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"], body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
    }
}
