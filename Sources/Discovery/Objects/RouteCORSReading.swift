import MeshModel

/// Reads a CORS filter (GEP-1767).
enum RouteCORSReading {
    private static let defaultMaxAgeSeconds = 5

    static func cors(_ reader: ObjectReader) -> CORSRule {
        reader.allowOnly(["allowOrigins", "allowCredentials", "allowMethods", "allowHeaders", "exposeHeaders", "maxAge"])
        return CORSRule(
            origins: items(reader, "allowOrigins", remedy: "write https://shop.example.com, https://*.example.com or *") { isOrigin($0) }.map { lowered($0) },
            methods: items(reader, "allowMethods", remedy: "write a method in upper case, or *") { text in
                ObjectReader.isToken(text) && !text.utf8.contains { (0x61...0x7A).contains($0) }
            },
            headers: items(reader, "allowHeaders", remedy: "write the name of a header, or *") { ObjectReader.isToken($0) },
            exposedHeaders: items(reader, "exposeHeaders", remedy: "write the name of a header, or *") { ObjectReader.isToken($0) },
            allowsCredentials: reader.boolean("allowCredentials") ?? false,
            maxAgeSeconds: UInt32(reader.integer("maxAge", in: 1...Int(Int32.max), called: "a number of seconds") ?? defaultMaxAgeSeconds))
    }

    private static func items(_ reader: ObjectReader, _ field: String, remedy: String, _ isRight: (String) -> Bool) -> [String] {
        reader.limit(field, to: RouteLimits.corsItemsMax)
        let items = reader.strings(field)
        if items.count > 1, items.contains(where: { $0.text == "*" }) {
            reader.fault(field, "has “*” beside other items", remedy: "write “*” alone, or leave it out")
        }
        for (text, path, line) in items where text != "*" && !isRight(text) {
            reader.log.add(line: line, field: path, "“\(text.prefix(64))” is not what stands here", remedy: remedy)
        }
        return items.map(\.text)
    }

    /// `scheme://host[:port]`; the host's beginning may be `*`. Browsers write origins in lower case (URL standard, 4.7).
    private static func isOrigin(_ written: String) -> Bool {
        let text = lowered(written)
        guard let scheme = ["http://", "https://"].first(where: text.hasPrefix) else { return false }
        var host = text.dropFirst(scheme.count)
        if let colon = host.lastIndex(of: ":"), !host.hasSuffix("]") {
            guard let port = UInt16(host[host.index(after: colon)...]), port > 0 else { return false }
            host = host[..<colon]
        }
        if host == "*" { return true }
        if host.hasPrefix("*.") { host = host.dropFirst(2) }
        if host.hasPrefix("["), host.hasSuffix("]") { return IPAddress(String(host.dropFirst().dropLast())) != nil }
        return ObjectMetadata.isDNSName(String(host))
    }
}
