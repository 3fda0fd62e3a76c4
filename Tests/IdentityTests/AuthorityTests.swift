import Crypto
import Foundation
import Glibc
@testable import Identity
import Testing
import X509

@Suite struct AuthorityTests {
    private func refusal(_ authority: CertificateAuthority, _ der: [UInt8], entitled: SPIFFEIdentity = web, at now: Int64 = noon) -> Refusal? {
        do throws(Refusal) {
            _ = try authority.issue(der, entitled: entitled, asker: "node-a", at: now)
            return nil
        } catch {
            return error
        }
    }

    @Test func theFirstStartMakesAllOfItForItsOwnerAlone() throws {
        let place = Place()
        _ = try CertificateAuthority.fresh(place)
        for directory in ["ca", "ca/roots", "ca/issuer"] { #expect(place.mode(directory) == 0o700, "\(directory)") }
        for file in ["state.json", "roots/1.crt", "roots/1.key", "issuer/1.crt", "issuer/1.key", "audit.log", "lock"] {
            #expect(place.mode("ca/\(file)") == 0o600, "\(file)")
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: place.path) == ["ca"], "nothing half made is left")
        #expect(place.audit().map(\.event) == [.authorityCreated])
    }

    @Test func aSecondStartFindsTheFirst() throws {
        let place = Place()
        let first = try CertificateAuthority.fresh(place).bundle
        #expect(try CertificateAuthority.fresh(place).bundle == first)
        #expect(throws: (any Error).self) {
            try CertificateAuthority(directory: "\(place.path)/ca", settings: .init(trustDomain: "other.example"), now: noon)
        }
    }

    @Test func aKeyThatIsNotItsCertificatesIsNotUsed() throws {
        let place = Place()
        _ = try CertificateAuthority.fresh(place)
        try Certificate.PrivateKey(P256.Signing.PrivateKey()).serializeAsPEM().pemString
            .write(toFile: "\(place.path)/ca/issuer/1.key", atomically: true, encoding: .utf8)
        #expect(throws: (any Error).self) { try CertificateAuthority.fresh(place) }
    }

    @Test func aLeafSaysWhatItShallAndNothingElse() async throws {
        let place = Place()
        let authority = try CertificateAuthority.fresh(place)
        let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
        let subject = try DistinguishedName { CommonName("root") }
        let issued = try authority.issue(Requests.der(key, subject: subject), entitled: web, asker: "node-a", at: noon)
        let links = try PEMChain(issued.chain).certificates
        let leaf = links[0]
        #expect(links.count == 2)
        #expect(leaf.publicKey == key.publicKey)
        #expect(leaf.subject.isEmpty, "what the request calls itself is nobody's business")
        #expect(leaf.extensions.count == 5)
        let names = try #require(try leaf.extensions.subjectAlternativeNames)
        #expect(Array(names) == [.uniformResourceIdentifier(web.description)])
        #expect(leaf.extensions[oid: .X509ExtensionID.subjectAlternativeName]?.critical == true)
        #expect(try leaf.extensions.keyUsage == KeyUsage(digitalSignature: true))
        #expect(try leaf.extensions.extendedKeyUsage.map(Array.init) == [.serverAuth, .clientAuth])
        #expect(try leaf.extensions.basicConstraints == .notCertificateAuthority)
        #expect(try links[1].extensions.basicConstraints == .isCertificateAuthority(maxPathLength: 0))
        #expect(issued.notBefore == noon - 300 && issued.notAfter == noon + 86_400)
        #expect(leaf.notValidBefore.timeIntervalSince1970 == Double(issued.notBefore) && leaf.notValidAfter.timeIntervalSince1970 == Double(issued.notAfter))
        #expect(leaf.serialNumber.bytes.count == 16)
        #expect(try await isTrusted(issued.chain, by: authority.bundle, at: noon))
        #expect(try await isTrusted(issued.chain, by: CertificateAuthority.fresh(Place()).bundle, at: noon) == false, "another authority vouches for nothing of this one")
        #expect(try await isTrusted(issued.chain, by: authority.bundle, at: noon + 86_401) == false)
        #expect(authority.bundle.vouches(forChain: issued.chain))
    }

    @Test func serialsDoNotRepeat() throws {
        let authority = try CertificateAuthority.fresh(Place())
        let der = try Requests.der()
        let serials = try (0..<500).map { _ in try authority.issue(der, entitled: web, asker: "node-a", at: noon).serial }
        #expect(Set(serials).count == 500)
    }

    @Test func onlyTheEntitledIdentityIsIssued() throws {
        let place = Place()
        let authority = try CertificateAuthority.fresh(place)
        let der = try Requests.der()
        let cart = SPIFFEIdentity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "cart")!
        #expect(refusal(authority, der, entitled: cart) == .otherIdentity)
        #expect(refusal(authority, try Requests.der(names: [.uniformResourceIdentifier("spiffe://evil.example/ns/shop/sa/web")])) == .wrongTrustDomain)
        let controller = SPIFFEIdentity(controllerOf: "cluster.local")!
        #expect(refusal(authority, try Requests.der(names: [.uniformResourceIdentifier(controller.description)]), entitled: controller) == .otherIdentity)
        #expect(refusal(authority, [1, 2, 3]) == .malformedRequest)
        #expect(authority.counts.refused == [.otherIdentity: 2, .wrongTrustDomain: 1, .malformedRequest: 1])
        #expect(authority.counts.issued == 0)
        #expect(place.audit().filter { $0.event == .refused }.map(\.reason) == [.otherIdentity, .wrongTrustDomain, .otherIdentity, .malformedRequest])
    }

    @Test func ownLeavesAreKnownAgain() throws {
        let authority = try CertificateAuthority.fresh(Place())
        let node = SPIFFEIdentity(trustDomain: "cluster.local", node: "node-a")!
        let issued = try authority.issue(NodeKeyPair().request(for: node), entitled: node, asker: "node-a", at: noon)
        let leaf = try PEMChain(issued.chain).der[0]
        #expect(authority.identity(ofLeaf: leaf, at: noon) == node)
        #expect(authority.identity(ofLeaf: leaf, at: issued.notAfter + 300) == node, "five minutes of clock skew are tolerated")
        #expect(authority.identity(ofLeaf: leaf, at: issued.notAfter + 301) == nil)
        #expect(try CertificateAuthority.fresh(Place()).identity(ofLeaf: leaf, at: noon) == nil)
        #expect(authority.identity(ofLeaf: [0x30, 0], at: noon) == nil)
    }

    @Test func theLogSaysEverythingThatWasIssued() throws {
        let place = Place()
        let authority = try CertificateAuthority.fresh(place)
        let issued = try authority.issue(Requests.der(), entitled: web, asker: "node-a", at: noon)
        let entry = try #require(place.audit().last)
        #expect(entry.event == .issued && entry.asker == "node-a" && entry.identity == web.description && entry.serial == issued.serial)
        #expect(entry.notBefore == issued.notBefore && entry.notAfter == issued.notAfter && entry.key == .p256)
        #expect(entry.root == authority.bundle.fingerprints[0])
        #expect(entry.time == "2027-01-15T08:00:00Z")
    }

    @Test func theLogOnlyGrows() throws {
        let place = Place()
        let path = "\(place.path)/audit.log"
        let first = try AuditLog(path)
        try first.append(.init(at: noon, .issued, asker: "one"))
        let second = try AuditLog(path)
        try second.append(.init(at: noon, .refused, asker: "two", reason: .noName, detail: "a \"quoted\"\nline"))
        try first.append(.init(at: noon, .issued, asker: "three"))
        let entries = place.audit(".")
        #expect(entries.map(\.asker) == ["one", "two", "three"])
        #expect(entries[1].detail == "a \"quoted\"\nline", "no quotation makes a line of its own")
        #expect(place.lines("audit.log").count == 3)
    }

    @Test func aRotatedLogIsOpenedAnew() throws {
        let place = Place()
        let log = try AuditLog("\(place.path)/audit.log")
        try log.append(.init(at: noon, .issued, asker: "one"))
        rename("\(place.path)/audit.log", "\(place.path)/audit.1")
        log.sync()
        try log.append(.init(at: noon, .issued, asker: "two"))
        #expect(place.audit(".").map(\.asker) == ["two"])
        #expect(place.lines("audit.1").count == 1)
    }

    @Test func whatCannotBeLoggedIsNotIssued() throws {
        let place = Place()
        let authority = try CertificateAuthority(
            directory: "\(place.path)/ca", settings: .init(trustDomain: "cluster.local"), audit: try AuditLog("/dev/full"), now: noon)
        #expect(refusal(authority, try Requests.der()) == .auditUnavailable)
        #expect(authority.counts.issued == 0 && authority.counts.refused == [.auditUnavailable: 1])
    }

    /// Measured and printed; the floor is what was asked for.
    @Test func oneCoreIssuesThousandsPerSecond() throws {
        let place = Place()
        let authority = try CertificateAuthority.fresh(place)
        let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
        let questions = try (0..<10_000).map { number in
            let identity = try #require(SPIFFEIdentity(trustDomain: "cluster.local", namespace: "team-\(number / 100)", serviceAccount: "app-\(number % 100)"))
            return (identity: identity, der: try Requests.der(key, names: [.uniformResourceIdentifier(identity.description)]))
        }
        let started = Self.threadSeconds
        for question in questions { _ = try authority.issue(question.der, entitled: question.identity, asker: "node-a", at: noon) }
        let rate = Double(questions.count) / (Self.threadSeconds - started)
        print("certificate authority: 10,000 identities, \(Int(rate)) certificates per second of one core")
        #expect(authority.counts.issued == 10_000)
        #expect(place.lines("ca/audit.log").count == 10_001)
        #expect(rate > 2_000)
    }

    /// CPU of this thread.
    private static var threadSeconds: Double {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
