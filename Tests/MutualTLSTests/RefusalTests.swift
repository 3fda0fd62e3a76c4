import COpenSSL
import Glibc
import Testing

@testable import MutualTLS

/// Every reason for which a peer is refused: as the server says it of a client, and the alert that client then gets.
@Suite struct RefusalTests {
    let authority: Authority
    let spaces: Spaces

    init() throws {
        authority = try Authority()
        spaces = try Spaces()
    }

    struct Case: CustomTestStringConvertible, Sendable {
        var fault: TLSFault
        /// What the refused client is told (RFC 8446, 6).
        var alert: UInt8
        var change: @Sendable (inout Wanted) -> Void
        var testDescription: String { "\(fault.name)" }
    }

    static let cases: [Case] = [
        Case(fault: .expired, alert: 45) { $0.notBefore = testNow - 9_000; $0.notAfter = testNow - 301 },
        Case(fault: .notYetValid, alert: 42) { $0.notBefore = testNow + 301; $0.notAfter = testNow + 9_000 },
        Case(fault: .wrongTrustDomain, alert: 42) { $0.names = [DER.names(DER.uri("spiffe://elsewhere/ns/shop/sa/front"))] },
        Case(fault: .severalNames, alert: 42) { $0.names = [DER.names(DER.uri(frontURI), DER.uri(frontURI))] },
        Case(fault: .severalNames, alert: 42) { $0.names = [DER.names(DER.uri(frontURI), DER.dns("front.shop"), DER.uri("https://front"))] },
        Case(fault: .noName, alert: 42) { $0.names = [] },
        Case(fault: .noName, alert: 42) { $0.names = [DER.names(DER.dns("front.shop"))] },
        Case(fault: .malformedName, alert: 42) { $0.names = [DER.names(DER.uri("spiffe://cluster.local/node/one"))] },
        Case(fault: .malformedName, alert: 42) { $0.names = [DER.names(DER.uri("https://cluster.local/ns/shop/sa/front"))] },
        Case(fault: .malformedName, alert: 42) { $0.names = [DER.names(DER.uri("spiffe://cluster.local/ns/shop/sa/front\0.evil"))] },
        Case(fault: .malformedName, alert: 42) { $0.names = [DER.names(DER.uri("spiffe://cluster.local/ns/shop/sa/front/../cart"))] },
        Case(fault: .malformedName, alert: 42) { $0.names = [DER.names(DER.uri("spiffe://cluster.local/ns/shop/sa/fr%6fnt"))] },
        Case(fault: .badUsage, alert: 43) { $0.keyUsage = 0x40 },
        Case(fault: .badUsage, alert: 43) { $0.keyUsage = 0x84 },
        Case(fault: .badUsage, alert: 43) { $0.purposes = [1] },
        Case(fault: .badUsage, alert: 43) { $0.isAuthority = true },
    ]

    /// A client whose certificate nobody has checked on its own side.
    private func rogue(_ chain: [UInt8], key: borrowing KeyPair, roots: borrowing TrustRoots) throws -> TLSCredentials {
        let good = try authority.credentials(frontURI, roots: roots)
        let certificates = try CertificateChain(pem: chain, countMax: 5)
        let context = good.record.pointee.client
        try #require(SSL_CTX_use_certificate(context, certificates[0]) == 1 && SSL_CTX_use_PrivateKey(context, key.key) == 1)
        SSL_CTX_ctrl(context, SSL_CTRL_CHAIN, 0, nil)
        for place in 1..<max(1, certificates.count) { _ = copenssl_ctx_add_chain(context, certificates[place]) }
        return good
    }

    private func refuse(_ client: TLSCredentials, as fault: TLSFault, alert: UInt8?, roots: borrowing TrustRoots) throws {
        let cart = try authority.credentials(cartURI, roots: roots)
        // Twice: what one handshake leaves behind must not help the next.
        for _ in 0..<2 {
            var wire = try Wire.make(client: client, server: cart, in: spaces)
            let steps = wire.shakeHands()
            #expect(steps.server == .failed(fault))
            #expect(steps.client == .failed(.peerAlert))
            let told = wire.client.peerAlert
            if let alert { #expect(told == alert) }
            let again = wire.server.handshake(now: testNow)
            #expect(again == .failed(fault), "a refusal stands")
            var byte: UInt8 = 0
            let received = wire.server.receive(into: &byte, count: 1), sent = wire.server.transmit(&byte, count: 1)
            #expect(received == .failed(fault) && sent == .failed(fault))
        }
    }

    @Test(arguments: cases) func aClientIsRefused(_ refused: Case) throws {
        let roots = try authority.roots()
        let key = try KeyPair.generate()
        var wanted = Wanted.workload(frontURI)
        refused.change(&wanted)
        try refuse(try rogue(authority.chain(wanted, key: key), key: key, roots: roots), as: refused.fault, alert: refused.alert, roots: roots)
    }

    @Test func anotherAuthorityIsUnknown() throws {
        let roots = try authority.roots()
        let other = try Authority("other"), namesake = try Authority()
        for stranger in [other, namesake] {
            let key = try KeyPair.generate()
            let chain = stranger.chain(.workload(frontURI), key: key)
            let cart = try authority.credentials(cartURI, roots: roots)
            var wire = try Wire.make(client: try rogue(chain, key: key, roots: roots), server: cart, in: spaces)
            let step = wire.shakeHands().server
            #expect(step == .failed(stranger === other ? .unknownAuthority : .badSignature))
        }
    }

    /// A leaf signs nothing: a workload that makes a certificate for another one is found out.
    @Test func aWorkloadIsNoAuthority() throws {
        let roots = try authority.roots()
        let key = try KeyPair.generate(), forgedKey = try KeyPair.generate()
        var honest = Wanted.workload(frontURI)
        honest.subject = "front"
        let leaf = Mint.make(honest, key: key, issuer: authority.intermediate, signer: authority.key)
        let forged = Mint.make(.workload("spiffe://cluster.local/ns/shop/sa/admin"), key: forgedKey, issuer: leaf, signer: key)
        defer {
            X509_free(leaf)
            X509_free(forged)
        }
        let chain = Mint.pem(forged) + Mint.pem(leaf) + Mint.pem(authority.intermediate)
        try refuse(try rogue(chain, key: forgedKey, roots: roots), as: .badUsage, alert: nil, roots: roots)
    }

    @Test func withoutCertificateNobodyComesIn() throws {
        let roots = try authority.roots()
        let front = try authority.credentials(frontURI, roots: roots)
        SSL_CTX_set_cert_cb(front.record.pointee.client, { ssl, _ in SSL_certs_clear(ssl); return 1 }, nil)
        try refuse(front, as: .noCertificate, alert: 116, roots: roots)
    }

    @Test func theServerMustBeTheOneThatWasAskedFor() throws {
        let roots = try authority.roots()
        let cart = try authority.credentials(cartURI, roots: roots), front = try authority.credentials(frontURI, roots: roots)
        for expecting in [("shop", "orders"), ("stock", "cart"), ("shop", "car"), ("shop", "")] {
            var wire = try Wire.make(client: front, server: cart, expecting: expecting, in: spaces)
            let steps = wire.shakeHands()
            #expect(steps.client == .failed(.wrongIdentity) && steps.server == .failed(.peerAlert))
            let alert = wire.server.peerAlert
            #expect(alert == 42)
        }
        // The same leaf, for whom it is right: it was not forgotten, and not held against it.
        var wire = try Wire.make(client: front, server: cart, in: spaces)
        let steps = wire.shakeHands()
        #expect(steps.client == .done)
    }

    @Test func clocksMayDifferByFiveMinutes() throws {
        let roots = try authority.roots()
        let cart = try authority.credentials(cartURI, roots: roots)
        for change in [{ $0.notAfter = testNow - 300 }, { $0.notBefore = testNow + 300 }] as [(inout Wanted) -> Void] {
            let key = try KeyPair.generate()
            var wanted = Wanted.workload(frontURI)
            change(&wanted)
            var wire = try Wire.make(client: try rogue(authority.chain(wanted, key: key), key: key, roots: roots), server: cart, in: spaces)
            let steps = wire.shakeHands()
            #expect(steps.server == .done && steps.client == .done)
        }
    }

    @Test func anEndedIntermediateEndsItsLeaves() throws {
        var short = Wanted.authority("intermediate")
        short.notAfter = testNow + 100
        let authority = try Authority(intermediate: short)
        let roots = try authority.roots()
        let cart = try authority.credentials(cartURI, roots: roots), front = try authority.credentials(frontURI, roots: roots)
        for (now, good) in [(testNow, true), (testNow + 400, true), (testNow + 401, false)] {
            var wire = try Wire.make(client: front, server: cart, in: spaces)
            let steps = wire.shakeHands(now: now)
            #expect((steps.client == .done) == good && (good || steps.client == .failed(.expired)))
        }
    }

    @Test func theRevokedAreRefusedAtOnce() throws {
        let roots = try authority.roots()
        let cart = try authority.credentials(cartURI, roots: roots)
        let front = try authority.credentials(frontURI, roots: roots) { $0.serial = [0x00, 0xBE, 0xEF] }
        for text in ["serial BEEF\n", "serial 0beef\nidentity spiffe://cluster.local/ns/x/sa/y", "identity \(frontURI)\n"] {
            spaces.server.install(try RevocationList(text: [], generation: 1))
            var wire = try Wire.make(client: front, server: cart, in: spaces)
            var steps = wire.shakeHands()
            #expect(steps.client == .done && steps.server == .done)
            let before = wire.server.refusalToday(now: testNow)
            #expect(before == nil)
            spaces.server.install(try RevocationList(text: Array(text.utf8), generation: 2))
            let after = wire.server.refusalToday(now: testNow)
            #expect(after == .revoked, "a live session is told apart too")
            var next = try Wire.make(client: front, server: cart, in: spaces)
            steps = next.shakeHands()
            let alert = next.client.peerAlert
            #expect(steps.server == .failed(.revoked) && steps.client == .failed(.peerAlert) && alert == 44)
        }
    }

    @Test func aRevokedIntermediateTakesItsLeavesAlong() throws {
        var wanted = Wanted.authority("intermediate")
        wanted.serial = [0x77]
        let authority = try Authority(intermediate: wanted)
        let roots = try authority.roots()
        let cart = try authority.credentials(cartURI, roots: roots), front = try authority.credentials(frontURI, roots: roots)
        spaces.server.install(try RevocationList(text: Array("# crl\nserial 77\n".utf8), generation: 1))
        var wire = try Wire.make(client: front, server: cart, in: spaces)
        let steps = wire.shakeHands()
        #expect(steps.server == .failed(.revoked))
    }

    @Test func nothingInCommon() throws {
        let roots = try authority.roots()
        let cart = try authority.credentials(cartURI, roots: roots)
        let strange = try authority.credentials(frontURI, roots: roots), silent = try authority.credentials(frontURI, roots: roots)
        SSL_CTX_set_alpn_protos(strange.record.pointee.client, Array("\u{8}http/1.1".utf8), 9)
        SSL_CTX_set_alpn_protos(silent.record.pointee.client, nil, 0)
        let older = try authority.credentials(frontURI, roots: roots), other = try authority.credentials(frontURI, roots: roots)
        SSL_CTX_ctrl(older.record.pointee.client, SSL_CTRL_SET_MIN_PROTO_VERSION, Int(TLS1_2_VERSION), nil)
        SSL_CTX_ctrl(older.record.pointee.client, SSL_CTRL_SET_MAX_PROTO_VERSION, Int(TLS1_2_VERSION), nil)
        try #require(SSL_CTX_set_ciphersuites(other.record.pointee.client, "TLS_AES_128_CCM_SHA256") == 1)
        let cases: [(TLSCredentials, TLSFault)] = [(strange, .noCommonProtocol), (silent, .noCommonProtocol), (older, .protocolVersion), (other, .noCommonParameters)]
        for (client, fault) in cases {
            var wire = try Wire.make(client: client, server: cart, in: spaces)
            let step = wire.shakeHands().server
            #expect(step == .failed(fault))
        }
    }

    @Test func hboneIsTheSecondChoice() throws {
        let roots = try authority.roots()
        let cart = try authority.credentials(cartURI, roots: roots), front = try authority.credentials(frontURI, roots: roots)
        SSL_CTX_set_alpn_protos(front.record.pointee.client, Array("\u{2}h2".utf8), 3)
        var wire = try Wire.make(client: front, server: cart, in: spaces)
        _ = wire.shakeHands()
        let chosen = wire.server.applicationProtocol
        #expect(chosen == .hbone)
    }

    @Test func whatIsNotTLS() throws {
        let roots = try authority.roots()
        let cart = try authority.credentials(cartURI, roots: roots)
        let first: [(String, TLSFault)] = [
            ("GET / HTTP/1.1\r\nhost: cart\r\n\r\n", .notTLS), ("SSH-2.0-OpenSSH_9.2\r\n", .notTLS), ("\u{16}\u{3}\u{1}\u{0}\u{4}\u{1}\u{0}\u{0}\u{0}", .malformed),
            ("", .closed), ("\u{16}\u{3}\u{1}", .closed),
        ]
        for (text, fault) in first {
            var ends: [Int32] = [-1, -1]
            socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0, &ends)
            defer { close(ends[1]) }
            let bytes = Array(text.utf8)
            _ = write(ends[0], bytes, bytes.count)
            close(ends[0])
            guard var server = TLSSession(server: cart, descriptor: ends[1], workspace: spaces.server) else { throw Wire.NoMemory() }
            var step = server.handshake(now: testNow)
            // Its end was not asked for together with the bytes before it.
            if step == .wantsRead { step = server.handshake(now: testNow) }
            #expect(step == .failed(fault), "after \(text.debugDescription)")
        }
    }

    @Test func anEndWithoutGoodbyeIsACut() throws {
        let roots = try authority.roots()
        let cart = try authority.credentials(cartURI, roots: roots), front = try authority.credentials(frontURI, roots: roots)
        for saysGoodbye in [true, false] {
            var wire = try Wire.make(client: front, server: cart, in: spaces)
            _ = wire.shakeHands()
            var bytes: [UInt8] = [1, 2, 3], room = [UInt8](repeating: 0, count: 64)
            _ = wire.client.transmit(&bytes, count: 3)
            if saysGoodbye { wire.client.close() }
            shutdown(wire.clientEnd, Int32(SHUT_WR))
            let first = wire.server.receive(into: &room, count: 64)
            if saysGoodbye {
                let mayRest = wire.server.isDrained
                #expect(!mayRest, "the end was met behind the bytes, and no edge will tell of it")
            }
            let second = wire.server.receive(into: &room, count: 64)
            #expect(first == .moved(3) && second == (saysGoodbye ? .ended : .failed(.truncated)))
        }
    }
}
