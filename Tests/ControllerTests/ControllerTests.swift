@testable import Agent
@testable import Controller
import Foundation
import Glibc
import Identity
import Testing

@Suite struct ControllerTests {
    @Test func aNodeJoinsOnceAndGetsTheIdentitiesOfItsOwnPods() async throws {
        try await withController { place, port in
            let door = try place.door(port, node: "node-a", token: try place.token("node-a"))
            let bundle = try await door.bundle().bundle
            #expect(bundle == (try place.bundle()))
            #expect(await eventually { await door.issueFault(identity("web"), request: request("web")) == nil }, "as soon as the manifests are read")
            let issued = try await door.issue(identity("web"), request: request("web"))
            #expect(bundle.vouches(forChain: issued.chain))
            #expect(try PEMChain(issued.chain).leaf?.identity == identity("web"))

            // Cart runs on node-b; and a right name with another's request helps nobody.
            #expect(await door.issueFault(identity("cart"), request: request("cart")) == .refused(.notEntitled))
            #expect(await door.issueFault(identity("web"), request: request("cart")) == .refused(.otherIdentity))
            #expect(await door.issueFault(node("node-b"), request: request(node("node-b"))) == .refused(.otherIdentity))
            let foreign = identity("web", trustDomain: "evil.example")
            #expect(await door.issueFault(foreign, request: request(foreign)) == .refused(.wrongTrustDomain))
            await door.close()

            let audit = place.audit()
            #expect(audit.contains { $0.event == .nodeJoined && $0.asker == "node-a" && $0.identity == "spiffe://cluster.local/node/node-a" })
            #expect(audit.contains { $0.event == .issued && $0.asker == "node-a" && $0.identity == identity("web").description && $0.serial == issued.serial })
            #expect(audit.contains { $0.event == .refused && $0.reason == .notEntitled && $0.identity == identity("cart").description })
            let secret = try #require(JoinTokens.Text(try String(contentsOfFile: "\(place.path)/token-node-a", encoding: .utf8))).secret
            #expect(!(try String(contentsOfFile: "\(place.path)/data/ca/audit.log", encoding: .utf8)).contains(secret))
        }
    }

    @Test func aTokenIsSpentByItsFirstUse() async throws {
        try await withController { place, port in
            let token = try place.token("node-a")
            let first = try place.door(port, node: "node-a", token: token)
            _ = try await first.bundle()
            await first.close()
            // Somebody else with the same token.
            try FileManager.default.removeItem(atPath: "\(place.path)/node-a")
            let thief = try place.door(port, node: "node-a", token: token)
            #expect(await thief.bundleFault() == .refused(.tokenUsed))
            await thief.close()
            #expect(place.audit().filter { $0.reason == .tokenUsed }.count == 1)
        }
    }

    @Test func tokensOfOthersAndOfYesterdayAreRefused() async throws {
        try await withController { place, port in
            let wrong = try place.door(port, node: "node-b", token: try place.token("node-a"))
            #expect(await wrong.bundleFault() == .refused(.tokenOfOtherNode))
            await wrong.close()
            let late = try place.door(port, node: "node-a", token: try place.token("node-a", at: Int64(wallClock()) - 61))
            #expect(await late.bundleFault() == .refused(.tokenExpired))
            await late.close()
        }
    }

    @Test func aControllerThatTheTokenDoesNotNameHearsNoSecret() async throws {
        try await withController { place, port in
            let real = try place.token("node-a")
            let forged = (real.split(separator: ".")[0..<3].map(String.init) + [String(repeating: "0", count: 64)]).joined(separator: ".")
            let door = try place.door(port, node: "node-a", token: forged)
            #expect(await door.bundleFault() == .unreachable("the controller's roots are not those that the join token names"))
            await door.close()
            let again = try place.door(port, node: "node-a", token: real)
            #expect(await again.bundleFault() == nil, "the token is still good")
            await again.close()
        }
    }

    @Test func aJoinedNodeNeedsNoTokenAfterARestart() async throws {
        try await withController { place, port in
            let first = try place.door(port, node: "node-a", token: try place.token("node-a"))
            _ = try await first.bundle()
            await first.close()
            var status = stat()
            #expect(stat("\(place.path)/node-a/controller/standing.json", &status) == 0 && status.st_mode & 0o777 == 0o600)
            let second = try place.door(port, node: "node-a")
            #expect(await second.bundleFault() == nil)
            #expect(await eventually { await second.issueFault(identity("web"), request: request("web")) == nil })
            await second.close()
        }
    }

    @Test func aNodesCertificateIsRenewedAtHalfItsLife() async throws {
        try await withController(nodeLifetime: 16) { place, port in
            let door = try place.door(port, node: "node-a", token: try place.token("node-a"))
            _ = try await door.bundle()
            func issuedCount() -> Int { place.audit().filter { $0.identity == node("node-a").description && $0.event == .issued }.count }
            let before = issuedCount()
            #expect(await eventually {
                _ = await door.bundleFault()
                return issuedCount() > before
            })
            #expect(place.audit().filter { $0.event == .nodeJoined }.count == 1, "renewed, not joined again")
            await door.close()
        }
    }

    @Test func aRevokedNodeGetsNothingMoreUntilItHasANewToken() async throws {
        try await withController { place, port in
            let data = try ControllerData("\(place.path)/data")
            let door = try place.door(port, node: "node-a", token: try place.token("node-a"))
            _ = try await door.bundle()
            #expect(await eventually { await door.issueFault(identity("web"), request: request("web")) == nil })
            let issued = try await door.issue(identity("web"), request: request("web"))
            let older = try place.token("node-a")

            let alive = try data.revoke(node: "node-a", at: Int64(wallClock()))
            #expect(alive.contains { $0.serial == issued.serial && $0.identity == identity("web").description && $0.notAfter == issued.notAfter })
            #expect(alive.allSatisfy { $0.identity == identity("web").description }, "its pods' certificates, not its own")
            #expect(await eventually { await door.issueFault(identity("web"), request: request("web")) == .refused(.nodeRevoked) })
            _ = try place.write("token-node-a", older)
            #expect(await eventually { await door.bundleFault() == .refused(.nodeRevoked) }, "a token from before is void")
            let other = try place.door(port, node: "node-b", token: try place.token("node-b"))
            #expect(await other.bundleFault() == nil)
            #expect(await eventually { await other.issueFault(identity("cart"), request: request("cart")) == nil }, "nobody else is touched")
            await other.close()

            _ = try place.write("token-node-a", try place.token("node-a"))
            #expect(await eventually { await door.bundleFault() == nil })
            #expect(await eventually { await door.issueFault(identity("web"), request: request("web")) == nil }, "taken back")
            await door.close()
            let audit = place.audit()
            #expect(audit.contains { $0.event == .nodeRevoked && $0.asker == "operator" && $0.detail == "node node-a" })
            #expect(audit.contains { $0.event == .refused && $0.reason == .nodeRevoked && $0.asker == "node-a" })
            #expect(throws: (any Error).self) { try data.revoke(node: "no/node", at: Int64(wallClock())) }
        }
    }

    @Test func strangersGetTheRootsAndNothingElse() async throws {
        try await withController { place, port in
            #expect(try await place.ask(port, "GET", "/v1/bundle").status == 200)
            let question = try json(ControllerWire.CertificateRequest(identity: identity("web").description, request: Data(request("web")).base64EncodedString()))
            let without = try await place.ask(port, "POST", "/v1/certificates", question)
            #expect(without.status == 401 && reason(without) == .notAuthenticated)

            // A workload's certificate is none of a node, and another authority's is none at all.
            let other = try CertificateAuthority(directory: "\(place.path)/other", settings: .init(trustDomain: "cluster.local"), now: Int64(wallClock()))
            let own = try CertificateAuthority(directory: "\(place.path)/data/ca", settings: .init(trustDomain: "cluster.local"), now: Int64(wallClock()))
            for (authority, who) in [(other, node("node-a")), (own, identity("web"))] {
                let pair = NodeKeyPair()
                let issued = try authority.issue(pair.request(for: who), entitled: who, asker: "test", at: Int64(wallClock()))
                let answer = try await place.ask(port, "POST", "/v1/certificates", question, chain: issued.chain, key: try pair.pem)
                #expect(answer.status == 401 && reason(answer) == .notAuthenticated, "\(who)")
            }
        }
    }

    @Test func questionsThatAreNoneAreRefusedByName() async throws {
        try await withController { place, port in
            let large = try await place.ask(port, "POST", "/v1/join", [UInt8](repeating: 0x20, count: ControllerLimits.bodyBytesMax + 1))
            #expect(large.status == 413 && reason(large) == .requestTooLarge)
            for raw in ["{", "[]", "{\"node\": 1}"] {
                let answer = try await place.ask(port, "POST", "/v1/join", Array(raw.utf8))
                #expect(answer.status == 400 && reason(answer) == .malformedRequest, "\(raw)")
            }
            let odd = try await place.ask(port, "POST", "/v1/join", try json(ControllerWire.JoinRequest(node: "a/b", id: "x", secret: "y", request: "")))
            #expect(reason(odd) == .malformedRequest)
            let own = Data(request(node("node-a"))).base64EncodedString()
            let unknown = try await place.ask(port, "POST", "/v1/join", try json(ControllerWire.JoinRequest(node: "node-a", id: "0123456789abcdef", secret: "y", request: own)))
            #expect(unknown.status == 401 && reason(unknown) == .tokenUnknown)
            let kubernetes = try await place.ask(port, "POST", "/v1/join", try json(ControllerWire.JoinRequest(node: "node-a", kubernetesToken: "x", request: own)))
            #expect(reason(kubernetes) == .kubernetesTokenRefused, "no API server is configured")
        }
    }

    @Test func aRequestThatGetsNothingDoesNotCostTheToken() async throws {
        try await withController { place, port in
            let token = try #require(JoinTokens.Text(try place.token("node-a")))
            func question(_ request: [UInt8]) throws -> [UInt8] {
                try json(ControllerWire.JoinRequest(node: "node-a", id: token.id, secret: token.secret, request: Data(request).base64EncodedString()))
            }
            #expect(reason(try await place.ask(port, "POST", "/v1/join", question(request("web")))) == .otherIdentity)
            #expect(try await place.ask(port, "POST", "/v1/join", question(request(node("node-a")))).status == 200)
        }
    }

    @Test func attemptsAreLimitedInRate() async throws {
        let rates = RateLimits(burst: 2, perSecond: 1)
        #expect((0..<3).map { _ in rates.take("a", at: 10) } == [true, true, false])
        #expect(rates.take("b", at: 10), "everybody has a bucket of their own")
        #expect(rates.take("a", at: 11) && !rates.take("a", at: 11))
        try await withController { place, port in
            let answers = try await withThrowingTaskGroup(of: (status: UInt, body: Data).self) { group in
                for _ in 0..<Int(ControllerLimits.joinBurst) + 60 { group.addTask { try await place.ask(port, "POST", "/v1/join", [0x7B]) } }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(answers.contains { $0.status == 429 && reason($0) == .rateLimited })
            #expect(answers.count { reason($0) == .malformedRequest } >= Int(ControllerLimits.joinBurst))
            #expect(place.audit().count { $0.reason == .rateLimited } <= 10, "a flood does not fill the log")
        }
    }

    @Test func aNewRootReachesWhoAsks() async throws {
        try await withController { place, port in
            let door = try place.door(port, node: "node-a", token: try place.token("node-a"))
            let before = try await door.bundle().bundle
            try CertificateAuthority.rotateRoot(directory: "\(place.path)/data/ca", now: Int64(wallClock()))
            var after = before
            #expect(await eventually {
                if let answer = try? await door.bundle() { after = answer.bundle }
                return after.generation == before.generation + 1
            })
            #expect(after.fingerprints.count == 2 && after.fingerprints[0] == before.fingerprints[0])
            await door.close()
        }
    }

    @Test func theMetricsSayEveryReason() throws {
        let place = Place()
        let authority = try CertificateAuthority(directory: "\(place.path)/ca", settings: .init(trustDomain: "cluster.local"), now: Int64(wallClock()))
        authority.refuse(.tokenUsed, asker: "node-a", at: Int64(wallClock()))
        let page = ControllerMetrics.page(authority)
        for reason in Refusal.allCases { #expect(page.contains("weft_ca_refusals_total{reason=\"\(reason.rawValue)\"} \(reason == .tokenUsed ? 1 : 0)\n")) }
        #expect(page.contains("weft_ca_issued_total 0\n") && page.contains("weft_ca_roots{phase=\"active\"} 1\n"))
    }
}

private func request(_ account: String) -> [UInt8] { request(identity(account)) }
private func request(_ identity: SPIFFEIdentity) -> [UInt8] { (try? NodeKeyPair().request(for: identity)) ?? [] }
