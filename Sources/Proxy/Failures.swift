import Bytes
import EventLoop
import Glibc
import HTTPCodec
import MeshModel
import Routing
import Telemetry
import Upstream

/// Why a request gets an answer of our own making.
enum Refusal {
    case requestHead(HTTPFault)
    case requestBody(HTTPFault)
    case noSuchPort
    case noReadyEndpoint
    /// Every endpoint that may be tried was.
    case noOtherEndpoint
    case pendingBudgetSpent
    case bufferBudgetSpent
    case upstream(UpstreamFailure)
    case badReply(HTTPFault)
    case replyTimeout
    case requestBodyTimeout
    /// The time that a gRPC client gave has passed.
    case deadlinePassed
    /// A limit of the service's policy has no token for it.
    case rateLimited(retryAfterSeconds: UInt32)
    /// The service has as many as its policy allows.
    case overflow(Overflow)
    /// On purpose. Status 0: the gRPC status, also where no call was made.
    case injected(status: UInt16, grpcStatus: UInt8)
    /// What the service's policy says where no endpoint can be reached.
    case fallback(status: UInt16, contentType: UnsafeRawBufferPointer, body: UnsafeRawBufferPointer)
    /// The destination's policy does not let this caller do this.
    case denied(AccessFault)
    /// The service has routes, and none takes the request.
    case noMatchingRoute
    /// Its route has no backend, or only such as get nothing.
    case noBackend
    /// Its route's backend leads nowhere, or may not be asked.
    case backendUnresolved
    /// Its route sends the client elsewhere.
    case redirected(status: Int)
    /// It asks what a cross-origin request may ask, and is told.
    case preflight
}

/// What the client is told, and what is counted.
struct Verdict {
    var status: Int
    var reason: StaticString
    var flags: ResponseFlags
    var isUpstreams = false
}

extension Refusal {
    /// The answer is no refusal in truth, and its fields say all.
    var isEmpty: Bool {
        if case .preflight = self { return true }
        return false
    }

    /// What is told in HTTP's words to a gRPC client too.
    var isPlainHTTP: Bool {
        switch self {
        case .preflight, .redirected: true
        default: false
        }
    }

    /// Every status that the proxy invents, read off one switch.
    var verdict: Verdict {
        switch self {
        case .requestHead(let fault), .requestBody(let fault):
            Verdict(status: fault.status, reason: fault.reason, flags: .downstreamProtocolError)
        case .noSuchPort: Verdict(status: 503, reason: "no-such-port", flags: .noRouteFound)
        case .noReadyEndpoint: Verdict(status: 503, reason: "no-ready-endpoint", flags: .noHealthyUpstream)
        case .noOtherEndpoint: Verdict(status: 503, reason: "upstream-connect-failed", flags: .upstreamConnectionFailure)
        case .pendingBudgetSpent: Verdict(status: 503, reason: "pod-pending-requests", flags: .overload)
        case .bufferBudgetSpent: Verdict(status: 503, reason: "pod-buffered-bytes", flags: .overload)
        case .upstream(.connect): Verdict(status: 503, reason: "upstream-connect-failed", flags: .upstreamConnectionFailure)
        case .upstream(.refusedBehindPeer): Verdict(status: 503, reason: "upstream-connect-failed", flags: .upstreamConnectionFailure)
        case .upstream(.connectTimeout): Verdict(status: 504, reason: "upstream-connect-timeout", flags: .upstreamConnectionFailure)
        case .upstream(.noSocket): Verdict(status: 503, reason: "no-socket", flags: .overload)
        case .upstream(.endedBeforeReply): Verdict(status: 502, reason: "upstream-closed", flags: .upstreamConnectionTermination)
        case .upstream(.endedInReply): Verdict(status: 502, reason: "upstream-closed-in-reply", flags: .upstreamConnectionTermination)
        case .upstream(.replyTimeout), .replyTimeout: Verdict(status: 504, reason: "upstream-timeout", flags: .upstreamRequestTimeout)
        case .upstream(.malformedReply): Verdict(status: 502, reason: "malformed-reply", flags: .upstreamProtocolError)
        case .upstream(.refusedStream): Verdict(status: 503, reason: "upstream-refused", flags: .upstreamOverflow)
        case .upstream(.streamReset): Verdict(status: 502, reason: "upstream-reset", flags: .upstreamRemoteReset)
        case .upstream(.notHTTP2): Verdict(status: 502, reason: "upstream-not-http2", flags: .upstreamProtocolError)
        case .upstream(.settingsTimeout): Verdict(status: 504, reason: "upstream-settings-timeout", flags: .upstreamConnectionFailure)
        case .upstream(.noIdentity): Verdict(status: 503, reason: "no-identity", flags: .upstreamConnectionFailure)
        case .upstream(.notSecured): Verdict(status: 503, reason: "upstream-not-secured", flags: .upstreamConnectionFailure)
        case .upstream(.tunnelRefused): Verdict(status: 403, reason: "upstream-tunnel-refused", flags: .unauthorized)
        case .upstream(.callerRevoked): Verdict(status: 403, reason: AccessFault.revoked.reason, flags: .unauthorized)
        case .badReply(let fault): Verdict(status: 502, reason: fault.reason, flags: .upstreamProtocolError, isUpstreams: true)
        case .requestBodyTimeout: Verdict(status: 408, reason: "body-timeout", flags: .streamIdleTimeout)
        case .deadlinePassed: Verdict(status: 504, reason: "deadline-exceeded", flags: .upstreamRequestTimeout)
        case .rateLimited: Verdict(status: 429, reason: "rate-limited", flags: .rateLimited)
        case .overflow(.requests): Verdict(status: 503, reason: "circuit-open", flags: .upstreamOverflow)
        case .overflow(.pending): Verdict(status: 503, reason: "overflow-pending", flags: .upstreamOverflow)
        case .overflow(.connections): Verdict(status: 503, reason: "overflow-connections", flags: .upstreamOverflow)
        case .injected(0, _): Verdict(status: 500, reason: "fault-injected", flags: .faultInjected)
        case .injected(let status, _): Verdict(status: Int(status), reason: "fault-injected", flags: .faultInjected)
        case .fallback(let status, _, _): Verdict(status: Int(status), reason: "fallback", flags: .noHealthyUpstream)
        case .denied(let fault): Verdict(status: 403, reason: fault.reason, flags: .unauthorized)
        case .noMatchingRoute: Verdict(status: 404, reason: "no-matching-route", flags: .noRouteFound)
        case .noBackend: Verdict(status: 500, reason: "no-backend", flags: .noRouteFound)
        case .backendUnresolved: Verdict(status: 500, reason: "backend-unresolved", flags: .noRouteFound)
        case .redirected(let status): Verdict(status: status, reason: "route-redirect", flags: .none)
        case .preflight: Verdict(status: 200, reason: "cors-preflight", flags: .none)
        }
    }
}

// Whatever goes wrong between a request's head and its reply's last byte comes through here.
extension Worker {
    /// One attempt has failed: another endpoint gets the request if that is provably safe, else the client gets an answer.
    mutating func fail(_ number: UInt32, _ failure: UpstreamFailure) {
        let exchange = exchanges.at(number)
        let connection = connections.at(exchange.pointee.downstream)
        if exchange.pointee.account.isBridge { return bridgeFailed(number, exchange, connection, .upstream(failure)) }
        settlePending(number, exchange, connection)
        releaseUpstream(exchange, mayRest: false)
        judge(exchange, failure)
        exchange.pointee.lease = nil
        ledger.countFailure(failure)
        exchange.pointee.tried = EndpointAddress(address: exchange.pointee.target.address, port: exchange.pointee.target.port)

        // Given back unprocessed is as good as never sent; it is tried again on whatever session there is.
        if failure == .refusedStream, exchange.pointee.refusals < Limits.refusalsPerRequestMax {
            exchange.pointee.refusals += 1
            exchange.pointee.attempts -= 1
        }
        let mayTry = !exchange.pointee.replyHasBegun && !connection.pointee.isBroken
        // Nobody has seen it: as often as the limit says, or as its own plan does.
        let attemptsMax = max(Limits.attemptsPerRequestMax, Int(exchange.pointee.retry.attempts) + 1)
        let mayRetry = mayTry && exchange.pointee.attempts < attemptsMax
            && failure.mayRetry(isIdempotent: exchange.pointee.method.isIdempotent, hasBody: exchange.pointee.hasBody)
        if mayRetry, let message = survivingMessage(exchange) {
            let again = heldRoute(exchange, connection, message)
            return dispatchAgain(number, again.route, again.message, mayRepeat: isFromReuse(failure), after: failure)
        }
        if mayTry, retriesAfter(number, exchange, failure) { return }
        answer(number, .upstream(failure))
    }

    private mutating func dispatchAgain(_ number: UInt32, _ route: Route, _ message: Message, mayRepeat: Bool, after failure: UpstreamFailure) {
        let exchange = exchanges.at(number)
        // A service with a single endpoint has no elsewhere: the client hears of the first failure, not of the lack of a second endpoint.
        if !mayRepeat, !hasAlternative(route, tried: exchange.pointee.tried) { return answer(number, .upstream(failure)) }
        ledger.count(mayRepeat ? .retriesReusedConnection : .retriesConnect)
        dispatch(number, route, message, mayRepeat: mayRepeat, mayReuse: false)
    }

    private func hasAlternative(_ route: Route, tried: EndpointAddress?) -> Bool {
        guard case .service(let service) = route else { return false }
        for place in 0..<service.readyCount where !Self.isSamePod(service.endpoint(at: place), tried, tables) { return true }
        return false
    }

    private func isFromReuse(_ failure: UpstreamFailure) -> Bool {
        switch failure {
        case .endedBeforeReply(_, reused: true), .refusedStream: true
        default: false
        }
    }

    /// The host of a request as it was forwarded: RequestWriter puts it first.
    static func host(in message: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        guard let base = message.baseAddress else { return message }
        let lineEnd = firstIndex(of: 0x0A, in: base, from: 0, to: message.count)
        let start = lineEnd + 1 + 6     // "host: "
        guard start < message.count else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        let end = firstIndex(of: 0x0D, in: base, from: start, to: message.count)
        return UnsafeRawBufferPointer(rebasing: message[start..<end])
    }

    /// Ends the exchange with an answer of our own; where a reply has already begun, or nothing is HTTP, by a reset.
    mutating func answer(_ number: UInt32, _ refusal: Refusal) {
        let exchange = exchanges.at(number)
        let index = exchange.pointee.downstream
        let connection = connections.at(index)
        if exchange.pointee.account.isBridge { return bridgeFailed(number, exchange, connection, refusal) }
        if exchange.pointee.isMirror {
            ledger.count(.mirrorsFailed)
            return endCopy(number)
        }
        if exchange.pointee.hasFallback, fallBack(number, exchange, refusal) { return }
        let verdict = refusal.verdict
        ledger.countRefusal(refusal)
        judge(exchange, refusal)
        if exchange.pointee.downstreamStream != 0 { return answerStream(number, exchange, connection, refusal, verdict) }
        if exchange.pointee.isRelay || exchange.pointee.replyHasBegun {
            ledger.recordFailure(exchange, status: exchange.pointee.status, verdict.flags, now: now)
            releaseUpstream(exchange, mayRest: false)
            let isReply = !exchange.pointee.isRelay
            end(number, exchange, connection)
            return isReply && refusal.isServers ? endBehindOutput(connection, index, resets: true) : reset(connection, index)
        }
        let isInStep = exchange.pointee.requestPhase == .complete
        let keepsAlive = exchange.pointee.keepsAlive && isInStep && drainUntil == nil
        describeUnsent(exchange, connection)
        ledger.recordFailure(exchange, status: UInt16(verdict.status), verdict.flags, now: now)
        answerCrossOrigin(exchange)
        var reply = Reply(
            status: verdict.status, reason: verdict.reason, isUpstreams: verdict.isUpstreams, keepsAlive: keepsAlive,
            minorVersion: exchange.pointee.isHTTP10 ? 0 : 1, answersHead: exchange.pointee.method == .head, retryAfterSeconds: refusal.retryAfterSeconds)
        reply.fields = room.takeAnswer()
        reply.isEmpty = refusal.isEmpty
        reply.content = refusal.content
        releaseUpstream(exchange, mayRest: false)
        end(number, exchange, connection)
        send(reply, connection, index, keepsAlive: keepsAlive)
    }

    /// Refused before it had a destination: who asked is known all the same.
    func describeUnsent(_ exchange: ExchangePlace, _ connection: ConnectionPlace) {
        guard exchange.pointee.attempts == 0, !exchange.pointee.account.reportsSource, !exchange.pointee.account.reportsDestination else { return }
        exchange.pointee.target.address = connection.pointee.address
        ledger.describe(exchange, connection, .address(behind: nil), tables, by: caller(of: connection), from: callerAddress(of: connection, like: connection.pointee.address))
    }

    /// A request that never became an exchange: its head is at fault, and nobody knows where the next would start.
    mutating func refuse(_ connection: ConnectionPlace, _ index: UInt32, _ fault: HTTPFault) {
        ledger.countRefusal(.requestHead(fault))
        ledger.recordRefused(connection, status: UInt16(fault.status), tables, caller: callerAddress(of: connection, like: connection.pointee.address))
        send(Reply(refusing: fault), connection, index, keepsAlive: false)
    }

    private mutating func send(_ reply: Reply, _ connection: ConnectionPlace, _ index: UInt32, keepsAlive: Bool) {
        var writer = ByteWriter(writeMemory)
        _ = reply.write(to: &writer)
        guard write(writer.written, to: connection) else { return drop(connection, index) }
        if keepsAlive {
            connection.pointee.stage = .awaitingHead
            deadlines.set(index, at: after(milliseconds: limits.idleMilliseconds))
            connection.pointee.inputIsFresh = !connection.pointee.input.isEmpty
            if connection.pointee.inputIsFresh || connection.pointee.canRead { again(connection, index) }
        } else {
            closeAfterFlush(connection, index, lingers: true)
        }
    }

    /// The upstream's reply is not HTTP as it must be.
    mutating func replyWasRefused(_ number: UInt32, _ fault: HTTPFault) {
        let exchange = exchanges.at(number)
        if exchange.pointee.passesContent, exchange.pointee.upstreamStream == 0 {
            // It does not speak HTTP/1.1 after all, if that is what it was taken to speak.
            let target = exchange.pointee.target
            http1Memory.forget(high: target.address.high, low: target.address.low, port: target.port)
        }
        answer(number, .badReply(fault))
    }

    /// The client has gone away in the middle of an exchange: the upstream need not go on.
    mutating func clientAborted(_ connection: ConnectionPlace, _ index: UInt32) {
        let number = connection.pointee.exchange
        if number != nobody {
            let exchange = exchanges.at(number)
            ledger.count(.clientAborts)
            ledger.recordFailure(exchange, status: exchange.pointee.replyHasBegun ? exchange.pointee.status : 0, .downstreamConnectionTermination, now: now)
            releaseUpstream(exchange, mayRest: false)
            end(number, exchange, connection)
        }
        drop(connection, index)
    }

    /// Ends an exchange that nobody needs any more, without a word to its client.
    mutating func cancel(_ number: UInt32) {
        let exchange = exchanges.at(number)
        let connection = connections.at(exchange.pointee.downstream)
        releaseUpstream(exchange, mayRest: false)
        end(number, exchange, connection)
    }
}
