import CLinux
import Foundation

/// A process in a cgroup and a network namespace of a scratch node: a pod's program, or the stand-in for node and proxy.
///
/// It answers one question at a time, in JSON packets. A process of its own, because the test process must neither change its namespace nor its cgroup:
/// other tests run in it.
final class Person {
    /// What a person can be asked; fields that a question does not use stay nil.
    struct Question: Encodable {
        var does: String
        var to, bind, namespace: String?
        var name: String?
        var port, mark, protocolNumber, count: Int?
        var then: Then?
        var hold, closeAtOnce, pause, connected: Bool?
        /// Local UDP port.
        var bindPort: Int?

        /// A second connect() on the same socket.
        struct Then: Encodable { var to: String, port: Int }
    }

    struct Answer: Decodable {
        /// Symbolic errno (`ECONNREFUSED`), nil when all went well.
        var error: String?
        /// What the other end said.
        var reply: String?
        /// getpeername, and getpeername after the second connect.
        var peer, peerThen: String?
        /// Own address of a connected UDP socket.
        var local: String?
        var milliseconds: Double?
        var cookie: UInt64?
        var succeeded, right, wrong, missing: Int?
        var errors: [String: Int]?
        /// Protocol the connection ended up with.
        var isMultipath: Bool?
    }

    struct Trouble: Error, CustomStringConvertible { let description: String }

    private let socket: Int32
    private let pid: pid_t

    init(cgroup: String, namespace: String) throws {
        var mine: Int32 = -1, theirs: Int32 = -1
        guard clinux_seqpacket_pair(&mine, &theirs, false) == 0 else { throw Trouble(description: "no socket pair") }
        socket = mine
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawn_file_actions_adddup2(&actions, theirs, 3)
        let words = ["/usr/bin/env", "python3", "-c", Self.program, cgroup, namespace]
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { (word: String) in strdup(word) } + [nil]
        var child: pid_t = 0
        let result = posix_spawn(&child, "/usr/bin/env", &actions, nil, &arguments, environ)
        arguments.forEach { free($0) }
        posix_spawn_file_actions_destroy(&actions)
        close(theirs)
        pid = child
        guard result == 0 else { throw Trouble(description: "cannot start python3: \(String(cString: strerror(result)))") }
        _ = try ask(Question(does: "hello"))
    }

    /// Ends the process: its sockets close, its cgroup becomes empty.
    func leave() {
        close(socket)
        kill(pid, SIGKILL)
        var status: Int32 = 0
        waitpid(pid, &status, 0)
    }

    func ask(_ question: Question) throws -> Answer { try askForDescriptors(question).answer }

    func askForDescriptors(_ question: Question) throws -> (answer: Answer, descriptors: [Int32]) {
        let packet = try JSONEncoder().encode(question)
        let sent = packet.withUnsafeBytes { clinux_send_packet(socket, $0.baseAddress, $0.count, nil, 0) }
        guard sent == packet.count else { throw Trouble(description: "the person is gone") }
        var bytes = [UInt8](repeating: 0, count: 65536), descriptors = [Int32](repeating: -1, count: 8)
        var count = 0, truncated = false
        let received = clinux_receive_packet(socket, &bytes, bytes.count, &descriptors, descriptors.count, &count, &truncated)
        guard received > 0 else { throw Trouble(description: "the person did not answer \(question.does); its stderr says why") }
        return (try JSONDecoder().decode(Answer.self, from: Data(bytes[..<received])), Array(descriptors[..<count]))
    }

    func connect(to address: String, _ port: Int, _ more: (inout Question) -> Void = { _ in }) throws -> Answer {
        var question = Question(does: "connect", to: address, port: port)
        more(&question)
        return try ask(question)
    }

    /// Opens `count` connections to as many destinations, from `first` upwards.
    func burst(_ count: Int, from first: String, _ more: (inout Question) -> Void = { _ in }) throws -> Answer {
        var question = Question(does: "burst", to: first, count: count)
        more(&question)
        return try ask(question)
    }

    /// Asks over UDP and waits a second for the answer.
    func ask(over udp: String, _ port: Int, connected: Bool = false, _ more: (inout Question) -> Void = { _ in }) throws -> Answer {
        var question = Question(does: "datagram", to: udp, port: port)
        question.connected = connected
        more(&question)
        return try ask(question)
    }

    /// Becomes a UDP server that says its name, on both families.
    func serveDatagrams(_ name: String, on port: Int) throws { _ = try ask(Question(does: "serve datagrams", name: name, port: port)) }

    /// Becomes an app that says its name and who called.
    func serve(_ name: String, on port: Int) throws { _ = try ask(Question(does: "serve", name: name, port: port)) }
}
