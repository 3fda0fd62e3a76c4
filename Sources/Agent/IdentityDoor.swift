import Identity

/// Who signs for this node's pods: the authority in this process, or a controller.
protocol IdentityDoor: Sendable {
    /// A certificate for the key of a request (DER) that names this identity.
    func issue(_ identity: SPIFFEIdentity, request: [UInt8]) async throws(DoorFault) -> CertificateAuthority.Issued
    /// The roots in force, and after how many seconds to ask again.
    func bundle() async throws(DoorFault) -> (bundle: Identity.TrustBundle, refreshSeconds: Double)
    /// The authority's counters, where it is in this process.
    var counts: CertificateAuthority.Counts? { get async }
    /// Gives back what it holds.
    func close() async
}

/// Why a door gave nothing.
enum DoorFault: Error, Equatable {
    case refused(Refusal)
    case unreachable(String)

    var reason: String {
        switch self {
        case .refused(let refusal): "the authority refused: \(refusal.rawValue)"
        case .unreachable(let text): "the authority cannot be reached: \(text)"
        }
    }
}

/// The authority inside the agent. Opened when it is first asked: a data directory that cannot be used is a reason to tell, not to be without an agent.
actor EmbeddedDoor: IdentityDoor {
    private let directory: String
    private let settings: CertificateAuthority.Settings
    private let now: @Sendable () -> Double
    private var authority: CertificateAuthority?

    /// - Parameter directory: the agent's part of the data directory; the authority is `ca` in it.
    init(directory: String, settings: CertificateAuthority.Settings, now: @escaping @Sendable () -> Double) {
        (self.directory, self.settings, self.now) = (directory, settings, now)
    }

    private func open() throws(DoorFault) -> CertificateAuthority {
        if let authority { return authority }
        do {
            _ = try SecretDirectory(making: directory)
            let opened = try CertificateAuthority(directory: "\(directory)/ca", settings: settings, now: Int64(now()))
            authority = opened
            return opened
        } catch {
            throw .unreachable("\(error)")
        }
    }

    func issue(_ identity: SPIFFEIdentity, request: [UInt8]) async throws(DoorFault) -> CertificateAuthority.Issued {
        let authority = try open()
        do throws(Refusal) {
            return try authority.issue(request, entitled: identity, asker: "embedded", at: Int64(now()))
        } catch {
            throw .refused(error)
        }
    }

    /// Moves rotations on as well: whoever asks for the bundle wants the present one.
    func bundle() async throws(DoorFault) -> (bundle: Identity.TrustBundle, refreshSeconds: Double) {
        let authority = try open()
        do {
            try authority.advance(at: Int64(now()))
        } catch {
            throw .unreachable("\(error)")
        }
        authority.audit.sync()
        return (authority.bundle, 1)
    }

    var counts: CertificateAuthority.Counts? { authority?.counts }

    func close() async { authority?.audit.sync() }
}
