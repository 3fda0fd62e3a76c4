@testable import Agent
import ControlChannel
import Glibc
import MeshModel
import Testing

/// The link over a real socket pair, with this test as node.
@Suite struct NodeLinkTests {
    @Test func messagesGoBothWaysInOrder() async throws {
        let (mine, theirs) = try ControlSocket.pair(nonBlocking: false)
        var node = ControlSocket(adopting: mine)
        let link = try NodeLink(adopting: theirs)
        link.send((1...3).map { Outgoing(PodUnenrol(uid: "pod-\($0)")) })
        for number in 1...3 {
            let message = try #require(try node.receive())
            #expect(try PodUnenrol(message).uid == "pod-\(number)")
        }
        try node.send(SnapshotAccepted(generation: 7))
        try node.send(SnapshotApplied(generation: 7))
        try node.send(PodUnenrol(uid: "not for the agent"))
        try node.send(SnapshotRefused(generation: 8, reason: "no"))
        var received: [NodeMessage] = []
        for await message in link.messages {
            received.append(message)
            if received.count == 3 { break }
        }
        #expect(received == [.accepted(generation: 7), .applied(generation: 7), .refused(generation: 8, reason: "no")])
    }

    /// A node that does not read must not hold up the agent, and gets everything, in order, once it reads.
    @Test func aNodeThatDoesNotReadHoldsUpNobody() async throws {
        let (mine, theirs) = try ControlSocket.pair(nonBlocking: true)
        var node = ControlSocket(adopting: mine)
        let link = try NodeLink(adopting: theirs)
        // Far more than the socket's buffer holds.
        let count = 3_000
        let padding = String(repeating: "x", count: 1_000)
        link.send((0..<count).map { Outgoing(PodUnenrol(uid: "\($0)-\(padding)")) })
        var received = 0
        while received < count {
            if let message = try node.receive() {
                #expect(try PodUnenrol(message).uid == "\(received)-\(padding)")
                received += 1
            } else {
                try await Task.sleep(for: .milliseconds(1))
            }
        }
    }

    /// Its other end says whether a descriptor was closed: numbers are reused by tests that run beside this one.
    private struct Witness {
        let reading: Int32
        let descriptor: Int32
        init() {
            var ends: [Int32] = [0, 0]
            _ = pipe(&ends)
            _ = fcntl(ends[0], F_SETFL, O_NONBLOCK)
            (reading, descriptor) = (ends[0], ends[1])
        }

        func isClosed() async throws -> Bool {
            for _ in 0..<3_000 {
                var byte: UInt8 = 0
                if read(reading, &byte, 1) == 0 { return true }
                try await Task.sleep(for: .milliseconds(10))
            }
            return false
        }
    }

    @Test func sentDescriptorsArriveAndAreClosedHere() async throws {
        let (mine, theirs) = try ControlSocket.pair(nonBlocking: true)
        var node = ControlSocket(adopting: mine)
        let link = try NodeLink(adopting: theirs)
        let witness = Witness()
        link.send([Outgoing(ShardPublished(family: 1, index: 0, version: 1, shard: witness.descriptor))])
        var message = try node.receive()
        while message == nil {
            try await Task.sleep(for: .milliseconds(1))
            message = try node.receive()
        }
        let shard = try #require(try ShardPublished(message!).shard)
        close(shard)
        #expect(try await witness.isClosed())
    }

    @Test func theEndOfNodeEndsTheStreamAndDropsWhatWaits() async throws {
        let (mine, theirs) = try ControlSocket.pair(nonBlocking: false)
        let link = try NodeLink(adopting: theirs)
        close(mine)
        for await _ in link.messages {}
        let witness = Witness()
        link.send([Outgoing(ShardPublished(family: 1, index: 0, version: 1, shard: witness.descriptor))])
        #expect(try await witness.isClosed(), "nobody will send it, so it is closed")
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
}
