import EventLoop
import HTTPCodec
import MeshModel
import Routing
import Telemetry
import Upstream

// When no endpoint of a service could be reached: its policy may name another service, or say what the client gets instead.
extension Worker {
    /// - Returns: true when the exchange goes on elsewhere, or has ended with what the policy says.
    mutating func fallBack(_ number: UInt32, _ exchange: ExchangePlace, _ refusal: Refusal) -> Bool {
        guard refusal.isUnreachable, !exchange.pointee.replyHasBegun, !exchange.pointee.isRelay, let message = survivingMessage(exchange) else { return false }
        exchange.pointee.hasFallback = false
        let connection = connections.at(exchange.pointee.downstream)
        let (route, held) = heldRoute(exchange, connection, message)
        guard case .service(let destination) = route, let fallback = destination.service.policy.fallback else { return false }
        switch fallback {
        case .reply(let status, let contentType, let body):
            ledger.count(.fallbackReplies)
            answer(number, .fallback(status: status, contentType: contentType, body: body))
        case .service(let namespace, let name, let port):
            guard let spare = tables.service(namespace: namespace, name: name, port: port) else { return false }
            ledger.count(.fallbackRequests)
            settlePending(number, exchange, connection)
            releaseUpstream(exchange, mayRest: false)
            exchange.pointee.lease = nil
            exchange.pointee.service = nil
            exchange.pointee.tried = nil
            exchange.pointee.attempts = 0
            exchange.pointee.hasFallenBack = true
            dispatch(number, .service(spare), held)
        }
        return true
    }
}

extension Refusal {
    /// No application has seen the request, and none could be found that would.
    var isUnreachable: Bool {
        switch self {
        case .noReadyEndpoint, .noOtherEndpoint: true
        case .upstream(let failure):
            switch failure {
            case .connect, .connectTimeout, .noSocket, .refusedBehindPeer, .settingsTimeout, .notSecured: true
            default: false
            }
        default: false
        }
    }
}
