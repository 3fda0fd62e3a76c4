import Testing
@testable import ControlChannel

/// SplitMix64: one seed replays one run.
private struct Seeded: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}

@Suite struct Fuzz {
    /// Decodes as every kind; only a trap fails.
    private func decodeAsEverything(_ message: ControlMessage) {
        func attempt<Payload: ControlPayload>(_: Payload.Type) {
            var queue = DescriptorQueue([])
            _ = try? Payload(fields: message, descriptors: &queue)
        }
        attempt(ProxyHello.self); attempt(PodAdded.self); attempt(PodRemoved.self); attempt(ListenerAdded.self); attempt(ShardPublished.self)
        attempt(SnapshotComplete.self); attempt(Drain.self); attempt(ProxyReady.self); attempt(SnapshotApplied.self); attempt(SnapshotRefused.self)
        attempt(SocketsWanted.self); attempt(SocketsMade.self); attempt(SocketsRefused.self)
        attempt(PipesWanted.self); attempt(PipesMade.self); attempt(PipesRefused.self)
        attempt(PodEnrol.self); attempt(PodUnenrol.self); attempt(AgentHello.self); attempt(PodState.self); attempt(ProcessState.self); attempt(SnapshotAccepted.self)
        attempt(IdentityWanted.self); attempt(IdentityRequested.self); attempt(IdentityIssued.self); attempt(IdentityFiles.self)
        attempt(IdentityWithdrawn.self); attempt(TrustBundle.self); attempt(Revocations.self); attempt(IdentityState.self)
    }

    @Test func randomBytesNeverTrap() {
        var random = Seeded(state: 2)
        for _ in 0..<20_000 {
            let wire = (0..<Int.random(in: 0...96, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
            if let message = try? ControlMessage(decoding: wire) { decodeAsEverything(message) }
        }
    }

    /// Real packets with a few bytes changed get far deeper than noise does; what decodes must encode to the same bytes.
    @Test func damagedPacketsNeverTrapAndDecodingIsExact() {
        var random = Seeded(state: 22)
        let address = AddressBytes(mapping: 10, 1, 2, 3)
        let seeds: [ControlMessage] = [
            PodEnrol(
                uid: "0f", namespace: "shop", name: "cart", networkNamespacePath: "/run/netns/cart", cgroupPath: "/sys/fs/cgroup/cart",
                addresses: [address], excludedOutboundPorts: [5432], excludedInboundPorts: [1],
                excludedOutboundPrefixes: [PrefixBytes(address: address, length: 120)!]).message(),
            PodState(uid: "0f", state: .enrolled, pod: 1, namespaceCookie: 2, listeners: 4, olderConnections: 0, reason: "").message(),
            ListenerAdded(pod: 1, role: .inbound, destinationFrom: .socketName, family: .ipv4, listener: -1).message(),
            SocketsWanted(pod: 1, family: .ipv4, socketKind: .plain, count: 4).message(),
            ProcessState(process: .proxy, processID: 1, incarnation: 1, restarts: 0, state: .ready).message(),
            IdentityRequested(identity: "spiffe://a/ns/b/sa/c", number: 1, request: [0x30, 0x03, 1, 2, 3], key: nil).message(),
            IdentityIssued(identity: "spiffe://a/ns/b/sa/c", number: 1, chain: [1, 2, 3, 4], notBefore: 5, notAfter: 6).message(),
            TrustBundle(trustDomain: "a", generation: 1, roots: [1, 2, 3]).message(),
            IdentityState(identity: "spiffe://a/ns/b/sa/c", number: 1, state: .active, notAfter: 6).message(),
        ]
        for _ in 0..<40_000 {
            var wire = seeds.randomElement(using: &random)!.encode()
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                wire[Int.random(in: 0..<wire.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            if Bool.random(using: &random) { wire.removeLast(Int.random(in: 0...wire.count, using: &random)) }
            if wire.count >= 8, Bool.random(using: &random) { wire.replaceSubrange(4..<8, with: littleEndianBytes(UInt32(wire.count))) }
            guard let message = try? ControlMessage(decoding: wire) else { continue }
            #expect(message.encode() == wire)
            decodeAsEverything(message)
        }
    }
}
