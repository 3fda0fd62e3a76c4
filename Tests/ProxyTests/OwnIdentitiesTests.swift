import ControlChannel
import Glibc
import MeshModel
import MutualTLS
import Testing

@testable import Proxy

/// The library of this test process, begun once.
private let library: Result<TLSLibrary.Protection, CredentialsFault> = {
    do throws(CredentialsFault) { return .success(try TLSLibrary.begin()) } catch { return .failure(error) }
}()

private let cart = "spiffe://cluster.local/ns/shop/sa/cart"

/// The control thread's side of identities: what it is told, what it answers, and what the workers then begin connections with.
@Suite struct OwnIdentitiesTests {
    let authority: IssuingAuthority

    init() throws {
        _ = try library.get()
        authority = IssuingAuthority("root")
    }

    /// One worker's table, told everything as the mailbox would.
    private final class Desk {
        var own = OwnIdentities()
        var table = Identities()
        private(set) var reports: [IdentityState] = []

        func tell() {
            for letter in own.takeLetters() {
                switch letter {
                case .identity(let identity):
                    identity.credentials?.retain()
                    table.install(identity)
                case .revocations(let list):
                    list.retain()
                    table.install(list)
                case .rootsChanged: table.rootsChanged()
                }
            }
            reports += own.takeReports()
        }

        func want(_ name: String, _ number: UInt64) -> IdentityRequested? { own.want(IdentityWanted(identity: name, number: number)) }

        func isCurrent(_ number: UInt32, _ generation: UInt64) -> Bool { table.isCurrent(number, generation: generation) }

        func find(_ namespace: String, _ account: String) -> Identity? {
            let namespace = Array(namespace.utf8), account = Array(account.utf8)
            return namespace.withUnsafeBytes { namespace in account.withUnsafeBytes { table.find(namespace: namespace, serviceAccount: $0) } }
        }

        var generation: UInt64? { find("shop", "cart")?.credentials?.generation }
        var last: IdentityState? { reports.last }
    }

    private func trust(_ desk: Desk, _ authorities: IssuingAuthority..., generation: UInt64 = 1) {
        desk.own.trust(TrustBundle(trustDomain: "cluster.local", generation: generation, roots: authorities.flatMap { $0.rootPEM }))
        desk.tell()
    }

    /// Asks, certifies and issues; the request is left for those who look at it.
    @discardableResult
    private func renew(_ desk: Desk, number: UInt64, from: Int = -60, to: Int = 86_400, as name: String = cart) throws -> IdentityRequested {
        let requested = try #require(desk.want(cart, number))
        let chain = authority.certify(requested.request, as: name, from: from, to: to)
        desk.own.issue(IdentityIssued(identity: cart, number: number, chain: chain, notBefore: 0, notAfter: 0))
        desk.tell()
        return requested
    }

    private func file(_ bytes: [UInt8]) -> Int32 {
        var path = Array("/tmp/weft-file-XXXXXX".utf8CString)
        let descriptor = mkstemp(&path)
        unlink(path)
        _ = write(descriptor, bytes, bytes.count)
        return descriptor
    }

    @Test func aKeyIsMadeAskedForAndUsed() throws {
        let desk = Desk()
        trust(desk, authority)
        #expect(desk.find("shop", "cart") == nil)
        let requested = try renew(desk, number: 7)
        defer { requested.closeDescriptors() }
        #expect(requested.identity == cart && requested.number == 7 && requested.key != nil)
        #expect(desk.last?.state == .active && desk.last?.number == 7 && (desk.last?.notAfter ?? 0) > 0)
        let found = try #require(desk.find("shop", "cart"))
        #expect(found.credentials?.identity == found.number)
        #expect(found.credentials.map { String(decoding: $0.uri, as: UTF8.self) } == cart)
        #expect(desk.find("shop", "car") == nil && desk.find("shopc", "art") == nil && desk.find("", "") == nil)
    }

    @Test func numbersOutliveRotations() throws {
        let desk = Desk()
        trust(desk, authority)
        try renew(desk, number: 1).closeDescriptors()
        let first = try #require(desk.find("shop", "cart")), before = try #require(desk.generation)
        try renew(desk, number: 2).closeDescriptors()
        let second = try #require(desk.find("shop", "cart"))
        #expect(second.number == first.number && second.credentials.map { $0.generation > before } == true)
        let after = try #require(desk.generation)
        #expect(!desk.isCurrent(first.number, before) && desk.isCurrent(second.number, after))
        desk.own.withdraw(cart)
        desk.tell()
        let withdrawn = try #require(desk.find("shop", "cart"))
        #expect(withdrawn.number == first.number && withdrawn.credentials == nil)
        try renew(desk, number: 3).closeDescriptors()
        #expect(desk.find("shop", "cart")?.number == first.number)
    }

    /// What a new proxy gets from node: the certificate, and the memory of a key that another one has made.
    @Test func aKeyComesFromTheProxyBefore() throws {
        let before = Desk()
        trust(before, authority)
        let requested = try #require(before.want(cart, 4))
        let chain = authority.certify(requested.request, as: cart)
        let desk = Desk()
        trust(desk, authority)
        desk.own.issue(IdentityIssued(identity: cart, number: 4, chain: chain, notBefore: 0, notAfter: 0, key: requested.key))
        desk.tell()
        #expect(desk.last?.state == .active && desk.generation != nil)
    }

    @Test func whatDoesNotFitIsRefusedAndTheOlderStays() throws {
        let desk = Desk()
        trust(desk, authority)
        try renew(desk, number: 1).closeDescriptors()
        let good = try #require(desk.generation)
        func refused(_ reason: CredentialsFault, number: UInt64, _ state: IdentityState.State = .refused) {
            desk.tell()
            #expect(desk.last?.state == state && desk.last?.number == number && desk.last?.reason == reason.name)
            #expect(desk.generation == good, "the certificate before it stays in force")
        }
        try renew(desk, number: 2, as: "spiffe://cluster.local/ns/shop/sa/front").closeDescriptors()
        refused(.wrongName, number: 2)
        try renew(desk, number: 3, from: -9_000, to: -301).closeDescriptors()
        refused(.expired, number: 3, .expired)
        try renew(desk, number: 4, from: 301, to: 9_000).closeDescriptors()
        refused(.notYetValid, number: 4)
        let stranger = IssuingAuthority("stranger").identity(cart)
        let five = try #require(desk.want(cart, 5))
        five.closeDescriptors()
        desk.own.issue(IdentityIssued(identity: cart, number: 5, chain: stranger.chain, notBefore: 0, notAfter: 0))
        refused(.keyMismatch, number: 5)
        desk.own.issue(IdentityIssued(identity: cart, number: 6, chain: stranger.chain, notBefore: 0, notAfter: 0))
        desk.tell()
        #expect(desk.last?.reason == "no key of that number")
        desk.own.read(IdentityFiles(identity: cart, number: 7, chain: file(stranger.chain), key: file(stranger.key)))
        refused(.unknownAuthority, number: 7)
        desk.own.read(IdentityFiles(identity: cart, number: 8, chain: file([]), key: file(stranger.key)))
        refused(.malformedChain, number: 8)
        desk.own.read(IdentityFiles(identity: cart, number: 9, chain: file(stranger.chain), key: file(Array("none".utf8))))
        refused(.malformedKey, number: 9)
        for name in ["", "cart", "spiffe://cluster.local/node/one", cart + "/x"] {
            #expect(desk.want(name, 1) == nil)
            desk.tell()
            #expect(desk.last?.state == .refused && desk.last?.identity == name)
        }
    }

    @Test func filesAreReadWhole() throws {
        let desk = Desk()
        trust(desk, authority)
        let made = authority.identity(cart)
        desk.own.read(IdentityFiles(identity: cart, number: 1, chain: file(made.chain), key: file(made.key)))
        desk.tell()
        #expect(desk.last?.state == .active && desk.generation != nil)
    }

    /// A certificate that came before the bundle waits for it; other roots put everything together anew; roots that are gone end it.
    @Test func rootsDecide() throws {
        let desk = Desk(), next = IssuingAuthority("next")
        let made = authority.identity(cart)
        desk.own.read(IdentityFiles(identity: cart, number: 1, chain: file(made.chain), key: file(made.key)))
        desk.tell()
        #expect(desk.generation == nil && desk.reports.isEmpty)
        trust(desk, authority)
        let first = try #require(desk.generation)
        #expect(desk.last?.state == .active && desk.table.revocationsChanged == 1)
        trust(desk, authority, next, generation: 2)
        let second = try #require(desk.generation)
        #expect(second > first && desk.last?.state == .active && desk.find("shop", "cart")?.credentials?.rootsGeneration == 2)
        desk.own.trust(TrustBundle(trustDomain: "cluster.local", generation: 3, roots: Array("nothing".utf8)))
        desk.tell()
        #expect(desk.generation == second, "a bundle that cannot be read changes nothing")
        trust(desk, next, generation: 4)
        #expect(desk.generation == nil && desk.last?.state == .refused && desk.last?.reason == CredentialsFault.unknownAuthority.name)
        trust(desk, authority, generation: 5)
        #expect(desk.generation != nil && desk.last?.state == .active)
    }

    @Test func timeEndsCertificates() throws {
        let desk = Desk()
        trust(desk, authority)
        try renew(desk, number: 1, to: 100).closeDescriptors()
        desk.own.expire(now: unixSeconds() + 50)
        desk.tell()
        #expect(desk.generation != nil)
        desk.own.expire(now: unixSeconds() + 102)
        desk.tell()
        #expect(desk.generation == nil && desk.last?.state == .expired && desk.last?.number == 1)
        let told = desk.reports.count
        desk.own.expire(now: unixSeconds() + 200)
        desk.tell()
        #expect(desk.reports.count == told, "said once")
        try renew(desk, number: 2).closeDescriptors()
        #expect(desk.generation != nil)
    }

    @Test func revocationsReachTheWorker() throws {
        let desk = Desk()
        desk.own.revoke(Revocations(generation: 1, list: file(Array("serial 0a\n".utf8))))
        desk.tell()
        #expect(desk.table.revocationsChanged == 1)
        desk.own.revoke(Revocations(generation: 2, list: file(Array("nonsense\n".utf8))))
        desk.tell()
        #expect(desk.table.revocationsChanged == 1, "a list that cannot be read leaves the one before in force")
    }

    @Test func thereIsAnEndToIdentities() throws {
        let desk = Desk()
        for number in 0..<Limits.identitiesMax {
            desk.own.withdraw("unknown")
            let name = "spiffe://cluster.local/ns/shop/sa/a\(number)"
            desk.own.issue(IdentityIssued(identity: name, number: 1, chain: [], notBefore: 0, notAfter: 0))
        }
        desk.tell()
        #expect(desk.want(cart, 1) == nil)
        desk.tell()
        #expect(desk.last?.identity == cart && desk.last?.state == .refused)
    }
}
