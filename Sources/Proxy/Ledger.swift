import EventLoop
import Glibc
import HTTPCodec
import MeshModel
import Routing
import Telemetry
import Upstream

/// Whom an exchange is counted for; filled when its endpoint is known.
struct ExchangeAccount {
    var source = LabelSet.unknown
    var destination = LabelSet.unknown
    var service = LabelSet.unknown
    /// This proxy is on the caller's side.
    var reportsSource = false
    /// This proxy is on the called side too (or only there).
    var reportsDestination = false
    var isSameNode = false
    /// The caller is proven to the destination: by mutual TLS, or by the kernel where both are on this node.
    var isProven = false
    /// The other side of the upstream connection is that node's Weft proxy.
    var isBehindPeer = false
    var wasOpened = false
    /// The far side of a bridge: what passes there is counted on its near side.
    var isBridge = false
    /// A health check's: it is no request of the pod's.
    var isProbe = false
}

/// A label set by the address of its record's first text, which is unique within a generation. Direct-mapped: a collision costs one interning.
struct RememberedLabels {
    var text: UInt = 0
    var generation: UInt64 = 0
    var labels = LabelSet.unknown
}

/// Values of the moment, shown once a second.
struct Gauges {
    var connectionsOpen: Int
    var idleUpstreams: Int
    var stockSockets: Int
    var bufferedBytes: Int
    var generation: UInt64
    var heartbeat: Nanoseconds
}

/// Everything a worker counts, in the words of Telemetry.
struct Ledger: ~Copyable {
    let counters: WorkerCounters

    private static let rememberedCount = 2_048
    private let remembered = Region<RememberedLabels>(capacity: Ledger.rememberedCount)

    init(counters region: CountersRegion, worker: Int) { counters = region.worker(worker) }

    @inline(__always) func count(_ counter: Counter, _ amount: UInt64 = 1) { counters.add(counter, amount) }
    @inline(__always) func raise(_ gauge: Counter, by amount: UInt64 = 1) { counters.add(gauge, amount) }
    @inline(__always) func lower(_ gauge: Counter, by amount: UInt64 = 1) { counters.subtract(gauge, amount) }

    // MARK: Connections and pods

    func connectionOpened(isInbound: Bool, of slot: PodSlot?) {
        counters.add(isInbound ? .connectionsAcceptedInbound : .connectionsAcceptedOutbound)
        if let slot { counters.add(.connections, to: slot) }
    }

    func connectionClosed(isInbound: Bool, of slot: PodSlot?) {
        counters.add(isInbound ? .connectionsClosedInbound : .connectionsClosedOutbound)
        if let slot { counters.subtract(.connections, from: slot) }
    }

    @inline(__always) func chargeTime(_ nanoseconds: UInt64, to slot: PodSlot?) {
        counters.add(.workerBusyNanoseconds, nanoseconds)
        counters.add(.loopTurns)
        if let slot { counters.add(.cpuNanoseconds, to: slot, nanoseconds) }
    }

    func showBuffered(_ change: Int, of slot: PodSlot?) {
        if let slot { counters.add(.bufferedBytes, to: slot, UInt64(bitPattern: Int64(change))) }
    }

    func showPending(_ change: Int, of slot: PodSlot?) {
        if let slot { counters.add(.pendingRequests, to: slot, UInt64(bitPattern: Int64(change))) }
    }

    func showGauges(_ gauges: Gauges) {
        counters.set(.connectionsOpen, to: UInt64(gauges.connectionsOpen))
        counters.set(.upstreamsIdle, to: UInt64(gauges.idleUpstreams))
        counters.set(.stockSockets, to: UInt64(gauges.stockSockets))
        counters.set(.bufferedBytes, to: UInt64(max(0, gauges.bufferedBytes)))
        counters.set(.snapshotGeneration, to: gauges.generation)
        counters.set(.heartbeatMilliseconds, to: gauges.heartbeat / 1_000_000)
    }

    /// What a connection was taken for; `port` is the service's where one is known.
    func decided(_ spoken: DecidedProtocol, _ reason: DecisionReason, service: ServiceView?, port: UInt16, _ generation: UInt64) {
        let set = service.map { labels(of: $0, generation) } ?? .unknown
        counters.decided(SeriesKey(decision: spoken, reason: reason, service: set, port: port))
    }

    // MARK: Who is counted

    /// Notes who calls whom, before the attempt goes out; the views end with this turn, the label sets do not.
    func describe(_ exchange: ExchangePlace, _ connection: ConnectionPlace, _ route: Route, _ tables: TablesView, by caller: Caller, from address: IPAddress) {
        let isInbound = connection.pointee.listener.isInbound
        exchange.pointee.account.isProbe = connection.pointee.isProbe
        exchange.pointee.account.reportsSource = !isInbound && !exchange.pointee.isMirror
        exchange.pointee.account.isSameNode = !isInbound && exchange.pointee.target.source != nil
        exchange.pointee.account.reportsDestination = isInbound || exchange.pointee.account.isSameNode
        let destination = tables.workload(at: exchange.pointee.target.address)
        let isProven = caller.isAuthenticated && (exchange.pointee.account.reportsDestination || exchange.pointee.target.wire != .plain)
        exchange.pointee.account.isProven = isProven
        exchange.pointee.account.source = labels(of: tables.workload(at: address), principal: isProven ? caller : .unauthenticated, tables.generation)
        exchange.pointee.account.destination = labels(of: destination, principal: isProven ? Caller(destination, tables) : .unauthenticated, tables.generation)
        exchange.pointee.account.isBehindPeer = !isInbound && !exchange.pointee.account.isSameNode && destination?.isMeshed == true
        switch route {
        case .service(let service): exchange.pointee.account.service = labels(of: service.service, tables.generation)
        case .address(let behind): exchange.pointee.account.service = behind.map { labels(of: $0.service, tables.generation) } ?? .unknown
        case .noSuchPort: exchange.pointee.account.service = .unknown
        }
    }

    /// - Parameter principal: the proven identity; with none the label says `unknown`, whatever the address would suggest.
    private func labels(of workload: WorkloadView?, principal: Caller = .unauthenticated, _ generation: UInt64) -> LabelSet {
        if workload == nil && !principal.isAuthenticated { return .unknown }
        let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
        let uid = workload?.uid ?? nothing
        return remember(uid, salt: principal.hash, generation) {
            principal.withName { name in
                counters.labels(
                    PeerLabels(
                        workload: workload?.workloadName ?? nothing, namespace: workload?.namespace ?? principal.namespace, principal: name,
                        app: workload?.app ?? nothing, version: workload?.version ?? nothing, canonicalService: workload?.canonicalService ?? nothing,
                        canonicalRevision: workload?.canonicalRevision ?? nothing, cluster: workload?.cluster ?? nothing))
            }
        }
    }

    private func labels(of service: ServiceView, _ generation: UInt64) -> LabelSet {
        remember(service.host, salt: 0, generation) { counters.labels(ServiceLabels(host: service.host, name: service.name, namespace: service.namespace)) }
    }

    @inline(__always)
    private func remember(_ text: UnsafeRawBufferPointer, salt: UInt, _ generation: UInt64, _ make: () -> LabelSet) -> LabelSet {
        let address = UInt(bitPattern: text.baseAddress) ^ salt
        let place = remembered.base + Int(truncatingIfNeeded: (UInt64(address) &* 0x9E37_79B9_7F4A_7C15) >> 53)
        if place.pointee.text == address && place.pointee.generation == generation && address != 0 { return place.pointee.labels }
        let labels = make()
        place.pointee = RememberedLabels(text: address, generation: generation, labels: labels)
        return labels
    }

    // MARK: Requests

    func recordRequest(_ exchange: ExchangePlace, of slot: PodSlot?, now: Nanoseconds) {
        if exchange.pointee.account.isProbe { return }
        if exchange.pointee.isMirror { return record(exchange, status: exchange.pointee.status, .none, now: now) }
        if let slot { counters.add(.requests, to: slot) }
        if exchange.pointee.account.isSameNode { counters.add(.requestsSameNode) }
        record(exchange, status: exchange.pointee.status, .none, now: now)
    }

    /// A request that ended otherwise than with its upstream's whole reply.
    func recordFailure(_ exchange: ExchangePlace, status: UInt16, _ flags: ResponseFlags, now: Nanoseconds) {
        if exchange.pointee.isRelay { return relayClosed(exchange, flags, now: now) }
        record(exchange, status: status, flags, now: now)
    }

    @inline(__always)
    private func record(_ exchange: ExchangePlace, status: UInt16, _ flags: ResponseFlags, now: Nanoseconds) {
        let account = exchange.pointee.account
        if account.isProbe { return }
        let duration = now > exchange.pointee.started ? now - exchange.pointee.started : 0
        // A copy is nothing that its caller has asked for; at its destination it is a request like any other.
        if account.reportsSource || !account.reportsDestination && !exchange.pointee.isMirror {
            record(exchange, counters.requestSeries(key(of: exchange, .source, status: status, flags, account.isProven ? .mutualTLS : .unknown)), duration)
        }
        if account.reportsDestination {
            record(exchange, counters.requestSeries(key(of: exchange, .destination, status: status, flags, account.isProven ? .mutualTLS : SecurityPolicy.none)), duration)
        }
    }

    @inline(__always)
    private func record(_ exchange: ExchangePlace, _ series: RequestSeries, _ duration: UInt64) {
        counters.record(series, durationNanoseconds: duration, requestBytes: exchange.pointee.requestBytes, responseBytes: exchange.pointee.replyBytes)
        if exchange.pointee.isGRPC {
            counters.recordMessages(series, requests: exchange.pointee.requestMessages.count, responses: exchange.pointee.replyMessages.count)
        }
    }

    @inline(__always)
    private func key(of exchange: ExchangePlace, _ reporter: Reporter, status: UInt16, _ flags: ResponseFlags, _ security: SecurityPolicy) -> SeriesKey {
        let account = exchange.pointee.account
        return SeriesKey(
            reporter: reporter, source: account.source, destination: account.destination, service: account.service,
            requestProtocol: exchange.pointee.isGRPC ? .grpc : .http, responseCode: status,
            grpcStatus: exchange.pointee.isGRPC ? exchange.pointee.grpcStatus : nil, flags: flags, security: security)
    }

    /// A head that was refused: nobody knows what it asked for, but who asked is known.
    func recordRefused(_ connection: ConnectionPlace, status: UInt16, _ tables: TablesView, caller: IPAddress) {
        let isInbound = connection.pointee.listener.isInbound
        let source = labels(of: tables.workload(at: caller), tables.generation)
        let destination = labels(of: tables.workload(at: connection.pointee.address), tables.generation)
        let key = SeriesKey(
            reporter: isInbound ? .destination : .source, source: source, destination: destination, service: .unknown, requestProtocol: .http,
            responseCode: status, flags: .downstreamProtocolError, security: isInbound ? SecurityPolicy.none : .unknown)
        counters.record(counters.requestSeries(key), durationNanoseconds: 0, requestBytes: 0, responseBytes: 0)
    }

    // MARK: Opaque connections

    private func series(_ exchange: ExchangePlace, _ reporter: Reporter, _ flags: ResponseFlags = .none) -> TCPSeries {
        let account = exchange.pointee.account
        return counters.tcpSeries(
            SeriesKey(
                tcp: reporter, source: account.source, destination: account.destination, service: account.service, flags: flags,
                security: account.isProven ? .mutualTLS : reporter == .destination ? SecurityPolicy.none : .unknown))
    }

    func relayOpened(_ exchange: ExchangePlace) {
        if exchange.pointee.account.isProbe { return }
        exchange.pointee.account.wasOpened = true
        if exchange.pointee.account.reportsSource { counters.opened(series(exchange, .source)) }
        if exchange.pointee.account.reportsDestination { counters.opened(series(exchange, .destination)) }
    }

    /// Counted as they pass: an opaque connection may live for days.
    func relayMoved(_ exchange: ExchangePlace, fromDownstream: Bool, bytes: UInt64) {
        if exchange.pointee.account.isProbe { return }
        if exchange.pointee.account.reportsSource { moved(series(exchange, .source), fromDownstream, bytes) }
        if exchange.pointee.account.reportsDestination { moved(series(exchange, .destination), fromDownstream, bytes) }
    }

    private func moved(_ series: TCPSeries, _ fromDownstream: Bool, _ bytes: UInt64) {
        if fromDownstream { counters.received(series, bytes: bytes) } else { counters.sent(series, bytes: bytes) }
    }

    func relayClosed(_ exchange: ExchangePlace, _ flags: ResponseFlags, now: Nanoseconds) {
        if exchange.pointee.account.isProbe { return }
        if !exchange.pointee.isRelay { return record(exchange, status: exchange.pointee.status, flags, now: now) }    // an upgrade, now over
        if exchange.pointee.account.reportsSource { closed(exchange, .source, flags) }
        if exchange.pointee.account.reportsDestination { closed(exchange, .destination, flags) }
    }

    private func closed(_ exchange: ExchangePlace, _ reporter: Reporter, _ flags: ResponseFlags) {
        // One that never reached its upstream counts as opened and closed, under what went wrong.
        if !exchange.pointee.account.wasOpened { counters.opened(series(exchange, reporter, flags)) }
        counters.closed(series(exchange, reporter, exchange.pointee.account.wasOpened ? .none : flags))
    }

    // MARK: Failures

    func countFailure(_ failure: UpstreamFailure) {
        switch failure {
        case .connect(errno: ECONNREFUSED): count(.upstreamFailureRefused)
        case .connect(errno: ETIMEDOUT): count(.upstreamFailureTimeout)
        case .connect(errno: ECONNRESET): count(.upstreamFailureReset)
        case .connect(errno: EHOSTUNREACH), .connect(errno: ENETUNREACH): count(.upstreamFailureUnreachable)
        case .connect: count(.upstreamFailureOther)
        case .connectTimeout:
            count(.upstreamFailureTimeout)
            count(.limitConnectTimeout)
        case .refusedBehindPeer: count(.upstreamFailureRefused)
        case .noSocket: count(.upstreamFailureNoSocket)
        case .endedBeforeReply, .endedInReply, .streamReset: count(.upstreamFailureReset)
        case .replyTimeout, .settingsTimeout: count(.upstreamFailureTimeout)
        case .malformedReply, .refusedStream, .notHTTP2: count(.upstreamFailureOther)
        case .noIdentity: count(.upstreamFailureNoIdentity)
        case .notSecured: count(.upstreamFailureNotSecured)
        case .tunnelRefused: count(.upstreamFailureTunnelRefused)
        case .callerRevoked: count(.upstreamFailureCallerRevoked)
        }
    }

    func countRefusal(_ refusal: Refusal) {
        switch refusal {
        case .requestHead(let fault), .requestBody(let fault): countFault(fault)
        case .noSuchPort, .noReadyEndpoint, .noOtherEndpoint, .upstream: break
        case .pendingBudgetSpent: count(.limitPodPending)
        case .bufferBudgetSpent: count(.limitPodMemory)
        case .badReply: count(.badReply)
        case .replyTimeout, .deadlinePassed: count(.limitReplyTimeout)
        case .requestBodyTimeout: count(.limitBodyTimeout)
        case .rateLimited: count(.rateLimited)
        case .overflow(.requests): count(.overflowRequests)
        case .overflow(.pending): count(.overflowPending)
        case .overflow(.connections): count(.overflowConnections)
        case .injected, .fallback: break
        case .denied(let fault): count(fault.counter)
        case .noMatchingRoute: count(.routeNoMatch)
        case .noBackend: count(.routeNoBackend)
        case .backendUnresolved: count(.routeUnresolved)
        case .redirected, .preflight: break
        }
    }

    private func countFault(_ fault: HTTPFault) {
        switch fault {
        case .headTooLarge, .tooManyFields, .targetTooLong, .methodTooLong: count(.limitHeadTooLarge)
        case .headTimeout: count(.limitHeadTimeout)
        case .bodyTimeout: count(.limitBodyTimeout)
        case .bareLineFeed, .bareCarriageReturn, .nulByte, .controlCharacter, .leadingWhitespace, .badMethod, .methodCase, .requestLineSpacing,
            .badTarget, .badStatusLine, .unexpectedUpgrade:
            count(.badSyntax)
        case .badVersion, .unsupportedVersion: count(.badVersion)
        case .obsoleteFold, .missingColon, .emptyFieldName, .spaceBeforeColon, .badFieldName, .badConnectionOption,
            .badPseudoField, .upperCaseFieldName, .blankAroundValue, .connectionField:
            count(.badField)
        case .missingHost, .repeatedHost, .badHost, .authorityMismatch: count(.badHost)
        case .badContentLength, .repeatedContentLength, .lengthAndTransferEncoding, .badTransferEncoding, .repeatedTransferEncoding,
            .chunkedNotLast, .unknownTransferCoding, .transferEncodingInHTTP10, .bodyCutShort, .lengthMismatch, .trailersNotLast:
            count(.badFraming)
        case .badChunkSize, .chunkSizeTooLarge, .badChunkExtension, .chunkExtensionTooLong, .badChunkEnd, .forbiddenTrailer, .trailersTooLarge,
            .bodyTooLarge:
            count(.badChunk)
        }
    }
}
