import Bytes
import EventLoop
import Glibc
import HTTPCodec
import MeshModel
import Routing

/// What routes have made of a request.
enum Steering {
    /// It goes there, with the head that the worker's head now is, in these bytes.
    case onwards(Route, UnsafeRawBufferPointer)
    /// It ends here.
    case answered(Refusal)
}

// Step 5 of the journey, between the service and the endpoint: what the HTTPRoutes and GRPCRoutes of the service's port say. Asked on the
// caller's side, once, when the head is judged; from then on the request belongs to the rule that has taken it.
extension Worker {
    /// Asks the routes of the service that a request is for, and changes the worker's head, parsed from `bytes`, as they want it.
    mutating func steer(
        _ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace, _ route: Route, _ bytes: UnsafeRawBufferPointer
    ) -> Steering {
        // A tunnel to a port has no path that a rule could look at.
        guard case .service(let frontend) = route, head.method != .connect,
            let table = tables.routes(of: frontend, callersNamespace: callersNamespace(connection))
        else {
            guard case .service(let named) = route, let refusal = admit(exchange, named.service, bytes, route: Self.nothing, rule: Self.nothing)
            else { return .onwards(route, bytes) }
            return answered(exchange, connection, named, refusal)
        }
        room.begin()
        let asked = RouteRequest(method: head.methodName.of(bytes), path: head.path.of(bytes), host: head.authority.of(bytes))
        guard let taken = Self.decide(table, asked, room.scratch, head, bytes) else {
            return answered(exchange, connection, frontend, .noMatchingRoute)
        }
        let rule = taken.rule
        if let cors = rule.cors, let preflight = judgeOrigin(exchange, cors, bytes) { return answered(exchange, connection, frontend, preflight) }
        if let redirect = rule.redirect {
            if let cors = rule.cors { answerCrossOrigin(exchange, cors) }
            return answered(exchange, connection, frontend, redirected(exchange, connection, taken, redirect, bytes))
        }
        if let retry = rule.retry { exchange.pointee.retry = RetryPlan(retry) }
        if let refusal = admit(exchange, frontend.service, bytes, route: rule.route, rule: rule.rule) { return answered(exchange, connection, frontend, refusal) }
        guard let backend = chooseBackend(exchange, rule, bytes) else { return answered(exchange, connection, frontend, .noBackend) }
        guard !backend.isUnresolved, let service = tables.service(of: backend) else {
            return answered(exchange, connection, frontend, .backendUnresolved)
        }
        let timeouts = rule.timeouts
        if let request = timeouts.requestMilliseconds, request > 0 { exchange.pointee.giveUp(at: after(milliseconds: Int(request))) }
        exchange.pointee.attemptMilliseconds = timeouts.backendRequestMilliseconds ?? 0
        guard let ruled = amendByRule(taken, bytes) else { return headTooLarge(exchange, connection, frontend) }
        if rule.mirrorCount > 0 { mirror(number, exchange, connection, rule, ruled) }
        guard let changed = amend(backend, ruled) else { return headTooLarge(exchange, connection, frontend) }
        exchange.pointee.hold = tables.hold(rule, backend, worker: self.number)
        return .onwards(.service(service), changed)
    }

    private static var nothing: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: nil, count: 0) }

    private static func decide(
        _ table: RouteTableView, _ request: RouteRequest, _ scratch: borrowing RouteScratch, _ head: borrowing Head, _ bytes: UnsafeRawBufferPointer
    ) -> RouteDecision? {
        table.decide(request, scratch) { name, row in
            while row < head.fieldCount {
                let field = head.field(row)
                row += 1
                if !field.isForThisHop, equalsIgnoringCase(field.name.of(bytes), name) { return field.value.of(bytes) }
            }
            return nil
        }
    }

    private func callersNamespace(_ connection: ConnectionPlace) -> UnsafeRawBufferPointer {
        tables.workload(at: callerAddress(of: connection, like: connection.pointee.address))?.namespace ?? UnsafeRawBufferPointer(start: nil, count: 0)
    }

    /// The value of the first field of a name, in lower case; nil without one.
    func fieldValue(_ name: StaticString, _ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        for row in 0..<head.fieldCount {
            let field = head.field(row)
            guard Int(field.name.count) == name.utf8CodeUnitCount, let base = field.name.of(bytes).baseAddress else { continue }
            if tokenEquals(base, name.utf8CodeUnitCount, name) { return field.value.of(bytes) }
        }
        return nil
    }

    /// The request ends here; it counts for the service that was asked for.
    private mutating func answered(
        _ exchange: ExchangePlace, _ connection: ConnectionPlace, _ frontend: ServiceDestination, _ refusal: Refusal
    ) -> Steering {
        if !exchange.pointee.hasBody { exchange.pointee.requestPhase = .complete }
        exchange.pointee.target.address = connection.pointee.address
        ledger.describe(
            exchange, connection, .service(frontend), tables, by: caller(of: connection), from: callerAddress(of: connection, like: connection.pointee.address))
        return .answered(refusal)
    }

    /// Where a further attempt of a request goes: to the backend that was chosen, as the tables of this turn know it.
    func routeAgain(_ exchange: ExchangePlace, _ connection: ConnectionPlace, host: UnsafeRawBufferPointer) -> Route {
        guard let backend = tables.held(exchange.pointee.hold)?.backend else { return route(exchange, connection, host: host) }
        guard let service = tables.service(of: backend) else { return .noSuchPort }
        return .service(service)
    }

    // MARK: The request

    /// What the rule wants changed about the head: fields, and path and host by its rewrite. Copies of the request show this.
    private mutating func amendByRule(_ taken: RouteDecision, _ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        noteEdits(taken.rule.requestHeaders)
        if let rewrite = taken.rule.rewrite {
            room.edits.authority = rewrite.hostname
            if let edit = rewrite.path, head.targetForm != .asterisk {
                guard let path = newPath(taken, edit) else { return nil }
                room.edits.path = path
            }
        }
        return room.edits.isEmpty ? bytes : head.amend(room.edits, of: bytes, into: room.head)
    }

    /// What its backend wants changed besides.
    private mutating func amend(_ backend: RouteBackendView, _ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        guard !backend.requestHeaders.isEmpty else { return bytes }
        room.edits.removeAll()
        noteEdits(backend.requestHeaders)
        return head.amend(room.edits, of: bytes, into: room.head)
    }

    private mutating func headTooLarge(_ exchange: ExchangePlace, _ connection: ConnectionPlace, _ frontend: ServiceDestination) -> Steering {
        ledger.count(.limitRouteHead)
        return answered(exchange, connection, frontend, .requestHead(.headTooLarge))
    }

    /// What a filter changes about the fields of the message at hand.
    mutating func noteEdits(_ edits: FieldEditsView) {
        for place in 0..<edits.count {
            let edit = edits[place]
            switch edit.kind {
            case .set: room.edits.append(.set, edit.name, edit.value)
            case .add: room.edits.append(.add, edit.name, edit.value)
            case .remove: room.edits.append(.remove, edit.name)
            }
        }
    }

    /// The path that a rewrite or redirect puts in place of the one asked for, its query behind it; nil: longer than any may be.
    private mutating func newPath(_ taken: RouteDecision, _ edit: PathEditView) -> UnsafeRawBufferPointer? {
        let runs = taken.path(after: edit), query = taken.query
        guard runs.0.count + runs.1.count + query.count <= limits.head.targetBytesMax else { return nil }
        return room.text { out in
            out.write(runs.0)
            out.write(runs.1)
            out.write(query)
        }
    }

    // MARK: Redirects

    /// Notes where the client is sent. What the redirect does not say is as it was asked for; the port is the scheme's own where it names a scheme, else
    /// the service's (Gateway API, HTTPRequestRedirectFilter.port).
    private mutating func redirected(
        _ exchange: ExchangePlace, _ connection: ConnectionPlace, _ taken: RouteDecision, _ redirect: RedirectView, _ bytes: UnsafeRawBufferPointer
    ) -> Refusal {
        let isSecure = redirect.scheme.map { equalsText($0, "https") } ?? false
        let port = redirect.port ?? (redirect.scheme == nil ? wantedPort(exchange, connection) : isSecure ? 443 : 80)
        let runs = redirect.path.map { taken.path(after: $0) } ?? (taken.path, UnsafeRawBufferPointer(start: nil, count: 0))
        let query = taken.query, asked = head.host.of(bytes)
        var destination = AddressText()
        destination.write(connection.pointee.address)
        let location = destination.withBytes { address in
            room.text { out in
                Location.write(isSecure: isSecure, host: redirect.hostname ?? (asked.isEmpty ? address : asked), port: port, path: runs, query: query, to: &out)
            }
        }
        guard let location, location.count <= limits.head.targetBytesMax else {
            ledger.count(.limitRouteHead)
            return .requestHead(.targetTooLong)
        }
        ledger.count(.routeRedirects)
        room.answer("location", location)
        return .redirected(status: Int(redirect.status))
    }

    private func equalsText(_ text: UnsafeRawBufferPointer, _ word: StaticString) -> Bool {
        text.baseAddress.map { equals($0, text.count, word) } ?? false
    }
}
