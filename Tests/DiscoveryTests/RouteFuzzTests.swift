@testable import Discovery
import MeshModel
import Testing

/// Whatever stands in a manifest: a condition, a fault or a route that can be used, never a crash.
@Suite struct RouteFuzzTests {
    /// SplitMix64: the same words from the same seed.
    private struct Chance {
        var state: UInt64

        mutating func next(below count: Int) -> Int {
            state &+= 0x9E37_79B9_7F4A_7C15
            var word = state
            word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
            word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
            return Int((word ^ (word >> 31)) % UInt64(count))
        }

        mutating func pick<Item>(_ items: [Item]) -> Item { items[next(below: items.count)] }
    }

    private static let words = [
        "group", "kind", "name", "namespace", "port", "sectionName", "weight", "matches", "filters", "backendRefs", "path", "type", "value", "method", "headers",
        "queryParams", "service", "requestHeaderModifier", "responseHeaderModifier", "requestRedirect", "urlRewrite", "requestMirror", "cors", "extensionRef",
        "set", "add", "remove", "scheme", "hostname", "statusCode", "replaceFullPath", "replacePrefixMatch", "backendRef", "percent", "fraction", "numerator",
        "denominator", "allowOrigins", "allowMethods", "allowHeaders", "exposeHeaders", "allowCredentials", "maxAge", "timeouts", "request", "backendRequest", "retry",
        "codes", "attempts", "backoff", "sessionPersistence", "sessionName", "absoluteTimeout", "idleTimeout", "cookieConfig", "lifetimeType", "from", "to",
        "parentRefs", "hostnames", "rules", "spec", "metadata", "creationTimestamp", "generation",
    ]
    private static let scalars = [
        "Service", "cart", "pay", "shop", "bank", "80", "-1", "70000", "1e400", "99999999999999999999", "true", "~", "\"\"", "\"/\"", "/a", "/a%", "\"/%zz\"", "Exact", "PathPrefix",
        "RegularExpression", "RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite", "RequestMirror", "CORS", "ExtensionRef", "GET", "\"(\"", "\"[a-\"",
        "\"(a*)*b\"", "\"\\\\1\"", "10s", "1h1h1h1h1h", "99999h99999h", "ms", "*", "\"*\"", "\"*.\"", "\"*.a\"", "x-a", "\"\\0\"", "\"é\"", "Cookie", "Header", "Permanent", "503",
        "gateway.networking.k8s.io", "HTTPRoute", "\"https://*\"", "\"https://[::1]:1\"", "\"http://a:\"", "!!binary aGk=", "2026-01-01T00:00:00Z", ".", "..", "\"\\uD83D\\uDE00\"",
    ]

    private static func value(_ chance: inout Chance, depth: Int) -> String {
        switch chance.next(below: depth > 5 ? 1 : 5) {
        case 1, 2: return "{" + (0..<chance.next(below: 5)).map { _ in "\(chance.pick(words)): \(value(&chance, depth: depth + 1))" }.joined(separator: ", ") + "}"
        case 3: return "[" + (0..<chance.next(below: 4)).map { _ in value(&chance, depth: depth + 1) }.joined(separator: ", ") + "]"
        default: return chance.pick(scalars)
        }
    }

    /// Objects grown from the words of the API: most are wrong somewhere, some are right.
    @Test(arguments: ["HTTPRoute", "GRPCRoute", "ReferenceGrant"])
    func grownObjects(_ kind: String) {
        var chance = Chance(state: 0xC0FFEE)
        for _ in 0..<1_500 {
            let spec = Self.value(&chance, depth: 0)
            check("apiVersion: gateway.networking.k8s.io/v1\nkind: \(kind)\nmetadata: {name: r, namespace: shop}\nspec: \(spec)")
        }
    }

    private static let whole = """
        apiVersion: gateway.networking.k8s.io/v1
        kind: HTTPRoute
        metadata: {name: r, namespace: shop, creationTimestamp: "2026-01-01T00:00:00Z", generation: 3}
        spec:
          parentRefs: [{group: "", kind: Service, name: cart, port: 80}, {group: "", kind: Service, name: ledger, namespace: bank, sectionName: http}]
          hostnames: ["*.example.com", cart.example.com]
          rules:
          - name: one
            matches:
            - {path: {type: PathPrefix, value: /old}, method: GET, headers: [{type: RegularExpression, name: x-a, value: "a+"}], queryParams: [{name: q, value: v}]}
            filters:
            - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: "1"}], add: [{name: x-b, value: "2"}], remove: [X-C]}}
            - {type: URLRewrite, urlRewrite: {hostname: pay.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}
            - {type: RequestMirror, requestMirror: {backendRef: {name: pay, port: 80}, fraction: {numerator: 1, denominator: 3}}}
            - {type: CORS, cors: {allowOrigins: ["https://*.example.com"], allowMethods: [GET], maxAge: 60}}
            backendRefs: [{name: pay, port: 80, weight: 3}, {name: ledger, namespace: bank, port: 80}]
            timeouts: {request: 10s, backendRequest: 1s}
            retry: {codes: [503], attempts: 2, backoff: 10ms}
            sessionPersistence: {sessionName: s, absoluteTimeout: 1h, idleTimeout: 1m, type: Cookie, cookieConfig: {lifetimeType: Permanent}}
          - filters: [{type: RequestRedirect, requestRedirect: {scheme: https, port: 443, statusCode: 301}}]
        """

    /// A right object with bytes of it replaced, dropped or written twice.
    @Test func brokenObjects() {
        var chance = Chance(state: 0xDEFACED)
        for _ in 0..<2_000 {
            var bytes = Array(Self.whole.utf8)
            for _ in 0...chance.next(below: 4) {
                let place = chance.next(below: bytes.count)
                switch chance.next(below: 4) {
                case 0: bytes[place] = UInt8(chance.next(below: 256))
                case 1: bytes.remove(at: place)
                case 2: bytes.insert(contentsOf: bytes[place..<min(place + 1 + chance.next(below: 30), bytes.count)], at: place)
                default: bytes.replaceSubrange(place..<min(place + 1 + chance.next(below: 12), bytes.count), with: Array(chance.pick(Self.scalars).utf8))
                }
            }
            check(bytes)
        }
    }

    private func check(_ text: String) { check(Array(text.utf8)) }

    /// What is wrong is told, and what is not told is in force and holds together.
    private func check(_ bytes: [UInt8]) {
        var manifests = Manifests(nodeName: "node-a")
        let view = manifests.take(DirectoryReading(files: ["a.yaml": .bytes(Array(RouteScene.services.utf8)), "r.yaml": .bytes(bytes)]))
        #expect(!view.faults.contains { $0.reason.isEmpty || $0.remedy.isEmpty })
        for routes in view.state.routes {
            #expect(!routes.matches.contains { !routes.rules.indices.contains($0.rule) })
        }
        for status in view.routes {
            for parent in status.parents where parent.conditions.contains(where: \.isTrouble) {
                #expect(view.faults.contains { $0.object == "\(status.kind) \(status.namespace)/\(status.name)" }, "\(String(decoding: bytes, as: UTF8.self))")
            }
        }
    }
}
