import Bytes
import CLinux
import EventLoop
import Glibc
import HTTPCodec
import Upstream

// Step 8 of the journey: the reply's head is judged and rewritten, and goes out together with the body bytes that came with it.
extension Worker {
    mutating func readReply(_ upstream: ConnectionPlace, _ index: UInt32) {
        let number = upstream.pointee.exchange
        let exchange = exchanges.at(number)
        let connection = connections.at(exchange.pointee.downstream)
        if exchange.pointee.replyPhase == .complete {
            // A tunnel whose server has closed its side: the only news is that it does not listen any more.
            if upstream.pointee.isBroken { fail(number, .endedInReply) }
            return
        }
        guard upstream.pointee.canRead else { return }
        // Back-pressure: what the client has not taken yet waits with us, and the rest waits in the kernel.
        guard replyRoom(exchange) > 0 else { return }

        if upstream.pointee.input.isEmpty && maySpliceReply(exchange) && spliceReply(number, exchange, upstream, index) { return }
        if upstream.pointee.input.isEmpty {
            var wanted = readBytes(connection.pointee.pod, shift: exchange.pointee.replyReadShift)
            if exchange.pointee.downstreamStream != 0 { wanted = min(wanted, max(replyRoom(exchange), WorkerSizes.streamReadBytesMin)) }
            switch EventLoop.receive(upstream.pointee.descriptor, into: receiveMemory, count: wanted) {
            case .moved(let count):
                if count < wanted && !upstream.pointee.hasEnded { upstream.pointee.canRead = false }
                let bytes = UnsafeRawBufferPointer(start: receiveMemory, count: count)
                guard let consumed = passReply(number, bytes, isInInput: false) else { return }
                if consumed < count { _ = upstream.pointee.input.append(UnsafeRawBufferPointer(rebasing: bytes[consumed...])) }
                paceReply(exchange, connection, wasFull: count == wanted)
            case .wouldBlock: upstream.pointee.canRead = false
            case .ended: return upstream.pointee.bridgeBroke ? replyBroke(number) : replyEnded(number)
            case .failed: return replyBroke(number)
            }
        } else {
            guard upstream.pointee.input.reserve(4_096) else { return fail(number, .malformedReply) }
            let space = upstream.pointee.input.writable
            switch EventLoop.receive(upstream.pointee.descriptor, into: space.baseAddress!, count: space.count) {
            case .moved(let count):
                if count < space.count && !upstream.pointee.hasEnded { upstream.pointee.canRead = false }
                upstream.pointee.input.commit(count)
                guard let consumed = passReply(number, upstream.pointee.input.readable, isInInput: true) else { return }
                upstream.pointee.input.consume(consumed)
                upstream.pointee.input.releaseIfEmpty()
            case .wouldBlock: upstream.pointee.canRead = false
            case .ended: return upstream.pointee.bridgeBroke ? replyBroke(number) : replyEnded(number)
            case .failed: return replyBroke(number)
            }
        }
        if exchange.pointee.replyHasBegun { setDeadline(exchange, number, milliseconds: limits.stallMilliseconds) }
        if upstream.pointee.canRead && replyRoom(exchange) > 0 { again(upstream, index) }
    }

    /// Passes reply bytes on: interim heads, the final head, body. Returns how many are dealt with, or nil when the exchange has ended.
    private mutating func passReply(_ number: UInt32, _ bytes: UnsafeRawBufferPointer, isInInput: Bool) -> Int? {
        let exchange = exchanges.at(number)
        if exchange.pointee.replyPhase == .body { return passReplyBody(number, bytes) }
        let upstream = connections.at(exchange.pointee.upstream)
        var offset = 0
        while true {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[offset...])
            if rest.isEmpty { return offset }
            do throws(HTTPFault) {
                let count = try head.parseResponse(
                    rest, answering: exchange.pointee.method, mayUpgrade: exchange.pointee.asksForUpgrade, limits: limits.head,
                    progress: &upstream.pointee.progress)
                guard let count else { return offset }
                if head.isInterim {
                    guard admitsInterim(number) else { return nil }
                    passInterim(number, exchange, rest)
                    offset += count
                    continue
                }
                if opensTunnel(exchange) {
                    let passed = exchange.pointee.downstreamStream == 0 ? passUpgrade(number, rest, count) : passTunnelToStream(number, rest, count)
                    return passed.map { offset + $0 }
                }
                return try passFinalHead(number, rest, count, isInInput: isInInput).map { offset + $0 }
            } catch {
                replyWasRefused(number, error)
                return nil
            }
        }
    }

    /// 100 goes to whoever expects it; 102, 103 and the like to any HTTP/1.1 client.
    private mutating func passInterim(_ number: UInt32, _ exchange: ExchangePlace, _ bytes: UnsafeRawBufferPointer) {
        if exchange.pointee.downstreamStream != 0 { return passInterimHead(number, bytes) }
        guard !exchange.pointee.isHTTP10, head.status != 100 || exchange.pointee.expectsContinue else { return }
        var writer = ByteWriter(writeMemory)
        let plan = head.responsePlan(minorVersion: 1, keepsAlive: true)
        guard ResponseWriter.write(head, of: bytes, plan, to: &writer) else { return }
        _ = write(writer.written, to: connections.at(exchange.pointee.downstream))
    }

    private mutating func passFinalHead(
        _ number: UInt32, _ bytes: UnsafeRawBufferPointer, _ headCount: Int, isInInput: Bool
    ) throws(HTTPFault) -> Int? {
        let exchange = exchanges.at(number)
        let upstream = connections.at(exchange.pointee.upstream)
        let plan = head.responsePlan(minorVersion: exchange.pointee.isHTTP10 ? 0 : 1, keepsAlive: exchange.pointee.keepsAlive && keepsRequestInStep(exchange))
        if head.status == 503, exchange.pointee.account.isBehindPeer, exchange.pointee.replay != BlockPool.none, saysNotConnected(bytes) {
            fail(number, .refusedBehindPeer)
            return nil
        }
        if retriesInstead(number, bytes, isWhole: isWhole(bytes, headCount)) { return nil }
        if exchange.pointee.downstreamStream != 0 { return try passHeadToStream(number, bytes, headCount) }
        exchange.pointee.status = UInt16(head.status)
        heardReply(exchange)
        exchange.pointee.keepsAlive = plan.keepsAlive
        exchange.pointee.upstreamKeepsAlive = head.keepsAlive && head.framing != .untilClose
        exchange.pointee.replyBody = try BodyFlow(head.framing, writesChunks: plan.writesChunks)
        if upstream.pointee.served == 0 { hearKeepAlive(upstream, bytes) }
        giveBackReplay(exchange)

        var writer = ByteWriter(writeMemory)
        guard let changed = amendReply(exchange, bytes), ResponseWriter.write(head, of: changed, plan, to: &writer) else { throw .headTooLarge }
        let (message, consumed) = try gather(&exchange.pointee.replyBody, &writer, bytes, headCount, isInInput: isInInput, .standard)
        exchange.pointee.replyPhase = .body
        exchange.pointee.replyHasBegun = true
        guard sendReply(number, exchange, message) else { return nil }
        if exchange.pointee.replyBody.isComplete { return endReply(number, extra: consumed < bytes.count) }
        hastenRest(upstream, received: bytes.count)
        return consumed
    }

    /// The client's leg is a stream: head and content go there as what they are, and the session frames them.
    private mutating func passHeadToStream(_ number: UInt32, _ bytes: UnsafeRawBufferPointer, _ headCount: Int) throws(HTTPFault) -> Int? {
        let exchange = exchanges.at(number)
        let upstream = connections.at(exchange.pointee.upstream)
        if exchange.pointee.asksForUpgrade, head.status / 100 == 2 {
            // An upgrade that was passed over; to an extended CONNECT such a status would say that the tunnel is open.
            fail(number, .malformedReply)
            return nil
        }
        exchange.pointee.upstreamKeepsAlive = head.keepsAlive && head.framing != .untilClose
        exchange.pointee.replyBody = .verbatim(try BodyDecoder(head.framing, keepsTrailers: true))
        if upstream.pointee.served == 0 { hearKeepAlive(upstream, bytes) }
        giveBackReplay(exchange)
        let ends = head.framing.isEmpty
        guard sendReplyHead(number, bytes, ends: ends) else { return nil }
        if ends { return endReply(number, extra: headCount < bytes.count) }
        // With content behind it the head did not come alone.
        if headCount == bytes.count { hastenRest(upstream, received: bytes.count) }
        return passReplyBody(number, UnsafeRawBufferPointer(rebasing: bytes[headCount...])).map { headCount + $0 }
    }

    /// A peer that writes head and body apart without TCP_NODELAY (Python's http.server does) holds the second write until the first is
    /// acknowledged (Nagle, RFC 896), and our kernel delays that by 40 ms once a connection is used again and again. A head that came alone in
    /// less than a segment is such a case, or none that this call costs much.
    func hastenRest(_ connection: ConnectionPlace, received: Int) {
        if received < WorkerSizes.segmentBytes { clinux_acknowledge(connection.pointee.descriptor) }
    }

    /// Whether the reply whose head was decoded ends with these bytes.
    private func isWhole(_ bytes: UnsafeRawBufferPointer, _ headCount: Int) -> Bool {
        switch head.framing {
        case .none: bytes.count == headCount
        case .length(let count): bytes.count - headCount == count
        case .chunked, .untilClose: false
        }
    }

    /// Whether a reply is the peer proxy's word that it found nobody to give the request to.
    func saysNotConnected(_ bytes: UnsafeRawBufferPointer) -> Bool {
        for row in 0..<head.fieldCount {
            let field = head.field(row), name = field.name.of(bytes), value = field.value.of(bytes)
            guard name.count == 13, tokenEquals(name.baseAddress!, name.count, "x-weft-reason"), let text = value.baseAddress else { continue }
            return equals(text, value.count, "upstream-connect-failed") || equals(text, value.count, "upstream-connect-timeout")
        }
        return false
    }

    /// An answer before the end of the request usually means that the rest is not wanted; whether the client still sends it nobody knows.
    func keepsRequestInStep(_ exchange: ExchangePlace) -> Bool { exchange.pointee.requestPhase == .complete }

    /// `Keep-Alive: timeout=5` from the first reply of a connection: how long its server lets it rest.
    private mutating func hearKeepAlive(_ upstream: ConnectionPlace, _ bytes: UnsafeRawBufferPointer) {
        guard upstream.pointee.pool != nobody, let value = head.value(.keepAlive)?.of(bytes) else { return }
        var index = 0
        while index + 8 < value.count {
            if equalsIgnoringCase(UnsafeRawBufferPointer(rebasing: value[index..<(index + 7)]), Self.timeoutWord), value[index + 7] == 0x3D {
                var end = index + 8
                while end < value.count, value[end] &- 0x30 < 10 { end += 1 }
                if let seconds = parseDecimal(UnsafeRawBufferPointer(rebasing: value[(index + 8)..<end])) {
                    pools.heardKeepAlive(upstream.pointee.pool, timeoutSeconds: seconds)
                }
                return
            }
            index += 1
        }
    }

    private static var timeoutWord: UnsafeRawBufferPointer {
        let word: StaticString = "timeout"
        return UnsafeRawBufferPointer(start: word.utf8Start, count: word.utf8CodeUnitCount)
    }

    /// The upstream agrees: from here on the two connections carry whatever its client and it have agreed on.
    private mutating func passUpgrade(_ number: UInt32, _ bytes: UnsafeRawBufferPointer, _ headCount: Int) -> Int? {
        let exchange = exchanges.at(number)
        var writer = ByteWriter(writeMemory)
        var plan = head.responsePlan(minorVersion: 1, keepsAlive: true)
        plan.framing = .none
        guard let changed = amendReply(exchange, bytes), ResponseWriter.write(head, of: changed, plan, to: &writer) else {
            replyWasRefused(number, .headTooLarge)
            return nil
        }
        exchange.pointee.status = UInt16(head.status)
        ledger.count(.tunnels)
        writer.write(UnsafeRawBufferPointer(rebasing: bytes[headCount...]))
        exchange.pointee.replyHasBegun = true
        guard sendReply(number, exchange, writer.written) else { return nil }
        becomeRelay(number)
        return bytes.count
    }

    private func paceReply(_ exchange: ExchangePlace, _ connection: ConnectionPlace, wasFull: Bool) {
        if replyRoom(exchange) == 0 {
            exchange.pointee.replyReadShift = max(WorkerSizes.readShiftMin, exchange.pointee.replyReadShift - 1)
        } else if wasFull {
            exchange.pointee.replyReadShift = min(WorkerSizes.readShiftMax, exchange.pointee.replyReadShift + 1)
        }
    }
}
