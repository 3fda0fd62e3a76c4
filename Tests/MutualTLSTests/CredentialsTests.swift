import COpenSSL
import Glibc
import Testing

@testable import MutualTLS

@Suite struct CredentialsTests {
    let authority: Authority

    init() throws { authority = try Authority() }

    /// A file that exists only here.
    private func file(_ bytes: [UInt8]) -> Int32 {
        var path = Array("/tmp/weft-tls-XXXXXX".utf8CString)
        let descriptor = mkstemp(&path)
        unlink(path)
        _ = write(descriptor, bytes, bytes.count)
        return descriptor
    }

    @Test func whatPeersWouldRefuseIsRefusedHere() throws {
        let roots = try authority.roots()
        let changes: [(CredentialsFault, (inout Wanted) -> Void)] = [
            (.expired, { $0.notAfter = testNow - 301 }), (.notYetValid, { $0.notBefore = testNow + 301 }),
            (.wrongName, { $0.names = [DER.names(DER.uri(frontURI))] }), (.malformedName, { $0.names = [] }),
            (.malformedName, { $0.names = [DER.names(DER.uri(cartURI), DER.uri(cartURI))] }), (.unusable, { $0.isAuthority = true }),
        ]
        for (fault, change) in changes {
            #expect(throws: fault) { try authority.credentials(cartURI, roots: roots, change: change) }
        }
        #expect(throws: CredentialsFault.unknownAuthority) { try Authority("other").credentials(cartURI, roots: roots) }
        #expect(throws: CredentialsFault.wrongName) { try authority.credentials("spiffe://elsewhere/ns/shop/sa/cart", roots: roots) }
        #expect(throws: CredentialsFault.malformedName) { try authority.credentials("spiffe://cluster.local/cart", roots: roots) }
        let key = try KeyPair.generate(), other = try KeyPair.generate()
        let chain = authority.chain(.workload(cartURI), key: key)
        #expect(throws: CredentialsFault.keyMismatch) {
            try TLSCredentials(identity: 1, generation: 1, uri: Array(cartURI.utf8), chain: chain, key: other, roots: roots, now: testNow)
        }
        for broken in [Array(chain.dropLast(40)), [], Array("no certificate".utf8), Array(chain.map { $0 == UInt8(ascii: "A") ? UInt8(ascii: "?") : $0 })] {
            #expect(throws: CredentialsFault.malformedChain) {
                try TLSCredentials(identity: 1, generation: 1, uri: Array(cartURI.utf8), chain: broken, key: key, roots: roots, now: testNow)
            }
        }
    }

    @Test func rootsAreJudgedTogether() throws {
        let root = Mint.pem(authority.root)
        #expect(throws: CredentialsFault.malformedRoots) { _ = try TrustRoots(pem: [], trustDomain: Array("cluster.local".utf8), generation: 1) }
        #expect(throws: CredentialsFault.malformedRoots) { _ = try TrustRoots(pem: root + Array(root.dropLast(60)), trustDomain: Array("cluster.local".utf8), generation: 1) }
        for domain in ["", "Cluster.local", "a/b", "a b", String(repeating: "a", count: 256)] {
            #expect(throws: CredentialsFault.malformedTrustDomain) { _ = try TrustRoots(pem: root, trustDomain: Array(domain.utf8), generation: 1) }
        }
        let roots = try TrustRoots(pem: Array("# ours\n".utf8) + root + root, trustDomain: Array("cluster.local".utf8), generation: 7)
        #expect(roots.count == 2 && roots.generation == 7)
    }

    /// Keys of every kind that files may bring, on both sides of a handshake.
    @Test(arguments: ["EC", "ED25519", "RSA"]) func keysFromFiles(_ kind: String) throws {
        let roots = try authority.roots(), spaces = try Spaces()
        let pem = file(Mint.pemKey(kind))
        defer { close(pem) }
        // The same descriptor twice: whoever reads it second begins at its beginning.
        _ = try KeyPair.read(file: pem)
        let key = try KeyPair.read(file: pem)
        func credentials(_ uri: String) throws -> TLSCredentials {
            try TLSCredentials(
                identity: 1, generation: 1, uri: Array(uri.utf8), chain: authority.chain(.workload(uri), key: key), key: key, roots: roots, now: testNow)
        }
        let cart = try credentials(cartURI), front = try credentials(frontURI)
        var wire = try Wire.make(client: front, server: cart, in: spaces)
        let steps = wire.shakeHands()
        #expect(steps.client == .done && steps.server == .done)
    }

    @Test func noKeysFromOtherFiles() throws {
        let good = Mint.pemKey("EC")
        let encrypted = Array("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGjMF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBA=\n-----END ENCRYPTED PRIVATE KEY-----\n".utf8)
        for text in [[], Array("nothing".utf8), encrypted, Array(good.dropLast(60)), [UInt8](repeating: 32, count: TLSLimits.keyFileBytesMax) + good] {
            let descriptor = file(text)
            defer { close(descriptor) }
            #expect(throws: CredentialsFault.malformedKey) { _ = try KeyPair.read(file: descriptor) }
        }
    }

    /// What a proxy leaves for the next one.
    @Test func aKeyOutlivesItsOwner() throws {
        let key = try KeyPair.generate()
        let memory = try key.store()
        defer { close(memory) }
        let chain = authority.chain(.workload(cartURI), key: key)
        let loaded = try KeyPair.load(from: memory)
        _ = try TLSCredentials(identity: 1, generation: 1, uri: Array(cartURI.utf8), chain: chain, key: loaded, roots: try authority.roots(), now: testNow)
        for size in [0, 100, 8_192] {
            let strange = file([])
            defer { close(strange) }
            ftruncate(strange, off_t(size))
            #expect(throws: CredentialsFault.malformedKey) { _ = try KeyPair.load(from: strange) }
        }
        for length in [0, 1, 4_092, 4_093, UInt32.max] as [UInt32] {
            let strange = file([])
            defer { close(strange) }
            ftruncate(strange, 4_096)
            var length = length
            _ = write(strange, &length, 4)
            #expect(throws: CredentialsFault.malformedKey) { _ = try KeyPair.load(from: strange) }
        }
    }

    @Test func aRequestHasExactlyOneName() throws {
        let key = try KeyPair.generate()
        let request = try key.request(for: Array(cartURI.utf8))
        #expect(request.count < 400)
        try request.withUnsafeBytes { bytes in
            var place = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
            let parsed = try #require(d2i_X509_REQ(nil, &place, bytes.count))
            defer { X509_REQ_free(parsed) }
            #expect(X509_REQ_verify(parsed, key.key) == 1)
            #expect(X509_NAME_entry_count(X509_REQ_get_subject_name(parsed)) == 0)
        }
        let wanted = DER.names(DER.uri(cartURI))
        let holds = (0...(request.count - wanted.count)).contains { Array(request[$0..<($0 + wanted.count)]) == wanted }
        #expect(holds)
        for name in ["", "spiffe://cluster.local", cartURI + "\0", "SPIFFE://cluster.local/ns/shop/sa/cart"] {
            #expect(throws: CredentialsFault.malformedName) { try key.request(for: Array(name.utf8)) }
        }
    }

    @Test func revocationListsAreWholeOrNothing() throws {
        let list = try RevocationList(text: Array("# ours\n\nserial 00ff\nserial ABCDEF0123\nidentity \(cartURI)\n".utf8), generation: 5)
        defer { list.release() }
        #expect(list.count == 3 && list.generation == 5)
        func has(_ bytes: [UInt8]) -> Bool { bytes.withUnsafeBytes { list.contains(serial: $0) } }
        #expect(has([0xFF]) && has([0xAB, 0xCD, 0xEF, 0x01, 0x23]) && !has([0]) && !has([0xAB]) && !has(Array(cartURI.utf8)))
        #expect(Array(cartURI.utf8).withUnsafeBytes { list.contains(identity: $0) } && !Array(frontURI.utf8).withUnsafeBytes { list.contains(identity: $0) })
        for (line, text) in [(1, "serial"), (1, "serial xyz"), (2, "serial 1\nrevoke 2"), (1, "serial 00"), (1, "identity "), (3, "\n\nserial 1 2")] {
            #expect(throws: RevocationFault(line: line)) { _ = try RevocationList(text: Array(text.utf8), generation: 1) }
        }
        let many = (1...5_000).map { "serial \(String($0, radix: 16))" }.joined(separator: "\n")
        let long = try RevocationList(text: Array(many.utf8), generation: 6)
        defer { long.release() }
        let all = (1...5_000).allSatisfy { number in ([UInt8(number >> 8), UInt8(number & 255)].drop { $0 == 0 }).withUnsafeBytes { long.contains(serial: $0) } }
        #expect(all)
    }
}
