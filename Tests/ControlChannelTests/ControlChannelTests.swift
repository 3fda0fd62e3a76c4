import CLinux
import Glibc
import Testing
@testable import ControlChannel

/// Tells whether anybody still holds a descriptor that was passed around. Numbers tell nothing: other tests of this process reuse them.
private final class Witness {
    private let reading: Int32
    /// To be sent away.
    private(set) var descriptor: Int32

    init() {
        var ends: [Int32] = [-1, -1]
        precondition(pipe(&ends) == 0)
        reading = ends[0]
        descriptor = ends[1]
    }

    deinit { close(reading); dropOwn() }

    func dropOwn() {
        if descriptor >= 0 { close(descriptor) }
        descriptor = -1
    }

    /// Somebody else has it open (after `dropOwn`): the pipe would report its end otherwise.
    var isHeld: Bool {
        var state = pollfd(fd: reading, events: Int16(POLLIN), revents: 0)
        return poll(&state, 1, 0) == 0
    }
}

private let address = AddressBytes(mapping: 10, 0, 0, 7)
private let identity = "spiffe://cluster.local/ns/shop/sa/cart"
private let prefix = PrefixBytes(address: AddressBytes(mapping: 10, 9, 0, 0), length: 112)!

@Suite struct Messages {
    /// Every kind, with every field set to something that is not its default.
    private func roundTrip<Payload: ControlPayload>(_ payload: Payload) throws {
        var message = try ControlMessage(decoding: payload.message().encode())
        message.descriptors = payload.descriptors
        #expect(try Payload(message) == payload)
        #expect(message.kind == Payload.kind)
    }

    @Test func everyKindSurvivesTheWire() throws {
        try roundTrip(ProxyHello(incarnation: 3, workers: 2, nodeName: "a", descriptorLimit: 20_000, heartbeat: 1_000, counters: 1_001))
        try roundTrip(PodAdded(pod: 7, namespaceCookie: 1 << 40, addresses: [address, AddressBytes(high: 1, low: 2)], flags: [.outbound, .failClosed]))
        try roundTrip(PodRemoved(pod: 9))
        try roundTrip(ListenerAdded(pod: 1, role: .inbound, destinationFrom: .socketName, family: .ipv6, listener: 1_002))
        try roundTrip(ShardPublished(family: 2, index: 255, version: .max, shard: 1_003))
        try roundTrip(ShardPublished(family: 2, index: 255, version: .max, shard: nil))
        try roundTrip(SnapshotComplete(generation: 12))
        try roundTrip(Drain(deadlineMilliseconds: 5_000))
        try roundTrip(ProxyReady())
        try roundTrip(SnapshotApplied(generation: 12))
        try roundTrip(SnapshotRefused(generation: 12, reason: "services/4: bad checksum"))
        try roundTrip(SocketsWanted(pod: 1, family: .ipv4, socketKind: .transparent, count: 64))
        try roundTrip(SocketsMade(pod: 1, family: .ipv4, socketKind: .plain, sockets: [1_004, 1_005]))
        try roundTrip(SocketsRefused(pod: 1, family: .ipv6, socketKind: .plain, errorNumber: 24))
        try roundTrip(PipesWanted(count: 4, capacityBytes: 1 << 20))
        try roundTrip(PipesMade(capacityBytes: 1 << 20, ends: [1_006, 1_007]))
        try roundTrip(PipesRefused(errorNumber: 24))
        try roundTrip(PodEnrol(
            uid: "u", namespace: "shop", name: "cart-é", networkNamespacePath: "/run/netns/x", cgroupPath: "/sys/fs/cgroup/x", addresses: [address],
            flags: [.inbound, .strict], excludedOutboundPorts: [5432, 65535], excludedInboundPorts: [9090], excludedOutboundPrefixes: [prefix],
            probePorts: [8080], udpExceptionPorts: [53, 4789]))
        try roundTrip(PodUnenrol(uid: "u"))
        try roundTrip(AgentHello(incarnation: 1, nodeName: "n", verdictNames: ["pass", "redirect"], kubeletCgroup: "/kubelet", counters: 1_008, verdicts: 1_009, heartbeat: 1_010))
        try roundTrip(PodState(uid: "u", state: .refused, pod: 1, namespaceCookie: 2, listeners: 4, olderConnections: 3, reason: "host namespace"))
        try roundTrip(ProcessState(process: .proxy, processID: 42, incarnation: 2, restarts: 1, state: .stale))
        try roundTrip(SnapshotAccepted(generation: 12))
        try roundTrip(IdentityWanted(identity: identity, number: 3))
        try roundTrip(IdentityRequested(identity: identity, number: 3, request: [0x30, 0x00], key: 1_011))
        try roundTrip(IdentityRequested(identity: identity, number: 3, request: [], key: nil))
        try roundTrip(IdentityIssued(identity: identity, number: .max, chain: [1, 2, 3], notBefore: 1_700_000_000, notAfter: 1_700_086_400, key: 1_012))
        try roundTrip(IdentityIssued(identity: identity, number: 3, chain: [1], notBefore: 1, notAfter: 2))
        try roundTrip(IdentityFiles(identity: identity, number: 3, chain: 1_013, key: 1_014))
        try roundTrip(IdentityWithdrawn(identity: identity))
        try roundTrip(TrustBundle(trustDomain: "cluster.local", generation: 9, roots: Array("-----BEGIN".utf8)))
        try roundTrip(Revocations(generation: 4, list: 1_015))
        try roundTrip(IdentityState(identity: identity, number: 3, state: .refused, reason: "the chain does not end at a root", notAfter: 7))
    }

    @Test func unknownFieldsAreSkipped() throws {
        var message = SnapshotComplete(generation: 5).message()
        message.add(9_999, string: "from a later release")
        #expect(try SnapshotComplete(ControlMessage(decoding: message.encode())).generation == 5)
    }

    @Test func refusals() throws {
        #expect(throws: ControlFault.truncated) { try ControlMessage(decoding: []) }
        var wire = SnapshotComplete(generation: 5).message().encode()
        wire[0] = 2
        #expect(throws: ControlFault.wrongVersion(2)) { try ControlMessage(decoding: wire) }
        wire = SnapshotComplete(generation: 5).message().encode()
        #expect(throws: ControlFault.malformed) { try ControlMessage(decoding: wire + [0]) }
        wire = PodUnenrol(uid: "abc").message().encode()
        wire[wire.count - 1] = 1      // padding must be zero: one message, one encoding
        #expect(throws: ControlFault.malformed) { try ControlMessage(decoding: wire) }
        #expect(throws: ControlFault.missingField(tag: Tag.generation)) { try SnapshotComplete(ControlMessage(.snapshotComplete)) }
        #expect(throws: ControlFault.wrongKind(2)) { try SnapshotComplete(ControlMessage(.podAdded)) }
        var family = ShardPublished(family: 1, index: 2, version: 3, shard: nil).message()
        family.fields[0].bytes = littleEndianBytes(UInt32(256))
        #expect(throws: ControlFault.malformedField(tag: Tag.family)) { try ShardPublished(family) }
    }

    @Test func blobsAndNamesOfIdentitiesAreBounded() throws {
        func refused<Payload: ControlPayload>(_ payload: Payload, _ tag: UInt16) {
            #expect(throws: ControlFault.malformedField(tag: tag)) { try Payload(ControlMessage(decoding: payload.message().encode())) }
        }
        func bytes(_ count: Int) -> [UInt8] { [UInt8](repeating: 1, count: count) }
        let longName = String(repeating: "x", count: IdentityLimits.identityBytesMax + 1)
        refused(IdentityWanted(identity: longName, number: 1), Tag.identity)
        refused(IdentityRequested(identity: identity, number: 1, request: bytes(IdentityLimits.requestBytesMax + 1), key: nil), Tag.certificateRequest)
        refused(IdentityIssued(identity: identity, number: 1, chain: bytes(IdentityLimits.chainBytesMax + 1), notBefore: 1, notAfter: 2), Tag.chain)
        refused(TrustBundle(trustDomain: "t", generation: 1, roots: bytes(IdentityLimits.rootsBytesMax + 1)), Tag.roots)
        refused(
            IdentityState(identity: identity, number: 1, state: .refused, reason: String(repeating: "x", count: IdentityLimits.reasonBytesMax + 1)),
            Tag.reason)
        // The largest that is allowed fits into a packet, with the longest name there can be.
        let largest = TrustBundle(trustDomain: String(longName.dropLast()), generation: .max, roots: bytes(IdentityLimits.rootsBytesMax))
        #expect(largest.message().encodedBytes <= ControlLimits.packetBytesMax)
        try roundTrip(largest)
    }

    @Test func aLengthNearTheTopOfItsRangeDoesNotOverflow() {
        var wire = PodUnenrol(uid: "abcd").message().encode()
        for offset in 12..<16 { wire[offset] = 0xff }
        #expect(throws: ControlFault.truncated) { try ControlMessage(decoding: wire) }
    }

    @Test func addressesKeepTheirByteOrder() {
        #expect(address.bytes == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 7])
        #expect(AddressBytes(address.bytes) == address)
        #expect(address.ipv4 == [10, 0, 0, 7])
        #expect(AddressBytes(high: 0xfd00 << 48, low: 1).ipv4 == nil)
        #expect(AddressBytes([1, 2, 3]) == nil)
        #expect(PrefixBytes(address: address, length: 129) == nil)
    }
}

@Suite struct Sockets {
    private func pair() throws -> (Int32, Int32) { try ControlSocket.pair(nonBlocking: true) }

    @Test func descriptorsTravelAndAreCloseOnExec() throws {
        let ends = try pair(), witness = Witness()
        var near = ControlSocket(adopting: ends.0), far = ControlSocket(adopting: ends.1)
        try near.send(ShardPublished(family: 1, index: 2, version: 3, shard: witness.descriptor))
        witness.dropOwn()
        let shard = try ShardPublished(try #require(try far.receive()))
        #expect(fcntl(try #require(shard.shard), F_GETFD) & FD_CLOEXEC != 0)
        #expect(witness.isHeld)
        shard.closeDescriptors()
        #expect(!witness.isHeld)
    }

    @Test func surplusDescriptorsAreClosed() throws {
        let ends = try pair(), witness = Witness()
        var near = ControlSocket(adopting: ends.0), far = ControlSocket(adopting: ends.1)
        var message = SnapshotComplete(generation: 1).message()
        message.descriptors = [witness.descriptor, witness.descriptor]
        try near.send(message)
        witness.dropOwn()
        let received = try #require(try far.receive())
        #expect(received.descriptors.count == 2 && witness.isHeld)
        _ = try SnapshotComplete(received)
        #expect(!witness.isHeld)
    }

    @Test func aPayloadThatFailsHalfWayClosesWhatItHadTaken() throws {
        let ends = try pair(), witness = Witness()
        var near = ControlSocket(adopting: ends.0), far = ControlSocket(adopting: ends.1)
        // One descriptor where two are needed.
        var message = ProxyHello(incarnation: 1, workers: 1, nodeName: "n", descriptorLimit: 1, heartbeat: -1, counters: -1).message()
        message.descriptors = [witness.descriptor]
        try near.send(message)
        witness.dropOwn()
        let broken = try #require(try far.receive())
        #expect(throws: ControlFault.missingDescriptors(expected: 2, got: 1)) { try ProxyHello(broken) }
        #expect(!witness.isHeld)
    }

    @Test func aMalformedPacketsDescriptorsAreClosedAndTheNextIsRead() throws {
        let ends = try pair(), witness = Witness()
        let near = ends.0
        defer { close(near) }
        var far = ControlSocket(adopting: ends.1)
        var wire = SnapshotComplete(generation: 1).message().encode()
        wire[0] = 9
        #expect(clinux_send_packet(near, wire, wire.count, [witness.descriptor], 1) == wire.count)
        wire[0] = 1
        #expect(clinux_send_packet(near, wire, wire.count, nil, 0) == wire.count)
        witness.dropOwn()
        #expect(throws: ControlFault.wrongVersion(9)) { try far.receive() }
        #expect(!witness.isHeld)
        #expect(try SnapshotComplete(try #require(try far.receive())).generation == 1)
    }

    @Test func unknownKindsAreCountedAndTheirDescriptorsClosed() throws {
        let ends = try pair(), witness = Witness()
        var near = ControlSocket(adopting: ends.0), far = ControlSocket(adopting: ends.1)
        var wire = SnapshotComplete(generation: 1).message().encode()
        wire[2] = 0xff; wire[3] = 0x7f
        #expect(clinux_send_packet(near.descriptor, wire, wire.count, [witness.descriptor], 1) == wire.count)
        witness.dropOwn()
        try near.send(SnapshotComplete(generation: 2))
        #expect(try SnapshotComplete(try #require(try far.receive())).generation == 2)
        let unknownKinds = far.unknownKinds
        #expect(unknownKinds == 1)
        #expect(!witness.isHeld)
    }

    @Test func endAndEmptinessDiffer() throws {
        let ends = try pair()
        var near = ControlSocket(adopting: ends.0)
        let nothing = try near.receive()
        #expect(nothing == nil)
        close(ends.1)
        #expect(throws: ControlFault.closed) { try near.receive() }
        let isClosed = near.isClosed
        #expect(isClosed)
        #expect(throws: ControlFault.closed) { try near.send(ProxyReady()) }
    }

    @Test func aFullSocketSaysSoAndLosesNothing() throws {
        let ends = try pair()
        var near = ControlSocket(adopting: ends.0), far = ControlSocket(adopting: ends.1)
        var sent: UInt64 = 0
        do { while true { try near.send(SnapshotComplete(generation: sent)); sent += 1 } } catch { #expect(error == .wouldBlock) }
        for expected in 0..<sent { #expect(try SnapshotComplete(try #require(try far.receive())).generation == expected) }
    }

    @Test func limitsAreCheckedBeforeSending() throws {
        let ends = try pair()
        var near = ControlSocket(adopting: ends.0)
        defer { close(ends.1) }
        let large = SnapshotRefused(generation: 1, reason: String(repeating: "x", count: ControlLimits.packetBytesMax))
        #expect(throws: ControlFault.packetTooLarge(bytes: large.message().encodedBytes)) { try near.send(large) }
        let many = SocketsMade(pod: 1, family: .ipv4, socketKind: .plain, sockets: [Int32](repeating: 0, count: 65))
        #expect(throws: ControlFault.tooManyDescriptors(65)) { try near.send(many) }
    }
}
