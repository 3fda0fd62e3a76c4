import MeshModel

/// Reads what a rule does with its requests and their replies (`filters`), and where it sends them (`backendRefs`).
struct RouteFilterReading {
    let isGRPC: Bool
    private(set) var remarks: [RouteObject.Remark] = []
    private var replacesPrefix = false

    init(isGRPC: Bool) { self.isGRPC = isGRPC }

    private enum Kind: String, CaseIterable {
        case requestHeaders = "RequestHeaderModifier"
        case responseHeaders = "ResponseHeaderModifier"
        case mirror = "RequestMirror"
        case redirect = "RequestRedirect"
        case rewrite = "URLRewrite"
        case cors = "CORS"
        case `extension` = "ExtensionRef"

        /// The field that holds what the filter does.
        var field: String {
            switch self {
            case .requestHeaders: "requestHeaderModifier"
            case .responseHeaders: "responseHeaderModifier"
            case .mirror: "requestMirror"
            case .redirect: "requestRedirect"
            case .rewrite: "urlRewrite"
            case .cors: "cors"
            case .extension: "extensionRef"
            }
        }

        var mayRepeat: Bool { self == .mirror || self == .extension }
        var isForGRPC: Bool { self != .redirect && self != .rewrite && self != .cors }
        /// Also for one of several backends.
        var isForBackends: Bool { self == .requestHeaders || self == .responseHeaders }
    }

    private enum Scheme: String, CaseIterable { case http, https }

    private enum PathChange: String, CaseIterable {
        case full = "ReplaceFullPath"
        case prefix = "ReplacePrefixMatch"
    }

    // MARK: Filters of a rule

    mutating func read(_ rule: ObjectReader, into result: inout RouteObject.Rule) {
        for (kind, reader) in filters(rule, allowed: { !isGRPC || $0.isForGRPC }, where: isGRPC ? "in a GRPCRoute" : "in an HTTPRoute") {
            switch kind {
            case .requestHeaders: result.requestHeaders = edits(reader)
            case .responseHeaders: result.responseHeaders = edits(reader)
            case .mirror: if let mirror = mirror(reader) { result.mirrors.append(mirror) }
            case .redirect: result.redirect = redirect(reader)
            case .rewrite: result.rewrite = rewrite(reader)
            case .cors: result.cors = RouteCORSReading.cors(reader)
            case .extension:
                reader.allowOnly(["group", "kind", "name"])
                if let name = reader.requiredString("name", remedy: "name the object") {
                    result.extensions.append(
                        RouteObject.Reference(
                            group: reader.string("group") ?? "", kind: reader.string("kind") ?? "", name: name,
                            place: RouteObject.Place(field: reader.path, line: reader.line)))
                }
            }
        }
    }

    /// The known filters of a list with the mapping that says what each does.
    private func filters(_ owner: ObjectReader, allowed: (Kind) -> Bool, where place: String) -> [(Kind, ObjectReader)] {
        owner.limit("filters", to: RouteLimits.filtersMax)
        var seen: Set<Kind> = []
        return owner.objects("filters").compactMap { reader in
            guard let type = reader.requiredString("type", remedy: "write what the filter does, such as RequestHeaderModifier") else { return nil }
            let known = Kind.allCases.filter(allowed).map { "“\($0.rawValue)”" }.joined(separator: ", ")
            guard let kind = Kind(rawValue: type), allowed(kind) else {
                reader.fault("type", "“\(type.prefix(64))” is no filter that Weft has \(place)", remedy: "write one of \(known)")
                return nil
            }
            reader.allowOnly(["type", kind.field])
            if !seen.insert(kind).inserted, !kind.mayRepeat {
                reader.fault("type", "“\(type)” stands in this list already", remedy: "write it once")
                return nil
            }
            return reader.requiredObject(kind.field).map { (kind, $0) }
        }
    }

    /// A prefix can only be replaced where one, and one alone, is matched; what is not written is the prefix `/`.
    func checkPrefix(_ rule: ObjectReader, _ result: RouteObject.Rule) {
        guard replacesPrefix else { return }
        let isPrefix = result.matches.allSatisfy { match in
            switch match.path {
            case .any, .prefix: true
            case .exact, .expression: false
            }
        }
        if !isPrefix || rule.elements("matches").count > 1 {
            rule.fault("matches", "do not say which prefix ReplacePrefixMatch replaces", remedy: "write one match, with a path of type PathPrefix")
        }
    }

    /// What filters of one rule cannot do together.
    func checkTogether(_ rule: ObjectReader, _ result: RouteObject.Rule) {
        if result.redirect != nil, result.rewrite != nil {
            rule.fault("filters", "RequestRedirect and URLRewrite contradict each other", remedy: "write one of them")
        }
        if result.redirect != nil, !result.backends.isEmpty {
            rule.fault("backendRefs", "stand beside a RequestRedirect, which answers every request itself", remedy: "remove them, or the filter")
        }
    }

    // MARK: Header fields

    /// Fields that frame a message or belong to one connection (RFC 9110, 7.6.1), and what Weft itself says of the caller.
    private static let reserved: Set<String> = [
        "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te", "trailer", "content-length", "expect", "http2-settings",
        "sec-websocket-key", "sec-websocket-accept", "x-forwarded-client-cert",
    ]

    private mutating func edits(_ reader: ObjectReader) -> FieldEdits {
        reader.allowOnly(["set", "add", "remove"])
        var edits = FieldEdits()
        // By name, the list it stands in.
        var places: [String: String] = [:]
        func place(_ name: String, _ list: String, _ path: String, _ line: Int) -> Bool {
            if name == "host" || name.hasPrefix("x-weft-") || Self.reserved.contains(name) {
                reader.log.add(
                    line: line, field: path, "“\(name)” is not for routes to change",
                    remedy: name == "host" ? "write a URLRewrite filter with a hostname" : "choose another header")
                return false
            }
            guard let other = places.updateValue(list, forKey: name) else { return true }
            if other == list {
                remarks.append(RouteObject.Remark(line: line, text: "\(path): “\(name)” was named before; the Gateway API has only the first count"))
            } else {
                reader.log.add(line: line, field: path, "“\(name)” is under \(other) too", remedy: "write one change for each header")
            }
            return false
        }
        for list in ["set", "add"] {
            reader.limit(list, to: RouteLimits.fieldsMax)
            for item in reader.objects(list) {
                item.allowOnly(["name", "value"])
                guard let written = item.headerName("name"), let value = item.requiredString("value", remedy: "write the header's value") else { continue }
                guard Self.isFieldValue(value) else {
                    item.fault("value", "“\(value.prefix(64))” can be the value of no header", remedy: "write printable ASCII, with single spaces inside, at most \(RouteLimits.headerValueBytesMax)")
                    continue
                }
                guard place(lowered(written), list, item.path, item.line) else { continue }
                let field = FieldEdits.Field(name: lowered(written), value: value)
                if list == "set" { edits.set.append(field) } else { edits.add.append(field) }
            }
        }
        reader.limit("remove", to: RouteLimits.fieldsMax)
        for (text, path, line) in reader.strings("remove") {
            guard ObjectReader.isToken(text), text.utf8.count <= RouteLimits.headerNameBytesMax else {
                reader.log.add(line: line, field: path, "“\(text.prefix(64))” is no name of a header", remedy: "use letters, digits and “-”")
                continue
            }
            if place(lowered(text), "remove", path, line) { edits.remove.append(lowered(text)) }
        }
        return edits
    }

    /// `field-value` of RFC 9110, 5.5, in ASCII.
    private static func isFieldValue(_ value: String) -> Bool {
        value.utf8.count <= RouteLimits.headerValueBytesMax && value.utf8.first != 0x20 && value.utf8.last != 0x20
            && value.utf8.allSatisfy { (0x20...0x7E).contains($0) || $0 == 0x09 }
    }

    // MARK: Redirects and rewrites

    private mutating func redirect(_ reader: ObjectReader) -> RequestRedirect {
        reader.allowOnly(["scheme", "hostname", "path", "port", "statusCode"])
        var status = 302
        if let written = reader.integer("statusCode", in: 300...399, called: "a status of a redirect") {
            status = written
            if ![301, 302, 303, 307, 308].contains(written) {
                reader.fault("statusCode", "\(written) is no status that Weft redirects with", remedy: "write 301, 302, 303, 307 or 308")
            }
        }
        return RequestRedirect(
            scheme: reader.choice("scheme", Scheme.self)?.rawValue, hostname: hostname(reader), path: path(reader), port: reader.port("port"),
            status: UInt16(status))
    }

    private mutating func rewrite(_ reader: ObjectReader) -> URLRewrite {
        reader.allowOnly(["hostname", "path"])
        return URLRewrite(hostname: hostname(reader), path: path(reader))
    }

    private func hostname(_ reader: ObjectReader) -> String? {
        guard let name = reader.nonEmpty("hostname") else { return nil }
        guard ObjectMetadata.isDNSName(name), IPAddress(name) == nil else {
            reader.fault("hostname", "“\(name.prefix(64))” is no host name", remedy: "write a name in lower case such as cart.example.com, without a port")
            return nil
        }
        return name
    }

    private mutating func path(_ owner: ObjectReader) -> PathEdit? {
        guard let reader = owner.object("path") else { return nil }
        reader.allowOnly(["type", "replaceFullPath", "replacePrefixMatch"])
        guard reader.requiredString("type", remedy: "write ReplaceFullPath or ReplacePrefixMatch") != nil, let change = reader.choice("type", PathChange.self)
        else { return nil }
        let (field, other) = change == .full ? ("replaceFullPath", "replacePrefixMatch") : ("replacePrefixMatch", "replaceFullPath")
        if reader.has(other) { reader.fault(other, "stands beside type: \(change.rawValue)", remedy: "remove it, or change the type") }
        if change == .prefix { replacesPrefix = true }
        guard reader.has(field), let text = reader.string(field) else {
            if !reader.has(field) { reader.fault(field, "is missing", remedy: "write the new path") }
            return nil
        }
        if text.utf8.count > RouteLimits.pathBytesMax { reader.fault(field, "is \(text.utf8.count) bytes long", remedy: "a path has at most \(RouteLimits.pathBytesMax)") }
        // An empty prefix is the root.
        if !(change == .prefix && text.isEmpty) { RouteMatchReading.checkPath(reader, field, text) }
        return change == .full ? .full(text) : .prefix(text)
    }

    // MARK: Backends

    mutating func backends(_ rule: ObjectReader) -> [RouteObject.Backend] {
        rule.limit("backendRefs", to: RouteLimits.backendsMax)
        return rule.objects("backendRefs").compactMap { reader in
            reader.allowOnly(["group", "kind", "namespace", "name", "port", "weight", "filters"])
            guard let reference = reference(reader) else { return nil }
            let weight = reader.integer("weight", in: 0...RouteLimits.weightMax, called: "a weight") ?? 1
            var backend = RouteObject.Backend(reference: reference, weight: UInt32(weight))
            for (kind, filter) in filters(reader, allowed: \.isForBackends, where: "for one of several backends") {
                if kind == .requestHeaders { backend.requestHeaders = edits(filter) } else { backend.responseHeaders = edits(filter) }
            }
            return backend
        }
    }

    private func mirror(_ reader: ObjectReader) -> RouteObject.Mirror? {
        reader.allowOnly(["backendRef", "percent", "fraction"])
        guard let target = reader.requiredObject("backendRef") else { return nil }
        target.allowOnly(["group", "kind", "namespace", "name", "port"])
        guard let reference = reference(target) else { return nil }
        var mirror = RouteObject.Mirror(reference: reference)
        if let percent = reader.integer("percent", in: 0...100, called: "a percentage") { mirror.numerator = UInt32(percent) }
        if let fraction = reader.object("fraction") {
            fraction.allowOnly(["numerator", "denominator"])
            if reader.has("percent") { reader.fault("fraction", "stands beside percent", remedy: "write one of them") }
            if !fraction.has("numerator") { fraction.fault("numerator", "is missing", remedy: "write how many requests of the denominator are copied") }
            let numerator = fraction.integer("numerator", in: 0...Int(Int32.max), called: "a numerator") ?? 0
            let denominator = fraction.integer("denominator", in: 1...Int(Int32.max), called: "a denominator") ?? 100
            if numerator > denominator { fraction.fault("numerator", "\(numerator) is more than the denominator, \(denominator)", remedy: "write at most \(denominator)") }
            (mirror.numerator, mirror.denominator) = (UInt32(numerator), UInt32(denominator))
        }
        return mirror
    }

    private func reference(_ reader: ObjectReader) -> RouteObject.Reference? {
        let group = reader.string("group") ?? ""
        let kind = reader.nonEmpty("kind") ?? "Service"
        let port = reader.port("port")
        guard let name = reader.requiredString("name", remedy: "write the name of a Service") else { return nil }
        if group.isEmpty, kind == "Service", !reader.has("port") { reader.fault("port", "is missing", remedy: "write the port of the Service") }
        return RouteObject.Reference(
            group: group, kind: kind, namespace: reader.nonEmpty("namespace"), name: name, port: port,
            place: RouteObject.Place(field: reader.path, line: reader.line))
    }
}
