@testable import Agent
import ControlChannel
import Glibc
import MeshModel
import Testing

/// The link over a real socket pair, with this test as node.
@Suite struct NodeLinkTests {
    private struct Ends: ~Copyable {
        let link: NodeLink
        var node: ControlSocket

        init() throws {
            let (mine, theirs) = try ControlSocket.pair(nonBlocking: false)
            node = ControlSocket(adopting: mine)
            link = try NodeLink(adopting: theirs)
        }
    }

    @Test func messagesGoBothWaysInOrder() async throws {
        var ends = try Ends()
        ends.link.send((1...3).map { Outgoing(PodUnenrol(uid: "pod-\($0)")) })
        for number in 1...3 {
            let message = try #require(try ends.node.receive())
            #expect(try PodUnenrol(message).uid == "pod-\(number)")
        }
        try ends.node.send(SnapshotAccepted(generation: 7))
        try ends.node.send(SnapshotApplied(generation: 7))
        try ends.node.send(PodUnenrol(uid: "not for the agent"))
        try ends.node.send(SnapshotRefused(generation: 8, reason: "no"))
        var received: [NodeMessage] = []
        for await message in ends.link.messages {
            received.append(message)
            if received.count == 3 { break }
        }
        #expect(received == [.accepted(generation: 7), .applied(generation: 7), .refused(generation: 8, reason: "no")])
    }

    /// A node that does not read must not hold up the agent, and gets everything once it reads.
    @Test func aNodeThatDoesNotReadHoldsUpNobody() async throws {
        var ends = try Ends()
        let before = openDescriptors()
        let count = 3_000
        let clock = ContinuousClock()
        let spent = clock.measure {
            ends.link.send((0..<count).map { number in
                let shard = Scene.memory([UInt64(number)])
                return Outgoing(ShardPublished(family: 1, index: UInt16(number), version: 1, shard: shard))
            })
        }
        #expect(spent < .seconds(2))
        for number in 0..<count {
            let shard = try ShardPublished(try #require(try ends.node.receive()))
            #expect(shard.index == UInt16(number))
            close(try #require(shard.shard))
        }
        try await Task.sleep(for: .milliseconds(100))
        #expect(openDescriptors() <= before + 2, "what was sent is closed here")
    }

    @Test func theEndOfNodeEndsTheStreamAndDropsWhatWaits() async throws {
        let (mine, theirs) = try ControlSocket.pair(nonBlocking: false)
        let link = try NodeLink(adopting: theirs)
        close(mine)
        for await _ in link.messages {}
        let shard = Scene.memory([1])
        link.send([Outgoing(ShardPublished(family: 1, index: 0, version: 1, shard: shard))])
        try await Task.sleep(for: .milliseconds(50))
        #expect(fcntl(shard, F_GETFD) == -1, "nobody will send it, so it is closed")
    }

    @Test func whatIsNoMessageIsAFaultAndTheNextOneIsRead() async throws {
        let (mine, theirs) = try ControlSocket.pair(nonBlocking: false)
        var node = ControlSocket(adopting: mine)
        let link = try NodeLink(adopting: theirs)
        _ = [UInt8](repeating: 0xFF, count: 24).withUnsafeBytes { send(mine, $0.baseAddress, $0.count, 0) }
        try node.send(SnapshotAccepted(generation: 1))
        var received: [NodeMessage] = []
        for await message in link.messages {
            received.append(message)
            if received.count == 2 { break }
        }
        guard case .fault = received[0] else { return #expect(Bool(false), "\(received)") }
        #expect(received[1] == .accepted(generation: 1))
    }

    private func openDescriptors() -> Int {
        var count = 0
        for descriptor in 0..<20_000 where fcntl(Int32(descriptor), F_GETFD) != -1 { count += 1 }
        return count
    }
}
