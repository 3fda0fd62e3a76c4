import Glibc
@testable import Identity
import Testing
import X509

@Suite struct RootRotationTests {
    /// The life of a rotation by a clock that is only a number: overlap 100 s, leaves live 50 s.
    @Test func everyChainIsTrustedByEveryoneWhoAskedInTime() async throws {
        let place = Place()
        let authority = try CertificateAuthority.fresh(place, lifetime: 50, nodeLifetime: 50, overlap: 100)
        let old = authority.bundle
        let before = try authority.issue(Requests.der(), entitled: web, asker: "a", at: noon)

        try CertificateAuthority.rotateRoot(directory: "\(place.path)/ca", now: noon)
        try authority.advance(at: noon + 1)
        let both = authority.bundle
        #expect(both.generation == old.generation + 1 && both.fingerprints.count == 2)
        #expect(both.fingerprints[0] == old.fingerprints[0])
        #expect(authority.rootPhases == ["active": 1, "announced": 1])
        let announced = try authority.issue(Requests.der(), entitled: web, asker: "a", at: noon + 99)
        try authority.advance(at: noon + 99)
        #expect(try await isTrusted(announced.chain, by: old, at: noon + 99), "who has not asked yet still understands everybody")

        try authority.advance(at: noon + 100)
        #expect(authority.rootPhases == ["active": 1, "retiring": 1])
        #expect(authority.bundle == both, "activation changes who signs, not who is trusted")
        let fresh = try authority.issue(Requests.der(), entitled: web, asker: "a", at: noon + 100)
        #expect(try await isTrusted(fresh.chain, by: both, at: noon + 100))
        #expect(try await isTrusted(fresh.chain, by: old, at: noon + 100) == false, "it is the new root's")
        #expect(try await isTrusted(announced.chain, by: both, at: noon + 100))

        // The last leaf of the old root ends at 149; 50 s of skew behind that.
        try authority.advance(at: noon + 199)
        #expect(authority.bundle == both)
        try authority.advance(at: noon + 200)
        #expect(authority.rootPhases == ["active": 1])
        #expect(authority.bundle.generation == both.generation + 1)
        #expect(authority.bundle.fingerprints == [both.fingerprints[1]])
        #expect(place.mode("ca/roots/1.key") == nil, "a root that left signs no more")
        #expect(place.mode("ca/issuer/1.key") == nil)
        #expect(!authority.bundle.vouches(forChain: before.chain))
        #expect(place.audit().map(\.event).filter { $0 != .issued } == [.authorityCreated, .rootAnnounced, .rootActivated, .rootRemoved])
    }

    @Test func aRotationGoesOnBehindARestart() throws {
        let place = Place()
        _ = try CertificateAuthority.fresh(place, lifetime: 50, nodeLifetime: 50, overlap: 100)
        try CertificateAuthority.rotateRoot(directory: "\(place.path)/ca", now: noon)
        let again = try CertificateAuthority.fresh(place, lifetime: 50, nodeLifetime: 50, overlap: 100, at: noon + 40)
        #expect(again.rootPhases == ["active": 1, "announced": 1])
        let later = try CertificateAuthority.fresh(place, lifetime: 50, nodeLifetime: 50, overlap: 100, at: noon + 500)
        #expect(later.rootPhases == ["active": 1, "retiring": 1], "the overlap is over; what the old root signed until now may live for another 100 s")
    }

    @Test func aLongerLifeThanTodaysIsRemembered() throws {
        let place = Place()
        _ = try CertificateAuthority.fresh(place, lifetime: 50, nodeLifetime: 1_000, overlap: 100)
        try CertificateAuthority.rotateRoot(directory: "\(place.path)/ca", now: noon)
        let authority = try CertificateAuthority.fresh(place, lifetime: 50, nodeLifetime: 50, overlap: 100, at: noon + 100)
        try authority.advance(at: noon + 1_399)
        #expect(authority.rootPhases == ["active": 1, "retiring": 1], "a node's certificate of the old root may live for 1,000 s and the skew")
        try authority.advance(at: noon + 1_400)
        #expect(authority.rootPhases == ["active": 1])
    }

    @Test func rotationsDoNotOvertakeEachOther() throws {
        let place = Place()
        _ = try CertificateAuthority.fresh(place)
        try CertificateAuthority.rotateRoot(directory: "\(place.path)/ca", now: noon)
        #expect(throws: (any Error).self) { try CertificateAuthority.rotateRoot(directory: "\(place.path)/ca", now: noon) }
    }

    @Test func theIssuerIsRenewedAtHalfItsLifeAndTheRootInTime() async throws {
        let place = Place()
        let authority = try CertificateAuthority.fresh(place)
        let first = authority.issuerNotAfter
        let half = noon + AuthorityLimits.issuerLifetimeSeconds / 2
        try authority.advance(at: half - 1)
        #expect(authority.issuerNotAfter == first)
        try authority.advance(at: half)
        #expect(authority.issuerNotAfter == half + AuthorityLimits.issuerLifetimeSeconds)
        let issued = try authority.issue(Requests.der(), entitled: web, asker: "a", at: half)
        #expect(try await isTrusted(issued.chain, by: authority.bundle, at: half))

        let late = noon + AuthorityLimits.rootLifetimeSeconds - 2 * AuthorityLimits.issuerLifetimeSeconds
        try authority.advance(at: late)
        #expect(authority.rootPhases == ["active": 1, "announced": 1], "nobody has to remember the root's tenth birthday")
    }

    @Test func aLifeOfFiveSecondsWorks() async throws {
        let authority = try CertificateAuthority.fresh(Place(), lifetime: 5, nodeLifetime: 5)
        let issued = try authority.issue(Requests.der(), entitled: web, asker: "a", at: noon)
        #expect(issued.notAfter == noon + 5)
        #expect(try await isTrusted(issued.chain, by: authority.bundle, at: noon + 5))
        #expect(authority.refreshSeconds == 1)
    }
}

@Suite struct JoinTokenTests {
    private func refusal(_ tokens: JoinTokens, _ text: JoinTokens.Text, node: String = "node-b", secret: String? = nil, at now: Int64 = noon) -> Refusal? {
        do throws(Refusal) {
            try tokens.check(id: text.id, secret: secret ?? text.secret, node: node, at: now)
            return nil
        } catch {
            return error
        }
    }

    @Test func aTokenIsGoodOnceForItsNodeInItsTime() throws {
        let place = Place()
        let bundle = try CertificateAuthority.fresh(place).bundle
        let tokens = try JoinTokens(directory: place.path)
        let made = try tokens.make(node: "node-b", bundle: bundle, lifetimeSeconds: 60, at: noon)
        let text = try #require(JoinTokens.Text(made + "\n"))
        #expect(text.fingerprints == bundle.fingerprints)
        #expect(refusal(tokens, text) == nil)
        #expect(refusal(tokens, text, node: "node-c") == .tokenOfOtherNode)
        #expect(refusal(tokens, text, at: noon + 60) == .tokenExpired)
        #expect(refusal(tokens, text, secret: String(repeating: "0", count: 64)) == .tokenUnknown)
        try tokens.spend(id: text.id)
        #expect(refusal(tokens, text) == .tokenUsed)
        #expect(refusal(tokens, text, secret: String(repeating: "0", count: 64)) == .tokenUnknown, "a guess does not even learn that it was good once")
        #expect(throws: Refusal.tokenUsed) { try tokens.spend(id: text.id) }
    }

    @Test func onlyAHashIsKept() throws {
        let place = Place()
        let tokens = try JoinTokens(directory: place.path)
        let text = try #require(JoinTokens.Text(tokens.make(node: "node-b", bundle: CertificateAuthority.fresh(place).bundle, lifetimeSeconds: 60, at: noon)))
        let kept = place.lines("tokens/\(text.id).json").joined()
        #expect(!kept.isEmpty && !kept.contains(text.secret))
        #expect(place.mode("tokens") == 0o700 && place.mode("tokens/\(text.id).json") == 0o600)
    }

    @Test(arguments: ["", "weft1", "weft1.aa.bb.cc", "weft2." + String(repeating: "0", count: 16), "weft1.../../../etc/passwd.x.y"])
    func textsThatAreNoTokens(text: String) { #expect(JoinTokens.Text(text) == nil) }

    @Test func namesThatLeadElsewhereAreUnknown() throws {
        let place = Place()
        let tokens = try JoinTokens(directory: place.path)
        #expect(throws: Refusal.tokenUnknown) { try tokens.check(id: "../../etc/passwd", secret: "", node: "node-b", at: noon) }
        #expect(throws: Refusal.tokenUnknown) { try tokens.check(id: "spent/0000000000", secret: "", node: "node-b", at: noon) }
    }
}

@Suite struct RotationClockTests {
    @Test func dueAtHalfOfLifeGiveOrTake() {
        for (dice, due) in [(0.0, 40.0), (0.5, 50.0), (1.0, 60.0)] {
            var clock = RotationClock(at: 0)
            #expect(clock.isDue(at: 0))
            clock.issued(notAfter: 1_100, at: 1_000, dice: dice)
            #expect(abs(clock.due - (1_000 + due)) < 0.001)
        }
    }

    @Test func pausesGrowToAMinute() {
        var clock = RotationClock(at: 0)
        var now = 0.0
        var pauses: [Double] = []
        for _ in 0..<8 {
            clock.failed(notAfter: nil, at: now, dice: 0)
            pauses.append(clock.due - now)
            now = clock.due
        }
        #expect(pauses == [1, 2, 4, 8, 16, 32, 60, 60])
        #expect(clock.failures == 8 && clock.failingSince == 0)
        clock.issued(notAfter: now + 100, at: now, dice: 0.5)
        #expect(clock.failures == 0 && clock.failingSince == nil)
    }

    @Test func aCertificateThatEndsSoonIsAskedForOften() {
        var clock = RotationClock(at: 0)
        for _ in 0..<10 { clock.failed(notAfter: 100, at: 0, dice: 0) }
        #expect(clock.due == 12.5)
        clock.failed(notAfter: 100, at: 99, dice: 0)
        #expect(clock.due == 99.5)
    }
}
