import MeshModel

/// Reads the parts of a MeshPolicy that are about single requests: limits and faults, and which requests they concern.
enum RequestPolicyReading {
    static func rateLimit(_ reader: ObjectReader) -> RateLimit? {
        reader.allowOnly(["requests", "per", "burst", "key", "match"])
        guard reader.has("requests") else {
            reader.fault("requests", "is missing", remedy: "write how many requests may come")
            return nil
        }
        guard let requests = reader.integer("requests", in: 1...1_000_000, called: "a number of requests") else { return nil }
        let interval = reader.milliseconds("per") ?? 1_000
        let burst = reader.integer("burst", in: 1...10_000_000, called: "a number of requests") ?? requests
        if interval == 0 || interval > 3_600_000 { reader.fault("per", "is not between 1ms and 1h", remedy: "write a time such as 1s or 1m") }
        if UInt64(interval) * 1_000_000 / UInt64(requests) * UInt64(burst) > Limits.burstNanosecondsMax {
            reader.fault("burst", "takes longer than a day to come back", remedy: "write a smaller one")
        }
        var limit = RateLimit(requests: UInt32(requests), intervalMilliseconds: interval, burst: UInt32(burst), match: match(reader))
        if let key = reader.object("key") {
            key.allowOnly(["caller", "header"])
            if key.has("caller") == key.has("header") {
                key.fault("header", key.has("caller") ? "stands beside caller" : "is missing, and so is caller", remedy: "write one of caller: true, header: NAME")
            }
            if key.boolean("caller") == true { limit.key = .caller }
            if let name = key.nonEmpty("header") {
                if !ObjectReader.isToken(name) { key.fault("header", "“\(name.prefix(64))” is no name of a header", remedy: "use letters, digits and “-”") }
                (limit.key, limit.keyName) = (.header, TrafficReading.lowered(name))
            }
        }
        return limit
    }

    static func fault(_ reader: ObjectReader) -> FaultInjection? {
        reader.allowOnly(["delay", "abort", "match"])
        var fault = FaultInjection(match: match(reader))
        if let delay = reader.object("delay") {
            delay.allowOnly(["duration", "percent"])
            fault.delayMilliseconds = delay.milliseconds("duration") ?? 0
            fault.delayPerMillion = share(delay)
            if fault.delayMilliseconds == 0 || fault.delayMilliseconds > 300_000 {
                delay.fault("duration", "is not between 1ms and 5m", remedy: "write how long the requests wait, such as 100ms")
            }
        }
        if let abort = reader.object("abort") {
            abort.allowOnly(["status", "grpcCode", "percent"])
            fault.abortPerMillion = share(abort)
            if abort.has("status") == abort.has("grpcCode") {
                abort.fault("status", abort.has("status") ? "stands beside grpcCode" : "is missing, and so is grpcCode", remedy: "write one of them")
            }
            fault.abortStatus = UInt16(abort.integer("status", in: 200...599, called: "a status") ?? 0)
            if let text = abort.string("grpcCode") {
                if let code = TrafficReading.grpcCode(text) {
                    fault.abortGRPCStatus = code
                } else {
                    abort.fault("grpcCode", "“\(text.prefix(64))” is no code of gRPC", remedy: "write one of \(TrafficReading.grpcCodes.joined(separator: ", "))")
                }
            }
        }
        if !reader.has("delay"), !reader.has("abort") { reader.fault("abort", "is missing, and so is delay: nothing is injected", remedy: "write abort or delay") }
        return fault
    }

    /// Of a million requests. All of them where nothing is said.
    private static func share(_ reader: ObjectReader) -> UInt32 {
        UInt32(reader.decimal("percent", digits: 4, upTo: 100, called: "a percentage") ?? 1_000_000)
    }

    private static func match(_ owner: ObjectReader) -> TrafficMatch {
        guard let reader = owner.object("match") else { return TrafficMatch() }
        reader.allowOnly(["path", "method", "headers"])
        if reader.names.isEmpty { owner.fault("match", "is empty", remedy: "write what is meant, or leave it out to mean all requests") }
        var match = TrafficMatch()
        if let path = reader.object("path") {
            path.allowOnly(["exact", "prefix"])
            if path.has("exact") == path.has("prefix") {
                path.fault("exact", path.has("exact") ? "stands beside prefix" : "is missing, and so is prefix", remedy: "write one of them")
            }
            if let text = path.string("exact") {
                RouteMatchReading.checkPath(path, "exact", text)
                match.path = .exact(text)
            } else if let text = path.string("prefix") {
                RouteMatchReading.checkPath(path, "prefix", text)
                let trimmed = String(text.reversed().drop { $0 == "/" }.reversed())
                match.path = trimmed.isEmpty ? .any : .prefix(trimmed)
            }
        }
        if let method = reader.nonEmpty("method") {
            if !ObjectReader.isToken(method) || method.uppercased() != method { reader.fault("method", "“\(method.prefix(32))” is no method", remedy: "write it in capitals, such as GET") }
            match.method = method
        }
        reader.limit("headers", to: TrafficLimits.headersMax)
        for header in reader.objects("headers") {
            header.allowOnly(["name", "value"])
            guard let name = header.requiredString("name", remedy: "write the name of a header") else { continue }
            if !ObjectReader.isToken(name) { header.fault("name", "“\(name.prefix(64))” is no name of a header", remedy: "use letters, digits and “-”") }
            match.headers.append(FieldEdits.Field(name: TrafficReading.lowered(name), value: header.string("value") ?? ""))
        }
        return match
    }
}
