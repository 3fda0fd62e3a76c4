import Foundation
import MeshModel

/// Services and routes beside those of the command line, as a test writes them: the words of `MeshModel`, in JSON.
struct RoutesFile: Decodable {
    struct Named: Decodable {
        var name: String
        var port: UInt16
        /// Of the command line's `--protocol`.
        var spoken: String?
        /// `ADDRESS:PORT`.
        var endpoints: [String]
    }
    struct Table: Decodable {
        var service: String
        var port: UInt16
        var callersNamespace: String?
        var matches: [Match]
        var rules: [Rule]
    }
    struct Match: Decodable {
        /// `.shop.test` is a suffix.
        var hostname: String?
        /// `exact:/a`, `prefix:/a`, `expression:/a.*`.
        var path: String?
        var method: String?
        /// `name`, and `exact:value` or `expression:value`.
        var headers: [[String]]?
        var query: [[String]]?
        var rule: Int
    }
    struct Rule: Decodable {
        var name: String?
        var isGRPC: Bool?
        var backends: [Backend]?
        var redirect: Redirect?
        var rewrite: Rewrite?
        var request: Edits?
        var response: Edits?
        var mirrors: [Mirror]?
        var cors: CORS?
        var requestMilliseconds: UInt32?
        var backendRequestMilliseconds: UInt32?
        var session: Session?
    }
    struct Backend: Decodable {
        /// `name:port`; nil: unresolved.
        var service: String?
        var weight: UInt32?
        var request: Edits?
        var response: Edits?
    }
    struct Edits: Decodable {
        var set: [String: String]?
        var add: [String: String]?
        var remove: [String]?
    }
    struct Path: Decodable {
        var full: String?
        var prefix: String?
    }
    struct Redirect: Decodable {
        var scheme: String?
        var hostname: String?
        var path: Path?
        var port: UInt16?
        var status: UInt16?
    }
    struct Rewrite: Decodable {
        var hostname: String?
        var path: Path?
    }
    struct Mirror: Decodable {
        var service: String?
        var numerator: UInt32?
        var denominator: UInt32?
    }
    struct CORS: Decodable {
        var origins: [String]?
        var methods: [String]?
        var headers: [String]?
        var exposedHeaders: [String]?
        var allowsCredentials: Bool?
        var maxAgeSeconds: UInt32?
    }
    struct Session: Decodable {
        var usesCookie: Bool?
        var name: String
        var absoluteTimeoutSeconds: UInt32?
        var idleTimeoutSeconds: UInt32?
        var isPermanent: Bool?
    }

    var services: [Named]?
    var routes: [Table]?

    static func read(_ path: String) throws -> RoutesFile {
        try JSONDecoder().decode(RoutesFile.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
    }

    /// All of them are in the namespace `test`.
    func join(_ state: inout MeshState) throws {
        for named in services ?? [] {
            let endpoints = try named.endpoints.map { text in
                let address = try HostOptions.address(text, of: "routes")
                return Endpoint(address: address.ip, port: address.port)
            }
            state.services.append(
                Service(namespace: "test", name: named.name, ports: [
                    ServicePort(name: "port", port: named.port, protocolHint: try HostOptions.hint(named.spoken ?? "http"), endpoints: endpoints)
                ]))
        }
        state.routes = try (routes ?? []).map { table in
            ServiceRoutes(
                namespace: "test", name: table.service, port: table.port, callersNamespace: table.callersNamespace,
                matches: try table.matches.map { try $0.value }, rules: try table.rules.enumerated().map { try $1.value($0) })
        }
    }
}

extension RoutesFile.Match {
    var value: RouteMatch {
        get throws {
            let host: HostPattern = hostname.map { $0.hasPrefix(".") ? .suffix($0) : .exact($0) } ?? .any
            return RouteMatch(
                hostname: host, path: try path.map(Self.path) ?? .any, method: method, headers: try Self.fields(headers), query: try Self.fields(query), rule: rule)
        }
    }

    private static func split(_ text: String) throws -> (kind: Substring, value: String) {
        guard let colon = text.firstIndex(of: ":") else { throw HostFault(message: "routes: '\(text)' is not KIND:VALUE") }
        return (text[..<colon], String(text[text.index(after: colon)...]))
    }

    private static func path(_ text: String) throws -> PathPattern {
        let (kind, value) = try split(text)
        switch kind {
        case "exact": return .exact(value)
        case "prefix": return .prefix(value)
        case "expression": return .expression(value)
        default: throw HostFault(message: "routes: no path is '\(kind)'")
        }
    }

    private static func fields(_ pairs: [[String]]?) throws -> [FieldPattern] {
        try (pairs ?? []).map { pair in
            let (kind, value) = try split(pair[1])
            return FieldPattern(name: pair[0], value: kind == "expression" ? .expression(value) : .exact(value))
        }
    }
}

extension RoutesFile.Rule {
    func value(_ number: Int) throws -> RouteRule {
        let action: RouteAction = if let redirect { .redirect(redirect.value) } else { .forward(try (backends ?? []).map { try $0.value }) }
        return RouteRule(
            route: "HTTPRoute test/routes", rule: name ?? "spec.rules[\(number)]", isGRPC: isGRPC ?? false, action: action,
            requestHeaders: request?.value ?? FieldEdits(), responseHeaders: response?.value ?? FieldEdits(),
            rewrite: rewrite.map { URLRewrite(hostname: $0.hostname, path: $0.path?.value) },
            mirrors: try (mirrors ?? []).map {
                RequestMirror(target: try target($0.service), numerator: $0.numerator ?? 100, denominator: $0.denominator ?? 100)
            },
            cors: cors.map {
                CORSRule(
                    origins: $0.origins ?? [], methods: $0.methods ?? [], headers: $0.headers ?? [], exposedHeaders: $0.exposedHeaders ?? [],
                    allowsCredentials: $0.allowsCredentials ?? false, maxAgeSeconds: $0.maxAgeSeconds ?? 5)
            },
            timeouts: RouteTimeouts(requestMilliseconds: requestMilliseconds, backendRequestMilliseconds: backendRequestMilliseconds),
            session: session.map {
                SessionRule(
                    usesCookie: $0.usesCookie ?? true, name: $0.name, absoluteTimeoutSeconds: $0.absoluteTimeoutSeconds ?? 0,
                    idleTimeoutSeconds: $0.idleTimeoutSeconds ?? 0, isPermanent: $0.isPermanent ?? false)
            })
    }
}

private func target(_ text: String?) throws -> BackendTarget {
    guard let text else { return .unresolved }
    let parts = text.split(separator: ":")
    guard parts.count == 2, let port = UInt16(parts[1]) else { throw HostFault(message: "routes: '\(text)' is not SERVICE:PORT") }
    return .service(namespace: "test", name: String(parts[0]), port: port)
}

extension RoutesFile.Backend {
    var value: WeightedBackend {
        get throws {
            WeightedBackend(
                try target(service), weight: weight ?? 1, requestHeaders: request?.value ?? FieldEdits(), responseHeaders: response?.value ?? FieldEdits())
        }
    }
}

extension RoutesFile.Edits {
    var value: FieldEdits {
        func fields(_ pairs: [String: String]?) -> [FieldEdits.Field] { (pairs ?? [:]).sorted { $0.key < $1.key }.map { .init(name: $0.key, value: $0.value) } }
        return FieldEdits(set: fields(set), add: fields(add), remove: remove ?? [])
    }
}

extension RoutesFile.Path {
    var value: PathEdit? { full.map { .full($0) } ?? prefix.map { .prefix($0) } }
}

extension RoutesFile.Redirect {
    var value: RequestRedirect { RequestRedirect(scheme: scheme, hostname: hostname, path: path?.value, port: port, status: status ?? 302) }
}
