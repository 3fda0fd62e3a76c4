import Bytes
import EventLoop
import HTTPCodec
import MeshModel
import Routing

// Cross-origin requests of browsers (Fetch standard, 3.2; GEP-1767): the question that comes before one is answered here, and its reply says who
// may read it. Whoever is not allowed is told nothing, and the browser keeps the reply to itself.
extension Worker {
    /// Notes the origin of a request whose rule speaks of origins, if it is allowed.
    /// - Returns: the answer, when the request only asks what it may ask.
    mutating func judgeOrigin(_ exchange: ExchangePlace, _ cors: CORSView, _ bytes: UnsafeRawBufferPointer) -> Refusal? {
        guard let origin = fieldValue("origin", bytes) else { return nil }
        let isAllowed = allows(cors, origin)
        if head.method == .options, let method = fieldValue("access-control-request-method", bytes) {
            ledger.count(.routePreflights)
            if isAllowed { answerPreflight(cors, origin, method, fieldValue("access-control-request-headers", bytes)) }
            return .preflight
        }
        guard isAllowed else { return nil }
        let block = origins.lend()
        guard block != BlockPool.none, let source = origin.baseAddress else { return nil }
        origins.memory(of: block).copyMemory(from: source, byteCount: origin.count)
        exchange.pointee.origin = block
        exchange.pointee.originCount = UInt16(origin.count)
        return nil
    }

    private func allows(_ cors: CORSView, _ text: UnsafeRawBufferPointer) -> Bool {
        guard text.count > 0, text.count <= SteerSizes.originBytesMax else { return false }
        let patterns = cors.origins
        // Where everybody may, an origin that is none (`null`) may too.
        if patterns.count == 1, isAsterisk(patterns[0]) { return true }
        guard let origin = Origin(text) else { return false }
        for place in 0..<patterns.count where origin.matches(patterns[place]) { return true }
        return false
    }

    private func isAsterisk(_ text: UnsafeRawBufferPointer) -> Bool { text.count == 1 && text[0] == UInt8(ascii: "*") }

    /// What the asking request is told. Where anything is allowed, what was asked about is: right with credentials too, where `*` means nothing.
    private mutating func answerPreflight(
        _ cors: CORSView, _ origin: UnsafeRawBufferPointer, _ method: UnsafeRawBufferPointer, _ headers: UnsafeRawBufferPointer?
    ) {
        noteOrigin(cors, origin) { room, name, value in room.answer(name, value) }
        if let methods = list(cors.methods, asked: method) { room.answer("access-control-allow-methods", methods) }
        if let headers = list(cors.headers, asked: headers) { room.answer("access-control-allow-headers", headers) }
        if let age = room.text({ $0.writeDecimal(UInt64(cors.maxAgeSeconds)) }) { room.answer("access-control-max-age", age) }
    }

    /// The items with commas between them; of `*` what was asked for. Nil: there is nothing to say.
    private mutating func list(_ items: TextsView, asked: UnsafeRawBufferPointer?) -> UnsafeRawBufferPointer? {
        if items.isEmpty { return nil }
        if items.count == 1, isAsterisk(items[0]) { return asked.flatMap { text in room.text { $0.write(text) } } }
        return room.text { out in
            for place in 0..<items.count {
                if place > 0 { out.write(", ") }
                out.write(items[place])
            }
        }
    }

    /// The fields that question and reply have in common.
    private mutating func noteOrigin(
        _ cors: CORSView, _ origin: UnsafeRawBufferPointer, _ note: (inout SteerRoom, StaticString, UnsafeRawBufferPointer) -> Void
    ) {
        guard let origin = room.text({ $0.write(origin) }), let isTrue = room.text({ $0.write("true") }) else { return }
        note(&room, "access-control-allow-origin", origin)
        if cors.allowsCredentials { note(&room, "access-control-allow-credentials", isTrue) }
        let exposed = cors.exposedHeaders
        if !(cors.allowsCredentials && exposed.count == 1 && isAsterisk(exposed[0])), let names = list(exposed, asked: asteriskText) {
            note(&room, "access-control-expose-headers", names)
        }
    }

    private var asteriskText: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: ("*" as StaticString).utf8Start, count: 1) }

    /// What the reply to an allowed request says, in place of what its application may say about it. A cache must not show it to other origins.
    mutating func noteCrossOrigin(_ exchange: ExchangePlace, _ cors: CORSView) {
        guard exchange.pointee.origin != BlockPool.none else { return }
        let origin = UnsafeRawBufferPointer(start: origins.memory(of: exchange.pointee.origin), count: Int(exchange.pointee.originCount))
        noteOrigin(cors, origin) { room, name, value in room.edits.append(.set, name, value) }
        if let vary = room.text({ $0.write("Origin") }) { room.edits.append(.add, "vary", vary) }
    }

    /// The same for an answer of our own: a browser shall see why its request has failed.
    mutating func answerCrossOrigin(_ exchange: ExchangePlace) {
        guard exchange.pointee.origin != BlockPool.none, let (rule, _) = tables.held(exchange.pointee.hold), let cors = rule.cors else { return }
        room.begin()
        answerCrossOrigin(exchange, cors)
    }

    /// Notes it beside what else the answer says.
    mutating func answerCrossOrigin(_ exchange: ExchangePlace, _ cors: CORSView) {
        guard exchange.pointee.origin != BlockPool.none else { return }
        let origin = UnsafeRawBufferPointer(start: origins.memory(of: exchange.pointee.origin), count: Int(exchange.pointee.originCount))
        noteOrigin(cors, origin) { room, name, value in room.answer(name, value) }
    }
}
