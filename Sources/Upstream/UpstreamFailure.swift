/// How much of a request may have reached the upstream when a connection failed.
public enum RequestPart: UInt8, Sendable {
    /// Not one byte was handed to the kernel of a connected socket.
    case nothing
    /// The head, or part of it, and no body.
    case head
    /// Some of the body too.
    case body
}

/// Why an upstream connection did not bring a reply: whose fault, how far it got, and so whether a second try is safe.
/// The place that fails knows; the place that retries only reads.
public enum UpstreamFailure: Error, Equatable, Sendable {
    /// `connect` was refused, unreachable, reset.
    case connect(errno: Int32)
    /// Nobody answered the connect in time.
    case connectTimeout
    /// No socket could be had in the pod's namespace.
    case noSocket(errno: Int32)
    /// The connection ended before the first byte of a reply. `reused`: it had carried a request before, so the peer may
    /// simply have retired it as our bytes were on the way.
    case endedBeforeReply(peerMayHaveSeen: RequestPart, reused: Bool)
    /// The connection ended inside the reply.
    case endedInReply
    /// The reply did not come in time.
    case replyTimeout
    /// The peer's own Weft proxy says that it could not connect to the application: nobody has seen the request.
    case refusedBehindPeer
    /// The reply's head or body framing is none.
    case malformedReply
    /// The server has given the request back unprocessed: REFUSED_STREAM, or a GOAWAY that does not include it (RFC 9113, 8.7).
    case refusedStream
    /// The server has reset the request's stream.
    case streamReset
    /// HTTP/2 was declared, and the server does not speak it.
    case notHTTP2
    /// The server took the connection and has not sent its SETTINGS in time.
    case settingsTimeout
    /// The calling pod has no certificate that it could show.
    case noIdentity
    /// The endpoint's proxy and we could not agree on mutual TLS: one has not believed the other, or the connection broke before.
    case notSecured
    /// The endpoint's proxy does not open a tunnel to it for this caller.
    case tunnelRefused
    /// The endpoint's proxy refuses the calling pod's certificate as revoked: nobody has seen the request, and nobody will.
    case callerRevoked

    /// Whether the request may be sent again elsewhere.
    /// - Parameters:
    ///   - isIdempotent: the method's property (RFC 9110, 9.2.2).
    ///   - hasBody: whether the request has a body.
    public func mayRetry(isIdempotent: Bool, hasBody: Bool) -> Bool {
        switch self {
        case .connect, .connectTimeout, .noSocket, .refusedBehindPeer, .refusedStream, .settingsTimeout, .notSecured: true
        case .endedBeforeReply(peerMayHaveSeen: .nothing, _): true
        // Seen or not, doing an idempotent request twice does what doing it once does; but only a reused connection
        // has an innocent reason to end here. A fresh one that ends says that the request itself kills the server.
        case .endedBeforeReply(peerMayHaveSeen: .head, let reused): reused && isIdempotent && !hasBody
        case .endedBeforeReply(peerMayHaveSeen: .body, _): false
        case .endedInReply, .replyTimeout, .malformedReply, .streamReset, .notHTTP2, .noIdentity, .tunnelRefused, .callerRevoked: false
        }
    }
}
