import Foundation
import Glibc
import Synchronization
import X509

/// Issues certificates, keeps its roots, writes down what it did. Used from any thread; signing takes no lock.
///
/// `advance` moves rotations on and notices what another process (`weft controller rotate-root`) did to the same directory; whoever runs the authority
/// calls it about once a second.
public final class CertificateAuthority: Sendable {
    /// What an authority is run with.
    public struct Settings: Sendable, Equatable {
        public var trustDomain: String
        public var workloadLifetimeSeconds: Int64
        public var nodeLifetimeSeconds: Int64
        /// How long a new root is in the trust bundle before it signs. One lifetime of a workload's certificate: a node that has not asked for so long has no
        /// certificate any more that could meet one of the new root.
        public var overlapSeconds: Int64

        public init(
            trustDomain: String, workloadLifetimeSeconds: Int64 = AuthorityLimits.workloadLifetimeSeconds,
            nodeLifetimeSeconds: Int64 = AuthorityLimits.nodeLifetimeSeconds, overlapSeconds: Int64? = nil
        ) {
            self.trustDomain = trustDomain
            self.workloadLifetimeSeconds = workloadLifetimeSeconds
            self.nodeLifetimeSeconds = nodeLifetimeSeconds
            self.overlapSeconds = overlapSeconds ?? workloadLifetimeSeconds
        }

        fileprivate var longestLifetimeSeconds: Int64 { max(workloadLifetimeSeconds, nodeLifetimeSeconds) }
    }

    /// A certificate on its way to whoever asked.
    public struct Issued: Sendable, Equatable, Codable {
        /// PEM: the leaf, then the issuing certificate.
        public var chain: String
        /// Unix seconds.
        public var notBefore: Int64, notAfter: Int64
        /// Hex.
        public var serial: String

        public init(chain: String, notBefore: Int64, notAfter: Int64, serial: String) {
            (self.chain, self.notBefore, self.notAfter, self.serial) = (chain, notBefore, notAfter, serial)
        }
    }

    /// What has happened since the process began.
    public struct Counts: Sendable, Equatable {
        public var issued: UInt64 = 0
        public var refused: [Refusal: UInt64] = [:]
    }

    private struct Present: Sendable {
        var state: AuthorityState
        var stamp: UInt64?
        var issuer: Minting.Issuer
        /// Issuing certificates, this one and those before it, that roots in force vouch for.
        var issuers: [Certificate]
        var bundle: TrustBundle
    }

    public let settings: Settings
    public let audit: AuditLog
    private let files: AuthorityFiles
    private let present: Mutex<Present>
    private let counted = Mutex(Counts())

    /// Opens the authority of a directory, and makes one where there is none yet.
    /// - Parameter now: unix seconds.
    public convenience init(directory: String, settings: Settings, now: Int64) throws {
        try self.init(directory: directory, settings: settings, audit: nil, now: now)
    }

    /// - Parameter audit: another log than the directory's own.
    init(directory: String, settings: Settings, audit: AuditLog?, now: Int64) throws {
        guard SPIFFEIdentity.isTrustDomain(settings.trustDomain) else { throw AuthorityFiles.Fault(description: "“\(settings.trustDomain)” is no trust domain") }
        self.settings = settings
        files = AuthorityFiles(at: directory)
        var status = stat()
        if stat(directory, &status) != 0 {
            _ = try AuthorityFiles.create(
                at: directory, trustDomain: settings.trustDomain, longestLifetimeSeconds: settings.longestLifetimeSeconds, now: now)
        }
        let lock = try DirectoryLock(files.directory)
        let present = try Self.read(files)
        _ = consume lock
        guard present.state.trustDomain == settings.trustDomain else {
            throw AuthorityFiles.Fault(description: "\(directory) is the authority of “\(present.state.trustDomain)”, not of “\(settings.trustDomain)”")
        }
        self.audit = try audit ?? AuditLog("\(directory)/audit.log")
        self.present = Mutex(present)
        try advance(at: now)
    }

    public var bundle: TrustBundle { present.withLock { $0.bundle } }
    public var counts: Counts { counted.withLock { $0 } }
    /// Roots by phase, for status and metrics.
    public var rootPhases: [String: Int] { present.withLock { $0.state.roots.reduce(into: [:]) { $0[$1.phase.rawValue, default: 0] += 1 } } }
    /// When the issuing certificate ends, unix seconds.
    public var issuerNotAfter: Int64 { present.withLock { $0.issuer.notAfter } }
    /// How often who uses the bundle should ask for it, so that a new root is known long before it signs.
    public var refreshSeconds: Double { min(60, Double(settings.overlapSeconds) / 5) }

    // MARK: Issuing

    /// A certificate for the key of a request.
    /// - Parameters:
    ///   - entitled: the identity that the asker may have; the request must name exactly this one.
    ///   - asker: for the audit log.
    ///   - now: unix seconds.
    public func issue(_ der: [UInt8], entitled: SPIFFEIdentity, asker: String, at now: Int64) throws(Refusal) -> Issued {
        do throws(Refusal) {
            let request = try SigningRequest(der: der)
            guard request.identity.trustDomain == settings.trustDomain else { throw .wrongTrustDomain }
            guard request.identity == entitled, entitled.party != .controller else { throw .otherIdentity }
            return try sign(request.identity, key: request.publicKey, kind: request.keyKind, asker: asker, at: now)
        } catch {
            refuse(error, asker: asker, identity: entitled.description, at: now)
            throw error
        }
    }

    /// Counts and writes down that somebody got nothing, for a reason that stands before any request.
    /// - Parameters:
    ///   - detail: what it was about, as it came.
    ///   - isWritten: whether it is worth a line in the audit log; it counts in any case.
    public func refuse(_ reason: Refusal, asker: String, identity: String? = nil, detail: String? = nil, at now: Int64, isWritten: Bool = true) {
        counted.withLock { $0.refused[reason, default: 0] += 1 }
        // A log that cannot be written refuses everything; saying so in that log is pointless.
        if isWritten, reason != .auditUnavailable { try? audit.append(.init(at: now, .refused, asker: asker, identity: identity, reason: reason, detail: detail)) }
    }

    /// A certificate for a key of this process: the controller's own.
    func issueOwn(key: Certificate.PublicKey, dnsNames: [String], at now: Int64) throws(Refusal) -> Issued {
        guard let identity = SPIFFEIdentity(controllerOf: settings.trustDomain) else { throw .authorityFailed }
        return try sign(identity, key: key, kind: .p256, asker: "controller", dnsNames: dnsNames, at: now)
    }

    private func sign(
        _ identity: SPIFFEIdentity, key: Certificate.PublicKey, kind: SigningRequest.KeyKind, asker: String, dnsNames: [String] = [], at now: Int64
    ) throws(Refusal) -> Issued {
        let issuer = present.withLock { $0.issuer }
        let lifetime =
            switch identity.party {
            case .workload, .controller: settings.workloadLifetimeSeconds
            case .node: settings.nodeLifetimeSeconds
            }
        let notBefore = now - AuthorityLimits.clockSkewSeconds
        let notAfter = min(now + lifetime, issuer.notAfter)
        let issued: Issued
        do {
            let leaf = try Minting.leaf(identity, key: key, below: issuer, notBefore: notBefore, notAfter: notAfter, dnsNames: dnsNames)
            issued = Issued(chain: try leaf.pem() + issuer.pem, notBefore: notBefore, notAfter: notAfter, serial: leaf.serialNumber.hex)
        } catch {
            throw .authorityFailed
        }
        // Written down first: a certificate that nobody knows of must not exist outside.
        try audit.append(
            .init(
                at: now, .issued, asker: asker, identity: identity.description, serial: issued.serial, notBefore: notBefore, notAfter: notAfter, key: kind,
                root: issuer.root))
        counted.withLock { $0.issued += 1 }
        return issued
    }

    /// When what a node was given ceased to count, unix seconds; nil: it still does.
    public func revocation(of node: String) -> Int64? { present.withLock { $0.state.revokedNodes?[node] } }

    /// Whose certificate this is; nil when it was not issued here below a root in force, or is not valid at this time.
    /// - Parameter der: a leaf.
    public func identity(ofLeaf der: [UInt8], at now: Int64) -> SPIFFEIdentity? { known(leaf: der, at: now)?.identity }

    /// A certificate that was issued here below a root in force and is valid at this time; nil when it is none. Whether its node was revoked since,
    /// `revocation(of:)` tells.
    /// - Parameter der: a leaf.
    public func known(leaf der: [UInt8], at now: Int64) -> (identity: SPIFFEIdentity, issuedAt: Int64)? {
        guard let leaf = try? Certificate(derEncoded: der), let identity = leaf.onlyIdentity, identity.trustDomain == settings.trustDomain else { return nil }
        let skew = AuthorityLimits.clockSkewSeconds
        guard Int64(leaf.notValidBefore.timeIntervalSince1970) - skew <= now, now <= Int64(leaf.notValidAfter.timeIntervalSince1970) + skew else { return nil }
        let issuers = present.withLock { $0.issuers }
        guard issuers.contains(where: { $0.subject == leaf.issuer && $0.publicKey.isValidSignature(leaf.signature, for: leaf) }) else { return nil }
        return (identity, Int64(leaf.notValidBefore.timeIntervalSince1970) + skew)
    }

    // MARK: Revoked nodes

    /// When a node was revoked, by the files of an authority that another process runs; unix seconds.
    public static func revocation(of node: String, directory: String) throws -> Int64? { try AuthorityFiles(at: directory).load().revokedNodes?[node] }

    /// A certificate that was given to a node for one of its pods, and has not ended.
    public struct Alive: Sendable, Equatable {
        public let identity: String
        /// Hex.
        public let serial: String
        /// Unix seconds.
        public let notAfter: Int64
    }

    /// From now on everything that the node was given counts no more: its certificate is not renewed and asks for nothing, tokens made for it until now are
    /// void. Whoever runs with this directory notices within a second.
    /// - Returns: the certificates of its pods that other nodes still believe, for a list of revocations, as far as the audit log tells.
    public static func revoke(node: String, directory: String, now: Int64) throws -> [Alive] {
        let files = AuthorityFiles(at: directory)
        let lock = try DirectoryLock(files.directory)
        var state = try files.load()
        guard SPIFFEIdentity(trustDomain: state.trustDomain, node: node) != nil else { throw AuthorityFiles.Fault(description: "“\(node)” is no node's name") }
        state.revokedNodes = (state.revokedNodes ?? [:]).merging([node: now]) { $1 }
        try AuditLog("\(directory)/audit.log").append(.init(at: now, .nodeRevoked, asker: "operator", detail: "node \(node)"))
        try files.save(state)
        _ = consume lock
        return try alive(of: node, directory: directory, at: now)
    }

    private static func alive(of node: String, directory: String, at now: Int64) throws -> [Alive] {
        let decoder = JSONDecoder()
        return try String(contentsOfFile: "\(directory)/audit.log", encoding: .utf8).split(separator: "\n").compactMap { line in
            guard let entry = try? decoder.decode(AuditLog.Entry.self, from: Data(line.utf8)), entry.event == .issued, entry.asker == node,
                let name = entry.identity, let serial = entry.serial, let notAfter = entry.notAfter, notAfter + AuthorityLimits.clockSkewSeconds > now,
                case .workload = SPIFFEIdentity(name)?.party
            else { return nil }
            return Alive(identity: name, serial: serial, notAfter: notAfter)
        }
    }

    // MARK: Roots

    /// The roots in force of an authority that another process runs.
    public static func bundle(directory: String) throws -> TrustBundle {
        let files = AuthorityFiles(at: directory)
        var status = stat()
        guard stat(directory, &status) == 0 else { throw AuthorityFiles.Fault(description: "\(directory) holds no authority yet: start weft controller first") }
        let lock = try DirectoryLock(files.directory)
        let present = try read(files)
        _ = consume lock
        return present.bundle
    }

    /// Writes a line into the audit log of an authority that another process runs.
    public static func note(_ entry: AuditLog.Entry, directory: String) throws {
        let audit = try AuditLog("\(directory)/audit.log")
        try audit.append(entry)
        audit.sync()
    }

    /// Begins a rotation: a new root enters the trust bundle. It signs after the overlap, and the old one leaves when nothing it signed is alive.
    /// - Throws: a text for the operator when a rotation is under way already.
    public static func rotateRoot(directory: String, now: Int64) throws {
        let files = AuthorityFiles(at: directory)
        let lock = try DirectoryLock(files.directory)
        var state = try files.load()
        guard state.announced == nil else {
            throw AuthorityFiles.Fault(description: "a root is announced already and not active yet; rotate again when it is")
        }
        guard state.roots.count < AuthorityLimits.rootsMax else {
            throw AuthorityFiles.Fault(description: "\(state.roots.count) roots are in force; rotate again when an old one has left")
        }
        try announce(&state, files: files, audit: try AuditLog("\(directory)/audit.log"), now: now)
        _ = consume lock
    }

    private static func announce(_ state: inout AuthorityState, files: AuthorityFiles, audit: AuditLog, now: Int64) throws {
        let number = state.nextRootNumber
        let made = try files.makeRoot(number, trustDomain: state.trustDomain, now: now)
        state.announce(number, notAfter: made.seconds, at: now)
        try audit.append(.init(at: now, .rootAnnounced, asker: "authority", root: made.fingerprint))
        try files.save(state)
    }

    /// Takes the steps that are due.
    public func advance(at now: Int64) throws {
        let known = present.withLock { ($0.stamp, $0.state, $0.issuer.notAfter) }
        let renewal = known.2 - AuthorityLimits.issuerLifetimeSeconds / 2
        guard files.stamp != known.0 || now >= renewal || settings.longestLifetimeSeconds > known.1.longestLifetimeSeconds
            || !known.1.due(at: now, overlapSeconds: settings.overlapSeconds).isEmpty
        else { return }

        let lock = try DirectoryLock(files.directory)
        var state = try files.load()
        if settings.longestLifetimeSeconds > state.longestLifetimeSeconds {
            state.longestLifetimeSeconds = settings.longestLifetimeSeconds
            try files.save(state)
        }
        for step in state.due(at: now, overlapSeconds: settings.overlapSeconds) { try take(step, &state, at: now) }
        try renewIssuer(&state, at: now)
        let fresh = try Self.read(files)
        present.withLock { $0 = fresh }
        _ = consume lock
    }

    private func take(_ step: AuthorityState.Step, _ state: inout AuthorityState, at now: Int64) throws {
        switch step {
        case .announce:
            try Self.announce(&state, files: files, audit: audit, now: now)
        case .activate(let number):
            let issuer = files.nextIssuerNumber
            _ = try files.makeIssuer(issuer, below: number, trustDomain: state.trustDomain, now: now)
            state.activate(number, issuer: issuer, at: now)
            try audit.append(.init(at: now, .rootActivated, asker: "authority", root: try Fingerprint.of(files.rootCertificate(number))))
            try files.save(state)
            files.forgetIssuerKeys(except: issuer)
        case .remove(let number):
            state.remove(number)
            try audit.append(.init(at: now, .rootRemoved, asker: "authority", root: try Fingerprint.of(files.rootCertificate(number))))
            try files.save(state)
            files.forgetRootKey(number)
        }
    }

    /// At half its life, so that a leaf is never cut short by it.
    private func renewIssuer(_ state: inout AuthorityState, at now: Int64) throws {
        let notAfter = Int64(try files.issuer(state.issuer).certificate.notValidAfter.timeIntervalSince1970)
        guard now >= notAfter - AuthorityLimits.issuerLifetimeSeconds / 2, let root = state.active, notAfter < root.notAfter else { return }
        let number = files.nextIssuerNumber
        _ = try files.makeIssuer(number, below: root.number, trustDomain: state.trustDomain, now: now)
        state.issuer = number
        try audit.append(.init(at: now, .issuerRenewed, asker: "authority", root: try Fingerprint.of(files.rootCertificate(root.number))))
        try files.save(state)
        files.forgetIssuerKeys(except: number)
    }

    private static func read(_ files: AuthorityFiles) throws -> Present {
        // The stamp first: a change in between is then seen at the next look.
        let stamp = files.stamp
        let state = try files.load()
        guard let active = state.active else { throw AuthorityFiles.Fault(description: "\(files.directory.path) has no active root") }
        let roots = try state.roots.map { try files.rootCertificate($0.number) }
        let issuers = files.issuerCertificates.filter { issuer in roots.contains { $0.publicKey.isValidSignature(issuer.signature, for: issuer) } }
        return Present(
            state: state, stamp: stamp,
            issuer: try Minting.Issuer(files.issuer(state.issuer), root: try Fingerprint.of(files.rootCertificate(active.number))),
            issuers: issuers,
            bundle: TrustBundle(trustDomain: state.trustDomain, generation: state.generation, roots: try roots.map { try $0.pem() }.joined()))
    }
}
