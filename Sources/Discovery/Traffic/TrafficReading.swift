import MeshModel
import Yams

/// Reads the parts of a MeshPolicy that are about a Service as a whole.
enum TrafficReading {
    static func retries(_ reader: ObjectReader, _ policy: inout TrafficPolicy) {
        reader.allowOnly(["budgetPercent", "minPerSecond", "attempts", "statuses", "grpcCodes", "backoff"])
        if let percent = reader.integer("budgetPercent", in: 0...100, called: "a percentage") { policy.retryBudgetPercent = UInt8(percent) }
        if let rate = reader.integer("minPerSecond", in: 0...10_000, called: "a number of retries a second") { policy.retryBudgetPerSecondMin = UInt16(rate) }
        let statuses = numbers(reader, "statuses", in: 400...599, called: "a status of a failure").map { UInt16($0) }
        let calls = reader.strings("grpcCodes").compactMap { text, path, line -> UInt8? in
            if let code = grpcCode(text) { return code }
            reader.log.add(line: line, field: path, "“\(text.prefix(64))” is no code of gRPC", remedy: "write one of \(grpcCodes.joined(separator: ", "))")
            return nil
        }
        let attempts = reader.integer("attempts", in: 0...TrafficLimits.retriesMax, called: "a number of retries")
        let backoff = reader.milliseconds("backoff")
        guard ["attempts", "statuses", "grpcCodes", "backoff"].contains(where: reader.has) else { return }
        policy.retry = RetryRule(statuses: statuses, grpcStatuses: calls, attempts: UInt8(attempts ?? 1), backoffMilliseconds: backoff ?? 0)
    }

    static func breaker(_ reader: ObjectReader, _ policy: inout TrafficPolicy) {
        reader.allowOnly(["connections", "pending", "requests"])
        func limit(_ field: String, _ noun: String) -> UInt32 { UInt32(reader.integer(field, in: 1...1_000_000, called: noun) ?? 0) }
        policy.connectionsMax = limit("connections", "a number of connections")
        policy.pendingRequestsMax = limit("pending", "a number of requests")
        policy.requestsInFlightMax = limit("requests", "a number of requests")
        if reader.names.isEmpty { reader.fault("requests", "is missing: the breaker never opens", remedy: "write connections, pending or requests") }
    }

    static func ejection(_ reader: ObjectReader, _ policy: inout TrafficPolicy) {
        reader.allowOnly(["consecutiveFailures", "successRateDeviation", "latencyFactor", "duration", "maxPercent", "panicPercent"])
        if let count = reader.integer("consecutiveFailures", in: 0...10_000, called: "a number of failures") { policy.consecutiveFailures = UInt16(count) }
        if let hundredths = reader.decimal("successRateDeviation", digits: 2, upTo: 100, called: "a number of standard deviations") {
            policy.successRateDeviationHundredths = UInt16(hundredths)
        }
        if let factor = reader.integer("latencyFactor", in: 0...255, called: "a factor") {
            policy.latencyFactor = UInt8(factor)
            if factor == 1 { reader.fault("latencyFactor", "1 ejects half of the endpoints", remedy: "write 2 or more, or 0 for never") }
        }
        if let duration = reader.milliseconds("duration") { policy.ejectionMilliseconds = duration }
        if let percent = reader.integer("maxPercent", in: 0...100, called: "a percentage") { policy.ejectedPercentMax = UInt8(percent) }
        if let percent = reader.integer("panicPercent", in: 0...100, called: "a percentage") { policy.panicPercent = UInt8(percent) }
    }

    static func healthCheck(_ reader: ObjectReader) -> HealthCheck? {
        let kinds = ["http", "grpc", "tcp"]
        reader.allowOnly(kinds + ["interval", "timeout", "unhealthyAfter", "healthyAfter"])
        let said = kinds.filter { reader.node($0) != nil }
        guard said.count == 1 else {
            reader.fault(said.last ?? "http", said.isEmpty ? "is missing, and so are grpc and tcp" : "stands beside \(said[0])", remedy: "write one of http, grpc, tcp: how the endpoint is asked")
            return nil
        }
        var check = HealthCheck(kind: .tcp)
        if let http = reader.object("http") {
            http.allowOnly(["path"])
            check = HealthCheck(kind: .http, path: http.string("path") ?? "/")
            RouteMatchReading.checkPath(http, "path", check.path)
        } else if let grpc = reader.object("grpc") {
            grpc.allowOnly(["service"])
            check = HealthCheck(kind: .grpc, path: grpc.string("service") ?? "")
            if check.path.utf8.count > 256 { grpc.fault("service", "is \(check.path.utf8.count) bytes long", remedy: "write the name of a gRPC service") }
        } else if let tcp = reader.object("tcp") {
            tcp.allowOnly([])
        }
        check.intervalMilliseconds = reader.milliseconds("interval") ?? check.intervalMilliseconds
        check.timeoutMilliseconds = reader.milliseconds("timeout") ?? check.timeoutMilliseconds
        if check.intervalMilliseconds < 100 { reader.fault("interval", "is less than 100ms", remedy: "write 100ms or more") }
        if check.timeoutMilliseconds == 0 || check.timeoutMilliseconds > check.intervalMilliseconds {
            reader.fault("timeout", "is 0 or longer than the interval", remedy: "write less than the interval, which is \(check.intervalMilliseconds)ms")
        }
        if let count = reader.integer("unhealthyAfter", in: 1...100, called: "a number of answers") { check.unhealthyAfter = UInt8(count) }
        if let count = reader.integer("healthyAfter", in: 1...100, called: "a number of answers") { check.healthyAfter = UInt8(count) }
        return check
    }

    // MARK: Balancing

    private enum Algorithm: String, CaseIterable {
        case leastRequests, peakEWMA, roundRobin, random, ringHash, maglev

        var algorithm: BalancingAlgorithm {
            switch self {
            case .leastRequests: .leastRequests
            case .peakEWMA: .peakEWMA
            case .roundRobin: .roundRobin
            case .random: .random
            case .ringHash: .ringHash
            case .maglev: .maglev
            }
        }
    }

    enum Locality: String, CaseIterable {
        case none, sameZone, sameNode

        var preference: LocalityPreference {
            switch self {
            case .none: .none
            case .sameZone: .sameZone
            case .sameNode: .sameNode
            }
        }
    }

    static func balancing(_ reader: ObjectReader, _ policy: inout TrafficPolicy) {
        reader.allowOnly(["algorithm", "hashOn"])
        if let choice = reader.choice("algorithm", Algorithm.self) { policy.algorithm = choice.algorithm }
        guard reader.has("hashOn") else { return }
        guard [.ringHash, .maglev].contains(policy.algorithm) else {
            return reader.fault("hashOn", "is not asked by this algorithm", remedy: "write algorithm: ringHash or maglev, or leave out hashOn")
        }
        guard let hashOn = reader.object("hashOn") else { return }
        let keys = ["source", "header", "cookie", "path"]
        hashOn.allowOnly(keys)
        let said = keys.filter { hashOn.has($0) }
        guard said.count == 1, let key = said.first else {
            return hashOn.fault(said.last ?? "header", "is not the one thing to hash", remedy: "write one of source: true, header: NAME, cookie: NAME, path: true")
        }
        switch key {
        case "source", "path":
            if hashOn.boolean(key) == false { hashOn.fault(key, "is false", remedy: "write true, or another field") }
            policy.hashKey = key == "source" ? .source : .path
        default:
            guard let name = hashOn.requiredString(key, remedy: "write its name") else { return }
            if !ObjectReader.isToken(name) { hashOn.fault(key, "“\(name.prefix(64))” is no name of a \(key)", remedy: "use letters, digits, “-” and “_”") }
            policy.hashKey = key == "header" ? .header : .cookie
            policy.hashName = key == "header" ? lowered(name) : name
        }
    }

    // MARK: Fallback

    static func fallback(_ reader: ObjectReader, in namespace: String) -> Fallback? {
        reader.allowOnly(["reply", "service"])
        if reader.has("reply"), reader.has("service") { reader.fault("service", "stands beside reply", remedy: "write one of them") }
        if let service = reader.object("service") {
            service.allowOnly(["name", "port"])
            guard let name = service.requiredString("name", remedy: "write a Service of the policy's own namespace"), let port = service.requiredPort("port") else { return nil }
            return .service(namespace: namespace, name: name, port: port)
        }
        guard let reply = reader.object("reply") else {
            if !reader.has("service") { reader.fault("reply", "is missing, and so is service", remedy: "write what the client gets") }
            return nil
        }
        reply.allowOnly(["status", "contentType", "body"])
        let status = reply.integer("status", in: 200...599, called: "a status") ?? 503
        let type = reply.string("contentType") ?? "text/plain"
        let body = reply.string("body") ?? ""
        if type.isEmpty || type.utf8.count > 128 || !type.utf8.allSatisfy({ (0x20...0x7E).contains($0) }) {
            reply.fault("contentType", "“\(type.prefix(64))” is no media type", remedy: "write one such as application/json")
        }
        if body.utf8.count > TrafficLimits.bodyBytesMax {
            reply.fault("body", "is \(body.utf8.count) bytes long", remedy: "write at most \(TrafficLimits.bodyBytesMax)")
        }
        return .reply(status: UInt16(status), contentType: type, body: body)
    }

    // MARK: Words

    static let grpcCodes = [
        "ok", "cancelled", "unknown", "invalid-argument", "deadline-exceeded", "not-found", "already-exists", "permission-denied", "resource-exhausted",
        "failed-precondition", "aborted", "out-of-range", "unimplemented", "internal", "unavailable", "data-loss", "unauthenticated",
    ]

    static func grpcCode(_ text: String) -> UInt8? { grpcCodes.firstIndex(of: text).map { UInt8($0) } }

    static func lowered(_ text: String) -> String { String(decoding: text.utf8.map { $0 &- 0x41 < 26 ? $0 | 0x20 : $0 }, as: UTF8.self) }

    private static func numbers(_ reader: ObjectReader, _ field: String, in range: ClosedRange<Int>, called noun: String) -> [Int] {
        reader.elements(field).compactMap { element in
            if case .scalar(let scalar) = element.node, case .integer(let number) = YAMLScalar(scalar), range.contains(number) { return number }
            reader.log.add(
                line: element.node.mark?.line ?? reader.line, field: element.path, "is not \(noun)",
                remedy: "write a number from \(range.lowerBound) to \(range.upperBound), without quotes")
            return nil
        }
    }
}

extension ObjectReader {
    /// A number with so many digits behind its point at most, times ten to that power: 1.5 with two digits is 150.
    func decimal(_ field: String, digits: Int, upTo most: Int, called noun: String) -> Int? {
        guard has(field), let node = node(field) else { return nil }
        var scale = 1
        for _ in 0..<digits { scale *= 10 }
        if case .scalar(let scalar) = node {
            switch YAMLScalar(scalar) {
            case .integer(let whole) where (0...most).contains(whole): return whole * scale
            case .otherNumber(let text):
                let parts = text.split(separator: ".", omittingEmptySubsequences: false)
                if parts.count == 2, (1...9).contains(parts[0].utf8.count), (1...digits).contains(parts[1].utf8.count),
                    parts.allSatisfy({ $0.utf8.allSatisfy { (0x30...0x39).contains($0) } }), let whole = Int(parts[0]),
                    let part = Int(parts[1] + String(repeating: "0", count: digits - parts[1].utf8.count)), whole * scale + part <= most * scale
                {
                    return whole * scale + part
                }
            default: break
            }
        }
        fault(field, "is not \(noun)", remedy: "write a number from 0 to \(most), with at most \(digits) digits behind its point, without quotes")
        return nil
    }
}
