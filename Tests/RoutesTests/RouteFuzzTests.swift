import MeshModel
import Routing
import Testing

/// The engine against a plain reading of the same rules, on requests that nobody would think of.
@Suite struct RouteFuzzTests {
    // MARK: A plain reading

    /// RFC 3986, 6.2.2, done step by step on text: written without a look at the engine.
    private static func normal(_ path: String) -> String {
        var decoded: [UInt8] = []
        var rest = Array(path.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%"), rest.count >= 2, rest.prefix(2).allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }),
                let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16)
            {
                rest = rest.dropFirst(2)
                let isUnreserved = value < 0x80 && (Character(Unicode.Scalar(value)).isLetter || Character(Unicode.Scalar(value)).isNumber || "-._~".utf8.contains(value))
                let digits = String(value, radix: 16, uppercase: true)
                // “%4%61” is no “%4a”.
                let completes = Character(Unicode.Scalar(value)).isHexDigit && String(decoding: decoded, as: UTF8.self).contains(/%[0-9A-Fa-f]?$/)
                decoded += isUnreserved && !completes ? [value] : Array("%\(value < 16 ? "0" : "")\(digits)".utf8)
            } else {
                decoded.append(byte)
            }
        }
        // 5.2.4, remove_dot_segments.
        var input = String(decoding: decoded, as: UTF8.self)
        var output = ""
        while !input.isEmpty {
            if input.hasPrefix("/./") {
                input.removeFirst(2)
            } else if input == "/." {
                input = "/"
            } else if input.hasPrefix("/../") || input == "/.." {
                input = input == "/.." ? "/" : String(input.dropFirst(3))
                output = output.lastIndex(of: "/").map { String(output[..<$0]) } ?? ""
            } else {
                let end = input.dropFirst().firstIndex(of: "/") ?? input.endIndex
                output += input[..<end]
                input = String(input[end...])
            }
        }
        return output
    }

    private static let pieces = [
        "/", "/", "/", "a", "b", "A", ".", "..", "%2e", "%2E", "%61", "%2F", "%2f", "%", "%4", "%zz", "%25", ";", "~", "%7e", "%c3%a9", "//", "\\", "c/d", "%00", "*", "-",
    ]

    @Test(arguments: 1...6) func normalPathsAreThoseOfTheRFC(seed: UInt64) {
        var random = TestRandom(state: seed &* 31_337)
        var changed = 0
        for _ in 0..<20_000 {
            let path = "/" + (0..<Int.random(in: 0...9, using: &random)).map { _ in Self.pieces.randomElement(using: &random)! }.joined()
            let expected = Self.normal(path)
            let (found, isNormal) = normalised(path)
            #expect(found == expected, "\(path)")
            #expect(!isNormal || found == path, "\(path) was taken for normal")
            #expect(normalised(found).0 == found, "\(path): twice is once")
            if found != path { changed += 1 }
        }
        #expect(changed > 1_000)
    }

    private func normalised(_ path: String) -> (String, Bool) {
        withBytes(path) { path in
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, path.count), alignment: 1)
            defer { memory.deallocate() }
            let count = PathForm.normalise(path, into: memory)
            return (string(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(memory)[..<count])), PathForm(path).isNormal)
        }
    }

    /// Any bytes at all: nothing is written beyond the path's own length.
    @Test(arguments: 1...4) func anyBytesAreAPath(seed: UInt64) {
        var random = TestRandom(state: seed &* 99_991)
        for _ in 0..<20_000 {
            let bytes = (0..<Int.random(in: 0...40, using: &random)).map { _ in Bool.random(using: &random) ? "/.%2fe".utf8.randomElement(using: &random)! : UInt8.random(in: 0...255, using: &random) }
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count + 8, alignment: 8)
            defer { memory.deallocate() }
            memory.initializeMemory(as: UInt8.self, repeating: 0xA5)
            let count = bytes.withUnsafeBytes { PathForm.normalise($0, into: UnsafeMutableRawBufferPointer(rebasing: memory[..<bytes.count])) }
            #expect(count <= bytes.count && memory[bytes.count...].allSatisfy { $0 == 0xA5 })
        }
    }

    // MARK: Tables

    struct Asked {
        var method: String
        var path: String
        var host: String
        var headers: [[String]]
    }

    /// The rule of the first match that holds, by a walk over all of them.
    private static func plainly(_ table: ServiceRoutes, _ asked: Asked) -> Int? {
        let parts = asked.path.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let path = normal(parts[0])
        let query = parts.count > 1 ? parts[1].split(separator: "&").map(String.init) : []
        var host = asked.host.lowercased()
        if let colon = host.lastIndex(of: ":") { host = String(host[..<colon]) }
        return table.matches.first { match in
            let hostHolds = switch match.hostname {
            case .any: true
            case .exact(let name): host == name.lowercased()
            case .suffix(let end): host.hasSuffix(end.lowercased()) && host.utf8.count > end.utf8.count
            }
            let pathHolds = switch match.path {
            case .any: true
            case .exact(let wanted): path == normal(wanted)
            case .prefix(let wanted): path == normal(wanted) || path.hasPrefix(normal(wanted) + "/")
            case .expression(let expression): path.wholeMatch(of: expression)
            }
            return hostHolds && pathHolds && (match.method ?? asked.method) == asked.method
                && match.headers.allSatisfy { pattern in
                    let values = asked.headers.filter { $0[0].lowercased() == pattern.name }.map { $0[1] }
                    return !values.isEmpty && values.joined(separator: ",").isTaken(by: pattern.value)
                }
                && match.query.allSatisfy { pattern in
                    let first = query.first { $0 == pattern.name || $0.hasPrefix(pattern.name + "=") }
                    return first.map { String($0.dropFirst(pattern.name.count + 1)).isTaken(by: pattern.value) } ?? false
                }
        }?.rule
    }

    private static let paths = ["/a", "/a/b", "/a/b/c", "/ab", "/b", "/%61/b", "/a/%2F", "/c", "/c/d/e", "/x"]
    private static let expressions = ["/a.*", "/[ab]/b", "/.*/c", "/a/(b|c)"]

    private static func match(_ random: inout TestRandom) -> RouteMatch {
        func one<Item>(_ items: [Item]) -> Item { items.randomElement(using: &random)! }
        let path: PathPattern = switch Int.random(in: 0..<8, using: &random) {
        case 0: .any
        case 1: .expression(one(expressions))
        case 2, 3, 4: .exact(one(paths))
        default: .prefix(one(paths))
        }
        let value: ValuePattern = one([.exact("1"), .exact("2"), .exact("1,2"), .expression("[12]+"), .expression(".*1")])
        return RouteMatch(
            hostname: one([.any, .any, .any, .exact("one.example"), .suffix(".example"), .exact("Two.Example")]), path: path, method: one([nil, nil, nil, "GET", "PUT"]),
            headers: one([true, false, false, false]) ? [FieldPattern(name: one(["x", "x-y"]), value: value)] : [],
            query: one([true, false, false, false]) ? [FieldPattern(name: one(["q", "r"]), value: value)] : [], rule: Int.random(in: 0..<5, using: &random))
    }

    /// Tables of every size, found by their paths or in turn: the answer is that of the plain reading.
    @Test(arguments: 1...8) func everyDecisionIsThatOfAPlainReading(seed: UInt64) throws {
        var random = TestRandom(state: seed &* 104_729)
        let scratch = RouteScratch()
        var taken = 0, asked = 0, indexed = 0
        for _ in 0..<60 {
            let rules = (0..<5).map { RouteRule(route: "r", rule: "\($0)", action: .forward([])) }
            let matches = (0..<Int.random(in: 0...30, using: &random)).map { _ in Self.match(&random) }
            let routes = ServiceRoutes(namespace: "shop", name: "cart", port: 80, matches: matches, rules: rules)
            let tables = try Stage.tables(
                MeshState(nodeName: "n", services: [Service(namespace: "shop", name: "cart", ports: [ServicePort(port: 80)])], routes: [routes]))
            guard case .service(let service) = withBytes("cart.shop", { host in tables.view.resolve(host: host, port: 80, clientNamespace: host) }) else { return }
            let table = try #require(withBytes("") { tables.view.routes(of: service, callersNamespace: $0) })
            if table.hasIndex { indexed += 1 }
            for _ in 0..<60 {
                let request = Self.request(&random)
                let expected = Self.plainly(routes, request)
                let wire = try WireRequest(method: request.method, path: request.path, host: request.host, headers: request.headers)
                let found = wire.decide(table, scratch) { $0.map { string($0.rule.rule) } }
                #expect(found == expected.map(String.init), "\(request) in \(matches), seed \(seed)")
                asked += 1
                if expected != nil { taken += 1 }
            }
            withExtendedLifetime(tables) {}
        }
        #expect(taken > asked / 10 && taken < asked && indexed > 10 && indexed < 60, "\(taken) of \(asked), \(indexed) indexed")
    }

    private static func request(_ random: inout TestRandom) -> Asked {
        func one<Item>(_ items: [Item]) -> Item { items.randomElement(using: &random)! }
        let ends = ["", "", "/", "/b", "/../a", "/./b", "/%62", "//c", "x"]
        let queries = ["", "", "?", "?q=1", "?q=2&r=1", "?r", "?q=1&q=2", "?x=1&r=11"]
        let headers: [[[String]]] = [[], [], [["x", "1"]], [["X", "2"]], [["x", "1"], ["X", "2"]], [["x-y", "1"]], [["x-y", "21"], ["x", "11"]]]
        return Asked(
            method: one(["GET", "PUT", "POST"]), path: one(paths + ["/"]) + one(ends) + one(queries),
            host: one(["one.example", "ONE.example:80", "two.example", "example", ".example", "a.b.example", "other"]), headers: one(headers))
    }
}

extension String {
    fileprivate func isTaken(by pattern: ValuePattern) -> Bool {
        switch pattern {
        case .exact(let value): self == value
        case .expression(let expression): wholeMatch(of: expression)
        }
    }

    /// By another engine than ours.
    fileprivate func wholeMatch(of expression: String) -> Bool {
        guard let regex = try? Regex(expression) else { return false }
        return wholeMatch(of: regex) != nil
    }
}
