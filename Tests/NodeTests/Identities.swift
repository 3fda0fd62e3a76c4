import CLinux
import ControlChannel
import Glibc
import Testing
@testable import Node

/// Memory like that of a key; tells by its name how often this process has it open.
private final class KeyMemory {
    private let name: String
    private nonisolated(unsafe) static var made = 0

    init() {
        Self.made += 1
        name = "weft-test-key-\(getpid())-\(Self.made)"
    }

    /// A descriptor for the store to own.
    func handOut(sealed: Bool = true) -> Int32 {
        if sealed { return clinux_memory_sealed(name, nil, 128, false) }
        // A file whose size anybody who holds it can change.
        let path = "/tmp/" + name
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        precondition(descriptor >= 0)
        unlink(path)
        return descriptor
    }

    var openCount: Int {
        guard let directory = opendir("/proc/self/fd") else { return -1 }
        defer { closedir(directory) }
        var count = 0
        while let entry = readdir(directory) {
            let number = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            var target = [CChar](repeating: 0, count: 256)
            guard readlink("/proc/self/fd/" + number, &target, 255) > 0 else { continue }
            if String(decoding: target.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self).contains(name + " ") { count += 1 }
        }
        return count
    }
}

private let cart = "spiffe://cluster.local/ns/shop/sa/cart"

private func issued(_ number: UInt64) -> IdentityIssued {
    IdentityIssued(identity: cart, number: number, chain: [1, 2, 3], notBefore: 100, notAfter: 200 + number)
}

private func told(_ store: IdentityStore) -> [ControlKind] {
    var kinds: [ControlKind] = []
    store.tellProxy { kinds.append(type(of: $0).kind) }
    return kinds
}

/// Reads /proc/self/fd by name, so one at a time.
@Suite(.serialized) struct IdentityStoreTests {
    /// Wants, keys and certifies; the key belongs to the store.
    private func certify(_ store: IdentityStore, _ number: UInt64, _ key: KeyMemory, by maker: UInt32) throws -> IdentityIssued {
        #expect(store.want(IdentityWanted(identity: cart, number: number)) == nil)
        let forwarded = try #require(store.request(IdentityRequested(identity: cart, number: number, request: [0x30], key: key.handOut()), by: maker)).get()
        #expect(forwarded.key == nil && forwarded.request == [0x30])
        return try store.issue(issued(number), runningProxy: maker).get()
    }

    @Test func theMakerOfAKeyDoesNotGetItAgainAndALaterProxyDoes() throws {
        let store = IdentityStore()
        let key = KeyMemory()
        #expect(try certify(store, 1, key, by: 7).key == nil)
        #expect(key.openCount == 1)
        var replayed: [any ControlPayload] = []
        store.tellProxy { replayed.append($0) }
        let again = try #require(replayed.first as? IdentityIssued)
        #expect(replayed.count == 1 && again.key != nil && again.chain == [1, 2, 3])
        // Certified once more while another proxy runs: that one did not make the key.
        #expect(try store.issue(issued(1), runningProxy: 8).get().key != nil)
        #expect(key.openCount == 1 && store.descriptorCount == 1)
        store.withdraw(cart)
        #expect(key.openCount == 0 && store.descriptorCount == 0)
    }

    @Test func aKeyIsKeptUntilItsSuccessorIsInForce() throws {
        let store = IdentityStore()
        let first = KeyMemory(), second = KeyMemory()
        _ = try certify(store, 1, first, by: 1)
        #expect(store.take(IdentityState(identity: cart, number: 1, state: .active, notAfter: 201)))
        _ = try certify(store, 2, second, by: 1)
        // A proxy that starts now gets both: the old one serves should the new one be refused.
        #expect(told(store) == [.identityIssued, .identityIssued])
        #expect(store.take(IdentityState(identity: cart, number: 2, state: .active, notAfter: 202)))
        #expect(first.openCount == 0 && second.openCount == 1)
        #expect(told(store) == [.identityIssued])
    }

    @Test func aRefusedSuccessorLeavesItsPredecessor() throws {
        let store = IdentityStore()
        let first = KeyMemory(), second = KeyMemory()
        _ = try certify(store, 1, first, by: 1)
        _ = try certify(store, 2, second, by: 1)
        #expect(store.take(IdentityState(identity: cart, number: 2, state: .refused, reason: "unknown root")))
        #expect(first.openCount == 1 && second.openCount == 0)
        #expect(!store.take(IdentityState(identity: "spiffe://cluster.local/ns/shop/sa/nobody", number: 1, state: .active)))
    }

    @Test func aProxyThatDiedBeforeItAnsweredIsReplacedByOneThatIsAsked() throws {
        let store = IdentityStore()
        #expect(store.want(IdentityWanted(identity: cart, number: 5)) == nil)
        #expect(told(store) == [.identityWanted])
        // Answered, and not certified yet: nothing to ask of the next one, which gets the key with its certificate.
        let key = KeyMemory()
        _ = try #require(store.request(IdentityRequested(identity: cart, number: 5, request: [1], key: key.handOut()), by: 1)).get()
        #expect(told(store).isEmpty && key.openCount == 1)
        #expect(try store.issue(issued(5), runningProxy: 2).get().key != nil)
    }

    @Test func whatNobodyWaitsForIsClosed() throws {
        let store = IdentityStore()
        let key = KeyMemory()
        #expect(store.request(IdentityRequested(identity: cart, number: 1, request: [1], key: key.handOut()), by: 1) == nil)
        #expect(store.want(IdentityWanted(identity: cart, number: 2)) == nil)
        #expect(store.request(IdentityRequested(identity: cart, number: 1, request: [1], key: key.handOut()), by: 1) == nil)
        #expect(key.openCount == 0)
        // Memory that its maker could still cut off would end the next proxy with SIGBUS.
        let answer = store.request(IdentityRequested(identity: cart, number: 2, request: [1], key: key.handOut(sealed: false)), by: 1)
        #expect(throws: IdentityRefusal.self) { try #require(answer).get() }
        #expect(key.openCount == 0)
        #expect(throws: IdentityRefusal(reason: "there is no key with this number")) { try store.issue(issued(2), runningProxy: 1).get() }
        #expect(throws: IdentityRefusal(reason: "nobody asked for this identity")) {
            try store.issue(IdentityIssued(identity: "spiffe://x/ns/a/sa/b", number: 2, chain: [], notBefore: 0, notAfter: 0), runningProxy: 1).get()
        }
    }

    @Test func aNewAgentFindsWhatIsInForceAndNothingHalfDone() throws {
        let store = IdentityStore()
        let first = KeyMemory(), second = KeyMemory()
        _ = try certify(store, 1, first, by: 1)
        #expect(store.take(IdentityState(identity: cart, number: 1, state: .active, notAfter: 201)))
        #expect(store.want(IdentityWanted(identity: cart, number: 2)) == nil)
        _ = try #require(store.request(IdentityRequested(identity: cart, number: 2, request: [1], key: second.handOut()), by: 1)).get()
        store.beginAgent()
        #expect(first.openCount == 1 && second.openCount == 0)
        var replayed: [any ControlPayload] = []
        store.tellAgent { replayed.append($0) }
        #expect(replayed.first as? IdentityIssued == issued(1))
        #expect(replayed.last as? IdentityState == IdentityState(identity: cart, number: 1, state: .active, notAfter: 201))
        #expect(replayed.allSatisfy { $0.descriptors.isEmpty })
        #expect(store.want(IdentityWanted(identity: cart, number: 0)) == "number 1 is known already")
    }

    @Test func filesReplaceEachOtherAndKeysReplaceFiles() throws {
        let store = IdentityStore()
        let chain = KeyMemory(), key = KeyMemory(), later = KeyMemory()
        for number: UInt64 in 1...3 {
            #expect(store.take(IdentityFiles(identity: cart, number: number, chain: chain.handOut(), key: key.handOut())) == nil)
        }
        #expect(chain.openCount == 2 && key.openCount == 2)     // the newest, and the one before
        #expect(store.take(IdentityState(identity: cart, number: 3, state: .active, notAfter: 9)))
        #expect(chain.openCount == 1 && key.openCount == 1)
        _ = try certify(store, 4, later, by: 1)
        #expect(store.take(IdentityState(identity: cart, number: 4, state: .active, notAfter: 9)))
        #expect(chain.openCount == 0 && key.openCount == 0 && later.openCount == 1)
    }

    @Test func theBoundsHold() throws {
        let store = IdentityStore()
        for index in 0..<Limits.identitiesMax { #expect(store.want(IdentityWanted(identity: "spiffe://a/ns/b/sa/\(index)", number: 1)) == nil) }
        #expect(store.want(IdentityWanted(identity: cart, number: 1)) == "this node keeps \(Limits.identitiesMax) identities at most")
        let extra = KeyMemory()
        #expect(store.take(IdentityFiles(identity: cart, number: 1, chain: extra.handOut(), key: extra.handOut())) != nil)
        #expect(extra.openCount == 0)
        store.withdraw("spiffe://a/ns/b/sa/0")
        #expect(store.want(IdentityWanted(identity: cart, number: 1)) == nil)
    }

    @Test func revocationsAreSealedAndReplaceEachOther() throws {
        let store = IdentityStore()
        let open = KeyMemory()
        #expect(store.take(Revocations(generation: 1, list: open.handOut(sealed: false))) == "not a sealed memory file")
        #expect(open.openCount == 0)
        for generation: UInt64 in 1...2 {
            let list = clinux_memory_sealed("weft-test-list", "serial 0a\n", 10, true)
            #expect(store.take(Revocations(generation: generation, list: list)) == nil)
        }
        #expect(store.descriptorCount == 1)
        store.take(TrustBundle(trustDomain: "cluster.local", generation: 1, roots: [1]))
        #expect(told(store) == [.trustBundle, .revocations])
    }
}
