import Crypto
@testable import Identity
import Testing
import X509
import _CryptoExtras

@Suite struct SigningRequestTests {
    private func reason(_ der: [UInt8]) -> Refusal? {
        do throws(Refusal) {
            _ = try SigningRequest(der: der)
            return nil
        } catch {
            return error
        }
    }

    @Test func everyKindOfKeyThatIsPromised() throws {
        #expect(try SigningRequest(der: Requests.der()).keyKind == .p256)
        #expect(try SigningRequest(der: Requests.der(.init(P384.Signing.PrivateKey()))).keyKind == .p384)
        #expect(try SigningRequest(der: Requests.der(.init(Curve25519.Signing.PrivateKey()))).keyKind == .ed25519)
        #expect(try SigningRequest(der: Requests.der(.init(_RSA.Signing.PrivateKey(keySize: .bits2048)))).keyKind == .rsa)
        #expect(try SigningRequest(der: Requests.der()).identity == web)
    }

    @Test func otherKeysAreRefused() throws {
        #expect(reason(try Requests.der(.init(P521.Signing.PrivateKey()))) == .unsupportedKey)
    }

    @Test func namesAreExactlyOneIdentity() throws {
        func names(_ names: [GeneralName]?) throws -> Refusal? { reason(try Requests.der(names: names)) }
        #expect(try names(nil) == .noName)
        #expect(reason(try Requests.der(isAskingForExtensions: false)) == .noName)
        #expect(try names([]) == .noName)
        #expect(try names([.uniformResourceIdentifier(web.description), .uniformResourceIdentifier(web.description)]) == .severalNames)
        #expect(try names([.uniformResourceIdentifier(web.description), .dnsName("weft-controller.cluster.local")]) == .severalNames)
        #expect(try names([.dnsName("web.shop.svc")]) == .notAnIdentity)
        #expect(try names([.rfc822Name(web.description)]) == .notAnIdentity)
        #expect(try names([.uniformResourceIdentifier("https://cluster.local/ns/shop/sa/web")]) == .notAnIdentity)
        #expect(try names([.uniformResourceIdentifier(web.description + "/")]) == .notAnIdentity)
    }

    @Test func nobodyBecomesAnAuthority() throws {
        let wish = try Certificate.Extension(BasicConstraints.isCertificateAuthority(maxPathLength: nil), critical: true)
        #expect(reason(try Requests.der(extra: [wish])) == .asksForAuthority)
    }

    @Test func signaturesAreOfTheKeyAndNotOfSHA1() throws {
        var forged = try Requests.der()
        forged[forged.count - 1] ^= 1
        #expect([.badSignature, .malformedRequest].contains(reason(forged)))
        let other = try CertificateSigningRequest(derEncoded: Requests.der())
        let taken = try CertificateSigningRequest(
            version: .v1, subject: other.subject, publicKey: other.publicKey, attributes: other.attributes, signatureAlgorithm: .ecdsaWithSHA256,
            signature: try CertificateSigningRequest(derEncoded: Requests.der()).signature)
        #expect(reason(try Requests.bytes(taken)) == .badSignature)
        let rsa = Certificate.PrivateKey(try _RSA.Signing.PrivateKey(keySize: .bits2048))
        #expect(reason(try Requests.der(rsa, algorithm: .sha1WithRSAEncryption)) == .badSignature)
    }

    @Test func whatIsNoRequestIsRefused() throws {
        #expect(reason([]) == .malformedRequest)
        #expect(reason(Array("hello".utf8)) == .malformedRequest)
        #expect(reason(try Requests.der() + [0]) == .malformedRequest)
        #expect(reason(Array(try Requests.der().dropLast())) == .malformedRequest)
        #expect(reason([UInt8](repeating: 0x30, count: AuthorityLimits.requestBytesMax + 1)) == .requestTooLarge)
    }

    /// What is accepted after mangling is still the same key asking for the same name: only the envelope around what is signed differs
    /// (padding bits of the signature, which the library does not look at).
    @Test func mangledRequestsNeverTrapAndNeverAskForSomethingElse() throws {
        let der = try Requests.der()
        let original = try CertificateSigningRequest(derEncoded: der)
        var generator = SplitMix(state: 11)
        for _ in 0..<20_000 {
            var bytes = der
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let place = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<4, using: &generator) {
                case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
                case 1: bytes.insert(UInt8.random(in: .min ... .max, using: &generator), at: place)
                case 2: bytes.removeSubrange(place..<min(bytes.count, place + Int.random(in: 1...8, using: &generator)))
                default: bytes[place] = [0, 0x7F, 0x80, 0x84, 0xFF, 0x30][Int.random(in: 0..<6, using: &generator)]
                }
                if bytes.isEmpty { break }
            }
            guard let accepted = try? SigningRequest(der: bytes) else { continue }
            if accepted.identity != web || accepted.publicKey != original.publicKey {
                Issue.record("accepted: \(bytes.hex) instead of \(der.hex)")
                return
            }
        }
    }
}
