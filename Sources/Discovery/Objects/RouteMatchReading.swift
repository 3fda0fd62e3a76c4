import MeshModel

/// Reads what a rule's requests look like (`matches`).
struct RouteMatchReading {
    let isGRPC: Bool
    private(set) var remarks: [RouteObject.Remark] = []

    init(isGRPC: Bool) { self.isGRPC = isGRPC }

    private enum PathKind: String, CaseIterable {
        case exact = "Exact"
        case prefix = "PathPrefix"
        case expression = "RegularExpression"
    }

    private enum ValueKind: String, CaseIterable {
        case exact = "Exact"
        case expression = "RegularExpression"
    }

    /// The methods of RFC 9110 and RFC 5789, as the Gateway API lists them.
    private enum Method: String, CaseIterable {
        case get = "GET", head = "HEAD", post = "POST", put = "PUT", delete = "DELETE", connect = "CONNECT", options = "OPTIONS", trace = "TRACE"
        case patch = "PATCH"
    }

    /// The matches that are understood; what is not is reported. None written: every request.
    mutating func matches(_ rule: ObjectReader) -> [RouteObject.Match] {
        rule.limit("matches", to: RouteLimits.ruleMatchesMax)
        guard !rule.elements("matches").isEmpty else { return [isGRPC ? RouteObject.Match(call: .init()) : RouteObject.Match()] }
        return rule.objects("matches").compactMap { reader in
            let faults = rule.log.faults.count
            let match = isGRPC ? grpc(reader) : http(reader)
            return rule.log.faults.count == faults ? match : nil
        }
    }

    private mutating func http(_ reader: ObjectReader) -> RouteObject.Match {
        reader.allowOnly(["path", "headers", "queryParams", "method"])
        return RouteObject.Match(
            path: reader.object("path").map(path) ?? .any, method: reader.choice("method", Method.self)?.rawValue,
            headers: fields(reader, "headers", valueBytesMax: RouteLimits.headerValueBytesMax) { lowered($0) },
            query: fields(reader, "queryParams", valueBytesMax: RouteLimits.queryValueBytesMax) { $0 })
    }

    // MARK: Paths

    private func path(_ reader: ObjectReader) -> PathPattern {
        reader.allowOnly(["type", "value"])
        let kind = reader.choice("type", PathKind.self) ?? .prefix
        let value = reader.string("value") ?? "/"
        if value.utf8.count > RouteLimits.pathBytesMax {
            reader.fault("value", "is \(value.utf8.count) bytes long", remedy: "a path has at most \(RouteLimits.pathBytesMax)")
        }
        switch kind {
        case .expression:
            Self.checkExpression(reader, "value", value)
            return .expression(value)
        case .exact:
            Self.checkPath(reader, "value", value)
            return .exact(value)
        case .prefix:
            Self.checkPath(reader, "value", value)
            let trimmed = value.utf8.reversed().drop { $0 == UInt8(ascii: "/") }
            return trimmed.isEmpty ? .any : .prefix(String(decoding: trimmed.reversed(), as: UTF8.self))
        }
    }

    /// What the Gateway API demands of a path that is compared as text (HTTPPathMatch).
    static func checkPath(_ reader: ObjectReader, _ field: String, _ value: String) {
        func wrong(_ reason: String, _ remedy: String) { reader.fault(field, "“\(value.prefix(64))” \(reason)", remedy: remedy) }
        guard value.hasPrefix("/") else { return wrong("does not begin with “/”", "write the path from its beginning") }
        if value.contains("//") { return wrong("has an empty element", "write single slashes") }
        let elements = value.split(separator: "/", omittingEmptySubsequences: false)
        if elements.contains(".") || elements.contains("..") { return wrong("has a dot element", "write the path without “.” and “..” elements") }
        if value.lowercased().contains("%2f") { return wrong("has an escaped slash", "leave out %2F") }
        if !isPathText(value) { wrong("has a character that no path has", "escape it as % and two hexadecimal digits") }
    }

    /// `pchar` and `/` of RFC 3986, 3.3.
    private static func isPathText(_ value: String) -> Bool {
        let bytes = Array(value.utf8)
        var place = 0
        while place < bytes.count {
            switch bytes[place] {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: place += 1
            case UInt8(ascii: "%"):
                guard place + 2 < bytes.count, isHexDigit(bytes[place + 1]), isHexDigit(bytes[place + 2]) else { return false }
                place += 3
            case let byte:
                guard "-/._~!$&'()*+,;=:@".utf8.contains(byte) else { return false }
                place += 1
            }
        }
        return true
    }

    private static func isHexDigit(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x46).contains(byte) || (0x61...0x66).contains(byte)
    }

    // MARK: Headers and query parameters

    private mutating func fields(_ reader: ObjectReader, _ field: String, valueBytesMax: Int, name spelled: (String) -> String) -> [FieldPattern] {
        reader.limit(field, to: RouteLimits.fieldsMax)
        var result: [FieldPattern] = []
        for item in reader.objects(field) {
            item.allowOnly(["type", "name", "value"])
            let kind = item.choice("type", ValueKind.self) ?? .exact
            guard let written = item.headerName("name"),
                let value = item.requiredString("value", remedy: "write what is compared; to ask for any value write type: RegularExpression and value: \".*\"")
            else { continue }
            if value.utf8.count > valueBytesMax { item.fault("value", "is \(value.utf8.count) bytes long", remedy: "write at most \(valueBytesMax)") }
            if kind == .expression { Self.checkExpression(item, "value", value) }
            let name = spelled(written)
            // Of several with one name the first counts (HTTPHeaderMatch, HTTPQueryParamMatch).
            if result.contains(where: { $0.name == name }) {
                remarks.append(RouteObject.Remark(line: item.line, text: "\(item.path): “\(written)” was named before; the Gateway API has only the first count"))
                continue
            }
            result.append(FieldPattern(name: name, value: kind == .exact ? .exact(value) : .expression(value)))
        }
        return result
    }

    // MARK: Calls

    private mutating func grpc(_ reader: ObjectReader) -> RouteObject.Match {
        reader.allowOnly(["method", "headers"])
        var match = reader.object("method").map(call) ?? RouteObject.Match(call: .init())
        match.headers = fields(reader, "headers", valueBytesMax: RouteLimits.headerValueBytesMax) { lowered($0) }
        return match
    }

    /// A call's path is `/service/method`.
    private func call(_ reader: ObjectReader) -> RouteObject.Match {
        reader.allowOnly(["type", "service", "method"])
        let isExpression = reader.choice("type", ValueKind.self) == .expression
        let (service, method) = (reader.nonEmpty("service"), reader.nonEmpty("method"))
        if service == nil, method == nil {
            reader.log.add(line: reader.line, field: reader.path, "names neither a service nor a method", remedy: "write one of them, or leave out method to mean every call")
        }
        for (field, text) in [("service", service), ("method", method)] {
            guard let text else { continue }
            if text.utf8.count > RouteLimits.pathBytesMax { reader.fault(field, "is \(text.utf8.count) bytes long", remedy: "write at most \(RouteLimits.pathBytesMax)") }
            if isExpression {
                Self.checkExpression(reader, field, text)
            } else if !Self.isName(text, withDots: field == "service") {
                reader.fault(field, "“\(text.prefix(64))” is no gRPC \(field)", remedy: field == "service" ? "write package.Service" : "write the method's name")
            }
        }
        // Protocol buffers write a whole name with a dot in front; a path has none.
        let whole = isExpression ? service : service.map { $0.hasPrefix(".") ? String($0.dropFirst()) : $0 }
        let counts = RouteObject.Match.Call(isExpression: isExpression, serviceCount: whole?.utf8.count ?? 0, methodCount: method?.utf8.count ?? 0)
        if isExpression {
            let path = "/(\(service ?? "[^/]+"))/(\(method ?? "[^/]+"))"
            // Each half may be small enough and both together too large.
            if reader.log.faults.isEmpty { Self.checkExpression(reader, service == nil ? "method" : "service", path) }
            return RouteObject.Match(path: .expression(path), call: counts)
        }
        switch (whole, method) {
        case (let service?, let method?): return RouteObject.Match(path: .exact("/\(service)/\(method)"), call: counts)
        case (let service?, nil): return RouteObject.Match(path: .prefix("/\(service)"), call: counts)
        case (nil, let method?): return RouteObject.Match(path: .expression("/[^/]+/\(method)"), call: counts)
        case (nil, nil): return RouteObject.Match(call: counts)
        }
    }

    /// Identifiers of protocol buffers, a service's joined by dots.
    private static func isName(_ text: String, withDots: Bool) -> Bool {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        let names = withDots && parts.count > 1 && parts[0].isEmpty ? parts.dropFirst() : parts[...]
        return (withDots || names.count == 1)
            && names.allSatisfy { name in
                guard let first = name.utf8.first, !(0x30...0x39).contains(first) else { return false }
                return name.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0) || $0 == UInt8(ascii: "_") }
            }
    }

    // MARK: Expressions

    private static func checkExpression(_ reader: ObjectReader, _ field: String, _ text: String) {
        do throws(ExpressionFault) {
            _ = try Expression.compile(text)
        } catch {
            reader.fault(
                field, "“\(text.prefix(64))” is no expression that runs in linear time: \(error)",
                remedy: "write it in RE2's syntax, for the whole text, at most \(Expression.bytesMax) bytes")
        }
    }
}

/// ASCII letters in lower case, as names of header fields are compared.
func lowered(_ text: String) -> String { String(decoding: text.utf8.map { $0 &- 0x41 < 26 ? $0 | 0x20 : $0 }, as: UTF8.self) }

extension ObjectReader {
    /// A name of a header field (`token` of RFC 9110, 5.6.2) as it was written; nil, with a fault, when it is none.
    func headerName(_ field: String) -> String? {
        guard let name = requiredString(field, remedy: "write the name of a header") else { return nil }
        guard Self.isToken(name), name.utf8.count <= RouteLimits.headerNameBytesMax else {
            fault(field, "“\(name.prefix(64))” is no name of a header", remedy: "use letters, digits and “-”, at most \(RouteLimits.headerNameBytesMax)")
            return nil
        }
        return name
    }

    static func isToken(_ text: String) -> Bool {
        !text.isEmpty
            && text.utf8.allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
                default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
                }
            }
    }
}
