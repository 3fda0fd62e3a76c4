import ControlChannel
import Foundation
import Identity
import Logging
import ServiceLifecycle

/// Sees to it that every pod of this node has its identity: asks for keys, has them certified, renews them, and tells how it stands. Carries out what
/// IdentityLedger says; owns the door to whoever signs.
actor IdentityDesk {
    private let configuration: IdentityConfiguration
    private let send: @Sendable ([Outgoing]) -> Void
    private let logger: Logger
    private let now: @Sendable () -> Double
    private let door: (any IdentityDoor)?
    private let watch: TreeWatch?
    private var files: IdentityFilesDoor?
    private var ledger: IdentityLedger

    private var bundle: Identity.TrustBundle?
    private var bundleNews = UInt64(0)
    /// Since when the door answers, or does not.
    private var reach: Reach?
    /// Attempts of this agent by outcome.
    private(set) var attempts: [String: UInt64] = [:]
    private let jobs: AsyncStream<IdentityLedger.SigningJob>
    private let jobsEnd: AsyncStream<IdentityLedger.SigningJob>.Continuation

    struct Reach: Equatable {
        var isReachable: Bool
        var since: Double
        var reason: String
    }

    /// - Parameters:
    ///   - door: who signs; nil with identity files.
    ///   - now: unix seconds. `dice`: uniform in 0 ..< 1.
    init(
        _ configuration: IdentityConfiguration, door: (any IdentityDoor)?, logger: Logger, now: @escaping @Sendable () -> Double = IdentityDesk.wallClock,
        dice: @escaping @Sendable () -> Double = { Double.random(in: 0..<1) }, send: @escaping @Sendable ([Outgoing]) -> Void
    ) throws {
        (self.configuration, self.send, self.logger, self.now) = (configuration, send, logger, now)
        self.door = door
        if case .files(let directory) = configuration.source {
            files = IdentityFilesDoor(directory: directory)
            watch = try TreeWatch()
        } else {
            (files, watch) = (nil, nil)
        }
        ledger = IdentityLedger(dice: dice)
        (jobs, jobsEnd) = AsyncStream.makeStream(of: IdentityLedger.SigningJob.self)
    }

    static let wallClock: @Sendable () -> Double = { Date().timeIntervalSince1970 }

    // MARK: What comes in

    /// The identities of this node's pods, as the configuration has them now.
    func want(_ identities: Set<SPIFFEIdentity>) {
        let before = Set(ledger.entries.keys)
        carryOut(ledger.want(identities, isFromFiles: files != nil, at: now()))
        for identity in before.subtracting(identities) { files?.forget(identity) }
        if files != nil { readFiles() } else { tick() }
    }

    func take(_ message: NodeMessage) {
        switch message {
        case .identityRequested(let request): carryOut(ledger.requested(request))
        case .identityFound(let issued): ledger.found(issued)
        case .identityState(let state):
            let failure = SPIFFEIdentity(state.identity).flatMap { ledger.entries[$0]?.failure }
            ledger.heard(state, at: now())
            switch state.state {
            case .active: logger.debug("identity in force", metadata: ["identity": "\(state.identity)", "number": "\(state.number)"])
            case .refused, .expired:
                guard let identity = SPIFFEIdentity(state.identity), ledger.entries[identity]?.failure != failure || state.state == .expired else { return }
                count("proxy_refused")
                logger.warning("identity not usable", metadata: ["identity": "\(state.identity)", "state": "\(state.state)", "reason": "\(state.reason)"])
            }
            tick()
        default: break
        }
    }

    func tick() {
        carryOut(ledger.tick(at: now()))
        if files != nil, ledger.entries.values.contains(where: { $0.isFromFiles && $0.progress == .resting && $0.clock.failures > 0 && $0.clock.isDue(at: now()) }) {
            readFiles()
        }
    }

    // MARK: The authority

    fileprivate func sign(_ job: IdentityLedger.SigningJob) async {
        guard let door else { return }
        do throws(DoorFault) {
            let issued = try await door.issue(job.identity, request: job.request)
            reached()
            count("issued")
            carryOut(ledger.signed(job, .success(issued), at: now()))
            logger.info(
                "certificate issued",
                metadata: ["identity": "\(job.identity)", "serial": "\(issued.serial)", "not_after": "\(issued.notAfter)", "number": "\(job.number)"])
        } catch {
            let isFinal: Bool
            switch error {
            case .refused(let refusal):
                reached()
                isFinal = !refusal.isTransient
                count(refusal.rawValue)
            case .unreachable(let reason):
                lost(reason)
                isFinal = false
                count("unreachable")
            }
            let known = ledger.entries[job.identity]?.failure?.reason
            carryOut(ledger.signed(job, .failure(.init(reason: error.reason, isFinal: isFinal)), at: now()))
            if known != error.reason { logger.warning("no certificate", metadata: ["identity": "\(job.identity)", "reason": "\(error.reason)"]) }
        }
        tick()
    }

    /// Asks for the roots in force; answers after how many seconds to ask again.
    fileprivate func refreshBundle() async -> Double {
        guard let door else { return AgentLimits.bundleRetrySeconds }
        do throws(DoorFault) {
            let (bundle, refreshSeconds) = try await door.bundle()
            reached()
            publish(bundle)
            return max(0.2, refreshSeconds)
        } catch {
            if case .unreachable(let reason) = error { lost(reason) } else { lost(error.reason) }
            return AgentLimits.bundleRetrySeconds
        }
    }

    private func publish(_ bundle: Identity.TrustBundle) {
        guard bundle != self.bundle else { return }
        self.bundle = bundle
        send([Outgoing(ControlChannel.TrustBundle(trustDomain: bundle.trustDomain, generation: bundle.generation, roots: Array(bundle.roots.utf8)))])
        logger.info("trust bundle", metadata: ["generation": "\(bundle.generation)", "roots": "\(bundle.fingerprints.count)"])
        ledger.roots(bundle, at: now())
    }

    private func reached() {
        guard reach?.isReachable != true else { return }
        if reach != nil { logger.info("the certificate authority answers again") }
        reach = Reach(isReachable: true, since: now(), reason: "")
        ledger.hurry(at: now())
    }

    private func lost(_ reason: String) {
        if reach?.isReachable != false {
            logger.warning("the certificate authority cannot be reached; certificates in force go on", metadata: ["reason": "\(reason)"])
            reach = Reach(isReachable: false, since: now(), reason: reason)
        } else {
            reach?.reason = reason
        }
    }

    // MARK: Files

    fileprivate func readFiles() {
        guard var door = files else { return }
        watch?.add(door.watched(ledger.entries.keys))
        var problems: [String] = []
        if let roots = door.roots(ledger.entries.keys) {
            if roots != bundle?.roots {
                let generation = max((bundle?.generation ?? 0) + 1, UInt64(now() * 1_000))
                publish(Identity.TrustBundle(trustDomain: configuration.trustDomain, generation: generation, roots: roots))
            }
        } else {
            problems.append("\(door.directory) holds no ca.crt that can be read")
        }
        for (identity, entry) in ledger.entries {
            let again = entry.progress == .resting && entry.clock.failures > 0 && entry.clock.isDue(at: now())
            switch door.look(at: identity, again: again) {
            case .unchanged: break
            case .changed(let chain, let key, let notAfter):
                count("files")
                carryOut(ledger.files(identity, chain: chain, key: key, notAfter: notAfter, at: now()))
            case .missing(let reason):
                if entry.failure?.reason != reason { logger.warning("no identity files", metadata: ["identity": "\(identity)", "reason": "\(reason)"]) }
                ledger.filesMissing(identity, reason: reason)
            }
        }
        files = door
        if problems.isEmpty { reached() } else { lost(problems.joined(separator: "; ")) }
    }

    private func carryOut(_ commands: [IdentityLedger.Command]) {
        var messages: [Outgoing] = []
        for command in commands {
            switch command {
            case .send(let outgoing): messages.append(outgoing)
            case .sign(let job): jobsEnd.yield(job)
            }
        }
        if !messages.isEmpty { send(messages) }
    }

    private func count(_ outcome: String) { attempts[outcome, default: 0] += 1 }

    // MARK: What is shown

    var status: Status.Identities {
        let now = now()
        let source =
            switch configuration.source {
            case .embedded: "embedded"
            case .controller(let address): address.url
            case .files(let directory): directory
            }
        return Status.Identities(
            trustDomain: configuration.trustDomain, source: source, isReachable: reach?.isReachable ?? false,
            sinceSeconds: reach.map { max(0, now - $0.since).rounded() }, reason: reach == nil ? "it has not been asked yet" : reach!.reason,
            bundleGeneration: bundle?.generation ?? 0, roots: bundle?.fingerprints ?? [],
            workloads: ledger.entries.sorted { $0.key < $1.key }.map { Status.Identity($0.key, $0.value, at: now) })
    }

    var counts: CertificateAuthority.Counts? { get async { await door?.counts } }

    // MARK: Running

    /// Until the task is cancelled.
    nonisolated func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.repeatedly {
                await self.tick()
                return Double(AgentLimits.identityTickMilliseconds) / 1_000
            } }
            if let watch {
                group.addTask {
                    for await _ in watch.changes {
                        try? await Task.sleep(for: .milliseconds(AgentLimits.identityFilesQuietMilliseconds))
                        await self.readFiles()
                    }
                }
            } else {
                group.addTask { await self.repeatedly { await self.refreshBundle() } }
                group.addTask {
                    await withDiscardingTaskGroup { signers in
                        for await job in self.jobs { signers.addTask { await self.sign(job) } }
                    }
                }
            }
        }
    }

    fileprivate func close() async { await door?.close() }

    private nonisolated func repeatedly(_ body: () async -> Double) async {
        while !Task.isCancelled {
            let pause = await body()
            guard (try? await Task.sleep(for: .milliseconds(Int(pause * 1_000)))) != nil else { return }
        }
    }
}

/// Runs the desk until the agent ends.
struct IdentityService: Service {
    let desk: IdentityDesk

    func run() async throws {
        await cancelWhenGracefulShutdown { await desk.run() }
        await desk.close()
    }
}
