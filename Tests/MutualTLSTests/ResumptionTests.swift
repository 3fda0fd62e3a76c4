import Glibc
import Testing

@testable import MutualTLS

@Suite struct ResumptionTests {
    let authority: Authority
    let spaces: Spaces

    init() throws {
        authority = try Authority()
        spaces = try Spaces()
    }

    /// A full handshake between the two, and the ticket it leaves.
    private func ticket(_ front: TLSCredentials, _ cart: TLSCredentials) throws -> TLSTicket {
        var wire = try Wire.make(client: front, server: cart, in: spaces)
        let steps = wire.shakeHands()
        #expect(steps.client == .done && !wire.client.isResumed)
        guard let ticket = wire.client.takeTicket() else { throw NoTicket() }
        return ticket
    }
    struct NoTicket: Error {}

    @Test func aSessionIsTakenUpAgain() throws {
        let roots = try authority.roots()
        let cart = try authority.credentials(cartURI, roots: roots), front = try authority.credentials(frontURI, roots: roots)
        let kept: TLSTicket? = try ticket(front, cart)
        let verified = spaces.server.leavesVerified + spaces.server.leavesKnown
        // A ticket may be used by several connections; each brings a new one.
        for _ in 0..<3 {
            var wire = try Wire.make(client: front, server: cart, ticket: kept, in: spaces)
            let steps = wire.shakeHands()
            #expect(steps.client == .done && steps.server == .done)
            let resumed = wire.client.isResumed && wire.server.isResumed
            #expect(resumed)
            let seen = wire.server.peer, met = wire.client.peer
            #expect(seen.uri.string == frontURI && Array(seen.serial) == [0x4d, 1] && seen.notAfter == testNow + 86_400)
            #expect(met.uri.string == cartURI)
            let hasNext = wire.client.takeTicket() != nil
            #expect(hasNext)
        }
        #expect(spaces.server.leavesVerified + spaces.server.leavesKnown == verified, "no certificate was shown")
    }

    /// The same two, but something has changed since: the ticket must count for nothing, and the handshake be a full one.
    private func expectFull(_ front: TLSCredentials, _ cart: TLSCredentials, _ kept: borrowing TLSTicket?, now: Int64 = testNow, _ why: Comment) throws {
        var wire = try Wire.make(client: front, server: cart, ticket: kept, in: spaces)
        let steps = wire.shakeHands(now: now)
        let resumed = wire.client.isResumed || wire.server.isResumed
        #expect(steps.client == .done && steps.server == .done && !resumed, why)
    }

    @Test func newCredentialsOpenNoOlderTicket() throws {
        let roots = try authority.roots()
        let cart = try authority.credentials(cartURI, roots: roots), front = try authority.credentials(frontURI, roots: roots)
        let kept: TLSTicket? = try ticket(front, cart)
        let laterCart = try authority.credentials(cartURI, generation: 2, roots: roots), laterFront = try authority.credentials(frontURI, generation: 2, roots: roots)
        try expectFull(front, laterCart, kept, "the server's certificate was renewed")
        try expectFull(laterFront, cart, kept, "the client's certificate was renewed")
        let newerRoots = try authority.roots(2)
        let underNewer = try authority.credentials(cartURI, generation: 3, roots: newerRoots)
        try expectFull(front, underNewer, kept, "the roots have changed")
        try expectFull(front, cart, kept == nil ? kept : nil, "none was given")
    }

    /// Another workload's context must not open it, even if the client would offer it.
    @Test func aTicketIsOneServersOwn() throws {
        let roots = try authority.roots()
        let orders = "spiffe://cluster.local/ns/shop/sa/orders"
        let cart = try authority.credentials(cartURI, roots: roots), front = try authority.credentials(frontURI, roots: roots)
        let other = try authority.credentials(orders, identity: 2, roots: roots)
        let kept: TLSTicket? = try ticket(front, cart)
        var wire = try Wire.make(client: front, server: other, expecting: ("shop", "orders"), ticket: kept, in: spaces)
        let steps = wire.shakeHands()
        let met = wire.client.peer.uri.string, resumed = wire.client.isResumed
        #expect(steps.client == .done && !resumed && met == orders)
        // And a server that does not have it any more is not mistaken for the one that gave it.
        var wrong = try Wire.make(client: front, server: other, ticket: kept, in: spaces)
        let refused = wrong.shakeHands().client
        #expect(refused == .failed(.wrongIdentity))
    }

    @Test func timeEndsATicket() throws {
        let roots = try authority.roots()
        let cart = try authority.credentials(cartURI, roots: roots)
        let front = try authority.credentials(frontURI, roots: roots) { $0.notAfter = testNow + 100 }
        let kept: TLSTicket? = try ticket(front, cart)
        var wire = try Wire.make(client: front, server: cart, ticket: kept, in: spaces)
        let before = wire.shakeHands(now: testNow + 100)
        let resumed = wire.server.isResumed
        #expect(before.server == .done && resumed)
        try expectFull(front, cart, kept, now: testNow + 101, "its client's certificate has ended, though within the skew")
        var late = try Wire.make(client: front, server: cart, ticket: kept, in: spaces)
        let after = late.shakeHands(now: testNow + 401)
        #expect(after.server == .failed(.expired))
    }

    @Test func aTicketOfTheRevokedIsWorthNothing() throws {
        let roots = try authority.roots()
        let cart = try authority.credentials(cartURI, roots: roots), front = try authority.credentials(frontURI, roots: roots)
        let kept: TLSTicket? = try ticket(front, cart)
        spaces.server.install(try RevocationList(text: Array("identity \(frontURI)".utf8), generation: 1))
        var wire = try Wire.make(client: front, server: cart, ticket: kept, in: spaces)
        let steps = wire.shakeHands()
        #expect(steps.server == .failed(.revoked))
        // The other way round: the client knows that the server is.
        spaces.server.install(try RevocationList(text: [], generation: 2))
        spaces.client.install(try RevocationList(text: Array("identity \(cartURI)".utf8), generation: 2))
        var back = try Wire.make(client: front, server: cart, ticket: kept, in: spaces)
        let ends = back.shakeHands()
        #expect(ends.client == .failed(.revoked))
    }

    @Test func aKnownLeafIsVerifiedOnce() throws {
        let roots = try authority.roots()
        let cart = try authority.credentials(cartURI, roots: roots), front = try authority.credentials(frontURI, roots: roots)
        func meet(_ server: TLSCredentials) throws {
            var wire = try Wire.make(client: front, server: server, in: spaces)
            let steps = wire.shakeHands()
            #expect(steps.client == .done && steps.server == .done)
        }
        for _ in 0..<5 { try meet(cart) }
        #expect(spaces.server.leavesVerified == 1 && spaces.server.leavesKnown == 4)
        spaces.server.install(try RevocationList(text: Array("serial 01".utf8), generation: 1))
        try meet(cart)
        #expect(spaces.server.leavesVerified == 2, "what is revoked has changed")
        let newer = try authority.credentials(cartURI, generation: 2, roots: try authority.roots(2))
        try meet(newer)
        try meet(newer)
        #expect(spaces.server.leavesVerified == 3 && spaces.server.leavesKnown == 5, "the roots have changed")
        try meet(cart)
        #expect(spaces.server.leavesVerified == 4 && spaces.server.leavesKnown == 5, "a handshake under older roots neither reads nor writes what newer ones say")
    }

    /// Old and new roots overlap; a peer under either is accepted while both are there, and under the new one only afterwards.
    @Test func rootsRotate() throws {
        let next = try Authority("next root")
        let both = try authority.roots(2, and: next), only = try next.roots(3)
        let cart = try authority.credentials(cartURI, generation: 1, roots: both)
        let oldFront = try authority.credentials(frontURI, generation: 2, roots: both), newFront = try next.credentials(frontURI, generation: 3, roots: both)
        for front in [oldFront, newFront] {
            var wire = try Wire.make(client: front, server: cart, in: spaces)
            let steps = wire.shakeHands()
            #expect(steps.client == .done && steps.server == .done)
        }
        let newCart = try next.credentials(cartURI, generation: 4, roots: only)
        var wire = try Wire.make(client: newFront, server: newCart, in: spaces)
        let steps = wire.shakeHands()
        #expect(steps.client == .done && steps.server == .done)
        var late = try Wire.make(client: oldFront, server: newCart, in: spaces)
        let refused = late.shakeHands()
        #expect(refused.server == .failed(.unknownAuthority))
    }
}
