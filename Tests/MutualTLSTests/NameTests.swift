import COpenSSL
import Glibc
import Testing

@testable import MutualTLS

/// Our own boundary: bytes of a peer's certificate become a name here, or nothing.
@Suite struct NameTests {
    private func name(_ text: String) -> (String, String, String)? {
        let bytes = Array(text.utf8)
        return bytes.withUnsafeBytes { raw in WorkloadName(raw).map { ($0.trustDomain.string, $0.namespace.string, $0.serviceAccount.string) } }
    }

    private func uri(_ bytes: [UInt8]) -> Result<String, TLSFault> {
        bytes.withUnsafeBytes { raw in
            do throws(TLSFault) { return .success(try SubjectNames.uri(in: raw).string) } catch { return .failure(error) }
        }
    }

    @Test func goodNames() throws {
        let long = String(repeating: "a", count: 63), longest = [long, long, long, String(repeating: "b", count: 61)].joined(separator: ".")
        for (domain, namespace, account) in [("cluster.local", "shop", "cart"), ("td", "a", "b"), ("x_y.z-1", "0-0", "a.b-c.d"), (longest + ".c", long, longest)] {
            let parts = try #require(name("spiffe://\(domain)/ns/\(namespace)/sa/\(account)"))
            #expect(parts.0 == domain && parts.1 == namespace && parts.2 == account)
        }
    }

    @Test(arguments: [
        "", "spiffe://", "spiffe:///ns/shop/sa/cart", "spiffe://td", "spiffe://td/", "spiffe://td/ns/shop/sa", "spiffe://td/ns/shop/sa/", "spiffe://td/ns//sa/cart",
        "spiffe://td/ns/shop/sa/cart/", "spiffe://td/ns/shop/sa/cart/x", "spiffe://td/ns/shop/sa/cart?", "spiffe://td/ns/shop/sa/cart#x", "spiffe://td/NS/shop/sa/cart",
        "SPIFFE://td/ns/shop/sa/cart", "spiffe://TD/ns/shop/sa/cart", "spiffe://td:1/ns/shop/sa/cart", "spiffe://user@td/ns/shop/sa/cart", "https://td/ns/shop/sa/cart",
        "spiffe://td/ns/Shop/sa/cart", "spiffe://td/ns/shop/sa/Cart", "spiffe://td/ns/-shop/sa/cart", "spiffe://td/ns/shop-/sa/cart", "spiffe://td/ns/sh.op/sa/cart",
        "spiffe://td/ns/shop/sa/.cart", "spiffe://td/ns/shop/sa/cart.", "spiffe://td/ns/shop/sa/a..b", "spiffe://td/ns/shop/sa/a.-b", "spiffe://td/ns/shop/sa/a-.b",
        "spiffe://td/ns/shop/sa/ca%72t", "spiffe://td/ns/shop/sa/cärt", "spiffe://td/ns/shop/sa/cart ", " spiffe://td/ns/shop/sa/cart", "spiffe://td/ns/shop/sa/ca\0rt",
        "spiffe://td/ns/shop/sa/cart\n", "spiffe://td/node/one", "spiffe://td//ns/shop/sa/cart", "spiffe://td/./ns/shop/sa/cart", "spiffe://td/ns/../sa/cart",
    ]) func badNames(_ text: String) {
        #expect(name(text) == nil)
    }

    @Test func tooLongNames() {
        let a64 = String(repeating: "a", count: 64)
        #expect(name("spiffe://td/ns/\(a64)/sa/cart") == nil)
        #expect(name("spiffe://td/ns/shop/sa/\(String(repeating: "a", count: 254))") == nil)
        #expect(name("spiffe://\(String(repeating: "a", count: 256))/ns/shop/sa/cart") == nil)
        #expect(name("spiffe://td/ns/shop/sa/cart" + String(repeating: "/", count: 70_000)) == nil)
    }

    @Test func namesOfOtherKindsArePassedOver() {
        let ip = DER.element(0x87, [10, 0, 0, 1]), other = DER.element(0xA0, DER.element(6, [42]))
        #expect(uri(DER.names(DER.dns("cart.shop"), DER.uri(cartURI), ip, other)) == .success(cartURI))
        #expect(uri(DER.names(DER.dns("cart.shop"), ip)) == .failure(.noName))
        #expect(uri(DER.names()) == .failure(.noName))
        #expect(uri(DER.names(DER.uri(cartURI), ip, DER.uri("x:"))) == .failure(.severalNames))
    }

    @Test func whatIsNotDER() {
        let good = DER.names(DER.uri(cartURI))
        let broken: [[UInt8]] = [
            [], [0x30], [0x30, 0x80], [0x30, 0x80, 0, 0], good + [0], Array(good.dropLast()), [0x31] + good.dropFirst(), [0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF],
            [0x30, 0x85, 0, 0, 0, 0, 0], [0x30, 0x81, 0x02, 0x82, 0x00], [0x30, 0x82, 0x00, 0x02, 0x82, 0x00], DER.element(0x30, [0x86, 0x7F]),
            DER.element(0x30, [0x86]), DER.element(0x30, [0x9F, 0x86, 0]), DER.element(0x30, DER.element(0x06, [1])), DER.element(0x30, DER.element(0x89, [1])),
            DER.element(0x30, DER.element(0xA6, Array(cartURI.utf8))), DER.element(0x30, DER.element(0x86, []) + [0, 0]),
        ]
        for bytes in broken { #expect(uri(bytes) == .failure(.malformedCertificate), "\(bytes)") }
    }

    /// From a seed: certificates that were right, with a few bytes changed, through OpenSSL's parser, our names' reader and the verification. Nothing
    /// crashes, and nothing whose signed bytes differ is accepted.
    @Test func changedCertificatesAreNeverAccepted() throws {
        let authority = try Authority(), spaces = try Spaces()
        let roots = try authority.roots()
        let key = try KeyPair.generate()
        let leaf = Mint.make(.workload(frontURI), key: key, issuer: authority.intermediate, signer: authority.key)
        defer { X509_free(leaf) }
        let good = Mint.der(leaf)
        var random = Numbers(1)
        var parsedOnes = 0, refused = 0
        let store = try #require(X509_STORE_CTX_new())
        defer { X509_STORE_CTX_free(store) }
        let cart = try authority.credentials(cartURI, roots: roots)
        for _ in 0..<20_000 {
            var bytes = good
            for _ in 0...(random.next() % 3) {
                let place = Int(random.next() % UInt64(bytes.count))
                switch random.next() % 4 {
                case 0: bytes[place] = UInt8(truncatingIfNeeded: random.next())
                case 1: bytes[place] ^= 1 << UInt8(random.next() % 8)
                case 2: bytes.remove(at: place)
                default: bytes.insert(UInt8(truncatingIfNeeded: random.next()), at: place)
                }
            }
            guard bytes != good else { continue }
            let parsed = bytes.withUnsafeBytes { raw in
                var place = raw.baseAddress?.assumingMemoryBound(to: UInt8.self)
                return d2i_X509(nil, &place, raw.count)
            }
            ERR_clear_error()
            guard let parsed else { continue }
            defer { X509_free(parsed) }
            parsedOnes += 1
            // What the reader of names says of it matters only if OpenSSL has found the signature good, but it must say something.
            do throws(TLSFault) { _ = WorkloadName(try Verification.uri(of: parsed)) } catch { refused += 1 }
            let chain = Mint.pem(parsed) + Mint.pem(authority.intermediate)
            let verdict = Result { () throws in
                _ = try TLSCredentials(identity: 1, generation: 1, uri: Array(frontURI.utf8), chain: chain, key: key, roots: roots, now: testNow)
            }
            if case .success = verdict { Issue.record("accepted: \(bytes)") }
        }
        #expect(parsedOnes > 1_000 && refused > 10)
        _ = (cart, spaces)
    }

    /// The names' reader alone, with arbitrary bytes: whatever it returns lies within what it was given.
    @Test func arbitraryBytes() {
        var random = Numbers(2)
        let good = DER.names(DER.dns("cart.shop"), DER.uri(cartURI), DER.element(0xA0, [6, 1, 42]))
        var found = 0
        for round in 0..<200_000 {
            var bytes = round % 2 == 0 ? good : (0..<Int(random.next() % 40)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            if !bytes.isEmpty { bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random.next()) }
            bytes.withUnsafeBytes { raw in
                guard let start = raw.baseAddress else { return }
                do throws(TLSFault) {
                    let uri = try SubjectNames.uri(in: raw)
                    let inside = uri.count == 0 || (uri.baseAddress! >= start && uri.baseAddress! + uri.count <= start + raw.count)
                    if !inside { Issue.record("outside of \(bytes)") }
                    if let name = WorkloadName(uri) {
                        found += 1
                        if name.namespace.isEmpty || name.serviceAccount.isEmpty || name.trustDomain.isEmpty { Issue.record("an empty part in \(bytes)") }
                    }
                } catch {}
            }
        }
        #expect(found > 1_000)
    }
}

/// Numbers from a seed (SplitMix64), so that what fails can be seen again.
struct Numbers {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }
}
