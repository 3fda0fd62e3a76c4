import Bytes
import EventLoop
import HTTPCodec
import MeshModel
import Routing
import Telemetry

// A copy of a request goes to another backend, and nobody hears the answer (Gateway API, HTTPRequestMirrorFilter). A copy is an exchange of its
// own whose client we play ourselves: it has no socket, it asks what the copied request brings, and what it is told is gone. It is sent in turns of its
// own, once, and whatever becomes of it, the request that it copies is not held up: a copy that cannot keep up is cut off.
extension Worker {
    /// Begins the copies that a rule wants of a request, whose head is the worker's, parsed from `bytes`.
    mutating func mirror(_ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace, _ rule: RouteRuleView, _ bytes: UnsafeRawBufferPointer) {
        for place in 0..<rule.mirrorCount {
            let mirror = rule.mirror(at: place)
            guard mirror.takes(chance: random.next()) else { continue }
            // An upgrade's two sides talk with one another: a copy could not follow.
            let isBegun = !exchange.pointee.asksForUpgrade && beginCopy(number, exchange, connection, rule, mirror.backend, bytes)
            ledger.count(isBegun ? .mirrorsSent : .mirrorsLeftOut)
        }
    }

    private mutating func beginCopy(
        _ number: UInt32, _ exchange: ExchangePlace, _ connection: ConnectionPlace, _ rule: RouteRuleView, _ backend: RouteBackendView,
        _ bytes: UnsafeRawBufferPointer
    ) -> Bool {
        let budget = pods.budgets.base + Int(connection.pointee.pod)
        guard !backend.isUnresolved, Int(budget.pointee.mirrors) < limits.mirrorsPerPodMax, !isOverBudget(connection) else { return false }
        var client = Connection(descriptor: -1, role: .downstream, stage: .exchanging, pod: connection.pointee.pod)
        client.isMirror = true
        client.isApart = connection.pointee.isApart
        client.peer = connection.pointee.peer
        client.address = connection.pointee.address
        client.port = connection.pointee.port
        guard let place = connections.insert(client) else { return false }
        budget.pointee.mirrors += 1
        guard let copy = exchanges.insert(Exchange(downstream: place.index, isRelay: false)) else {
            drop(connections.at(place.index), place.index)
            return false
        }
        connections.at(place.index).pointee.exchange = copy.index
        let twin = exchanges.at(copy.index)
        twin.pointee.isMirror = true
        twin.pointee.cameAsStream = exchange.pointee.downstreamStream != 0
        twin.pointee.method = exchange.pointee.method
        twin.pointee.hasBody = exchange.pointee.hasBody
        twin.pointee.requestPhase = exchange.pointee.hasBody ? .body : .complete
        twin.pointee.isGRPC = exchange.pointee.isGRPC
        twin.pointee.giveUpAt = exchange.pointee.giveUpAt
        twin.pointee.started = now
        twin.pointee.chance = exchange.pointee.chance
        // Both show the same identifiers, whatever way they take.
        twin.pointee.chanceIsShown = true
        exchange.pointee.chanceIsShown = true
        twin.pointee.hold = tables.hold(rule, backend, worker: self.number)
        guard beginContent(twin, bytes, ends: !exchange.pointee.hasBody) else {
            endCopy(copy.index)
            return false
        }
        if exchange.pointee.hasBody {
            twin.pointee.mirrorOf = number
            twin.pointee.nextMirror = exchange.pointee.firstMirror
            exchange.pointee.firstMirror = copy.index
        }
        chargeHeld(twin, connections.at(place.index))
        setDeadline(twin, copy.index, milliseconds: limits.replyMilliseconds)
        again(connections.at(place.index), place.index)
        return true
    }

    /// A copy's turn: it is sent. Later ones have nothing to do: what it brings is brought to it.
    mutating func serveMirror(_ connection: ConnectionPlace, _ index: UInt32) {
        let number = connection.pointee.exchange
        guard number != nobody else { return drop(connection, index) }
        let exchange = exchanges.at(number)
        guard exchange.pointee.attempts == 0, exchange.pointee.refusals == 0, exchange.pointee.reach == .nothing else { return }
        dispatch(number, routeAgain(exchange, connection, host: UnsafeRawBufferPointer(start: nil, count: 0)), .held)
    }

    // MARK: Content

    /// What a request brings, its copies bring too.
    mutating func copyContent(_ exchange: ExchangePlace, _ content: UnsafeRawBufferPointer, ends: Bool) {
        var copy = exchange.pointee.firstMirror
        while copy != nobody {
            let twin = exchanges.at(copy), token = exchanges.token(at: copy), next = twin.pointee.nextMirror
            if ends {
                twin.pointee.requestPhase = .complete
                leaveOriginal(twin, copy)
            }
            if waitingBytes(twin) + content.count > limits.mirrorBytesMax {
                cutOff(copy)
            } else {
                passRequestContent(copy, content, ends: ends)
                if exchanges.find(token) != nil { chargeHeld(twin, connections.at(twin.pointee.downstream)) }
            }
            copy = next
        }
    }

    /// Bytes of a copy that its upstream has not taken yet.
    private func waitingBytes(_ twin: ExchangePlace) -> Int {
        guard twin.pointee.reach == .connected else { return held(twin).count }
        let upstream = connections.at(twin.pointee.upstream)
        guard twin.pointee.upstreamStream != 0 else { return upstream.pointee.output.count }
        return sessions.at(upstream.pointee.session).pointee.codec.waitingBytes(twin.pointee.upstreamStream)
    }

    // MARK: The end

    /// The request is over before its copies are whole: half a request is none.
    mutating func cutOffCopies(_ exchange: ExchangePlace) {
        while exchange.pointee.firstMirror != nobody { cutOff(exchange.pointee.firstMirror) }
    }

    private mutating func cutOff(_ copy: UInt32) {
        ledger.count(.mirrorsCutOff)
        endCopy(copy)
    }

    /// The copy needs no more of the request that it copies.
    func leaveOriginal(_ twin: ExchangePlace, _ copy: UInt32) {
        guard twin.pointee.mirrorOf != nobody else { return }
        let original = exchanges.at(twin.pointee.mirrorOf)
        if original.pointee.firstMirror == copy {
            original.pointee.firstMirror = twin.pointee.nextMirror
        } else {
            var before = original.pointee.firstMirror
            while before != nobody, exchanges.at(before).pointee.nextMirror != copy { before = exchanges.at(before).pointee.nextMirror }
            if before != nobody { exchanges.at(before).pointee.nextMirror = twin.pointee.nextMirror }
        }
        twin.pointee.mirrorOf = nobody
        twin.pointee.nextMirror = nobody
    }

    /// Ends a copy, and with it the client that was played.
    mutating func endCopy(_ copy: UInt32) {
        let index = exchanges.at(copy).pointee.downstream
        cancel(copy)
        drop(connections.at(index), index)
    }
}
