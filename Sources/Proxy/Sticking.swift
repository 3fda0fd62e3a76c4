import Bytes
import EventLoop
import Glibc
import HTTPCodec
import MeshModel
import Routing

/// What the reply owes the client of a rule with sessions.
enum SessionDebt: UInt8 {
    /// Nothing: there are no sessions, or the client has its token.
    case nothing
    /// A token for the endpoint that has answered.
    case token
    /// The same session, used once more.
    case renewal
}

// Requests of one session go to one endpoint while it is ready (GEP-1619). The client remembers which; nothing is kept here.
extension Worker {
    /// The backend for a request: that of its session, as long as it is one of the rule's, else one by weight. A session outlives the day on which its
    /// backend's weight becomes 0.
    mutating func chooseBackend(_ exchange: ExchangePlace, _ rule: RouteRuleView, _ bytes: UnsafeRawBufferPointer) -> RouteBackendView? {
        guard let session = rule.session else { return rule.backend(chance: random.next()) }
        exchange.pointee.sessionDebt = .token
        if let token = token(of: session, bytes),
            token.isAlive(now: wallSeconds(), absoluteSeconds: session.absoluteTimeoutSeconds, idleSeconds: session.idleTimeoutSeconds)
        {
            for place in 0..<rule.backendCount {
                let backend = rule.backend(at: place)
                guard !backend.isUnresolved, UInt32(truncatingIfNeeded: backend.hash) == token.backend, let service = tables.service(of: backend),
                    let endpoint = service.port.place(of: token.address, port: token.port), endpoint < service.readyCount
                else { continue }
                ledger.count(.sessionsKept)
                exchange.pointee.sticksTo = EndpointAddress(address: token.address, port: token.port)
                exchange.pointee.sessionBegun = token.begun
                exchange.pointee.sessionDebt = session.idleTimeoutSeconds > 0 ? .renewal : .nothing
                return backend
            }
            ledger.count(.sessionsMoved)
        }
        return rule.backend(chance: random.next())
    }

    private func token(of session: SessionView, _ bytes: UnsafeRawBufferPointer) -> SessionToken? {
        for row in 0..<head.fieldCount {
            let field = head.field(row)
            if session.usesCookie {
                guard field.id == .cookie, let value = CookieReader.value(of: session.name, in: field.value.of(bytes)) else { continue }
                if let token = SessionToken(value) { return token }
            } else if !field.isForThisHop, equalsIgnoringCase(field.name.of(bytes), session.name) {
                return SessionToken(field.value.of(bytes))
            }
        }
        return nil
    }

    /// The place of the endpoint that the exchange's session is with; nil: it has none, or it is not ready any more, or was tried.
    func stuckPlace(_ exchange: ExchangePlace, _ service: ServiceDestination) -> Int? {
        guard let endpoint = exchange.pointee.sticksTo, exchange.pointee.tried == nil,
            let place = service.port.place(of: endpoint.address, port: endpoint.port), place < service.readyCount,
            !service.state(at: place).load.isAvoided
        else { return nil }
        return place
    }

    /// The token of the endpoint that has answered, for the client.
    mutating func noteSession(_ exchange: ExchangePlace, _ session: SessionView, _ backend: RouteBackendView?) {
        let target = exchange.pointee.target
        // Sent elsewhere after all, the session is with whoever has answered.
        let hasMoved = exchange.pointee.sticksTo.map { $0 != EndpointAddress(address: target.address, port: target.port) } ?? false
        guard exchange.pointee.sessionDebt != .nothing || hasMoved, let backend else { return }
        let now = wallSeconds()
        let begun = exchange.pointee.sessionDebt == .renewal && !hasMoved ? exchange.pointee.sessionBegun : now
        if begun == now { ledger.count(.sessionsBegun) }
        let token = SessionToken(
            address: target.address, port: target.port, backend: UInt32(truncatingIfNeeded: backend.hash), begun: begun, used: now)
        let value = room.text { out in
            if session.usesCookie {
                out.write(session.name)
                out.write("=")
            }
            token.write(to: &out)
            guard session.usesCookie else { return }
            out.write("; Path=/; HttpOnly")
            if session.isPermanent, session.absoluteTimeoutSeconds > 0 {
                out.write("; Max-Age=")
                out.writeDecimal(UInt64(session.absoluteTimeoutSeconds - min(now - begun, session.absoluteTimeoutSeconds)))
            }
        }
        guard let value else { return }
        if session.usesCookie { room.edits.append(.add, "set-cookie", value) } else { room.edits.append(.set, session.name, value) }
    }

    private func wallSeconds() -> UInt32 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME_COARSE, &time)
        return UInt32(clamping: time.tv_sec)
    }
}
