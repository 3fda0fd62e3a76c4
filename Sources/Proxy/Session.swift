import EventLoop

/// What a multiplexed connection has beside its socket: the state of its HTTP/2 session and whose streams are open on it.
struct Session: ~Copyable {
    /// We are the server: the connection is a client's.
    let isServer: Bool
    /// The connection it speaks on; `nobody` while one is being opened.
    var connection: UInt32
    /// The exchanges of its streams, linked through them.
    var firstExchange = nobody
    /// How many there are.
    var exchangeCount: UInt32 = 0

    init(isServer: Bool, connection: UInt32) {
        self.isServer = isServer
        self.connection = connection
    }
}

typealias SessionPlace = UnsafeMutablePointer<Session>

// A session's exchanges: they join with their request's head, and leave at their end.
extension Worker {
    func joinSession(_ number: UInt32, _ exchange: ExchangePlace, _ session: SessionPlace) {
        let first = session.pointee.firstExchange
        exchange.pointee.nextOfDownstream = first
        if first != nobody { exchanges.at(first).pointee.previousOfDownstream = number }
        session.pointee.firstExchange = number
        session.pointee.exchangeCount += 1
    }

    mutating func leaveSession(_ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace) {
        let session = sessions.at(connection.pointee.session)
        let next = exchange.pointee.nextOfDownstream, previous = exchange.pointee.previousOfDownstream
        if next != nobody { exchanges.at(next).pointee.previousOfDownstream = previous }
        if previous != nobody { exchanges.at(previous).pointee.nextOfDownstream = next } else { session.pointee.firstExchange = next }
        session.pointee.exchangeCount -= 1
        exchangeDeadlines.remove(number)
    }
}
