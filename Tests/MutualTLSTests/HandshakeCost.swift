import Glibc
import Testing

@testable import MutualTLS

/// What a handshake costs both sides together, and what a connection at rest holds. Figures for people; the test's own claims are ratios with room.
@Suite(.serialized) struct HandshakeCost {
    private func processorNanoseconds() -> Int {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return time.tv_sec * 1_000_000_000 + time.tv_nsec
    }

    @Test func fullResumedAndKnown() throws {
        let authority = try Authority(), spaces = try Spaces()
        let roots = try authority.roots()
        let cart = try authority.credentials(cartURI, roots: roots), front = try authority.credentials(frontURI, roots: roots)
        var kept: TLSTicket?
        func round(resuming: Bool) throws -> (client: Int, server: Int) {
            let none: TLSTicket? = nil
            var wire = try resuming ? Wire.make(client: front, server: cart, ticket: kept, in: spaces) : Wire.make(client: front, server: cart, ticket: none, in: spaces)
            var spent = (client: 0, server: 0)
            var steps = (client: TLSStep.wantsRead, server: TLSStep.wantsRead)
            for _ in 0..<4 {
                let start = processorNanoseconds()
                if steps.client != .done { steps.client = wire.client.handshake(now: testNow) }
                if steps.client == .done { wire.client.flush() }
                let middle = processorNanoseconds()
                if steps.server != .done { steps.server = wire.server.handshake(now: testNow) }
                if steps.server == .done { wire.server.flush() }
                spent.client += middle - start
                spent.server += processorNanoseconds() - middle
            }
            var byte: UInt8 = 0
            _ = wire.client.receive(into: &byte, count: 1)
            let done = steps.client == .done && steps.server == .done && wire.server.isResumed == resuming
            if !done { throw Wire.NoMemory() }
            kept = wire.client.takeTicket()
            return spent
        }
        let first = try round(resuming: false)
        // In turns, so that whatever else the machine does meets both alike.
        var all: (full: [(client: Int, server: Int)], resumed: [(client: Int, server: Int)]) = ([], [])
        for _ in 0..<300 {
            all.full.append(try round(resuming: false))
            all.resumed.append(try round(resuming: true))
        }
        func median(_ costs: [(client: Int, server: Int)]) -> (client: Int, server: Int) {
            (costs.map(\.client).sorted()[costs.count / 2], costs.map(\.server).sorted()[costs.count / 2])
        }
        let full = median(all.full), resumed = median(all.resumed)
        print("handshake, µs of client + server: first \(first.client / 1000)+\(first.server / 1000), known leaf \(full.client / 1000)+\(full.server / 1000), resumed \(resumed.client / 1000)+\(resumed.server / 1000)")
        #expect(resumed.server * 5 < full.server * 3)
    }

    @Test func recordsOfAKilobyte() throws {
        let authority = try Authority(), spaces = try Spaces()
        let roots = try authority.roots()
        let cart = try authority.credentials(cartURI, roots: roots), front = try authority.credentials(frontURI, roots: roots)
        var wires: [Held] = []
        for _ in 0..<64 { wires.append(Held(try open(front, cart, spaces))) }
        var bytes = [UInt8](repeating: 7, count: 65_536)
        func cost(_ count: Int, _ rounds: Int) -> (sent: Int, received: Int) {
            var sent = 0, received = 0
            for round in 0..<rounds {
                let held = wires[round % wires.count]
                let start = processorNanoseconds()
                let out = held.wire.client.transmit(&bytes, count: count)
                let middle = processorNanoseconds()
                let back = held.wire.server.receive(into: &bytes, count: bytes.count)
                received += processorNanoseconds() - middle
                sent += middle - start
                if out != .moved(count) || back != .moved(count) { Issue.record("\(out) \(back)") }
            }
            return (sent / rounds, received / rounds)
        }
        _ = cost(1_024, 2_000)
        let small = (0..<5).map { _ in cost(1_024, 4_000) }.min { $0.sent + $0.received < $1.sent + $1.received }
        let large = (0..<5).map { _ in cost(16_384, 1_000) }.min { $0.sent + $0.received < $1.sent + $1.received }
        print("records, ns to send + receive, sockets included: 1 KB \(small?.sent ?? 0)+\(small?.received ?? 0), 16 KB \(large?.sent ?? 0)+\(large?.received ?? 0)")
    }

    final class Held {
        var wire: Wire
        init(_ wire: consuming Wire) { self.wire = wire }
    }

    private func open(_ front: TLSCredentials, _ cart: TLSCredentials, _ spaces: Spaces) throws -> Wire {
        var wire = try Wire.make(client: front, server: cart, in: spaces)
        _ = wire.shakeHands()
        var bytes = [UInt8](repeating: 7, count: 2_000)
        _ = wire.client.transmit(&bytes, count: bytes.count)
        _ = wire.server.receive(into: &bytes, count: bytes.count)
        _ = wire.client.takeTicket()
        return wire
    }
}
