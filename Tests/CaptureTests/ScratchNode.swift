@testable import Capture
import Foundation
import Synchronization

/// A node to play with: a router, two pods and another machine as namespaces, cgroups for pods and for Weft, a BPF file system, and the hooks.
///
///     a 10.88.1.2, fd88:1::2 ─┐
///     b 10.88.2.2, fd88:2::2 ─┼─ router
///   far 10.88.9.2, fd88:9::2 ─┘                everything is named wkt-PID-N and removed in `remove()`
final class ScratchNode {
    static let object = ProcessInfo.processInfo.environment["WEFT_BPF_OBJECT"]
        ?? URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../.build/release/capture.bpf.o").path
    private static let numbers = Atomic<Int>(0)

    let name: String
    let directory, cgroups: String
    let weft: Person
    private let hostCookie: UInt64
    private(set) var capture: Capture?
    private var people: [String: Person] = [:]
    private var listeners: [String: [Int32]] = [:]
    private let heart = Heart()

    /// - Parameter nested: Weft's cgroup lies below the pods' one, as that of a DaemonSet does.
    let nested: Bool

    init(nested: Bool = false) throws {
        guard geteuid() == 0 else {
            throw Person.Trouble(description: "capture tests need root: they make namespaces and cgroups and load BPF programs. Run them with sudo, or set WEFT_UNPRIVILEGED=1 to leave them out.")
        }
        guard access(Self.object, R_OK) == 0 else { throw Person.Trouble(description: "no \(Self.object): run make bpf first") }
        self.nested = nested
        name = "wkt-\(getpid())-\(Self.numbers.add(1, ordering: .relaxed).newValue)"
        directory = NSTemporaryDirectory() + name
        guard let mount = Self.cgroupMount() else { throw Person.Trouble(description: "no cgroup v2 hierarchy is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified") }
        cgroups = mount + "/" + name
        do {
            try Self.shell(Self.setUp(name: name, directory: directory, cgroups: cgroups))
            weft = try Person(cgroup: cgroups + (nested ? "/pods" : "") + "/weft/node", namespace: name + "-r")
            hostCookie = try weft.ask(.init(does: "cookie")).cookie!
        } catch {
            try? Self.shell(Self.tearDown(name: name, directory: directory, cgroups: cgroups))
            throw error
        }
        do { try waitForPaths() } catch {
            remove()
            throw error
        }
    }

    /// A fresh link drops packets until its carrier has been noticed and neighbours are known; a SYN lost then comes again after a second. Tests that
    /// measure how fast a connection is refused start from paths over which a refusal has already travelled, there and back.
    private func waitForPaths() throws {
        let far = try person("far")
        for address in ["10.88.1.2", "fd88:1::2", "10.88.2.2", "fd88:2::2"] {
            for attempt in 1... {
                let answer = try far.connect(to: address, 9)
                if answer.error == "ECONNREFUSED" && answer.milliseconds! < 500 { break }
                guard attempt < 10 else { throw Person.Trouble(description: "no path to \(address): \(answer)") }
            }
        }
    }

    /// Runs `body` on a fresh node and removes the node whatever happens.
    static func with(nested: Bool = false, _ body: (ScratchNode) throws -> Void) throws {
        let node = try ScratchNode(nested: nested)
        defer { node.remove() }
        try body(node)
    }

    func remove() {
        heart.stop()
        try? capture?.detach()
        capture = nil
        for person in people.values { person.leave() }
        weft.leave()
        for descriptor in listeners.values.joined() { close(descriptor) }
        try? Self.shell(Self.tearDown(name: name, directory: directory, cgroups: cgroups))
    }

    var configuration: CaptureConfiguration {
        CaptureConfiguration(
            objectPath: Self.object, pinDirectory: directory + "/bpf/weft", podsCgroup: cgroups + "/pods",
            weftNodeCgroup: cgroups + (nested ? "/pods" : "") + "/weft/node", kubeletCgroup: cgroups + "/kubelet",
            hostNamespaceCookie: hostCookie, workers: 2)
    }


    /// Loads the hooks and starts the heartbeat.
    func start() throws {
        let capture = try Capture(configuration)
        self.capture = capture
        heart.start(stamping: capture.heartbeat)
    }

    /// The node process is gone without a word: what it pinned stays.
    func crash() {
        heart.stop()
        capture = nil
    }

    func stopHeart() { heart.stop() }

    /// Stops the heart and leaves one stamp, `nanoseconds` away from now; nil leaves none at all.
    func stampOnce(at nanoseconds: Int64?, worker: Int = 0) {
        heart.stop()
        Heart.leave(nanoseconds.map { $0 + Int64(Heart.now()) } ?? 0, in: capture!.heartbeat, slot: worker)
    }

    /// The program of a pod (`a`, `b`), on the other machine (`far`), or on this one (`kubelet`, `host`).
    func person(_ who: String) throws -> Person {
        if let known = people[who] { return known }
        let isOfHost = who == "kubelet" || who == "host"
        let person = try Person(
            cgroup: cgroups + (isOfHost || who == "far" ? "/" + who : "/pods/" + who), namespace: name + (isOfHost ? "-r" : "-" + who))
        people[who] = person
        return person
    }

    func cookie(_ pod: String) throws -> UInt64 { try person(pod).ask(.init(does: "cookie")).cookie! }

    /// Enrols a pod with listeners of the proxy's stand-in; enrols it again when it is enrolled.
    func enrol(_ pod: String, _ change: (inout PodCapture) -> Void = { _ in }) throws {
        let number: UInt8 = pod == "a" ? 1 : 2
        if listeners[pod] == nil { listeners[pod] = try weft.askForDescriptors(.init(does: "listen", namespace: name + "-" + pod)).descriptors }
        let namespace = open("/run/netns/\(name)-\(pod)", O_RDONLY | O_CLOEXEC)
        defer { close(namespace) }
        var wish = PodCapture(
            pod: UInt32(number), namespaceCookie: try cookie(pod), namespaceFD: namespace, ipv4: [10, 88, number, 2],
            ipv6: [0xfd, 0x88, 0, number, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2])
        (wish.outboundListener4, wish.outboundListener6) = (listeners[pod]![0], listeners[pod]![1])
        (wish.inboundListener4, wish.inboundListener6) = (listeners[pod]![2], listeners[pod]![3])
        wish.cgroup = cgroups + "/pods/" + pod
        change(&wish)
        try capture!.enrol(wish)
    }

    /// The proxy's stand-in and everything that holds its listeners is gone.
    func dropListeners() {
        weft.leave()
        for descriptor in listeners.values.joined() { close(descriptor) }
        listeners = [:]
    }

    /// How often a verdict was reached since the maps were made.
    func count(_ verdict: String) throws -> UInt64 {
        guard let index = Capture.verdictNames.firstIndex(of: verdict) else { throw Person.Trouble(description: "no verdict is called \(verdict)") }
        let page = mmap(nil, 4096, PROT_READ, MAP_SHARED, capture!.verdicts, 0)!
        defer { munmap(page, 4096) }
        return page.load(fromByteOffset: index * 8, as: UInt64.self)
    }

    /// Names of the links that are pinned.
    var links: [String] { (try? FileManager.default.contentsOfDirectory(atPath: directory + "/bpf/weft/links")) ?? [] }

    /// Runs commands in a pod's namespace.
    func configure(_ pod: String, _ commands: String) throws { try Self.shell("ip netns exec \(name)-\(pod) sh -ec '\(commands)'") }

    static func shell(_ script: String) throws {
        let process = Process()
        process.executableURL = URL(filePath: "/bin/sh")
        process.arguments = ["-c", script]
        let errors = Pipe()
        process.standardError = errors
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        let said = errors.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw Person.Trouble(description: "set-up failed: \(String(decoding: said, as: UTF8.self))") }
    }

    private static func cgroupMount() -> String? {
        let mounts = (try? String(contentsOfFile: "/proc/self/mounts", encoding: .utf8)) ?? ""
        for line in mounts.split(separator: "\n") {
            let fields = line.split(separator: " ")
            if fields.count > 2, fields[2] == "cgroup2" { return String(fields[1]) }
        }
        return nil
    }

    /// As `ip route` takes it: four groups of two bytes, the rest zero.
    private static var spreadPrefix6: String {
        let groups = stride(from: 0, to: 8, by: 2).map { place in
            String(UInt16(Capture.spreadPrefix6[place]) << 8 | UInt16(Capture.spreadPrefix6[place + 1]), radix: 16)
        }
        return groups.joined(separator: ":") + "::/64"
    }

    private static func setUp(name: String, directory: String, cgroups: String) -> String {
        """
        set -e
        mkdir -p \(directory)/bpf && mount -t bpf bpf \(directory)/bpf
        mkdir -p \(cgroups)/pods/a \(cgroups)/pods/b \(cgroups)/pods/weft/node \(cgroups)/weft/node \(cgroups)/far \(cgroups)/kubelet \(cgroups)/host
        ip netns add \(name)-r
        ip -n \(name)-r link set lo up
        ip netns exec \(name)-r sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.accept_dad=0
        for entry in a:1 b:2 far:9; do
          n=\(name)-${entry%:*}; x=${entry#*:}
          ip netns add $n
          # While a link-local address is tentative, neighbours stay unresolved and the first packets of a test are late by a second.
          ip netns exec $n sysctl -qw net.ipv6.conf.default.accept_dad=0
          ip link add v$x netns \(name)-r type veth peer name eth0 netns $n
          ip -n \(name)-r addr add 10.88.$x.1/24 dev v$x
          ip -n \(name)-r -6 addr add fd88:$x::1/64 dev v$x nodad
          ip -n \(name)-r link set v$x up
          ip -n $n link set lo up
          ip -n $n addr add 10.88.$x.2/24 dev eth0
          ip -n $n -6 addr add fd88:$x::2/64 dev eth0 nodad
          ip -n $n link set eth0 up
          ip -n $n route add default via 10.88.$x.1
          ip -n $n -6 route add default via fd88:$x::1
          ip -n $n -6 route add local \(spreadPrefix6) dev lo
          ip netns exec $n sysctl -qw net.ipv4.tcp_tw_reuse=1
        done
        """
    }

    private static func tearDown(name: String, directory: String, cgroups: String) -> String {
        """
        for n in r a b far; do ip netns del \(name)-$n; done
        umount \(directory)/bpf; rmdir \(directory)/bpf \(directory)
        for i in 1 2 3 4 5 6 7 8 9 10; do find \(cgroups) -depth -type d -exec rmdir {} + && break; sleep 0.1; done
        true
        """
    }
}
