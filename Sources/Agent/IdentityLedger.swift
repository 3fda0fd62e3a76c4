import ControlChannel
import Identity

/// Which identities this node's pods need, how far each has come, and what is to be done next. Holds no key, asks nobody, knows no clock: whoever owns it
/// (IdentityDesk) carries out what the calls answer.
///
/// One key pair's way:
///
///     due ──wanted──▶ asked ──requested──▶ signing ──signed──▶ delivered ──active──▶ in force
///                       └─silence─┐           └─refused─┐          └─refused─┐
///                                 ▼                     ▼                    ▼
///                              a pause (RotationClock), then due again; what is in force stays in force
struct IdentityLedger {
    /// What the owner shall do.
    enum Command {
        case send(Outgoing)
        case sign(SigningJob)
    }

    /// A request on its way to the authority.
    struct SigningJob: Sendable, Equatable {
        let identity: SPIFFEIdentity
        let number: UInt64
        let request: [UInt8]
    }

    enum Progress: Equatable {
        case resting
        case asked(number: UInt64, since: Double)
        case signing(number: UInt64)
        case delivered(number: UInt64, notAfter: Double, since: Double)
    }

    struct Entry {
        var clock: RotationClock
        var progress = Progress.resting
        /// What the proxy uses.
        var inForce: InForce?
        /// Why the last attempt came to nothing; nil when it did not.
        var failure: Failure?
        /// Somebody else renews it: the clock does not run.
        var isFromFiles = false
    }

    struct InForce: Equatable {
        var number: UInt64
        var notAfter: Double
        var since: Double
        /// Empty when it was not the agent that delivered it, or files did.
        var chain: [UInt8] = []
    }

    struct Failure: Equatable {
        var reason: String
        /// The same request would be refused again.
        var isFinal: Bool
    }

    private(set) var entries: [SPIFFEIdentity: Entry] = [:]
    /// What node had when this agent came, of identities that nobody has asked for yet.
    private var found: [SPIFFEIdentity: InForce] = [:]
    private var lastNumber: UInt64 = 0
    /// Chains that were sent, until the proxy has said what it makes of them.
    private var sent: [SPIFFEIdentity: [UInt8]] = [:]
    private let dice: @Sendable () -> Double

    init(dice: @escaping @Sendable () -> Double) { self.dice = dice }

    private var underWay: Int { entries.values.count { $0.progress != .resting } }

    // MARK: What is needed

    /// The identities of this node's pods, as they are now.
    mutating func want(_ wanted: Set<SPIFFEIdentity>, isFromFiles: Bool, at now: Double) -> [Command] {
        var commands: [Command] = []
        for identity in Set(entries.keys).union(found.keys).subtracting(wanted).sorted() {
            entries[identity] = nil
            found[identity] = nil
            sent[identity] = nil
            commands.append(.send(Outgoing(IdentityWithdrawn(identity: identity.description))))
        }
        for identity in wanted where entries[identity] == nil {
            var entry = Entry(clock: RotationClock(at: now), isFromFiles: isFromFiles)
            if let held = found.removeValue(forKey: identity) {
                entry.inForce = held
                entry.clock.issued(notAfter: held.notAfter, at: min(now, held.since), dice: dice())
            }
            entries[identity] = entry
        }
        return commands
    }

    /// What has become due. Of many identities a few are under way at a time: the proxy makes their keys beside its work.
    mutating func tick(at now: Double) -> [Command] {
        var commands: [Command] = []
        var room = max(0, AgentLimits.identitiesUnderWayMax - underWay)
        for (identity, entry) in entries {
            switch entry.progress {
            case .asked(_, let since) where now >= since + AgentLimits.identitySilenceSeconds:
                fail(identity, Failure(reason: "the proxy has not made a key yet", isFinal: false), at: now)
            case .delivered(_, _, let since) where now >= since + AgentLimits.identitySilenceSeconds:
                fail(identity, Failure(reason: "the proxy has not taken the certificate into use", isFinal: false), at: now)
            case .resting where !entry.isFromFiles && room > 0 && entry.clock.isDue(at: now):
                room -= 1
                let number = nextNumber(at: now)
                entries[identity]?.progress = .asked(number: number, since: now)
                commands.append(.send(Outgoing(IdentityWanted(identity: identity.description, number: number))))
            default: break
            }
        }
        return commands
    }

    /// The authority can be reached again, or never was asked: whoever waits, waits no longer.
    mutating func hurry(at now: Double) {
        for (identity, entry) in entries where entry.progress == .resting && entry.clock.failures > 0 && entry.failure?.isFinal != true {
            entries[identity]?.clock.hurry(at: now)
        }
    }

    /// Certificates that the roots in force do not vouch for (the authority was replaced) are renewed at once.
    mutating func roots(_ bundle: Identity.TrustBundle, at now: Double) {
        for (identity, entry) in entries {
            guard let chain = entry.inForce?.chain, !chain.isEmpty, !bundle.vouches(forChain: String(decoding: chain, as: UTF8.self)) else { continue }
            entries[identity]?.clock.hurry(at: now)
        }
    }

    // MARK: What node and proxy say

    mutating func requested(_ message: IdentityRequested) -> [Command] {
        guard let identity = SPIFFEIdentity(message.identity), case .asked(let number, _) = entries[identity]?.progress, number == message.number else { return [] }
        entries[identity]?.progress = .signing(number: number)
        return [.sign(SigningJob(identity: identity, number: number, request: message.request))]
    }

    /// What the authority answered.
    mutating func signed(_ job: SigningJob, _ result: Result<CertificateAuthority.Issued, Failure>, at now: Double) -> [Command] {
        guard case .signing(job.number) = entries[job.identity]?.progress else { return [] }
        switch result {
        case .failure(let failure):
            fail(job.identity, failure, at: now)
            return []
        case .success(let issued):
            let (notAfter, chain) = (Double(issued.notAfter), Array(issued.chain.utf8))
            entries[job.identity]?.progress = .delivered(number: job.number, notAfter: notAfter, since: now)
            entries[job.identity]?.clock.issued(notAfter: notAfter, at: now, dice: dice())
            sent[job.identity] = chain
            return [
                .send(
                    Outgoing(
                        IdentityIssued(
                            identity: job.identity.description, number: job.number, chain: chain, notBefore: UInt64(max(0, issued.notBefore)),
                            notAfter: UInt64(max(0, issued.notAfter)))))
            ]
        }
    }

    /// Files of an identity that are new or have changed. Takes over the descriptors.
    mutating func files(_ identity: SPIFFEIdentity, chain: Int32, key: Int32, notAfter: Int64, at now: Double) -> [Command] {
        let number = nextNumber(at: now)
        entries[identity]?.progress = .delivered(number: number, notAfter: Double(notAfter), since: now)
        entries[identity]?.failure = nil
        return [.send(Outgoing(IdentityFiles(identity: identity.description, number: number, chain: chain, key: key)))]
    }

    /// Files of an identity are not there or not right.
    mutating func filesMissing(_ identity: SPIFFEIdentity, reason: String) {
        entries[identity]?.failure = Failure(reason: reason, isFinal: true)
    }

    mutating func heard(_ message: IdentityState, at now: Double) {
        guard let identity = SPIFFEIdentity(message.identity), let entry = entries[identity] else { return }
        lastNumber = max(lastNumber, message.number)
        switch message.state {
        case .active:
            entries[identity]?.inForce = InForce(
                number: message.number, notAfter: Double(message.notAfter), since: now, chain: sent.removeValue(forKey: identity) ?? entry.inForce?.chain ?? [])
            guard case .delivered(message.number, _, _) = entry.progress else { return }
            entries[identity]?.progress = .resting
            entries[identity]?.failure = nil
        case .refused:
            switch entry.progress {
            case .asked(message.number, _), .signing(message.number), .delivered(message.number, _, _):
                fail(identity, Failure(reason: message.reason.isEmpty ? "the proxy refused it" : message.reason, isFinal: false), at: now)
            default: break
            }
        case .expired:
            guard entry.inForce?.number == message.number else { return }
            entries[identity]?.inForce?.notAfter = min(now, Double(message.notAfter))
        }
    }

    /// What node holds from before this agent.
    mutating func found(_ message: IdentityIssued) {
        guard let identity = SPIFFEIdentity(message.identity) else { return }
        lastNumber = max(lastNumber, message.number)
        let began = Double(message.notBefore) + Double(AuthorityLimits.clockSkewSeconds)
        let held = InForce(number: message.number, notAfter: Double(message.notAfter), since: began, chain: message.chain)
        guard var entry = entries[identity] else {
            found[identity] = held
            return
        }
        guard entry.inForce == nil else { return }
        entry.inForce = held
        if case .resting = entry.progress, !entry.isFromFiles { entry.clock.issued(notAfter: held.notAfter, at: began, dice: dice()) }
        entries[identity] = entry
    }

    // MARK: Within

    private mutating func fail(_ identity: SPIFFEIdentity, _ failure: Failure, at now: Double) {
        let notAfter = entries[identity]?.inForce?.notAfter
        entries[identity]?.progress = .resting
        entries[identity]?.failure = failure
        entries[identity]?.clock.failed(notAfter: notAfter, at: now, dice: dice())
        sent[identity] = nil
    }

    /// Grows over restarts too: it begins with the time in milliseconds.
    private mutating func nextNumber(at now: Double) -> UInt64 {
        lastNumber = max(lastNumber + 1, UInt64(max(0, now * 1_000)))
        return lastNumber
    }
}

extension IdentityLedger.Failure: Error {}
