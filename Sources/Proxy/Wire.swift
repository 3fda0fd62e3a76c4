import Bytes
import EventLoop
import Glibc
import HTTPCodec
import MeshModel
import Routing
import Telemetry
import Upstream

// Step 5 of the journey, its end: whether an attempt travels as it is or by mutual TLS, as whom and to whom.
extension Worker {
    private static let endpointsLookedAt = 4

    /// The workload at an address that is reached through the proxy that guards it: meshed, on another node, called from here.
    private func guardedWorkload(at address: IPAddress, from connection: ConnectionPlace) -> WorkloadView? {
        guard !connection.pointee.listener.isInbound, !tables.trustDomain.isEmpty, let workload = tables.workload(at: address),
            workload.isMeshed, !workload.isSameNode
        else { return nil }
        return workload
    }

    /// Whether some attempt of a request on this route may have to travel as a stream, so that it must pass as content from the start.
    func mayTravelSecurely(_ route: Route, from connection: ConnectionPlace) -> Bool {
        if connection.pointee.listener.isInbound || tables.trustDomain.isEmpty { return false }
        switch route {
        case .noSuchPort: return false
        case .address: return guardedWorkload(at: connection.pointee.address, from: connection) != nil
        case .service(let service):
            var place = 0
            while place < service.readyCount {
                // Enough looked at: passing as content costs little, and is right for any endpoint.
                if place == Self.endpointsLookedAt { return true }
                if guardedWorkload(at: service.endpoint(at: place).address, from: connection) != nil { return true }
                place += 1
            }
            return false
        }
    }

    /// Decides for the target of this attempt. There is no way back from mutual TLS but the one in `fallsBack`.
    func chooseWire(_ exchange: ExchangePlace, _ connection: ConnectionPlace) {
        let address = exchange.pointee.target.address
        guard exchange.pointee.target.source == nil, let workload = guardedWorkload(at: address, from: connection) else { return }
        if workload.failsOpen, wireMemory.isAbsent(high: address.high, low: address.low, now: now) { return ledger.count(.mutualTLSFallbacks) }
        let isForeign = !exchange.pointee.isRelay && wireMemory.isForeign(high: address.high, low: address.low, now: now)
        exchange.pointee.target.wire = isForeign ? .bridged : .secure
        exchange.pointee.target.identity = identity(of: connection.pointee.pod, like: address)?.number ?? 0
        exchange.pointee.target.expected = Self.expectation(workload)
    }

    /// The identity of a pod of this node.
    func identity(of pod: UInt32, like model: IPAddress) -> Identity? {
        guard let address = pods.address(of: pod, like: model) ?? pods.anyAddress(of: pod), let workload = tables.workload(at: address) else { return nil }
        return identities.find(namespace: workload.namespace, serviceAccount: workload.serviceAccount)
    }

    /// Which name the proxy of a workload must show, as a number for keys.
    static func expectation(_ workload: WorkloadView) -> UInt64 { ShardHash.of(namespace: workload.namespace, name: workload.serviceAccount) }

    // MARK: Without it

    /// The node of the target refuses mutual TLS because its mesh is down, and the operator has said that traffic passes then: the attempt goes on
    /// as it is. Never otherwise, and never to a workload that is strict.
    mutating func fallsBack(_ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace, after failure: UpstreamFailure) -> Bool {
        let address = exchange.pointee.target.address
        guard exchange.pointee.target.wire == .secure, failure == .connect(errno: ECONNREFUSED),
            let workload = guardedWorkload(at: address, from: connection), workload.failsOpen
        else { return false }
        wireMemory.rememberAbsence(high: address.high, low: address.low, now: now)
        ledger.count(.mutualTLSFallbacks)
        settlePending(number, exchange, connection)
        exchange.pointee.target.wire = .plain
        exchange.pointee.account.isProven = false
        if exchange.pointee.isRelay {
            open(number, exchange, connection, .unsent)
        } else {
            sendAsContent(number, exchange, connection, .held, mayReuse: true)
        }
        return true
    }
}

/// `x-weft-destination`: for which port of the pod a request is, and what its application shall be spoken to in.
struct DestinationText {
    /// `65535;http1` has 11 characters.
    private var storage = InlineArray<16, UInt8>(repeating: 0)
    private var count = 0

    /// None.
    init() {}

    init(port: UInt16, protocol spoken: StaticString) {
        count = withUnsafeMutableBytes(of: &storage) { memory in
            var writer = ByteWriter(memory)
            writer.writeDecimal(UInt64(port))
            writer.write(";")
            writer.write(spoken)
            return writer.count
        }
    }

    func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        withUnsafeBytes(of: storage) { body(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
    }
}

extension Worker {
    /// In what the application shall be spoken to, as far as it is known here.
    func applicationProtocol(_ exchange: ExchangePlace) -> StaticString {
        if exchange.pointee.isGRPC { return "grpc" }
        return exchange.pointee.isDeclaredHTTP2 || exchange.pointee.downstreamStream != 0 || exchange.pointee.cameAsStream ? "http2" : "http1"
    }
}
