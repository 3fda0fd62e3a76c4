import MeshModel
import Testing

@testable import Discovery

/// What a MeshPolicy says comes to be in force at its Service; what is wrong with one is found at its field.
@Suite struct TrafficPolicyTests {
    private func policy(_ spec: String, name: String = "p", kind: String = "MeshPolicy", created: String? = nil) -> String {
        let version = kind == "MeshPolicy" ? "weft.mesh/v1alpha1" : "gateway.networking.x-k8s.io/v1alpha1"
        let time = created.map { ", creationTimestamp: \"\($0)\"" } ?? ""
        return "apiVersion: \(version)\nkind: \(kind)\nmetadata: {name: \(name), namespace: shop\(time)}\nspec: \(spec)\n"
    }

    private func view(_ documents: String...) -> ClusterView {
        Scene.view(([Sample.namespace, Sample.service(), Sample.service("pay", ip: "10.96.0.11")] + documents).joined(separator: "\n---\n"))
    }

    private func cart(_ view: ClusterView) -> TrafficPolicy { view.state.services.first { $0.name == "cart" }!.policy }
    private func pay(_ view: ClusterView) -> TrafficPolicy { view.state.services.first { $0.name == "pay" }!.policy }
    private let target = "targetRefs: [{kind: Service, name: cart}]"

    @Test func everyFieldIsInForce() throws {
        let view = view(policy("""

              \(target)
              retries: {budgetPercent: 30, minPerSecond: 5, attempts: 2, statuses: [502, 503], grpcCodes: [unavailable, resource-exhausted], backoff: 25ms}
              circuitBreaker: {connections: 100, pending: 50, requests: 200}
              outlierEjection: {consecutiveFailures: 3, successRateDeviation: 2.5, latencyFactor: 4, duration: 10s, maxPercent: 30, panicPercent: 40}
              slowStart: 20s
              healthCheck: {http: {path: /healthz}, interval: 2s, timeout: 500ms, unhealthyAfter: 2, healthyAfter: 1}
              balancing: {algorithm: maglev, hashOn: {header: X-User}}
              locality: sameZone
              rateLimits:
              - {requests: 100, per: 1s, burst: 20, key: {header: X-Tenant}, match: {path: {prefix: /api/}, method: POST, headers: [{name: X-A, value: b}]}}
              - {requests: 5, per: 1m, key: {caller: true}}
              faults:
              - {delay: {duration: 100ms, percent: 0.1}, abort: {status: 503, percent: 12.5}, match: {path: {exact: /x}}}
              - {abort: {grpcCode: unavailable}}
              fallback: {reply: {status: 200, contentType: application/json, body: "{}"}}
            """))
        #expect(view.faults.isEmpty, "\(view.faults)")
        var wanted = TrafficPolicy()
        (wanted.retryBudgetPercent, wanted.retryBudgetPerSecondMin) = (30, 5)
        wanted.retry = RetryRule(statuses: [502, 503], grpcStatuses: [14, 8], attempts: 2, backoffMilliseconds: 25)
        (wanted.connectionsMax, wanted.pendingRequestsMax, wanted.requestsInFlightMax) = (100, 50, 200)
        (wanted.consecutiveFailures, wanted.successRateDeviationHundredths, wanted.latencyFactor) = (3, 250, 4)
        (wanted.ejectionMilliseconds, wanted.ejectedPercentMax, wanted.panicPercent, wanted.slowStartMilliseconds) = (10_000, 30, 40, 20_000)
        wanted.healthCheck = HealthCheck(kind: .http, path: "/healthz", intervalMilliseconds: 2_000, timeoutMilliseconds: 500, unhealthyAfter: 2, healthyAfter: 1)
        (wanted.algorithm, wanted.hashKey, wanted.hashName, wanted.locality) = (.maglev, .header, "x-user", .sameZone)
        let match = TrafficMatch(path: .prefix("/api"), method: "POST", headers: [.init(name: "x-a", value: "b")])
        wanted.rateLimits = [
            RateLimit(requests: 100, intervalMilliseconds: 1_000, burst: 20, key: .header, keyName: "x-tenant", match: match),
            RateLimit(requests: 5, intervalMilliseconds: 60_000, key: .caller),
        ]
        wanted.faults = [
            FaultInjection(delayMilliseconds: 100, delayPerMillion: 1_000, abortStatus: 503, abortPerMillion: 125_000, match: TrafficMatch(path: .exact("/x"))),
            FaultInjection(abortGRPCStatus: 14, abortPerMillion: 1_000_000),
        ]
        wanted.fallback = .reply(status: 200, contentType: "application/json", body: "{}")
        #expect(cart(view) == wanted && pay(view) == .default)
        var writer = SnapshotWriter()
        #expect(try !writer.update(view.state).shards.isEmpty)
    }

    @Test(arguments: [
        ("{targetRefs: [{kind: Service, name: cart}]}", "spec.targetRefs"),
        ("{targetRefs: [], slowStart: 1s}", "spec.targetRefs"),
        ("{targetRefs: [{kind: Pod, name: cart}], slowStart: 1s}", "spec.targetRefs[0].kind"),
        ("{targetRefs: [{kind: Service, group: apps, name: cart}], slowStart: 1s}", "spec.targetRefs[0].group"),
        ("{targetRefs: [{kind: Service, name: cart, sectionName: http}], slowStart: 1s}", "spec.targetRefs[0].sectionName"),
        ("{targetRefs: [{kind: Service}], slowStart: 1s}", "spec.targetRefs[0].name"),
        ("{targetRefs: [{kind: HTTPRoute, name: r}], slowStart: 1s}", "spec.slowStart"),
        ("{retry: {attempts: 1}}", "spec.retry"),
        ("{retries: {budget: 20}}", "spec.retries.budget"),
        ("{retries: {budgetPercent: 101}}", "spec.retries.budgetPercent"),
        ("{retries: {statuses: [200]}}", "spec.retries.statuses[0]"),
        ("{retries: {grpcCodes: [UNAVAILABLE]}}", "spec.retries.grpcCodes[0]"),
        ("{retries: {attempts: 11}}", "spec.retries.attempts"),
        ("{retries: {backoff: 5}}", "spec.retries.backoff"),
        ("{circuitBreaker: {}}", "spec.circuitBreaker.requests"),
        ("{circuitBreaker: {requests: 0}}", "spec.circuitBreaker.requests"),
        ("{outlierEjection: {latencyFactor: 1}}", "spec.outlierEjection.latencyFactor"),
        ("{outlierEjection: {successRateDeviation: 1.999}}", "spec.outlierEjection.successRateDeviation"),
        ("{healthCheck: {interval: 1s}}", "spec.healthCheck.http"),
        ("{healthCheck: {http: {}, tcp: {}}}", "spec.healthCheck.tcp"),
        ("{healthCheck: {http: {path: healthz}}}", "spec.healthCheck.http.path"),
        ("{healthCheck: {tcp: {}, interval: 1s, timeout: 2s}}", "spec.healthCheck.timeout"),
        ("{healthCheck: {tcp: {}, interval: 10ms, timeout: 5ms}}", "spec.healthCheck.interval"),
        ("{balancing: {algorithm: best}}", "spec.balancing.algorithm"),
        ("{balancing: {hashOn: {source: true}}}", "spec.balancing.hashOn"),
        ("{balancing: {algorithm: maglev, hashOn: {header: a, cookie: b}}}", "spec.balancing.hashOn.cookie"),
        ("{balancing: {algorithm: maglev, hashOn: {header: \"a b\"}}}", "spec.balancing.hashOn.header"),
        ("{locality: near}", "spec.locality"),
        ("{rateLimits: [{per: 1s}]}", "spec.rateLimits[0].requests"),
        ("{rateLimits: [{requests: 1, per: 2h}]}", "spec.rateLimits[0].per"),
        ("{rateLimits: [{requests: 1, per: 1h, burst: 1000}]}", "spec.rateLimits[0].burst"),
        ("{rateLimits: [{requests: 1, key: {}}]}", "spec.rateLimits[0].key.header"),
        ("{rateLimits: [{requests: 1, match: {}}]}", "spec.rateLimits[0].match"),
        ("{rateLimits: [{requests: 1, match: {path: {prefix: /a, exact: /a}}}]}", "spec.rateLimits[0].match.path.exact"),
        ("{rateLimits: [{requests: 1, match: {method: get}}]}", "spec.rateLimits[0].match.method"),
        ("{faults: [{}]}", "spec.faults[0].abort"),
        ("{faults: [{abort: {percent: 1}}]}", "spec.faults[0].abort.status"),
        ("{faults: [{abort: {status: 503, percent: 100.5}}]}", "spec.faults[0].abort.percent"),
        ("{faults: [{abort: {status: 503, percent: 0.00001}}]}", "spec.faults[0].abort.percent"),
        ("{faults: [{delay: {percent: 1}}]}", "spec.faults[0].delay.duration"),
        ("{fallback: {}}", "spec.fallback.reply"),
        ("{fallback: {reply: {status: 100}}}", "spec.fallback.reply.status"),
        ("{fallback: {reply: {contentType: \"a\\nb\"}}}", "spec.fallback.reply.contentType"),
        ("{fallback: {service: {name: spare}}}", "spec.fallback.service.port"),
    ])
    func aFaultIsFoundAtItsFieldAndNothingOfThePolicyIsInForce(_ spec: String, _ field: String) {
        let view = view(policy(spec))
        #expect(view.faults.map(\.field).contains(field), "\(view.faults)")
        #expect(cart(view) == .default && view.faults.allSatisfy { $0.object == "MeshPolicy shop/p" && !$0.remedy.isEmpty })
    }

    @Test func theOlderOfTwoPoliciesWinsAndTheOtherIsReported() {
        let view = view(
            policy("{\(target), slowStart: 1s}", name: "a-newer", created: "2026-02-01T00:00:00Z"),
            policy("{\(target), slowStart: 2s}", name: "b-older", created: "2026-01-01T00:00:00Z"))
        #expect(cart(view).slowStartMilliseconds == 2_000)
        #expect(view.faults.map(\.object) == ["MeshPolicy shop/a-newer"] && view.faults[0].reason.contains("b-older"))
    }

    @Test func aPolicyThatNamesNothingIsForServicesWithoutOneOfTheirOwn() {
        let view = view(policy("{slowStart: 9s}", name: "all"), policy("{\(target), slowStart: 2s}", name: "own"))
        #expect(cart(view).slowStartMilliseconds == 2_000 && pay(view).slowStartMilliseconds == 9_000 && view.faults.isEmpty)
    }

    @Test func aPolicyForNothingIsReported() {
        let view = view(policy("{targetRefs: [{kind: Service, name: gone}, {kind: HTTPRoute, name: lost}], rateLimits: [{requests: 1}]}"))
        #expect(Set(view.faults.map(\.field)) == ["spec.targetRefs[0]", "spec.targetRefs[1]"])
    }

    @Test func theGatewayApisBudgetAndSessionAreHonoured() {
        let view = view(
            policy(
                "{targetRefs: [{group: \"\", kind: Service, name: cart}], retryConstraint: {budget: {percent: 40}, minRetryRate: {count: 20, interval: 2s}}, "
                    + "sessionPersistence: {sessionName: basket, type: Cookie}}", kind: "XBackendTrafficPolicy"))
        #expect(view.faults.isEmpty, "\(view.faults)")
        #expect(cart(view).retryBudgetPercent == 40 && cart(view).retryBudgetPerSecondMin == 10)
        let session = SessionRule(usesCookie: true, name: "basket")
        #expect(cart(view).session == session)
        #expect(view.state.routes.map(\.name) == ["cart"] && view.state.routes[0].rules.map(\.session) == [session])
        #expect(view.state.routes[0].rules[0].action == .forward([WeightedBackend(.service(namespace: "shop", name: "cart", port: 80))]))
    }

    @Test(arguments: [
        ("{targetRefs: [{kind: Service, name: cart}], retryConstraint: {budget: {percent: 20, interval: 10s}}}", "spec.retryConstraint.budget.interval"),
        ("{targetRefs: [{kind: Service, name: cart}], retryConstraint: {minRetryRate: {count: 1, interval: 10s}}}", "spec.retryConstraint.minRetryRate.count"),
        ("{targetRefs: [{kind: Service, name: cart}], slowStart: 1s}", "spec.slowStart"), ("{retryConstraint: {}}", "spec.targetRefs"),
    ])
    func whatWeftDoesNotDoOfTheGatewayApisPolicyIsReported(_ spec: String, _ field: String) {
        let view = view(policy(spec, kind: "XBackendTrafficPolicy"))
        #expect(view.faults.map(\.field).contains(field), "\(view.faults)")
    }

    @Test func whatIsSaidOfARouteConcernsThoseThatItTakes() {
        let route = """
            apiVersion: gateway.networking.k8s.io/v1
            kind: HTTPRoute
            metadata: {name: r, namespace: shop}
            spec:
              parentRefs: [{group: "", kind: Service, name: cart, port: 80}]
              rules: [{name: canary, backendRefs: [{name: pay, port: 80}]}]
            """
        let reference = "targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r, sectionName: canary}]"
        let view = view(route, policy("{\(reference), faults: [{abort: {status: 503, percent: 1}, match: {method: GET}}], rateLimits: [{requests: 1}]}"))
        #expect(view.faults.isEmpty, "\(view.faults)")
        #expect(cart(view).faults.map(\.match) == [TrafficMatch(route: "HTTPRoute shop/r", rule: "canary", method: "GET")])
        #expect(cart(view).rateLimits.map(\.match) == [TrafficMatch(route: "HTTPRoute shop/r", rule: "canary")] && pay(view) == .default)
        let wrong = self.view(route, policy("{targetRefs: [{kind: HTTPRoute, name: r, sectionName: beta}], rateLimits: [{requests: 1}]}"))
        #expect(wrong.faults.map(\.field) == ["spec.targetRefs[0]"] && cart(wrong) == .default)
    }

    // MARK: Any words

    private static let words = [
        "targetRefs", "group", "kind", "name", "sectionName", "retries", "budgetPercent", "minPerSecond", "attempts", "statuses", "grpcCodes", "backoff",
        "circuitBreaker", "connections", "pending", "requests", "outlierEjection", "consecutiveFailures", "successRateDeviation", "latencyFactor", "duration",
        "maxPercent", "panicPercent", "slowStart", "healthCheck", "http", "grpc", "tcp", "path", "service", "interval", "timeout", "unhealthyAfter", "balancing",
        "algorithm", "hashOn", "header", "cookie", "source", "locality", "rateLimits", "per", "burst", "key", "caller", "match", "exact", "prefix", "method",
        "headers", "value", "faults", "delay", "abort", "status", "grpcCode", "percent", "fallback", "reply", "contentType", "body", "port", "retryConstraint",
        "budget", "minRetryRate", "count", "sessionPersistence", "sessionName", "type", "spec",
    ]
    private static let scalars = [
        "Service", "HTTPRoute", "cart", "shop", "80", "-1", "70000", "1e400", "99999999999999999999", "true", "~", "\"\"", "/a", "\"/\"", "10s", "1h1h1h1h1h", "0.5", "12.5",
        "100.0001", "503", "unavailable", "maglev", "sameZone", "\"\\0\"", "\"é\"", "GET", "!!binary aGk=", ".", "x-a", "1000000", "1h", "1ms", "0", "4294967296", "\"a\\r\\nb: c\"",
    ]

    private struct Chance {
        var state: UInt64
        mutating func next(below count: Int) -> Int {
            state &+= 0x9E37_79B9_7F4A_7C15
            var word = state
            word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
            word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
            return Int((word ^ (word >> 31)) % UInt64(count))
        }
    }

    private static func value(_ chance: inout Chance, depth: Int) -> String {
        switch chance.next(below: depth > 4 ? 1 : 5) {
        case 1, 2: return "{" + (0..<chance.next(below: 5)).map { _ in "\(words[chance.next(below: words.count)]): \(value(&chance, depth: depth + 1))" }.joined(separator: ", ") + "}"
        case 3: return "[" + (0..<chance.next(below: 4)).map { _ in value(&chance, depth: depth + 1) }.joined(separator: ", ") + "]"
        default: return scalars[chance.next(below: scalars.count)]
        }
    }

    /// Whatever stands in a policy ends in a fault or in a state that the snapshot takes; never in a crash.
    @Test(arguments: ["MeshPolicy", "XBackendTrafficPolicy"]) func anyWordsEndInAFaultOrAPolicy(_ kind: String) throws {
        var chance = Chance(state: 0xFEED)
        for _ in 0..<1_500 {
            let spec = Self.value(&chance, depth: 0)
            let view = view(policy(spec, kind: kind))
            var writer = SnapshotWriter()
            _ = try writer.update(view.state)
        }
    }

    /// The whole policy of the page, with one line changed or gone.
    @Test func anyLineOfAGoodPolicyMayBeDamaged() throws {
        let whole = """
            {\(target), retries: {budgetPercent: 30, attempts: 2, statuses: [502], backoff: 25ms}, circuitBreaker: {connections: 100}, outlierEjection: {maxPercent: 30},
             slowStart: 20s, healthCheck: {grpc: {service: a.B}}, balancing: {algorithm: maglev, hashOn: {cookie: c}}, locality: sameZone,
             rateLimits: [{requests: 100, per: 1s, key: {caller: true}, match: {path: {prefix: /api}}}], faults: [{delay: {duration: 100ms, percent: 0.1}}],
             fallback: {service: {name: pay, port: 80}}}
            """
        #expect(view(policy(whole)).faults.isEmpty)
        var chance = Chance(state: 0xD00D)
        for _ in 0..<1_500 {
            var bytes = Array(whole.utf8)
            for _ in 0...chance.next(below: 3) {
                let place = chance.next(below: bytes.count)
                switch chance.next(below: 3) {
                case 0: bytes[place] = UInt8(0x20 + chance.next(below: 95))
                case 1: bytes.remove(at: place)
                default: bytes.insert(Array("{}[]:,0-\"".utf8)[chance.next(below: 9)], at: place)
                }
            }
            let view = view(policy(String(decoding: bytes, as: UTF8.self)))
            var writer = SnapshotWriter()
            _ = try writer.update(view.state)
        }
    }
}
