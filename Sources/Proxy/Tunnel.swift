import Bytes
import CLinux
import EventLoop
import HTTPCodec
import Telemetry

// Upgrades (RFC 9110, 7.8), CONNECT (9.3.6) and its extended form (RFC 8441): when the upstream agrees, the exchange becomes a tunnel.
//
// Between two HTTP/1 connections that is a relay. Where one leg is a stream, the exchange goes on as it is: what follows its heads is content in
// both directions, each of which ends by itself: END_STREAM and FIN are one another's translation.
extension Worker {
    /// Whether the final head, which is in the worker's head, agrees to what the request asked for.
    func opensTunnel(_ exchange: ExchangePlace) -> Bool {
        if head.status == 101 { return exchange.pointee.asksForUpgrade }
        guard head.status >= 200 && head.status < 300 else { return false }
        return exchange.pointee.method == .connect || exchange.pointee.asksForUpgrade && exchange.pointee.upstreamStream != 0
    }

    /// From here on content is whatever both have agreed on, in no framing of HTTP's.
    func beginTunnel(_ exchange: ExchangePlace) {
        exchange.pointee.isTunnel = true
        exchange.pointee.requestPhase = exchange.pointee.requestIsEnded ? .complete : .body
        exchange.pointee.replyPhase = .body
        exchange.pointee.requestBody = .untilClose
        exchange.pointee.replyBody = .untilClose
        exchange.pointee.keepsAlive = false
        exchange.pointee.upstreamKeepsAlive = false
        ledger.count(.tunnels)
    }

    /// An HTTP/1 upstream has agreed, and the client's leg is a stream.
    mutating func passTunnelToStream(_ number: UInt32, _ bytes: UnsafeRawBufferPointer, _ headCount: Int) -> Int? {
        let exchange = exchanges.at(number)
        giveBackReplay(exchange)
        guard sendReplyHead(number, bytes, ends: false) else { return nil }
        requestMayContinue(number)
        endTunnel(exchange, connections.at(exchange.pointee.upstream))
        return passReplyBody(number, UnsafeRawBufferPointer(rebasing: bytes[headCount...])).map { headCount + $0 }
    }

    // MARK: Ends

    /// The client has closed its side of the tunnel, and all it said is with the kernel or waits before the end.
    mutating func endTunnel(_ exchange: ExchangePlace, _ upstream: ConnectionPlace) {
        guard exchange.pointee.isTunnel, exchange.pointee.requestIsEnded, !upstream.pointee.hasShutDown, upstream.pointee.output.isEmpty else { return }
        upstream.pointee.hasShutDown = true
        clinux_end_output(upstream.pointee.descriptor)
    }

    /// The server has, and its client has an HTTP/1 connection.
    mutating func endTunnelReply(_ exchange: ExchangePlace, _ connection: ConnectionPlace) {
        guard exchange.pointee.isTunnel, exchange.pointee.replyPhase == .complete, exchange.pointee.downstreamStream == 0,
            !connection.pointee.hasShutDown, connection.pointee.output.isEmpty
        else { return }
        connection.pointee.hasShutDown = true
        clinux_end_output(connection.pointee.descriptor)
    }

    /// Whether the client's side has ended too, now that the server's has, and its server knows.
    func hasEndedBothWays(_ exchange: ExchangePlace) -> Bool {
        guard exchange.pointee.replyPhase == .complete, exchange.pointee.requestIsEnded else { return false }
        return exchange.pointee.upstreamStream != 0 || connections.at(exchange.pointee.upstream).pointee.hasShutDown
    }

    /// Ends the exchange of a tunnel that has ended both ways. False: it has not, or the exchange is none.
    mutating func finishTunnel(_ number: UInt32) -> Bool {
        let exchange = exchanges.at(number)
        guard exchange.pointee.isTunnel, hasEndedBothWays(exchange) else { return false }
        finish(number)
        return true
    }
}
