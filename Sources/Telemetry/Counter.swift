/// The counters and gauges that every worker has, one slot each. To add one: a case here, a line in `definition`.
///
/// Cases of one family (one name, different label values) stand together; `CounterTests` checks names, labels and order.
public enum Counter: UInt16, Sendable, CaseIterable {
    // Downstream connections
    case connectionsAcceptedOutbound, connectionsAcceptedInbound
    case connectionsClosedOutbound, connectionsClosedInbound
    case connectionsRefusedPodConnections, connectionsRefusedPodMemory, connectionsRefusedDescriptors
    case connectionsRefusedNoDestination, connectionsRefusedOwnPort, connectionsRefusedPlaintext
    case connectionsRefusedNoIdentity, connectionsRefusedHandshakes
    case connectionsHandedOver
    case connectionsOpen
    // TLS. The results of the client's side stand in the order of the server's, and both in that of `handshakeResults`.
    case tlsServerOk, tlsServerTimeout, tlsServerNoCertificate, tlsServerUnknownAuthority, tlsServerExpired, tlsServerNotYetValid
    case tlsServerWrongTrustDomain, tlsServerWrongIdentity, tlsServerSeveralNames, tlsServerNoName, tlsServerMalformedName
    case tlsServerMalformedCertificate, tlsServerBadUsage, tlsServerBadSignature, tlsServerRevoked, tlsServerProtocolVersion
    case tlsServerNoCommonProtocol, tlsServerNoCommonParameters, tlsServerNotTLS, tlsServerPeerAlert, tlsServerClosed, tlsServerTruncated
    case tlsServerReset, tlsServerMalformed, tlsServerOutOfMemory
    case tlsClientOk, tlsClientTimeout, tlsClientNoCertificate, tlsClientUnknownAuthority, tlsClientExpired, tlsClientNotYetValid
    case tlsClientWrongTrustDomain, tlsClientWrongIdentity, tlsClientSeveralNames, tlsClientNoName, tlsClientMalformedName
    case tlsClientMalformedCertificate, tlsClientBadUsage, tlsClientBadSignature, tlsClientRevoked, tlsClientProtocolVersion
    case tlsClientNoCommonProtocol, tlsClientNoCommonParameters, tlsClientNotTLS, tlsClientPeerAlert, tlsClientClosed, tlsClientTruncated
    case tlsClientReset, tlsClientMalformed, tlsClientOutOfMemory
    case tlsResumedServer, tlsResumedClient
    case tlsSessionsReplaced, tlsSessionsExpired, tlsSessionsRevoked
    case connectForeignDestination, connectNamedDestination, connectOwnPort, connectMalformedDestination, connectMissingDestination
    case connectNotConnect
    // Opaque connections
    case pipes, pipesInUse, pipeBytes
    case spliceFallbacks
    case tunnels
    // HTTP/2
    case http2SessionsDownstream, http2SessionsUpstream
    case http2SessionsRefusedDownstream, http2SessionsRefusedUpstream
    case http2SessionsOpenDownstream, http2SessionsOpenUpstream
    case http2StreamsDownstream, http2StreamsUpstream
    case http2StreamsOpenDownstream, http2StreamsOpenUpstream
    case http2ResetsSentDownstream, http2ResetsReceivedDownstream, http2ResetsSentUpstream, http2ResetsReceivedUpstream
    case http2GoAwaysSentDownstream, http2GoAwaysReceivedDownstream, http2GoAwaysSentUpstream, http2GoAwaysReceivedUpstream
    case http2RetiredGoAway, http2RetiredIdle, http2RetiredUnanswered, http2RetiredFault, http2RetiredPeerClosed, http2RetiredPodGone
    case http2RetiredCredentials
    case http2PingsUnanswered
    case http2NotSpoken
    case http2FaultBadPreface, http2FaultSettingsNotFirst, http2FaultFrameTooLarge, http2FaultBadFrameSize, http2FaultWrongStream
    case http2FaultIdleStream, http2FaultClosedStream, http2FaultBadStreamNumber, http2FaultInterruptedHead, http2FaultStrayContinuation
    case http2FaultBadPadding, http2FaultBadSetting, http2FaultBadInitialWindow, http2FaultZeroWindowIncrement, http2FaultWindowOverflow
    case http2FaultFlowControl, http2FaultPushPromise, http2FaultCompression, http2FaultSelfDependency, http2FaultTooManyStreams
    case http2FaultRefusedFrame, http2FaultRapidReset, http2FaultContinuationFlood, http2FaultHeadBomb, http2FaultControlFlood
    case http2FaultEmptyDataFlood, http2FaultTinyDataFlood, http2FaultPriorityFlood, http2FaultWindowUpdateFlood
    case http2FaultSettingsTimeout, http2FaultHeadTimeout, http2FaultInternalError
    // In the order of those above: `ofUpstream` counts on it.
    case http2UpstreamFaultBadPreface, http2UpstreamFaultSettingsNotFirst, http2UpstreamFaultFrameTooLarge, http2UpstreamFaultBadFrameSize
    case http2UpstreamFaultWrongStream, http2UpstreamFaultIdleStream, http2UpstreamFaultClosedStream, http2UpstreamFaultBadStreamNumber
    case http2UpstreamFaultInterruptedHead, http2UpstreamFaultStrayContinuation, http2UpstreamFaultBadPadding, http2UpstreamFaultBadSetting
    case http2UpstreamFaultBadInitialWindow, http2UpstreamFaultZeroWindowIncrement, http2UpstreamFaultWindowOverflow
    case http2UpstreamFaultFlowControl, http2UpstreamFaultPushPromise, http2UpstreamFaultCompression, http2UpstreamFaultSelfDependency
    case http2UpstreamFaultTooManyStreams, http2UpstreamFaultRefusedFrame, http2UpstreamFaultRapidReset, http2UpstreamFaultContinuationFlood
    case http2UpstreamFaultHeadBomb, http2UpstreamFaultControlFlood, http2UpstreamFaultEmptyDataFlood, http2UpstreamFaultTinyDataFlood
    case http2UpstreamFaultPriorityFlood, http2UpstreamFaultWindowUpdateFlood, http2UpstreamFaultSettingsTimeout
    case http2UpstreamFaultHeadTimeout, http2UpstreamFaultInternalError
    // Upstream connections
    case upstreamConnects
    case upstreamFailureRefused, upstreamFailureTimeout, upstreamFailureReset, upstreamFailureUnreachable
    case upstreamFailureNoSocket, upstreamFailureNoIdentity, upstreamFailureNotSecured, upstreamFailureTunnelRefused, upstreamFailureCallerRevoked
    case upstreamFailureOther
    case mutualTLSFallbacks
    case upstreamPoolHits
    case upstreamRetiredIdle, upstreamRetiredClosed, upstreamRetiredPodGone
    case upstreamsIdle
    case stockWanted, stockTaken, stockRefused, stockSockets
    // How endpoints were judged
    case ejectionsFailures, ejectionsSuccessRate, ejectionsLatency
    case endpointsEjected, endpointsUnwell
    // Requests
    case requestsSameNode
    case retriesConnect, retriesReusedConnection, retriesStatus, retriesReset, retriesTimeout
    case retriesRefusedBudget, retriesRefusedDeeper, retriesRefusedDeadline, retriesRefusedSize
    case overflowRequests, overflowPending, overflowConnections
    case rateLimited
    case faultsDelayed, faultsAborted
    case fallbackReplies, fallbackRequests
    case clientAborts
    case limitHeadTooLarge, limitPodMemory, limitPodPending, limitPodStreams
    case limitHeadTimeout, limitIdleTimeout, limitConnectTimeout, limitReplyTimeout, limitBodyTimeout
    case badSyntax, badFraming, badHost, badField, badChunk, badVersion, badReply
    // Routes
    case limitRouteHead
    case routeNoMatch, routeNoBackend, routeUnresolved
    case routeRedirects, routePreflights
    case mirrorsSent, mirrorsLeftOut, mirrorsCutOff, mirrorsFailed
    case sessionsBegun, sessionsKept, sessionsMoved
    // Access
    case accessRefusedRule, accessRefusedNoRule, accessRefusedNotHTTP, accessRefusedAmbiguousPath, accessRefusedRevoked
    case accessAudited
    case accessEnded
    // Own identities
    case identityKeysMade, identityActive, identityRefused, identityExpired
    // The worker itself
    case loopTurns
    case workerBusyNanoseconds
    case heartbeatMilliseconds
    case snapshotGeneration
    case snapshotsRefused
    case bufferedBytes
    case seriesOverflow
    case countersReset

    /// How a family looks to Prometheus and how its workers' values become one.
    public struct Definition: Sendable {
        public enum Kind: Sendable { case counter, gauge }
        public enum Workers: Sendable {
            /// One value: the sum.
            case summed
            /// One value per worker, labelled `worker`; workers that are not running have none.
            case each
        }

        public var name: StaticString
        public var help: StaticString
        public var kind: Kind = .counter
        public var workers: Workers = .summed
        /// The label that tells the cases of a family apart.
        public var label: (name: StaticString, value: StaticString)?
        /// A second one, `side`, of families whose label says nothing of it: downstream or upstream.
        public var side: StaticString?
        /// The slot's value times this is the metric's; nanoseconds become seconds with 1e-9.
        public var scale: Double = 1
    }

    /// The counter of the same HTTP/2 fault on the endpoint's side; for those of faults on the client's.
    public var ofUpstream: Counter {
        Counter(rawValue: rawValue &+ (Counter.http2UpstreamFaultBadPreface.rawValue - Counter.http2FaultBadPreface.rawValue)) ?? self
    }

    /// How a TLS handshake ends: well, not in time, or by one of the faults that MutualTLS names, in its order.
    public static let handshakeResults: [StaticString] = [
        "ok", "timeout", "no_certificate", "unknown_ca", "expired", "not_yet_valid",
        "wrong_trust_domain", "wrong_identity", "several_uri_names", "no_uri_name", "not_spiffe", "malformed_certificate",
        "bad_usage", "bad_signature", "revoked", "protocol_version", "no_protocol", "no_parameters",
        "not_tls", "peer_alert", "closed", "truncated", "reset", "malformed",
        "out_of_memory",
    ]

    /// A handshake's result; `place` is one of `handshakeResults`.
    public static func handshake(isServer: Bool, place: Int) -> Counter {
        let first: Counter = isServer ? .tlsServerOk : .tlsClientOk
        return Counter(rawValue: first.rawValue + UInt16(min(place, handshakeResults.count - 1))) ?? first
    }

    public var definition: Definition {
        switch self {
        case .connectionsAcceptedOutbound: .accepted("outbound")
        case .connectionsAcceptedInbound: .accepted("inbound")
        case .connectionsClosedOutbound: .closed("outbound")
        case .connectionsClosedInbound: .closed("inbound")
        case .connectionsRefusedPodConnections: .refused("pod_connections")
        case .connectionsRefusedPodMemory: .refused("pod_memory")
        case .connectionsRefusedDescriptors: .refused("descriptors")
        case .connectionsRefusedNoDestination: .refused("no_destination")
        case .connectionsRefusedOwnPort: .refused("own_port")
        case .connectionsRefusedPlaintext: .refused("plaintext")
        case .connectionsRefusedNoIdentity: .refused("no_identity")
        case .connectionsRefusedHandshakes: .refused("handshakes")
        case .connectionsHandedOver:
            .init(name: "weft_connections_handed_over_total", help: "Downstream connections given to a worker with fewer.")
        case .connectionsOpen:
            .init(name: "weft_connections_open", help: "Downstream connections open now.", kind: .gauge)
        case .tlsServerOk, .tlsServerTimeout, .tlsServerNoCertificate, .tlsServerUnknownAuthority, .tlsServerExpired,
            .tlsServerNotYetValid, .tlsServerWrongTrustDomain, .tlsServerWrongIdentity, .tlsServerSeveralNames, .tlsServerNoName,
            .tlsServerMalformedName, .tlsServerMalformedCertificate, .tlsServerBadUsage, .tlsServerBadSignature, .tlsServerRevoked,
            .tlsServerProtocolVersion, .tlsServerNoCommonProtocol, .tlsServerNoCommonParameters, .tlsServerNotTLS, .tlsServerPeerAlert,
            .tlsServerClosed, .tlsServerTruncated, .tlsServerReset, .tlsServerMalformed, .tlsServerOutOfMemory:
            .handshake(self, first: .tlsServerOk, "server")
        case .tlsClientOk, .tlsClientTimeout, .tlsClientNoCertificate, .tlsClientUnknownAuthority, .tlsClientExpired,
            .tlsClientNotYetValid, .tlsClientWrongTrustDomain, .tlsClientWrongIdentity, .tlsClientSeveralNames, .tlsClientNoName,
            .tlsClientMalformedName, .tlsClientMalformedCertificate, .tlsClientBadUsage, .tlsClientBadSignature, .tlsClientRevoked,
            .tlsClientProtocolVersion, .tlsClientNoCommonProtocol, .tlsClientNoCommonParameters, .tlsClientNotTLS, .tlsClientPeerAlert,
            .tlsClientClosed, .tlsClientTruncated, .tlsClientReset, .tlsClientMalformed, .tlsClientOutOfMemory:
            .handshake(self, first: .tlsClientOk, "client")
        case .tlsResumedServer: .resumed("server")
        case .tlsResumedClient: .resumed("client")
        case .tlsSessionsReplaced: .tlsSessionEnd("replaced")
        case .tlsSessionsExpired: .tlsSessionEnd("expired")
        case .tlsSessionsRevoked: .tlsSessionEnd("revoked")
        case .connectForeignDestination: .connectRefusal("foreign_destination")
        case .connectNamedDestination: .connectRefusal("named_destination")
        case .connectOwnPort: .connectRefusal("own_port")
        case .connectMalformedDestination: .connectRefusal("malformed_destination")
        case .connectMissingDestination: .connectRefusal("missing_destination")
        case .connectNotConnect: .connectRefusal("not_connect")
        case .pipes: .init(name: "weft_pipes", help: "Pipes for splicing that the worker has, in use or not.", kind: .gauge)
        case .pipesInUse: .init(name: "weft_pipes_in_use", help: "Pipes that hold bytes of a connection now.", kind: .gauge)
        case .pipeBytes: .init(name: "weft_pipe_bytes", help: "Bytes that all pipes together can hold.", kind: .gauge)
        case .spliceFallbacks:
            .init(name: "weft_splice_fallbacks_total", help: "Times bytes were copied because no pipe was to be had.")
        case .tunnels: .init(name: "weft_tunnels_total", help: "Requests that became tunnels: upgrades and CONNECT.")
        case .http2SessionsDownstream: .sessions("downstream")
        case .http2SessionsUpstream: .sessions("upstream")
        case .http2SessionsRefusedDownstream: .sessionsRefused("downstream")
        case .http2SessionsRefusedUpstream: .sessionsRefused("upstream")
        case .http2SessionsOpenDownstream: .sessionsOpen("downstream")
        case .http2SessionsOpenUpstream: .sessionsOpen("upstream")
        case .http2StreamsDownstream: .streams("downstream")
        case .http2StreamsUpstream: .streams("upstream")
        case .http2StreamsOpenDownstream: .streamsOpen("downstream")
        case .http2StreamsOpenUpstream: .streamsOpen("upstream")
        case .http2ResetsSentDownstream: .resets("sent_downstream")
        case .http2ResetsReceivedDownstream: .resets("received_downstream")
        case .http2ResetsSentUpstream: .resets("sent_upstream")
        case .http2ResetsReceivedUpstream: .resets("received_upstream")
        case .http2GoAwaysSentDownstream: .goAways("sent_downstream")
        case .http2GoAwaysReceivedDownstream: .goAways("received_downstream")
        case .http2GoAwaysSentUpstream: .goAways("sent_upstream")
        case .http2GoAwaysReceivedUpstream: .goAways("received_upstream")
        case .http2RetiredGoAway: .retired("goaway")
        case .http2RetiredIdle: .retired("idle")
        case .http2RetiredUnanswered: .retired("ping_unanswered")
        case .http2RetiredFault: .retired("fault")
        case .http2RetiredPeerClosed: .retired("peer_closed")
        case .http2RetiredPodGone: .retired("pod_gone")
        case .http2RetiredCredentials: .retired("credentials")
        case .http2PingsUnanswered:
            .init(name: "weft_http2_pings_unanswered_total", help: "HTTP/2 connections given up because a PING was not answered.")
        case .http2NotSpoken:
            .init(name: "weft_http2_not_spoken_total", help: "Endpoints that answered HTTP/2 with something else.")
        case .http2FaultBadPreface: .http2Fault("bad_preface", "downstream")
        case .http2FaultSettingsNotFirst: .http2Fault("settings_not_first", "downstream")
        case .http2FaultFrameTooLarge: .http2Fault("frame_too_large", "downstream")
        case .http2FaultBadFrameSize: .http2Fault("bad_frame_size", "downstream")
        case .http2FaultWrongStream: .http2Fault("wrong_stream", "downstream")
        case .http2FaultIdleStream: .http2Fault("idle_stream", "downstream")
        case .http2FaultClosedStream: .http2Fault("closed_stream", "downstream")
        case .http2FaultBadStreamNumber: .http2Fault("bad_stream_number", "downstream")
        case .http2FaultInterruptedHead: .http2Fault("interrupted_head", "downstream")
        case .http2FaultStrayContinuation: .http2Fault("stray_continuation", "downstream")
        case .http2FaultBadPadding: .http2Fault("bad_padding", "downstream")
        case .http2FaultBadSetting: .http2Fault("bad_setting", "downstream")
        case .http2FaultBadInitialWindow: .http2Fault("bad_initial_window", "downstream")
        case .http2FaultZeroWindowIncrement: .http2Fault("zero_window_increment", "downstream")
        case .http2FaultWindowOverflow: .http2Fault("window_overflow", "downstream")
        case .http2FaultFlowControl: .http2Fault("flow_control", "downstream")
        case .http2FaultPushPromise: .http2Fault("push_promise", "downstream")
        case .http2FaultCompression: .http2Fault("compression", "downstream")
        case .http2FaultSelfDependency: .http2Fault("self_dependency", "downstream")
        case .http2FaultTooManyStreams: .http2Fault("too_many_streams", "downstream")
        case .http2FaultRefusedFrame: .http2Fault("refused_frame", "downstream")
        case .http2FaultRapidReset: .http2Fault("rapid_reset", "downstream")
        case .http2FaultContinuationFlood: .http2Fault("continuation_flood", "downstream")
        case .http2FaultHeadBomb: .http2Fault("head_bomb", "downstream")
        case .http2FaultControlFlood: .http2Fault("control_flood", "downstream")
        case .http2FaultEmptyDataFlood: .http2Fault("empty_data_flood", "downstream")
        case .http2FaultTinyDataFlood: .http2Fault("tiny_data_flood", "downstream")
        case .http2FaultPriorityFlood: .http2Fault("priority_flood", "downstream")
        case .http2FaultWindowUpdateFlood: .http2Fault("window_update_flood", "downstream")
        case .http2FaultSettingsTimeout: .http2Fault("settings_timeout", "downstream")
        case .http2FaultHeadTimeout: .http2Fault("head_timeout", "downstream")
        case .http2FaultInternalError: .http2Fault("internal_error", "downstream")
        case .http2UpstreamFaultBadPreface: .http2Fault("bad_preface", "upstream")
        case .http2UpstreamFaultSettingsNotFirst: .http2Fault("settings_not_first", "upstream")
        case .http2UpstreamFaultFrameTooLarge: .http2Fault("frame_too_large", "upstream")
        case .http2UpstreamFaultBadFrameSize: .http2Fault("bad_frame_size", "upstream")
        case .http2UpstreamFaultWrongStream: .http2Fault("wrong_stream", "upstream")
        case .http2UpstreamFaultIdleStream: .http2Fault("idle_stream", "upstream")
        case .http2UpstreamFaultClosedStream: .http2Fault("closed_stream", "upstream")
        case .http2UpstreamFaultBadStreamNumber: .http2Fault("bad_stream_number", "upstream")
        case .http2UpstreamFaultInterruptedHead: .http2Fault("interrupted_head", "upstream")
        case .http2UpstreamFaultStrayContinuation: .http2Fault("stray_continuation", "upstream")
        case .http2UpstreamFaultBadPadding: .http2Fault("bad_padding", "upstream")
        case .http2UpstreamFaultBadSetting: .http2Fault("bad_setting", "upstream")
        case .http2UpstreamFaultBadInitialWindow: .http2Fault("bad_initial_window", "upstream")
        case .http2UpstreamFaultZeroWindowIncrement: .http2Fault("zero_window_increment", "upstream")
        case .http2UpstreamFaultWindowOverflow: .http2Fault("window_overflow", "upstream")
        case .http2UpstreamFaultFlowControl: .http2Fault("flow_control", "upstream")
        case .http2UpstreamFaultPushPromise: .http2Fault("push_promise", "upstream")
        case .http2UpstreamFaultCompression: .http2Fault("compression", "upstream")
        case .http2UpstreamFaultSelfDependency: .http2Fault("self_dependency", "upstream")
        case .http2UpstreamFaultTooManyStreams: .http2Fault("too_many_streams", "upstream")
        case .http2UpstreamFaultRefusedFrame: .http2Fault("refused_frame", "upstream")
        case .http2UpstreamFaultRapidReset: .http2Fault("rapid_reset", "upstream")
        case .http2UpstreamFaultContinuationFlood: .http2Fault("continuation_flood", "upstream")
        case .http2UpstreamFaultHeadBomb: .http2Fault("head_bomb", "upstream")
        case .http2UpstreamFaultControlFlood: .http2Fault("control_flood", "upstream")
        case .http2UpstreamFaultEmptyDataFlood: .http2Fault("empty_data_flood", "upstream")
        case .http2UpstreamFaultTinyDataFlood: .http2Fault("tiny_data_flood", "upstream")
        case .http2UpstreamFaultPriorityFlood: .http2Fault("priority_flood", "upstream")
        case .http2UpstreamFaultWindowUpdateFlood: .http2Fault("window_update_flood", "upstream")
        case .http2UpstreamFaultSettingsTimeout: .http2Fault("settings_timeout", "upstream")
        case .http2UpstreamFaultHeadTimeout: .http2Fault("head_timeout", "upstream")
        case .http2UpstreamFaultInternalError: .http2Fault("internal_error", "upstream")
        case .upstreamConnects:
            .init(name: "weft_upstream_connects_total", help: "Connections opened to endpoints.")
        case .upstreamFailureRefused: .upstreamFailure("refused")
        case .upstreamFailureTimeout: .upstreamFailure("timeout")
        case .upstreamFailureReset: .upstreamFailure("reset")
        case .upstreamFailureUnreachable: .upstreamFailure("unreachable")
        case .upstreamFailureNoSocket: .upstreamFailure("no_socket")
        case .upstreamFailureNoIdentity: .upstreamFailure("no_identity")
        case .upstreamFailureNotSecured: .upstreamFailure("not_secured")
        case .upstreamFailureTunnelRefused: .upstreamFailure("tunnel_refused")
        case .upstreamFailureCallerRevoked: .upstreamFailure("caller_revoked")
        case .upstreamFailureOther: .upstreamFailure("other")
        case .mutualTLSFallbacks:
            .init(
                name: "weft_mtls_fallbacks_total",
                help: "Attempts sent as they are because the mesh of their node is down and the namespace says failure: open.")
        case .upstreamPoolHits:
            .init(name: "weft_upstream_pool_hits_total", help: "Requests that found an idle upstream connection.")
        case .upstreamRetiredIdle: .upstreamRetired("idle")
        case .upstreamRetiredClosed: .upstreamRetired("peer_closed")
        case .upstreamRetiredPodGone: .upstreamRetired("pod_gone")
        case .upstreamsIdle:
            .init(name: "weft_upstream_idle_connections", help: "Idle upstream connections kept for reuse now.", kind: .gauge)
        case .stockWanted:
            .init(name: "weft_stock_sockets_wanted_total", help: "Sockets asked of the node process for upstream connections.")
        case .stockTaken:
            .init(name: "weft_stock_sockets_taken_total", help: "Sockets of the stock that became upstream connections.")
        case .stockRefused:
            .init(name: "weft_stock_sockets_refused_total", help: "Sockets that the node process could not make.")
        case .stockSockets:
            .init(name: "weft_stock_sockets", help: "Unused sockets in stock now.", kind: .gauge)
        case .ejectionsFailures: .ejection("consecutive_failures")
        case .ejectionsSuccessRate: .ejection("success_rate")
        case .ejectionsLatency: .ejection("latency")
        case .endpointsEjected:
            .init(name: "weft_endpoints_ejected", help: "Endpoints that get no requests now because requests to them failed.", kind: .gauge)
        case .endpointsUnwell:
            .init(name: "weft_endpoints_unwell", help: "Endpoints that get no requests now because of their health checks.", kind: .gauge)
        case .requestsSameNode:
            .init(name: "weft_requests_same_node_total", help: "Requests carried straight to a pod of the same node.")
        case .retriesConnect: .retry("connect_failed")
        case .retriesReusedConnection: .retry("reused_connection_closed")
        case .retriesStatus: .retry("status")
        case .retriesReset: .retry("reset")
        case .retriesTimeout: .retry("timeout")
        case .retriesRefusedBudget: .retryRefused("budget")
        case .retriesRefusedDeeper: .retryRefused("already_retried")
        case .retriesRefusedDeadline: .retryRefused("deadline")
        case .retriesRefusedSize: .retryRefused("request_size")
        case .overflowRequests: .overflow("requests")
        case .overflowPending: .overflow("pending")
        case .overflowConnections: .overflow("connections")
        case .rateLimited: .init(name: "weft_rate_limited_total", help: "Requests answered 429 because a limit's bucket had no token.")
        case .faultsDelayed: .fault("delay")
        case .faultsAborted: .fault("abort")
        case .fallbackReplies: .fallback("reply")
        case .fallbackRequests: .fallback("backend")
        case .clientAborts:
            .init(name: "weft_client_aborts_total", help: "Requests whose client left before the reply was complete.")
        case .limitHeadTooLarge: .limit("head_bytes")
        case .limitPodMemory: .limit("pod_buffered_bytes")
        case .limitPodPending: .limit("pod_pending_requests")
        case .limitPodStreams: .limit("pod_streams")
        case .limitHeadTimeout: .limit("head_timeout")
        case .limitIdleTimeout: .limit("idle_timeout")
        case .limitConnectTimeout: .limit("connect_timeout")
        case .limitReplyTimeout: .limit("reply_timeout")
        case .limitBodyTimeout: .limit("body_timeout")
        case .badSyntax: .bad("syntax")
        case .badFraming: .bad("framing")
        case .badHost: .bad("host")
        case .badField: .bad("field")
        case .badChunk: .bad("chunk")
        case .badVersion: .bad("version")
        case .badReply:
            .init(name: "weft_bad_replies_total", help: "Replies of endpoints that were not HTTP as it must be.")
        case .limitRouteHead:
            .init(name: "weft_route_heads_too_large_total", help: "Heads that had no room for what their route wanted to write.")
        case .routeNoMatch: .routeRefused("no_match")
        case .routeNoBackend: .routeRefused("no_backend")
        case .routeUnresolved: .routeRefused("backend_unresolved")
        case .routeRedirects: .routeAnswered("redirect")
        case .routePreflights: .routeAnswered("cors_preflight")
        case .mirrorsSent: .mirror("sent")
        case .mirrorsLeftOut: .mirror("left_out")
        case .mirrorsCutOff: .mirror("cut_off")
        case .mirrorsFailed: .mirror("failed")
        case .sessionsBegun: .session("begun")
        case .sessionsKept: .session("kept")
        case .sessionsMoved: .session("moved")
        case .accessRefusedRule: .access("rule")
        case .accessRefusedNoRule: .access("no_rule_allows")
        case .accessRefusedNotHTTP: .access("not_http")
        case .accessRefusedAmbiguousPath: .access("ambiguous_path")
        case .accessRefusedRevoked: .access("caller_revoked")
        case .accessAudited:
            .init(name: "weft_access_audited_total", help: "Requests and opaque connections that passed and that a policy in audit would refuse.")
        case .accessEnded:
            .init(name: "weft_access_ended_total", help: "Requests and opaque connections ended because their caller is denied since.")
        case .identityKeysMade: .init(name: "weft_identity_keys_total", help: "Key pairs made for workloads of this node.")
        case .identityActive: .identity("active")
        case .identityRefused: .identity("refused")
        case .identityExpired: .identity("expired")
        case .loopTurns:
            .init(name: "weft_worker_loop_turns_total", help: "Turns of the worker's event loop.", workers: .each)
        case .workerBusyNanoseconds:
            .init(
                name: "weft_worker_busy_seconds_total",
                help: "Time the worker spent on work, not waiting.",
                workers: .each, scale: 1e-9)
        case .heartbeatMilliseconds:
            .init(
                name: "weft_worker_heartbeat_seconds",
                help: "CLOCK_MONOTONIC of the worker's last heartbeat.",
                kind: .gauge, workers: .each, scale: 1e-3)
        case .snapshotGeneration:
            .init(
                name: "weft_snapshot_applied_generation",
                help: "Generation of the snapshot that the worker routes by.",
                kind: .gauge, workers: .each)
        case .snapshotsRefused:
            .init(name: "weft_snapshots_refused_total", help: "Snapshots that failed validation; the previous one stayed.")
        case .bufferedBytes:
            .init(name: "weft_buffered_bytes", help: "Bytes waiting in the proxy's buffers now.", kind: .gauge)
        case .seriesOverflow:
            .init(
                name: "weft_telemetry_overflow_total",
                help: "Series or label sets that found their table full; they count under the labels 'overflow'.")
        case .countersReset:
            .init(name: "weft_telemetry_resets_total", help: "Counter areas found damaged and started anew.")
        }
    }
}
