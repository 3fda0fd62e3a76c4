import MeshModel

/// Reads how long a rule's requests may take, when they are sent again, and what keeps a session at one endpoint.
enum RouteTiming {
    /// `timeouts` (GEP-1742).
    static func timeouts(_ rule: ObjectReader) -> RouteTimeouts {
        guard let reader = rule.object("timeouts") else { return RouteTimeouts() }
        reader.allowOnly(["request", "backendRequest"])
        let timeouts = RouteTimeouts(
            requestMilliseconds: reader.milliseconds("request"), backendRequestMilliseconds: reader.milliseconds("backendRequest"))
        if let whole = timeouts.requestMilliseconds, whole > 0, let one = timeouts.backendRequestMilliseconds, one > whole {
            reader.fault("backendRequest", "is longer than request, which covers it", remedy: "write at most \(reader.string("request") ?? "request")")
        }
        return timeouts
    }

    /// `retry` (GEP-1731).
    static func retry(_ rule: ObjectReader) -> RetryRule? {
        guard let reader = rule.object("retry") else { return nil }
        reader.allowOnly(["codes", "attempts", "backoff"])
        var statuses: [UInt16] = []
        for element in reader.elements("codes") {
            guard case .scalar(let scalar) = element.node, case .integer(let status) = YAMLScalar(scalar), (400...599).contains(status) else {
                reader.log.add(line: element.node.mark?.line ?? reader.line, field: element.path, "is no status of a failure", remedy: "write a number from 400 to 599, without quotes")
                continue
            }
            if !statuses.contains(UInt16(status)) { statuses.append(UInt16(status)) }
        }
        let attempts = reader.integer("attempts", in: 0...RouteLimits.retriesMax, called: "a number of retries") ?? 1
        return RetryRule(statuses: statuses, attempts: UInt8(attempts), backoffMilliseconds: reader.milliseconds("backoff") ?? 0)
    }

    private enum SessionKind: String, CaseIterable {
        case cookie = "Cookie"
        case header = "Header"
    }

    private enum Lifetime: String, CaseIterable {
        case permanent = "Permanent"
        case session = "Session"
    }

    /// `sessionPersistence` (GEP-1619).
    static func session(_ rule: ObjectReader) -> SessionRule? {
        guard let reader = rule.object("sessionPersistence") else { return nil }
        reader.allowOnly(["sessionName", "absoluteTimeout", "idleTimeout", "type", "cookieConfig"])
        let usesCookie = reader.choice("type", SessionKind.self) != .header
        let name = reader.nonEmpty("sessionName") ?? defaultName(isCookie: usesCookie)
        if !ObjectReader.isToken(name) || name.utf8.count > RouteLimits.sessionNameBytesMax {
            reader.fault("sessionName", "“\(name.prefix(64))” can be the name of no \(usesCookie ? "cookie" : "header")", remedy: "use letters, digits, “-” and “_”, at most \(RouteLimits.sessionNameBytesMax)")
        }
        var isPermanent = false
        if let cookie = reader.object("cookieConfig") {
            cookie.allowOnly(["lifetimeType"])
            isPermanent = cookie.choice("lifetimeType", Lifetime.self) == .permanent
            if !usesCookie { reader.fault("cookieConfig", "stands beside type: Header", remedy: "remove it, or write type: Cookie") }
        }
        if isPermanent, !reader.has("absoluteTimeout") {
            reader.fault("absoluteTimeout", "is missing, and a permanent cookie ends with it", remedy: "write how long the session may last, such as 24h")
        }
        return SessionRule(
            usesCookie: usesCookie, name: usesCookie ? name : lowered(name), absoluteTimeoutSeconds: seconds(reader, "absoluteTimeout"),
            idleTimeoutSeconds: seconds(reader, "idleTimeout"), isPermanent: isPermanent)
    }

    private static func defaultName(isCookie: Bool) -> String { isCookie ? "weft-session" : "x-weft-session" }

    /// Whole seconds: what is shorter than one counts as one.
    private static func seconds(_ reader: ObjectReader, _ field: String) -> UInt32 {
        guard let milliseconds = reader.milliseconds(field) else { return 0 }
        return milliseconds / 1_000 + (milliseconds % 1_000 > 0 ? 1 : 0)
    }
}
