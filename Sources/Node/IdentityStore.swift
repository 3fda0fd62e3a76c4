import CLinux
import ControlChannel

/// What must outlive the proxy of the pods' identities: key memory, chains, the trust bundle, the revocations.
///
/// Nothing of it is read here. A key is a descriptor of memory that only a proxy ever maps; the rest are blobs that the agent and the proxy judge.
///
/// wanted ──the proxy made a key──▶ keyed ──a chain came──▶ issued ──the proxy uses it──▶ in force, and what was before is forgotten
final class IdentityStore {
    /// A certificate, or files that hold one, with the key that belongs to it.
    private enum Credential {
        /// `maker`: incarnation of the proxy that has the key already.
        case issued(IdentityIssued, key: Int32, maker: UInt32)
        case files(IdentityFiles)

        var number: UInt64 {
            switch self {
            case .issued(let issued, _, _): issued.number
            case .files(let files): files.number
            }
        }
        func close() {
            switch self {
            case .issued(_, let key, _): clinux_close(key)
            case .files(let files): files.closeDescriptors()
            }
        }
    }

    private struct Entry {
        /// Asked of the proxy, not answered yet.
        var wanted: UInt64?
        /// Answered, and not certified yet.
        var keyed: (number: UInt64, key: Int32, maker: UInt32)?
        /// By number; the newest, and the one before it until the newest is in force.
        var credentials: [Credential] = []
        /// What a proxy said last.
        var state: IdentityState?

        mutating func forgetKeyed() {
            if let keyed { clinux_close(keyed.key) }
            keyed = nil
        }
        mutating func forget(_ isUnwanted: (UInt64) -> Bool) {
            for credential in credentials where isUnwanted(credential.number) { credential.close() }
            credentials.removeAll { isUnwanted($0.number) }
        }
    }

    private var entries: [String: Entry] = [:]
    private var bundle: TrustBundle?
    private var revocations: Revocations?

    deinit {
        for entry in entries.values {
            if let keyed = entry.keyed { clinux_close(keyed.key) }
            for credential in entry.credentials { credential.close() }
        }
        revocations?.closeDescriptors()
    }

    /// Descriptors it holds.
    var descriptorCount: Int {
        entries.values.reduce(revocations == nil ? 0 : 1) { count, entry in
            count + (entry.keyed == nil ? 0 : 1) + entry.credentials.reduce(0) { count, credential in
                if case .files = credential { count + 2 } else { count + 1 }
            }
        }
    }

    /// A new agent speaks. What its predecessor had under way it cannot finish: the certificate request is gone with it.
    func beginAgent() {
        for name in entries.keys {
            entries[name]?.wanted = nil
            entries[name]?.forgetKeyed()
        }
    }

    // MARK: From the agent. A text says why something was refused; then its descriptors are closed.

    func want(_ wanted: IdentityWanted) -> String? {
        if let reason = admit(wanted.identity, wanted.number) { return reason }
        entries[wanted.identity]?.forgetKeyed()
        entries[wanted.identity]?.wanted = wanted.number
        return nil
    }

    /// Answers what the running proxy must be told.
    func issue(_ issued: IdentityIssued, runningProxy: UInt32) -> Result<IdentityIssued, IdentityRefusal> {
        issued.closeDescriptors()      // an agent has no key to give
        var issued = issued
        issued.key = nil
        guard var entry = entries[issued.identity] else { return .failure(IdentityRefusal(reason: "nobody asked for this identity")) }
        let key: Int32, maker: UInt32
        if let keyed = entry.keyed, keyed.number == issued.number {
            (key, maker) = (keyed.key, keyed.maker)
            entry.keyed = nil
        } else if case .issued(_, let kept, let made)? = entry.credentials.last, entry.credentials.last?.number == issued.number {
            // The same key certified again.
            (key, maker) = (kept, made)
            entry.credentials.removeLast()
        } else {
            return .failure(IdentityRefusal(reason: "there is no key with this number"))
        }
        // Two at most: the one before stays until this one is in force.
        let previous = entry.credentials.last?.number
        entry.forget { $0 != previous }
        entry.credentials.append(.issued(issued, key: key, maker: maker))
        entries[issued.identity] = entry
        if maker != runningProxy { issued.key = key }
        return .success(issued)
    }

    func take(_ files: IdentityFiles) -> String? {
        if let reason = admit(files.identity, files.number) {
            files.closeDescriptors()
            return reason
        }
        let previous = entries[files.identity]?.credentials.last?.number
        entries[files.identity]?.forget { $0 != previous || $0 == files.number }
        entries[files.identity]?.credentials.append(.files(files))
        return nil
    }

    func withdraw(_ identity: String) {
        guard var entry = entries.removeValue(forKey: identity) else { return }
        entry.forgetKeyed()
        entry.forget { _ in true }
    }

    func take(_ bundle: TrustBundle) { self.bundle = bundle }

    func take(_ revocations: Revocations) -> String? {
        // The proxy reads it where it lies: nobody may change it, or cut it off under the reader.
        guard clinux_memory_is_sealed(revocations.list, true) == 1 else {
            revocations.closeDescriptors()
            return "not a sealed memory file"
        }
        guard (0...Limits.revocationBytesMax).contains(clinux_memory_size(revocations.list)) else {
            revocations.closeDescriptors()
            return "more than \(Limits.revocationBytesMax) bytes"
        }
        self.revocations?.closeDescriptors()
        self.revocations = revocations
        return nil
    }

    /// Room for a name, and a number that is not older than what is known of it.
    private func admit(_ identity: String, _ number: UInt64) -> String? {
        guard let entry = entries[identity] else {
            guard entries.count < Limits.identitiesMax else { return "this node keeps \(Limits.identitiesMax) identities at most" }
            entries[identity] = Entry()
            return nil
        }
        let newest = entry.credentials.last?.number ?? 0
        return number >= newest ? nil : "number \(newest) is known already"
    }

    // MARK: From the proxy

    /// Keeps the key of a request that was wanted, and answers what the agent must be told; nil: nobody waits for it, and its descriptor is closed.
    func request(_ request: IdentityRequested, by maker: UInt32) -> Result<IdentityRequested, IdentityRefusal>? {
        guard entries[request.identity]?.wanted == request.number else {
            request.closeDescriptors()
            return nil
        }
        // It goes to later proxies, which map it: it must be memory that nobody can cut off under them.
        guard let key = request.key, clinux_memory_is_secret(key) == 1 || clinux_memory_is_sealed(key, false) == 1 else {
            request.closeDescriptors()
            return .failure(IdentityRefusal(reason: "the proxy's key is not in secret or sealed memory"))
        }
        entries[request.identity]?.wanted = nil
        entries[request.identity]?.forgetKeyed()
        entries[request.identity]?.keyed = (request.number, key, maker)
        var forwarded = request
        forwarded.key = nil
        return .success(forwarded)
    }

    /// What a proxy made of a certificate. False: of one that is not known here.
    func take(_ state: IdentityState) -> Bool {
        guard var entry = entries[state.identity] else { return false }
        entry.state = state
        switch state.state {
        case .active: entry.forget { $0 < state.number }
        case .refused: if entry.credentials.count > 1 { entry.forget { $0 == state.number } }     // the one before stays in force
        case .expired: break
        }
        if state.state == .refused, entry.wanted == state.number { entry.wanted = nil }
        entries[state.identity] = entry
        return true
    }

    // MARK: To those who are new

    /// In the order in which it makes sense to a proxy: whom to trust, who is revoked, who the pods are, and which keys are still missing.
    func tellProxy(_ send: (any ControlPayload) -> Void) {
        if let bundle { send(bundle) }
        if let revocations { send(revocations) }
        for (name, entry) in entries.sorted(by: { $0.key < $1.key }) {
            for credential in entry.credentials {
                switch credential {
                case .issued(var issued, let key, _):
                    issued.key = key
                    send(issued)
                case .files(let files): send(files)
                }
            }
            if let number = entry.wanted { send(IdentityWanted(identity: name, number: number)) }
        }
    }

    /// What a new agent need not do again: certificates without their keys, and what the proxy made of them.
    func tellAgent(_ send: (any ControlPayload) -> Void) {
        for (_, entry) in entries.sorted(by: { $0.key < $1.key }) {
            for case .issued(let issued, _, _) in entry.credentials { send(issued) }
            if let state = entry.state { send(state) }
        }
    }
}

/// A text for the agent: why node did not do what it asked.
struct IdentityRefusal: Error, Equatable { let reason: String }
