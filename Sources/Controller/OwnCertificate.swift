import Identity
import NIOCore
import NIOSSL
import Synchronization

/// The controller's own certificate, renewed while it listens: each handshake takes the present one.
final class OwnCertificate: Sendable {
    private struct Present: Sendable {
        var chain: [NIOSSLCertificateSource]
        var key: NIOSSLPrivateKeySource
        /// Unix seconds.
        var renewal: Double
    }
    private let authority: CertificateAuthority
    private let present: Mutex<Present>

    init(_ authority: CertificateAuthority, at now: Double) throws {
        self.authority = authority
        present = Mutex(try Self.make(authority, at: now))
    }

    /// Makes a new one when half of the old one's life is over.
    func renew(at now: Double) throws {
        guard now >= present.withLock({ $0.renewal }) else { return }
        let fresh = try Self.make(authority, at: now)
        present.withLock { $0 = fresh }
    }

    private static func make(_ authority: CertificateAuthority, at now: Double) throws -> Present {
        let pair = NodeKeyPair()
        let issued = try authority.issueOwn(pair, at: Int64(now))
        return Present(
            chain: try NIOSSLCertificate.fromPEMBytes(Array(issued.chain.utf8)).map { .certificate($0) },
            key: .privateKey(try NIOSSLPrivateKey(bytes: Array(try pair.pem.utf8), format: .pem)),
            renewal: now + (Double(issued.notAfter) - now) / 2)
    }

    /// TLS 1.3; who connects may show a certificate.
    func configuration() throws -> TLSConfiguration {
        let now = present.withLock { $0 }
        var configuration = TLSConfiguration.makeServerConfiguration(certificateChain: now.chain, privateKey: now.key)
        configuration.minimumTLSVersion = .tlsv13
        configuration.certificateVerification = .optionalVerification
        configuration.applicationProtocols = ["http/1.1"]
        configuration.sslContextCallback = { [self] _, promise in
            let now = present.withLock { $0 }
            var override = NIOSSLContextConfigurationOverride()
            (override.certificateChain, override.privateKey) = (now.chain, now.key)
            promise.succeed(override)
        }
        return configuration
    }
}
