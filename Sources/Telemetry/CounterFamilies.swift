// Families whose cases a label tells apart: the name, the words and the label of each in one place.
extension Counter.Definition {
    private static func family(_ name: StaticString, _ help: StaticString, _ label: StaticString, _ value: StaticString) -> Self {
        Self(name: name, help: help, label: (label, value))
    }

    private static func gauge(_ name: StaticString, _ help: StaticString, _ label: StaticString, _ value: StaticString) -> Self {
        Self(name: name, help: help, kind: .gauge, label: (label, value))
    }

    static func accepted(_ direction: StaticString) -> Self {
        family("weft_connections_accepted_total", "Downstream connections accepted.", "direction", direction)
    }
    static func closed(_ direction: StaticString) -> Self {
        family("weft_connections_closed_total", "Downstream connections that have ended.", "direction", direction)
    }
    static func identity(_ state: StaticString) -> Self {
        family("weft_identity_certificates_total", "Certificates of workloads of this node, by what became of them.", "state", state)
    }
    static func routeRefused(_ reason: StaticString) -> Self {
        family("weft_route_refusals_total", "Requests that routes led nowhere.", "reason", reason)
    }
    static func routeAnswered(_ answer: StaticString) -> Self {
        family("weft_route_answers_total", "Requests that routes had answered by the proxy.", "answer", answer)
    }
    static func mirror(_ outcome: StaticString) -> Self {
        family("weft_mirrored_requests_total", "Copies of requests: sent, and of these cut off or failed; left out for want of room or a backend.", "outcome", outcome)
    }
    static func session(_ outcome: StaticString) -> Self {
        family("weft_session_requests_total", "Requests of routes with sessions: begun, with their endpoint, or without it, for it is not ready.", "outcome", outcome)
    }
    static func access(_ reason: StaticString) -> Self {
        family("weft_access_refused_total", "Requests and opaque connections refused by policy.", "reason", reason)
    }
    static func refused(_ reason: StaticString) -> Self {
        family("weft_connections_refused_total", "Downstream connections refused.", "reason", reason)
    }
    static func handshake(_ counter: Counter, first: Counter, _ side: StaticString) -> Self {
        var definition = family(
            "weft_tls_handshakes_total", "TLS handshakes by how they ended.", "result", Counter.handshakeResults[Int(counter.rawValue - first.rawValue)])
        definition.side = side
        return definition
    }
    static func resumed(_ side: StaticString) -> Self {
        family("weft_tls_resumed_total", "TLS handshakes that continued an earlier session.", "side", side)
    }
    static func tlsSessionEnd(_ reason: StaticString) -> Self {
        family("weft_tls_session_ends_total", "Clients' sessions over TLS that were ended because of a certificate, ours or theirs.", "reason", reason)
    }
    static func connectRefusal(_ reason: StaticString) -> Self {
        family("weft_connect_refusals_total", "Streams on port 15008 refused because of where they wanted to go.", "reason", reason)
    }
    static func sessions(_ side: StaticString) -> Self {
        family("weft_http2_sessions_total", "HTTP/2 connections begun.", "side", side)
    }
    static func sessionsRefused(_ side: StaticString) -> Self {
        family("weft_http2_sessions_refused_total", "HTTP/2 connections that could not begin: no address space for their frames.", "side", side)
    }
    static func sessionsOpen(_ side: StaticString) -> Self {
        gauge("weft_http2_sessions_open", "HTTP/2 connections open now.", "side", side)
    }
    static func streams(_ side: StaticString) -> Self {
        family("weft_http2_streams_total", "HTTP/2 streams opened.", "side", side)
    }
    static func streamsOpen(_ side: StaticString) -> Self {
        gauge("weft_http2_streams_open", "HTTP/2 streams open now.", "side", side)
    }
    static func resets(_ way: StaticString) -> Self {
        family("weft_http2_resets_total", "Streams ended by RST_STREAM, by who sent it and on which side.", "way", way)
    }
    static func goAways(_ way: StaticString) -> Self {
        family("weft_http2_goaways_total", "GOAWAY frames, by who sent them and on which side.", "way", way)
    }
    static func http2Fault(_ reason: StaticString, _ side: StaticString) -> Self {
        var made = family("weft_http2_faults_total", "HTTP/2 connections given up, by what was wrong with them and on which side.", "reason", reason)
        made.side = side
        return made
    }
    static func retired(_ reason: StaticString) -> Self {
        family("weft_http2_retirements_total", "Upstream HTTP/2 connections that take no more streams.", "reason", reason)
    }
    static func upstreamFailure(_ reason: StaticString) -> Self {
        family("weft_upstream_failures_total", "Upstream connections that could not be opened or broke.", "reason", reason)
    }
    static func upstreamRetired(_ reason: StaticString) -> Self {
        family("weft_upstream_retirements_total", "Upstream connections taken out of their pool.", "reason", reason)
    }
    static func ejection(_ reason: StaticString) -> Self {
        family("weft_endpoint_ejections_total", "Endpoints that got no requests for a while because requests to them failed.", "reason", reason)
    }
    static func retry(_ reason: StaticString) -> Self {
        family("weft_retries_total", "Requests tried once more.", "reason", reason)
    }
    static func retryRefused(_ reason: StaticString) -> Self {
        family("weft_retries_refused_total", "Requests not tried once more though their route asks for it.", "reason", reason)
    }
    static func overflow(_ limit: StaticString) -> Self {
        family("weft_circuit_open_total", "Requests answered 503 because a service had as many as its policy allows.", "limit", limit)
    }
    static func fault(_ kind: StaticString) -> Self {
        family("weft_faults_injected_total", "Requests that a policy delayed or aborted on purpose.", "kind", kind)
    }
    static func fallback(_ kind: StaticString) -> Self {
        family("weft_fallbacks_total", "Requests that got a policy's fallback because no endpoint could be reached.", "kind", kind)
    }
    static func limit(_ name: StaticString) -> Self {
        family("weft_limits_reached_total", "Times a limit decided.", "limit", name)
    }
    static func bad(_ reason: StaticString) -> Self {
        family("weft_bad_requests_total", "Requests refused because of their form.", "reason", reason)
    }
}
