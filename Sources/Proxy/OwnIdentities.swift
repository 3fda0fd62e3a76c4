import CLinux
import ControlChannel
import Glibc
import MeshModel
import MutualTLS

/// The keys and certificates of this node's workloads, on the control thread: it makes keys, asks for certificates, and tells the workers what new
/// connections begin with. No private key leaves it but in key memory, which node keeps for the next proxy and never maps.
struct OwnIdentities: ~Copyable {
    private var holders: [String: IdentityHolder] = [:]
    private var roots: TrustRoots?
    private var revocations: RevocationList?
    private var generation: UInt64 = 0
    /// What the workers shall be told, in order.
    private var letters: [WorkerLetter] = []
    private var reports: [IdentityState] = []
    private(set) var keysMade = 0

    enum WorkerLetter {
        case identity(IdentityLetter)
        case revocations(RevocationList)
        case rootsChanged
    }

    deinit {
        for holder in holders.values { holder.credentials?.release() }
        revocations?.release()
    }

    // MARK: What the agent wants

    /// Makes a key pair and its certificate request. Nil: it cannot, and says why in a report. The request's descriptor is the caller's.
    mutating func want(_ wanted: IdentityWanted) -> IdentityRequested? {
        guard let holder = holder(wanted.identity) else {
            report(wanted.identity, wanted.number, .refused, "not a workload's name, or more identities than a node has")
            return nil
        }
        // An agent that has started anew asks again for what is on its way.
        if let pending = holder.pendingNumber, pending > wanted.number { return nil }
        do throws(CredentialsFault) {
            let key = try KeyPair.generate()
            keysMade += 1
            let request = try key.request(for: Array(wanted.identity.utf8))
            let memory = try key.store()
            holder.wait(wanted.number, key)
            return IdentityRequested(identity: wanted.identity, number: wanted.number, request: request, key: memory)
        } catch {
            report(wanted.identity, wanted.number, .refused, error.name)
            return nil
        }
    }

    /// The certificate of a key that this proxy has made, or that comes with it.
    mutating func issue(_ issued: IdentityIssued) {
        defer { issued.closeDescriptors() }
        guard let holder = holder(issued.identity) else {
            return report(issued.identity, issued.number, .refused, "not a workload's name, or more identities than a node has")
        }
        do throws(CredentialsFault) {
            let key: KeyPair
            if let memory = issued.key {
                key = try KeyPair.load(from: memory)
            } else if let pending = holder.takePending(issued.number) {
                key = pending
            } else if holder.number == issued.number, holder.hasKey {
                return          // said twice
            } else {
                return report(issued.identity, issued.number, .refused, "no key of that number")
            }
            install(holder, issued.number, chain: issued.chain, key: key)
        } catch {
            report(issued.identity, issued.number, .refused, error.name)
        }
    }

    /// A certificate and key that somebody else keeps in files.
    mutating func read(_ files: IdentityFiles) {
        defer { files.closeDescriptors() }
        guard let holder = holder(files.identity) else {
            return report(files.identity, files.number, .refused, "not a workload's name, or more identities than a node has")
        }
        guard let chain = Self.contents(files.chain, bytesMax: TLSLimits.chainTextBytesMax) else {
            return report(files.identity, files.number, .refused, CredentialsFault.malformedChain.name)
        }
        do throws(CredentialsFault) {
            install(holder, files.number, chain: chain, key: try KeyPair.read(file: files.key))
        } catch {
            report(files.identity, files.number, .refused, error.name)
        }
    }

    /// No pod has it any more: its key is forgotten; sessions that live keep what they have until they end.
    mutating func withdraw(_ identity: String) {
        guard let holder = holders[identity] else { return }
        holder.forget()
        publish(holder)
    }

    // MARK: Whom to trust

    /// Other roots: every certificate is put together with them anew. One that they do not accept ends here, for no peer would take it.
    mutating func trust(_ bundle: TrustBundle) {
        do throws(CredentialsFault) {
            roots = try TrustRoots(pem: bundle.roots, trustDomain: Array(bundle.trustDomain.utf8), generation: bundle.generation)
        } catch {
            say("error", "trust bundle refused", "generation=\(bundle.generation) reason=\"\(error.name)\"")
            return
        }
        letters.append(.rootsChanged)
        for holder in holders.values.sorted(by: { $0.place < $1.place }) where holder.hasKey { renew(holder) }
    }

    /// A list that cannot be read leaves the one before in force.
    mutating func revoke(_ message: Revocations) {
        defer { message.closeDescriptors() }
        guard let text = Self.contents(message.list, bytesMax: TLSLimits.revocationTextBytesMax) else {
            return say("error", "revocations refused", "generation=\(message.generation) reason=\"cannot be read\"")
        }
        do throws(RevocationFault) {
            let list = try RevocationList(text: text, generation: message.generation)
            revocations?.release()
            revocations = list
            letters.append(.revocations(list))
            say("info", "revocations in force", "generation=\(message.generation) entries=\(list.count)")
        } catch {
            say("error", "revocations refused", "generation=\(message.generation) line=\(error.line)")
        }
    }

    // MARK: Time

    /// Certificates that have ended are not used for new connections. Called about once a second.
    mutating func expire(now: Int64) {
        for holder in holders.values {
            guard let credentials = holder.credentials, now > credentials.notAfter else { continue }
            report(holder.identity, holder.number, .expired, "", notAfter: credentials.notAfter)
            holder.replace(nil)
            publish(holder)
        }
    }

    // MARK: What follows

    /// What is to be told, once.
    mutating func takeLetters() -> [WorkerLetter] {
        defer { letters = [] }
        return letters
    }

    mutating func takeReports() -> [IdentityState] {
        defer { reports = [] }
        return reports
    }

    /// Puts a new certificate and key together with the roots and lets new connections begin with them. A bad renewal leaves the one before it in force.
    private mutating func install(_ holder: IdentityHolder, _ number: UInt64, chain: [UInt8], key: consuming KeyPair) {
        generation += 1
        switch made(holder, chain, key) {
        // The bundle is on its way, and with it this comes again.
        case .none: holder.take(number, chain, key, nil)
        case .success(let credentials):
            holder.take(number, chain, key, credentials)
            activated(holder, credentials)
        case .failure(let fault): refused(holder, number, fault)
        }
    }

    private func made(_ holder: IdentityHolder, _ chain: [UInt8], _ key: borrowing KeyPair) -> Result<TLSCredentials, CredentialsFault>? {
        switch roots {
        case .none: return nil
        case .some(let roots):
            do throws(CredentialsFault) { return .success(try holder.credentials(generation, chain, key, roots)) } catch { return .failure(error) }
        }
    }

    /// The same for a certificate and key that are in force, under other roots. If no peer would take it now, it ends.
    private mutating func renew(_ holder: IdentityHolder) {
        generation += 1
        switch renewed(holder) {
        case .none: return
        case .success(let credentials):
            holder.replace(credentials)
            activated(holder, credentials)
        case .failure(let fault):
            refused(holder, holder.number, fault)
            holder.replace(nil)
            publish(holder)
        }
    }

    private func renewed(_ holder: IdentityHolder) -> Result<TLSCredentials, CredentialsFault>? {
        switch roots {
        case .none: return nil
        case .some(let roots):
            do throws(CredentialsFault) { return .success(try holder.credentials(generation, under: roots)) } catch { return .failure(error) }
        }
    }

    private mutating func activated(_ holder: IdentityHolder, _ made: TLSCredentials) {
        report(holder.identity, holder.number, .active, "", notAfter: made.notAfter)
        publish(holder)
    }

    private mutating func refused(_ holder: IdentityHolder, _ number: UInt64, _ fault: CredentialsFault) {
        report(holder.identity, number, fault == .expired ? .expired : .refused, fault.name)
    }

    private mutating func publish(_ holder: IdentityHolder) {
        letters.append(.identity(IdentityLetter(
            number: holder.place, namespace: holder.namespace, serviceAccount: holder.serviceAccount, credentials: holder.credentials)))
    }

    private mutating func report(_ identity: String, _ number: UInt64, _ state: IdentityState.State, _ reason: String, notAfter: Int64 = 0) {
        reports.append(IdentityState(identity: identity, number: number, state: state, reason: reason, notAfter: UInt64(max(0, notAfter))))
    }

    /// Numbers are not given twice, so that pools of a withdrawn identity never become another's.
    private mutating func holder(_ identity: String) -> IdentityHolder? {
        if let known = holders[identity] { return known }
        guard holders.count < Limits.identitiesMax, let made = IdentityHolder(identity, place: UInt32(holders.count)) else { return nil }
        holders[identity] = made
        return made
    }

    /// A file's bytes from its beginning; nil when it has none or too many.
    private static func contents(_ descriptor: Int32, bytesMax: Int) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: 64 * 1024)
        var count = 0
        // Not pread, which the proxy's seccomp list does without; whoever shares the descriptor reads from the beginning too.
        guard lseek(descriptor, 0, SEEK_SET) == 0 else { return nil }
        while true {
            if count == bytes.count { bytes += [UInt8](repeating: 0, count: bytes.count) }
            let n = bytes.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress! + count, $0.count - count) }
            if n < 0 && errno == EINTR { continue }
            guard n >= 0, count + n <= bytesMax else { return nil }
            if n == 0 { break }
            count += n
        }
        return Array(bytes.prefix(count))
    }
}

/// A key that waits for its certificate.
struct PendingKey: ~Copyable {
    let number: UInt64
    let key: KeyPair

    consuming func taken() -> KeyPair { key }
}

/// One identity's keys: the one in force and the one that waits. A class, because the keys can be in one place only and the table that finds them moves.
final class IdentityHolder {
    let identity: String
    /// The workers' number of it.
    let place: UInt32
    let namespace: [UInt8]
    let serviceAccount: [UInt8]
    private var pending: PendingKey?
    /// The agent's number of the key in force.
    private(set) var number: UInt64 = 0
    private var chain: [UInt8] = []
    private var key: KeyPair?
    /// Counted once for this holder.
    private(set) var credentials: TLSCredentials?

    init?(_ identity: String, place: UInt32) {
        var parts: (namespace: [UInt8], serviceAccount: [UInt8])?
        let bytes = Array(identity.utf8)
        bytes.withUnsafeBytes { if let name = WorkloadName($0) { parts = (Array(name.namespace), Array(name.serviceAccount)) } }
        guard let parts else { return nil }
        self.identity = identity
        self.place = place
        namespace = parts.namespace
        serviceAccount = parts.serviceAccount
    }

    var hasKey: Bool {
        switch key {
        case .some: true
        case .none: false
        }
    }

    var pendingNumber: UInt64? {
        switch pending {
        case .some(let waiting): waiting.number
        case .none: nil
        }
    }

    /// A key whose certificate is on its way; the one that waited before is forgotten.
    func wait(_ number: UInt64, _ key: consuming KeyPair) { pending = PendingKey(number: number, key: key) }

    /// The waiting key, if it has that number; older ones stay.
    func takePending(_ wanted: UInt64) -> KeyPair? {
        guard pendingNumber == wanted else { return nil }
        switch pending.take() {
        case .some(let waiting): return waiting.taken()
        case .none: return nil
        }
    }

    func take(_ number: UInt64, _ chain: [UInt8], _ key: consuming KeyPair, _ made: TLSCredentials?) {
        self.number = number
        self.chain = chain
        self.key = consume key
        replace(made)
    }

    /// Becomes an owner of the new ones.
    func replace(_ made: TLSCredentials?) {
        credentials?.release()
        credentials = made
    }

    func forget() {
        pending = nil
        key = nil
        chain = []
        replace(nil)
    }

    /// A chain and a key with these roots.
    func credentials(_ generation: UInt64, _ chain: [UInt8], _ key: borrowing KeyPair, _ roots: borrowing TrustRoots) throws(CredentialsFault) -> TLSCredentials {
        try TLSCredentials(
            identity: place, generation: generation, uri: Array(identity.utf8), chain: chain, key: key, roots: roots, now: unixSeconds())
    }

    /// Those in force with these roots.
    func credentials(_ generation: UInt64, under roots: borrowing TrustRoots) throws(CredentialsFault) -> TLSCredentials {
        switch key {
        case .none: throw .malformedKey
        case .some(let key): return try credentials(generation, chain, key, roots)
        }
    }
}
