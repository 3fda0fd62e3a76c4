// The patterns of an AccessPolicy's rules, read with the care that a forgotten or misread condition would widen the rule.
enum AccessPatterns {
    static func source(_ reader: ObjectReader, namespace: String, isMeshWide: Bool) -> AccessPolicyObject.Source {
        reader.allowOnly(["identities", "namespaces", "serviceAccounts", "unauthenticated"])
        var source = AccessPolicyObject.Source()
        source.identities = patterns(reader, "identities") { pattern, text in
            if pattern.comparison == .exact { return WorkloadIdentity(text) == nil ? WorkloadIdentity.example : nil }
            return pattern.comparison == .prefix && !"spiffe://".hasPrefix(pattern.text) && !pattern.text.hasPrefix("spiffe://") ? WorkloadIdentity.example : nil
        }
        source.namespaces = patterns(reader, "namespaces") { pattern, text in
            pattern.comparison == .exact && !ObjectMetadata.isDNSName(text) ? "write the name of a namespace" : nil
        }
        source.serviceAccounts = accounts(reader, namespace: namespace, isMeshWide: isMeshWide)
        if reader.has("unauthenticated") {
            source.unauthenticated = reader.boolean("unauthenticated") ?? false
            if !source.unauthenticated { reader.fault("unauthenticated", "is not true", remedy: "write true, or leave it out") }
        }
        let isNamed = !(source.identities.isEmpty && source.namespaces.isEmpty && source.serviceAccounts.isEmpty)
        if source.unauthenticated, isNamed {
            reader.fault("unauthenticated", "contradicts the callers named beside it", remedy: "write it as an item of its own")
        }
        let names = ["identities", "namespaces", "serviceAccounts", "unauthenticated"]
        if !names.contains(where: reader.has) {
            reader.log.add(line: reader.line, field: reader.path, "names no caller", remedy: "write callers, or leave out from to mean any")
        }
        return source
    }

    private static func accounts(_ reader: ObjectReader, namespace: String, isMeshWide: Bool) -> [TextPattern] {
        patterns(reader, "serviceAccounts") { pattern, text in
            let parts = text.split(separator: "/", omittingEmptySubsequences: false)
            guard parts.count <= 2, parts.allSatisfy({ !$0.isEmpty }) else { return "write namespace/name, or name for one of this namespace" }
            return isMeshWide && parts.count == 1 && pattern.comparison != .any ? "write namespace/name: a mesh-wide policy has no namespace of its own" : nil
        }.map { pattern in
            // A bare name is one of the policy's own namespace.
            guard !isMeshWide, pattern.comparison != .any, !pattern.text.contains("/") else { return pattern }
            return pattern.comparison == .suffix ? pattern : TextPattern(pattern.comparison, "\(namespace)/\(pattern.text)")
        }
    }

    static func ports(_ reader: ObjectReader) -> [UInt16] {
        reader.elements("ports").compactMap { element in
            if case .scalar(let scalar) = element.node, case .integer(let number) = YAMLScalar(scalar), let port = UInt16(exactly: number), port > 0 { return port }
            reader.log.add(line: element.node.mark?.line ?? reader.line, field: element.path, "is not a port", remedy: "write the number of a port of the pod, from 1 to 65535, without quotes")
            return nil
        }
    }

    static func request(_ reader: ObjectReader) -> AccessPolicyObject.Request {
        reader.allowOnly(["methods", "paths", "hosts", "headers"])
        var request = AccessPolicyObject.Request()
        for (text, path, line) in list(reader, "methods") {
            // Methods are case-sensitive (RFC 9110, 9.1), and those in use are upper case.
            if !text.isEmpty, text.utf8.allSatisfy({ isTokenByte($0) && !(0x61...0x7A).contains($0) }), text != "*" {
                request.methods.append(text)
            } else {
                reader.log.add(line: line, field: path, "“\(text.prefix(64))” is no method", remedy: "write it in upper case, such as GET; leave out methods to mean any")
            }
        }
        request.paths = patterns(reader, "paths") { pattern, _ in pathRemedy(pattern) }
        request.hosts = patterns(reader, "hosts") { pattern, _ in
            pattern.text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F } && !pattern.text.contains("/") && !isWithPort(pattern.text)
                ? nil : "write a host name without a port, such as cart.shop.svc.cluster.local or *.example.com"
        }.map { TextPattern($0.comparison, lowered($0.text)) }
        for header in reader.objects("headers") {
            header.allowOnly(["name", "value"])
            guard let name = header.requiredString("name", remedy: "write the header's name") else { continue }
            guard name.utf8.allSatisfy(isTokenByte), name.utf8.count <= 256 else {
                header.fault("name", "“\(name.prefix(64))” is no header's name", remedy: "write a name such as x-role; the method, path and host have lists of their own")
                continue
            }
            if lowered(name) == "host" { header.fault("name", "the host is not asked as a header", remedy: "write it under hosts") }
            let written = header.has("value") ? header.string("value") : "*"
            guard let written else { continue }
            guard let value = TextPattern(written), written.utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7F }) else {
                header.fault("value", "“\(written.prefix(64))” is no pattern", remedy: "write a value, value*, *value, or leave it out to mean any")
                continue
            }
            request.headers.append(AccessPolicyObject.Header(name: lowered(name), value: value))
        }
        if !["methods", "paths", "hosts", "headers"].contains(where: reader.has) {
            reader.log.add(line: reader.line, field: reader.path, "asks nothing of the request", remedy: "write methods, paths, hosts or headers, or leave out http")
        }
        return request
    }

    /// Paths are compared decoded, and what is ambiguous is refused before; a pattern that could never match is a mistake.
    private static func pathRemedy(_ pattern: TextPattern) -> String? {
        if pattern.comparison != .suffix, pattern.comparison != .any, !pattern.text.hasPrefix("/") { return "begin it with “/”, or with “*” to compare its end" }
        if pattern.text.contains("%") { return "write the path decoded: “/a b”, not “/a%20b”" }
        if pattern.text.contains("?") || pattern.text.contains("#") { return "leave out the query; it is not compared" }
        if pattern.text.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F || $0 == UInt8(ascii: "\\") || $0 == UInt8(ascii: ";") }) {
            return "leave out “\\”, “;” and control characters; paths with them are always refused"
        }
        let segments = pattern.text.split(separator: "/", omittingEmptySubsequences: false)
        let inner = segments.dropFirst().dropLast()
        if inner.contains("") || inner.contains(".") || inner.contains("..") || pattern.comparison == .exact && [".", ".."].contains(segments.last ?? "") {
            return "leave out empty and dot segments; paths with them are always refused"
        }
        return nil
    }

    // MARK: Lists

    private static func patterns(_ reader: ObjectReader, _ field: String, remedy: (TextPattern, String) -> String?) -> [TextPattern] {
        list(reader, field).compactMap { text, path, line in
            guard let pattern = TextPattern(text), text.utf8.count <= DiscoveryLimits.patternBytesMax else {
                reader.log.add(line: line, field: path, "“\(text.prefix(64))” is no pattern", remedy: "write the whole text, text*, *text or *")
                return nil
            }
            if let remedy = remedy(pattern, text) {
                reader.log.add(line: line, field: path, "“\(text.prefix(64))” would never match", remedy: remedy)
                return nil
            }
            return pattern
        }
    }

    private static func list(_ reader: ObjectReader, _ field: String) -> [(text: String, path: String, line: Int)] {
        let items = reader.strings(field)
        if reader.has(field), reader.elements(field).isEmpty { reader.fault(field, "is empty", remedy: "write what is meant, or leave it out to mean any") }
        if items.count > DiscoveryLimits.patternsMax {
            reader.fault(field, "lists \(items.count) items", remedy: "list at most \(DiscoveryLimits.patternsMax)")
            return []
        }
        return items
    }

    private static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }

    private static func isWithPort(_ host: String) -> Bool {
        guard let colon = host.lastIndex(of: ":"), !host.hasSuffix("]") else { return false }
        return host[host.index(after: colon)...].allSatisfy(\.isNumber)
    }

    private static func lowered(_ text: String) -> String { String(decoding: text.utf8.map { $0 &- 0x41 < 26 ? $0 | 0x20 : $0 }, as: UTF8.self) }
}

extension ObjectReader {
    /// Reports every field that is none of these.
    func allowOnly(_ known: [String]) {
        for name in names where !known.contains(name) {
            fault(name, "is no field of this kind", remedy: "remove it, or write one of \(known.joined(separator: ", "))")
        }
    }
}
