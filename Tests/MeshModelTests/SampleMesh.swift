import MeshModel

/// Meshes for tests; the same arguments give the same mesh.
enum SampleMesh {
    /// Services `s0` … in ten namespaces, each with one port 80 and its endpoints as workloads.
    static func many(services count: Int, endpointsEach: Int = 1) -> MeshState {
        var state = MeshState(nodeName: "n0", zone: "z0")
        var pod: UInt32 = 0
        for number in 0..<count {
            var endpoints: [Endpoint] = []
            for _ in 0..<endpointsEach {
                let address = IPAddress(ipv4: 0x0a00_0000 + pod)
                endpoints.append(Endpoint(address: address, port: 8080, zone: "z\(pod % 3)", nodeName: "n\(pod % 4)", workloadUID: "uid-\(pod)"))
                state.workloads.append(
                    Workload(
                        uid: "uid-\(pod)", name: "s\(number)-\(pod)", namespace: "ns\(number % 10)", nodeName: "n\(pod % 4)",
                        addresses: [address], workloadName: "s\(number)", app: "s\(number)", version: "v1",
                        canonicalService: "s\(number)", canonicalRevision: "v1", isMeshed: true))
                pod += 1
            }
            state.services.append(
                Service(
                    namespace: "ns\(number % 10)", name: "s\(number)", addresses: [IPAddress(ipv4: 0x0a60_0000 + UInt32(number))],
                    ports: [ServicePort(name: "http", port: 80, protocolHint: .http1, endpoints: endpoints)]))
        }
        for number in state.services.indices where number % 3 == 0 { state.services[number].policy = policy(number) }
        state.access = state.workloads.prefix(200).map { access(to: $0.uid) }
        state.routes = state.services.prefix(200).enumerated().map { routes(of: $1, number: $0) }
        return state
    }

    /// A policy that says something of everything; numbers give different ones.
    static func policy(_ number: Int) -> TrafficPolicy {
        var policy = TrafficPolicy()
        policy.retryBudgetPercent = 30
        policy.retry = RetryRule(statuses: [503, 429, 500, 599, 400], grpcStatuses: [14, 8], attempts: 2, backoffMilliseconds: 25)
        policy.requestsInFlightMax = UInt32(number)
        policy.algorithm = BalancingAlgorithm.allCases[number % BalancingAlgorithm.allCases.count]
        (policy.hashKey, policy.hashName) = (.header, "x-user")
        policy.healthCheck = HealthCheck(kind: .http, path: "/healthz")
        policy.rateLimits = (0..<number % 4).map { place in
            RateLimit(
                requests: 100, key: .header, keyName: "x-tenant",
                match: TrafficMatch(route: "HTTPRoute shop/cart", path: .prefix("/v\(place)"), method: "GET", headers: [.init(name: "x-a", value: "b")]))
        }
        policy.faults = [
            FaultInjection(delayMilliseconds: 5, delayPerMillion: 10_000, match: TrafficMatch(path: .exact("/slow"))),
            FaultInjection(abortStatus: 503, abortPerMillion: 1, match: TrafficMatch(headers: [.init(name: "x-c", value: "d"), .init(name: "x-e", value: "")])),
        ]
        policy.fallback = number % 2 == 0 ? .reply(status: 200, contentType: "text/plain", body: "later") : .service(namespace: "shop", name: "spare", port: 80)
        return policy
    }

    /// Every kind of match and everything that a rule can say; more of them the higher the number.
    static func routes(of service: Service, number: Int) -> ServiceRoutes {
        let paths: [PathPattern] = [.any, .exact("/a/%7Eb"), .prefix("/a/"), .expression("/v[0-9]+/.*"), .prefix("/")]
        let hosts: [HostPattern] = [.any, .exact("Cart.example"), .suffix(".example.com")]
        let matches = (0...(number % 20)).map { place in
            RouteMatch(
                hostname: hosts[place % 3], path: paths[place % 5], method: place % 2 == 0 ? nil : "GET",
                headers: place % 4 == 0 ? [] : [FieldPattern(name: "x-version", value: place % 3 == 0 ? .exact("v\(place)") : .expression("v[0-9]+"))],
                query: place % 5 == 0 ? [FieldPattern(name: "user", value: .exact("me"))] : [], rule: place % 3)
        }
        let edits = FieldEdits(set: [.init(name: "x-a", value: "1")], add: [.init(name: "x-b", value: "2 3")], remove: ["x-c"])
        let forwarding = RouteRule(
            route: "HTTPRoute shop/r\(number)", rule: "spec.rules[0]",
            action: .forward([
                WeightedBackend(.service(namespace: service.namespace, name: service.name, port: 80), weight: 99, requestHeaders: edits),
                WeightedBackend(.unresolved, weight: 1, responseHeaders: edits),
            ]), requestHeaders: edits, rewrite: URLRewrite(hostname: "inner.example", path: .prefix("/new/")),
            mirrors: [RequestMirror(target: .service(namespace: "shop", name: "shadow", port: 81), numerator: 1, denominator: 4)],
            timeouts: RouteTimeouts(requestMilliseconds: 1_500, backendRequestMilliseconds: 0), retry: RetryRule(statuses: [502, 503], grpcStatuses: [14], attempts: 2, backoffMilliseconds: 25),
            session: SessionRule(name: "sid", absoluteTimeoutSeconds: 3_600, idleTimeoutSeconds: 60, isPermanent: true))
        let redirecting = RouteRule(
            route: "HTTPRoute shop/r\(number)", rule: "spec.rules[1]",
            action: .redirect(RequestRedirect(scheme: "https", hostname: "outer.example", path: .full("/there"), port: 8443, status: 308)), responseHeaders: edits,
            cors: CORSRule(origins: ["https://*.example.com"], methods: ["GET", "PUT"], headers: ["x-d"], exposedHeaders: ["x-e"], allowsCredentials: true, maxAgeSeconds: 7))
        let bare = RouteRule(route: "GRPCRoute shop/g", rule: "named", isGRPC: true, action: .forward([]), session: SessionRule(usesCookie: false, name: "x-sid"))
        return ServiceRoutes(
            namespace: service.namespace, name: service.name, port: 80, callersNamespace: number % 7 == 0 ? "ns1" : nil, matches: matches,
            rules: [forwarding, redirecting, bare])
    }

    /// Rules of every step, with terms of every subject.
    static func access(to uid: String) -> WorkloadAccess {
        let terms = AccessTerm.Subject.allCases.enumerated().map { number, subject in
            AccessTerm(
                subject, AccessTerm.Comparison.allCases[number % 4], text: "x-text-\(number)", number: subject == .header ? 6 : 8080,
                alternative: UInt16(number % 3), group: UInt16(number % 2))
        }
        return WorkloadAccess(
            uid: uid,
            rules: AccessStep.allCases.enumerated().map { number, step in
                AccessRule(step, isAudit: number % 5 == 0, policy: "shop/p\(number)", field: "spec.rules[\(number)]", terms: Array(terms.dropFirst(number)))
            })
    }

    static func service(_ state: inout MeshState, _ namespace: String, _ name: String, change: (inout Service) -> Void) {
        let place = state.services.firstIndex { $0.namespace == namespace && $0.name == name }!
        change(&state.services[place])
    }
}

/// A text's bytes for the length of a call.
func withBytes<Result>(_ text: String, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
    var text = text
    return text.withUTF8 { body(UnsafeRawBufferPointer($0)) }
}

func string(_ bytes: UnsafeRawBufferPointer) -> String { String(decoding: bytes, as: UTF8.self) }
