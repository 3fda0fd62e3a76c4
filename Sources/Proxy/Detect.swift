import Bytes
import EventLoop
import Glibc
import HTTPCodec

// Step 3 of the journey, for ports whose protocol nobody declared: the first bytes tell, and when the client is silent, the server may.
extension Worker {
    mutating func readFirstBytes(_ connection: ConnectionPlace, _ index: UInt32) {
        guard connection.pointee.canRead else { return }
        guard connection.pointee.input.reserve(FirstBytes.bytesMax) else { return beginRelay(connection, index) }
        let space = connection.pointee.input.writable
        switch EventLoop.receive(connection.pointee.descriptor, into: space.baseAddress!, count: space.count) {
        case .moved(let count):
            if count < space.count && !connection.pointee.hasEnded { connection.pointee.canRead = false }
            connection.pointee.input.commit(count)
            judgeFirstBytes(connection, index)
        case .wouldBlock:
            connection.pointee.canRead = false
        case .ended:
            connection.pointee.hasEnded = true
            connection.pointee.sawEnd = true
            connection.pointee.canRead = false
            // A client that ends its side may still be listening, even one that never said a word: `nc -N host 13 </dev/null`.
            beginRelay(connection, index)
        case .failed:
            abandonDetection(connection, index)
        }
    }

    private mutating func judgeFirstBytes(_ connection: ConnectionPlace, _ index: UInt32) {
        switch FirstBytes(judging: connection.pointee.input.readable) {
        case .undecided:
            break
        case .http1:
            // An upstream opened while the client was silent has said nothing; it is given up, for the request may belong elsewhere.
            if connection.pointee.exchange != nobody { cancel(connection.pointee.exchange) }
            connection.pointee.speaksHTTP = true
            connection.pointee.stage = .awaitingHead
            deadlines.clear(index)
            takeRequestFromInput(connection, index)
        case .http2: beginMultiplexing(connection, index)
        case .opaque:
            beginRelay(connection, index)
        }
    }

    /// The client has been silent for the detection's deadline. With nothing received, the upstream is opened too and whoever speaks first
    /// decides; with a few undecided bytes, no request line begins so slowly: they are opaque.
    mutating func detectionExpired(_ connection: ConnectionPlace, _ index: UInt32) {
        if connection.pointee.input.isEmpty {
            openBesideDetection(connection, index)
        } else {
            beginRelay(connection, index)
        }
    }

    private mutating func abandonDetection(_ connection: ConnectionPlace, _ index: UInt32) {
        if connection.pointee.exchange != nobody { cancel(connection.pointee.exchange) }
        drop(connection, index)
    }
}
