import Bytes
import CLinux
import EventLoop
import Glibc
import HTTPCodec
import MeshModel
import Routing
import Telemetry

// Step 3 of the journey: the first bytes tell what a connection speaks, within what its port was declared to be; where nothing was declared and
// the client is silent, the server may.
extension Worker {
    mutating func readFirstBytes(_ connection: ConnectionPlace, _ index: UInt32) {
        guard connection.pointee.canRead else { return }
        let isFirst = connection.pointee.input.isEmpty
        var memory = receiveMemory, wanted = WorkerSizes.headReadBytes
        if !isFirst {
            guard connection.pointee.input.reserve(FirstBytes.bytesMax) else { return beginOpaque(connection, index, .firstBytes) }
            memory = connection.pointee.input.writable.baseAddress!
            wanted = connection.pointee.input.writable.count
        }
        switch EventLoop.receive(connection.pointee.descriptor, into: memory, count: wanted) {
        case .moved(let count):
            if count < wanted && !connection.pointee.hasEnded { connection.pointee.canRead = false }
            if isFirst {
                judgeFirstBytes(connection, index, UnsafeRawBufferPointer(start: memory, count: count), isInInput: false)
            } else {
                connection.pointee.input.commit(count)
                judgeFirstBytes(connection, index, connection.pointee.input.readable, isInInput: true)
            }
        case .wouldBlock:
            connection.pointee.canRead = false
        case .ended:
            connection.pointee.hasEnded = true
            connection.pointee.sawEnd = true
            connection.pointee.canRead = false
            if connection.pointee.speaksHTTP { return drop(connection, index) }
            // A client that ends its side may still be listening, even one that never said a word: `nc -N host 13 </dev/null`.
            beginOpaque(connection, index, connection.pointee.input.isEmpty ? .clientEnded : .firstBytes)
        case .failed:
            connection.pointee.wasReset = true
            if connection.pointee.exchange != nobody { relayFailed(connection.pointee.exchange) } else { drop(connection, index) }
        }
    }

    /// - Parameter isInInput: whether the bytes lie in the connection's input already, or in the receive memory.
    private mutating func judgeFirstBytes(_ connection: ConnectionPlace, _ index: UInt32, _ bytes: UnsafeRawBufferPointer, isInInput: Bool) {
        let found = FirstBytes(judging: bytes)
        let isDeclared = connection.pointee.speaksHTTP
        if isDeclared ? found != .http2 && found != .undecided : found == .http1 {
            if isDeclared, found != .http1, isNoHTTP(connection, index, found, bytes, isInInput: isInInput) { return }
            giveUpUpstream(connection)
            decided(connection, .http1, isDeclared ? .declared : .firstBytes)
            connection.pointee.speaksHTTP = true
            connection.pointee.stage = .awaitingHead
            deadlines.clear(index)
            return takeRequest(connection, index, bytes, isInInput: isInInput)
        }
        // Cannot fail: an empty queue holds twice what one read brings.
        if !isInInput { _ = connection.pointee.input.append(bytes) }
        switch found {
        case .http2:
            giveUpUpstream(connection)
            decided(connection, .http2, isDeclared ? .declared : .firstBytes)
            connection.pointee.speaksHTTP = true
            beginMultiplexing(connection, index)
        case .tls: readServerName(connection, index)
        case .undecided: awaitMore(connection, index, hasBegun: isInInput)
        case .http1, .otherLine, .opaque: beginOpaque(connection, index, .firstBytes)
        }
    }

    /// What a port that was declared HTTP gets that is no HTTP. An HTTP/2 session says so in its own way; to a line that speaks of no HTTP an answer
    /// in HTTP/1.1 would be noise. Anything nearer to a request is judged, and refused, as one: false.
    private mutating func isNoHTTP(
        _ connection: ConnectionPlace, _ index: UInt32, _ found: FirstBytes, _ bytes: UnsafeRawBufferPointer, isInInput: Bool
    ) -> Bool {
        if hint(for: connection).isHTTP2 {
            if !isInInput { _ = connection.pointee.input.append(bytes) }
            decided(connection, .http2, .declared)
            beginMultiplexing(connection, index)
            return true
        }
        guard found == .otherLine else { return false }
        ledger.countRefusal(.requestHead(.badVersion))
        closeAfterFlush(connection, index, lingers: true)
        return true
    }

    /// Bytes that could still be one or the other wait for the rest, each for a new while. Nobody but HTTP and TLS stops within one of their own
    /// beginnings, so there the rest is late (a lost segment is repeated after 200 ms), not missing.
    private mutating func awaitMore(_ connection: ConnectionPlace, _ index: UInt32, hasBegun: Bool) {
        if connection.pointee.speaksHTTP {
            if !hasBegun { deadlines.set(index, at: after(milliseconds: limits.headMilliseconds)) }
        } else {
            let isKnown = FirstBytes.isKnownStart(connection.pointee.input.readable)
            deadlines.set(index, at: after(milliseconds: isKnown ? limits.detectionLateMilliseconds : limits.detectionMilliseconds))
        }
        if connection.pointee.canRead { again(connection, index) }
    }

    /// What the application says by TLS is its own; the name it asks for chooses the Service, where a request's Host header would be asked.
    private mutating func readServerName(_ connection: ConnectionPlace, _ index: UInt32) {
        guard asksForName(connection) else { return beginOpaque(connection, index, .firstBytes) }
        let name = UnsafeMutableRawBufferPointer(rebasing: writeMemory[..<ClientHello.nameBytesMax])
        switch ClientHello(reading: connection.pointee.input.readable, name: name) {
        case .incomplete: awaitMore(connection, index, hasBegun: true)
        case .unnamed: beginOpaque(connection, index, .firstBytes)
        case .named(let count):
            // One that was opened while the client was silent was chosen without the name.
            giveUpUpstream(connection)
            beginOpaque(connection, index, .firstBytes, host: UnsafeRawBufferPointer(rebasing: name[..<count]))
        }
    }

    /// The name in a ClientHello, for the second try of an opaque connection; empty when there is none.
    func serverName(in bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        let name = UnsafeMutableRawBufferPointer(rebasing: writeMemory[..<ClientHello.nameBytesMax])
        guard case .named(let count) = ClientHello(reading: bytes, name: name) else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        return UnsafeRawBufferPointer(rebasing: name[..<count])
    }

    /// The connection is no HTTP. What it is, and why we think so, is told once.
    mutating func beginOpaque(
        _ connection: ConnectionPlace, _ index: UInt32, _ reason: DecisionReason,
        host: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)
    ) {
        let isTLS = FirstBytes(judging: connection.pointee.input.readable) == .tls
        // The port was declared to speak TLS and its name was all that was asked for.
        let isDeclared = isTLS && hint(for: connection) == .tls
        decided(connection, isTLS ? .tls : .tcp, isDeclared ? .declared : reason)
        beginRelay(connection, index, host: host)
    }

    /// An upstream opened while the client was silent has said nothing; it is given up, for the request may belong elsewhere.
    private mutating func giveUpUpstream(_ connection: ConnectionPlace) {
        if connection.pointee.exchange != nobody { cancel(connection.pointee.exchange) }
    }

    // MARK: Silence

    /// The client has been silent for the detection's deadline. With nothing received, the upstream is opened too and whoever speaks first
    /// decides; with a few undecided bytes, no request line begins so slowly: they are opaque.
    mutating func detectionExpired(_ connection: ConnectionPlace, _ index: UInt32) {
        if connection.pointee.speaksHTTP {
            guard connection.pointee.input.isEmpty else { return refuse(connection, index, .headTimeout) }
            ledger.count(.limitIdleTimeout)
            drop(connection, index)
        } else if !connection.pointee.input.isEmpty {
            beginOpaque(connection, index, .firstBytes)
        } else if connection.pointee.exchange == nobody {
            openBesideDetection(connection, index)
        } else {
            relayExpired(connection.pointee.exchange)
        }
    }

    /// Whether the server, beside a client that has not been understood yet, has said something that settles the matter: then the port is remembered.
    mutating func hasSpokenFirst(_ upstream: ConnectionPlace, _ connection: ConnectionPlace) -> Bool {
        guard upstream.pointee.canRead else { return false }
        return withUnsafeTemporaryAllocation(byteCount: ServerBytes.bytesMax, alignment: 8) { memory in
            let count = clinux_peek(upstream.pointee.descriptor, memory.baseAddress, UInt(memory.count))
            if count < 0 && errno == EAGAIN {
                upstream.pointee.canRead = false
                return false
            }
            // Less than nothing: the server has ended or failed.
            return settles(UnsafeRawBufferPointer(rebasing: memory[..<max(count, 0)]), connection)
        }
    }

    /// Whether what a server has said, or its end when that is nothing, settles what its client speaks that has not been understood yet.
    mutating func settles(_ said: UnsafeRawBufferPointer, _ connection: ConnectionPlace) -> Bool {
        var reason = DecisionReason.clientSilent
        if !said.isEmpty {
            switch ServerBytes(judging: said) {
            // An HTTP/2 server need not wait for its client's preface (RFC 9113, 3.4); what it says is for a client that we do not know yet.
            case .http2: return false
            // It has given up waiting for a request. That is passed on, and is no reason to expect it from the next.
            case .http1: break
            case .other:
                reason = .serverFirst
                if let key = memoryKey(of: connection) {
                    if shared.serverFirst.knows(key, now: now) { reason = .remembered }
                    shared.serverFirst.remember(key, until: after(milliseconds: limits.serverFirstMilliseconds))
                }
            }
        }
        decided(connection, .tcp, reason)
        return true
    }

    /// Opens the upstream at once where the server has lately spoken first.
    mutating func recallServerFirst(_ connection: ConnectionPlace, _ index: UInt32) {
        guard let key = memoryKey(of: connection), shared.serverFirst.knows(key, now: now) else { return }
        openBesideDetection(connection, index)
    }

    /// Under what a port is remembered; nil where its server's habits may not be relied on.
    ///
    /// By the Service, not the endpoint: what one of its servers does, all do. Declared ports never get here. A port with an L7 policy or route must
    /// answer nil here too: which upstream a connection of its may open depends on its first request.
    private func memoryKey(of connection: ConnectionPlace) -> ServerFirstMemory.Key? {
        let address = connection.pointee.address, port = connection.pointee.port
        if !connection.pointee.listener.isInbound {
            switch tables.resolve(address: address, port: port) {
            case .service(let service): return ServerFirstMemory.Key(high: service.service.hash, low: 1, port: service.port.number)
            case .workload(_, behind: let service?): return ServerFirstMemory.Key(high: service.service.hash, low: 1, port: service.port.number)
            case .unknownPort: return nil
            case .workload, .unknown: break
            }
        }
        return ServerFirstMemory.Key(high: address.high, low: address.low, port: port)
    }
}
