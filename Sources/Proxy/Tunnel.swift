import Bytes
import CLinux
import EventLoop
import HTTPCodec
import Telemetry

// Upgrades (RFC 9110, 7.8), CONNECT (9.3.6) and its extended form (RFC 8441): when the upstream agrees, the exchange becomes a tunnel.
//
// Between two HTTP/1 connections that is a relay. Where one leg is a stream, the exchange goes on as it is: what follows its heads is content in
// both directions, which ends when either side closes.
extension Worker {
    /// Whether the final head, which is in the worker's head, agrees to what the request asked for.
    func opensTunnel(_ exchange: ExchangePlace) -> Bool {
        if head.status == 101 { return exchange.pointee.asksForUpgrade }
        return exchange.pointee.method == .connect && head.status >= 200 && head.status < 300
    }

    /// From here on content is whatever both have agreed on, in no framing of HTTP's.
    func beginTunnel(_ exchange: ExchangePlace) {
        exchange.pointee.isTunnel = true
        exchange.pointee.requestPhase = .body
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
        return passReplyBody(number, UnsafeRawBufferPointer(rebasing: bytes[headCount...])).map { headCount + $0 }
    }
}
