import CLinux
import ControlChannel
import Glibc
import MeshModel
import Telemetry

/// One line on stderr.
func say(_ line: String) { _ = line.withCString { write(2, $0, strlen($0)) } }

struct HostFault: Error { var message: String }

/// One end of a control channel; a class because noncopyable sockets cannot be array elements.
final class Channel {
    var socket: ControlSocket
    init(_ descriptor: Int32) { socket = ControlSocket(adopting: descriptor) }
}

/// What `weft node` is to its proxy, without BPF and without root: the proxy cannot tell the difference.
final class PlayedNode {
    private let options: HostOptions
    private let control: Channel
    private let stocks: [Channel]
    private let signals: Int32
    private let counters: Int32
    private let proxy: pid_t
    /// The agent's number of what was read last from the files; it grows with every reading.
    private var reading: UInt64 = 0
    /// Identities whose certificates are not in force yet. The host is ready without them only when it has none.
    private var awaited: Set<String> = []
    private var isReady = false
    private var writer = SnapshotWriter()

    /// Makes channels and shared memory, starts the proxy and tells it everything.
    init(_ options: HostOptions) throws {
        self.options = options
        let wanted: [Int32] = [SIGTERM, SIGINT, SIGUSR1, SIGHUP, SIGCHLD]
        signals = clinux_signal_descriptor(wanted, wanted.count)
        guard signals >= 0 else { throw HostFault(message: "signalfd: errno \(-signals)") }
        let descriptorLimit = clinux_raise_descriptor_limit()
        counters = try CountersRegion.create()
        let heartbeat = clinux_memory_sealed("weft-heartbeat", nil, 4096, false)
        guard heartbeat >= 0 else { throw HostFault(message: "memfd_create: errno \(-heartbeat)") }

        var theirs: [Int32] = []
        func channel() throws(ControlFault) -> Channel {
            let (mine, other) = try ControlSocket.pair(nonBlocking: false)
            theirs.append(other)
            return Channel(mine)
        }
        control = try channel()
        stocks = try (0..<options.workers).map { _ in try channel() }
        proxy = try Self.start(options.proxyPath ?? Self.besideThisProgram("weft-proxy"), limits: options.proxyLimits, descriptors: theirs)
        for descriptor in theirs { clinux_close(descriptor) }

        try control.socket.send(ProxyHello(
            incarnation: 1, workers: options.workers, nodeName: "host",
            descriptorLimit: UInt32(clamping: descriptorLimit), heartbeat: heartbeat, counters: counters))
        clinux_close(heartbeat)
        try publishIdentities()
        try publishSnapshot()
        for (index, target) in options.inbound.enumerated() { try addInbound(UInt32(options.listens.count + index + 1), at: target.ip) }
        for (index, listen) in options.listens.enumerated() { try addPod(index, listening: listen.address) }
    }

    private func publishSnapshot() throws {
        var state = options.meshState
        if let path = options.routesPath { try RoutesFile.read(path).join(&state) }
        let change = try writer.update(state)
        for image in change.shards {
            let shard = try image.sealedMemory()
            defer { clinux_close(shard) }
            try control.socket.send(ShardPublished(
                family: image.id.family.rawValue, index: image.id.index, version: image.version, shard: shard))
        }
        try control.socket.send(SnapshotComplete(generation: change.generation))
    }

    private func addPod(_ index: Int, listening at: HostOptions.Address) throws {
        let pod = UInt32(index + 1)
        guard let address = AddressBytes(options.podAddress(index).bytes) else { throw HostFault(message: "a pod address is 16 bytes") }
        try control.socket.send(PodAdded(pod: pod, namespaceCookie: UInt64(pod), addresses: [address], flags: [.outbound]))
        let listener = try Self.listen(at)
        defer { clinux_close(listener) }
        try control.socket.send(ListenerAdded(
            pod: pod, role: .outbound, destinationFrom: .socketName, family: at.ip.isIPv4 ? .ipv4 : .ipv6, listener: listener))
    }

    private func addInbound(_ pod: UInt32, at ip: IPAddress) throws {
        guard let address = AddressBytes(ip.bytes) else { throw HostFault(message: "a pod address is 16 bytes") }
        try control.socket.send(PodAdded(pod: pod, namespaceCookie: UInt64(pod), addresses: [address], flags: [.inbound]))
        let listener = try Self.listen(HostOptions.Address(ip: ip, port: HostOptions.wirePort))
        defer { clinux_close(listener) }
        try control.socket.send(ListenerAdded(
            pod: pod, role: .inbound, destinationFrom: .socketName, family: ip.isIPv4 ? .ipv4 : .ipv6, listener: listener))
    }

    /// Everything about mutual TLS, in the order in which a new proxy gets it.
    private func publishIdentities() throws {
        reading += 1
        if let path = options.rootsPath {
            try control.socket.send(TrustBundle(trustDomain: options.trustDomain, generation: reading, roots: try Self.contents(path)))
        }
        if let path = options.revocationsPath {
            let text = try Self.contents(path)
            let list = clinux_memory_sealed("weft-revocations", text, text.count, true)
            guard list >= 0 else { throw HostFault(message: "memfd_create: errno \(-list)") }
            defer { clinux_close(list) }
            try control.socket.send(Revocations(generation: reading, list: list))
        }
        for holder in options.identities {
            awaited.insert(holder.uri)
            let files = IdentityFiles(
                identity: holder.uri, number: reading, chain: try Self.open(holder.chain), key: try Self.open(holder.key))
            defer { files.closeDescriptors() }
            try control.socket.send(files)
        }
    }

    private static func open(_ path: String) throws -> Int32 {
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw HostFault(message: "\(path): errno \(errno)") }
        return descriptor
    }

    private static func contents(_ path: String) throws -> [UInt8] {
        let descriptor = try open(path)
        defer { clinux_close(descriptor) }
        var bytes: [UInt8] = [], part = [UInt8](repeating: 0, count: 64 * 1024)
        while true {
            let count = read(descriptor, &part, part.count)
            guard count >= 0 else { throw HostFault(message: "\(path): errno \(errno)") }
            if count == 0 { return bytes }
            bytes += part[..<count]
        }
    }

    private func heard(_ state: IdentityState) {
        guard state.state == .active else {
            return say("weft-proxy-host: \(state.identity) is \(state.state): \(state.reason)\n")
        }
        if state.number == reading { awaited.remove(state.identity) }
        sayReady()
    }

    private func sayReady() {
        if isReady && awaited.isEmpty { say("weft-proxy-host: ready\n") }
    }

    /// Serves the proxy until a signal says stop or the proxy ends. The exit code.
    func run() throws -> Int32 {
        let descriptors = [signals, control.socket.descriptor] + stocks.map { $0.socket.descriptor }
        var polled = descriptors.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        while true {
            guard poll(&polled, nfds_t(polled.count), -1) >= 0 else { continue }
            for (index, entry) in polled.enumerated() where entry.revents != 0 {
                switch index {
                case 0: if let code = try signal() { return code }
                case 1: try hear()
                default: try deliver(on: stocks[index - 2])
                }
            }
        }
    }

    private func signal() throws -> Int32? {
        switch clinux_next_signal(signals) {
        case SIGUSR1:
            try writeMetrics()
        case SIGHUP:
            try publishIdentities()
            if options.routesPath != nil { try publishSnapshot() }
        case SIGTERM, SIGINT:
            try writeMetrics()
            kill(proxy, SIGTERM)
            var status: Int32 = 0
            // A proxy that does not end by itself within a second is ended.
            for _ in 0..<100 where waitpid(proxy, &status, WNOHANG) == 0 { usleep(10_000) }
            kill(proxy, SIGKILL)
            return 0
        case SIGCHLD:
            var status: Int32 = 0
            guard clinux_reap(&status) == proxy else { return nil }
            say("weft-proxy-host: weft-proxy ended (\(clinux_exited(status) ? "exit code" : "signal") \(clinux_exit_detail(status)))\n")
            return 1
        default: break
        }
        return nil
    }

    private func hear() throws {
        guard let message = try control.socket.receive() else { return }
        switch message.kind {
        case .proxyReady:
            isReady = true
            sayReady()
        case .identityState: heard(try IdentityState(message))
        case .snapshotRefused:
            throw HostFault(message: "the proxy refused the snapshot: \(try SnapshotRefused(message).reason)")
        default: break
        }
    }

    private func deliverPipes(_ wanted: PipesWanted, on stock: Channel) throws {
        var ends: [Int32] = [], smallest = Int32.max
        for _ in 0..<min(wanted.count, PipesWanted.countMax) {
            var pair: (Int32, Int32) = (-1, -1)
            let size = clinux_pipe(&pair.0, &pair.1, Int32(min(wanted.capacityBytes, 1 << 20)))
            guard size > 0 else { break }
            ends += [pair.0, pair.1]
            smallest = min(smallest, size)
        }
        defer { for end in ends { clinux_close(end) } }
        if ends.isEmpty {
            try stock.socket.send(PipesRefused(errorNumber: UInt32(EMFILE)))
        } else {
            try stock.socket.send(PipesMade(capacityBytes: UInt32(smallest), ends: ends))
        }
    }

    private func deliver(on stock: Channel) throws {
        guard let message = try stock.socket.receive() else { return }
        if message.kind == .pipesWanted { return try deliverPipes(try PipesWanted(message), on: stock) }
        guard message.kind == .socketsWanted else { return }
        let wanted = try SocketsWanted(message)
        // A client's address is one of this machine's here, so a socket that may bind it needs no privilege.
        guard wanted.socketKind == .plain || !options.inbound.isEmpty else {
            try stock.socket.send(SocketsRefused(pod: wanted.pod, family: wanted.family, socketKind: wanted.socketKind, errorNumber: UInt32(EPERM)))
            return
        }
        var sockets: [Int32] = []
        for _ in 0..<min(wanted.count, SocketsWanted.countMax) {
            let socket = clinux_stock_socket(wanted.family == .ipv6, 0)
            guard socket >= 0 else { break }
            sockets.append(socket)
        }
        defer { for socket in sockets { clinux_close(socket) } }
        if sockets.isEmpty {
            try stock.socket.send(SocketsRefused(pod: wanted.pod, family: wanted.family, socketKind: wanted.socketKind, errorNumber: UInt32(EMFILE)))
        } else {
            try stock.socket.send(SocketsMade(pod: wanted.pod, family: wanted.family, socketKind: wanted.socketKind, sockets: sockets))
        }
    }

    private func writeMetrics() throws {
        guard let path = options.metricsPath else { return }
        guard let file = fopen(path, "w") else { throw HostFault(message: "\(path): errno \(errno)") }
        defer { fclose(file) }
        var page = PrometheusText { chunk in _ = fwrite(chunk.baseAddress, 1, chunk.count, file) }
        CountersReader(try CountersRegion.map(counters, writable: false)).snapshot().render(into: &page)
        page.finish()
    }
}

extension PlayedNode {
    private static func start(_ path: String, limits: [String], descriptors: [Int32]) throws -> pid_t {
        let stockNumbers: String = (4..<(3 + descriptors.count)).map(String.init).joined(separator: ",")
        let texts: [String] = [path, "--control-fd", "3", "--stock-fds", stockNumbers] + limits.flatMap { ["--limit", $0] }
        let words: [UnsafeMutablePointer<CChar>?] = texts.map { strdup($0) }
        defer { for word in words { free(word) } }
        var stage: Int32 = 0
        let pid = (words + [nil]).withUnsafeBufferPointer { arguments in
            descriptors.withUnsafeBufferPointer { descriptors in
                var child = clinux_spawn()
                child.path = UnsafePointer(arguments[0])
                child.arguments = arguments.baseAddress
                child.environment = UnsafePointer(environ)
                child.descriptors = descriptors.baseAddress
                child.descriptor_count = descriptors.count
                child.cgroup_procs = -1
                child.user = geteuid() == 0 ? uid_t(CLINUX_PROXY_USER) : 0
                return clinux_spawn_child(&child, &stage)
            }
        }
        guard pid > 0 else { throw HostFault(message: "\(path) does not start: stage \(stage), errno \(-pid)") }
        return pid
    }

    private static func besideThisProgram(_ name: String) -> String {
        var bytes = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/self/exe", &bytes, bytes.count)
        let own = String(decoding: bytes.prefix(max(0, count)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return own.prefix(upTo: own.lastIndex(of: "/") ?? own.startIndex) + "/" + name
    }

    private static func listen(_ at: HostOptions.Address) throws -> Int32 {
        var target = clinux_address()
        at.ip.bytes.withUnsafeBytes {
            target.high = $0.loadUnaligned(as: UInt64.self)
            target.low = $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
        }
        target.port = at.port
        let listener = socket(at.ip.isIPv4 ? AF_INET : AF_INET6, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var one: Int32 = 1
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, 4)
        setsockopt(listener, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
        let bound = clinux_bind(listener, &target)
        guard bound == 0, Glibc.listen(listener, 4096) == 0 else { throw HostFault(message: "\(at.ip):\(at.port) cannot be listened on: errno \(bound == 0 ? errno : -bound)") }
        return listener
    }
}
