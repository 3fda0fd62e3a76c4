import CLinux
import Glibc
import Testing
@testable import Node

/// With real namespaces. One at a time: they start programs and look at descriptors of the whole process.
@Suite(.serialized, .enabled(if: mayUseRoot)) struct NamespaceTests {
    private func cookie(_ socket: Int32) -> UInt64 {
        var cookie: UInt64 = 0
        _ = clinux_namespace_cookie(socket, &cookie)
        return cookie
    }

    @Test func socketsLiveInThePodsNamespaceAndTheThreadComesHome() throws {
        let namespace = try ScratchNamespace(), file = try namespace.open()
        let thread = try NamespaceThread()
        let before = try thread.perform(in: file.descriptor) { entry in Result { () throws(SystemFault) in #expect(entry == 0); return try PodNetwork.inspect() } }.get()
        let sockets = try thread.perform(in: file.descriptor) { _ in PodNetwork.stock(isIPv6: false, isTransparent: false, count: 3) }.get()
        defer { for socket in sockets { close(socket) } }
        let home = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(home) }
        #expect(sockets.count == 3)
        #expect(sockets.allSatisfy { cookie($0) == before.namespaceCookie })
        #expect(cookie(home) != before.namespaceCookie)
        // A job in no namespace at all leaves the next one unharmed, and the thread at home.
        let notANamespace = open("/dev/null", O_RDONLY)
        defer { close(notANamespace) }
        #expect(thread.perform(in: notANamespace) { $0 } == EINVAL)
        let again = try thread.perform(in: file.descriptor) { _ in PodNetwork.stock(isIPv6: true, isTransparent: false, count: 1) }.get()
        defer { close(again[0]) }
        #expect(cookie(again[0]) == before.namespaceCookie)
    }

    @Test func jobsKeepTheirOrderAndAreBounded() throws {
        let namespace = try ScratchNamespace(), file = try namespace.open()
        let thread = try NamespaceThread()
        nonisolated(unsafe) var finished: [Int] = []
        var accepted = 0
        while thread.submit(in: file.descriptor, work: { _ in accepted }, finish: { finished.append($0) }) { accepted += 1 }
        #expect(accepted == Limits.namespaceJobsMax)
        while thread.jobsUnderWay > 0 { thread.deliver(); usleep(1_000) }
        #expect(finished.count == accepted)
    }

    @Test func everythingIsPutBack() throws {
        let namespace = try ScratchNamespace(), file = try namespace.open()
        let thread = try NamespaceThread()
        let untouched = namespace.look()
        let before = try thread.perform(in: file.descriptor) { _ in Result { () throws(SystemFault) in try PodNetwork.inspect() } }.get()
        let listeners = try thread.perform(in: file.descriptor) { _ in Result { () throws(SystemFault) in try PodNetwork.setUp(before: before) } }.get()
        #expect(listeners.all.count == 4)
        let changed = namespace.look()
        #expect(changed.contains("fwmark 0x77656674 lookup 15006") && changed.contains("local fd6d:6573:6800::/64 dev lo"))
        #expect(changed.contains("local default dev lo table 15006"))
        // A second set-up meets what a killed node left, and does not mind.
        listeners.close()
        let second = try thread.perform(in: file.descriptor) { _ in Result { () throws(SystemFault) in try PodNetwork.setUp(before: before) } }.get()
        second.close()
        #expect(thread.perform(in: file.descriptor) { _ in PodNetwork.tearDown(before: before) } == nil)
        #expect(namespace.look() == untouched)
        // And a second tear-down neither.
        #expect(thread.perform(in: file.descriptor) { _ in PodNetwork.tearDown(before: before) } == nil)
        #expect(namespace.look() == untouched)
    }

    @Test func aTakenPortIsReportedAndNothingStays() throws {
        let namespace = try ScratchNamespace(), file = try namespace.open()
        let thread = try NamespaceThread()
        let untouched = namespace.look()
        let squatter = thread.perform(in: file.descriptor) { _ in clinux_loopback_listener(false, PodNetworkNumbers.outboundPort, false, 1) }
        defer { close(squatter) }
        #expect(squatter >= 0)
        let before = try thread.perform(in: file.descriptor) { _ in Result { () throws(SystemFault) in try PodNetwork.inspect() } }.get()
        let outcome = thread.perform(in: file.descriptor) { _ in Result { () throws(SystemFault) in try PodNetwork.setUp(before: before) } }
        #expect(throws: SystemFault(step: "listening on port 15001", number: EADDRINUSE)) { try outcome.get() }
        #expect(namespace.look() == untouched)
    }

    /// The proxy has no capability; the right to wear a client's address comes with the socket.
    @Test func aTransparentSocketBindsAForeignAddressWithoutPrivileges() throws {
        let namespace = try ScratchNamespace(), file = try namespace.open()
        let thread = try NamespaceThread()
        for isIPv6 in [false, true] {
            let transparent = try thread.perform(in: file.descriptor) { _ in PodNetwork.stock(isIPv6: isIPv6, isTransparent: true, count: 1) }.get()[0]
            let plain = try thread.perform(in: file.descriptor) { _ in PodNetwork.stock(isIPv6: isIPv6, isTransparent: false, count: 1) }.get()[0]
            defer { close(transparent); close(plain) }
            #expect(bindAsNobody(transparent, isIPv6: isIPv6) == 0)
            #expect(bindAsNobody(plain, isIPv6: isIPv6) == EADDRNOTAVAIL)
        }
    }

    /// In the pod's namespace a port of the clients' own range could be one that this client uses already (see clinux_client.h).
    @Test func clientsAreWornWithPortsOutsideTheirOwnRange() throws {
        let namespace = try ScratchNamespace(), file = try namespace.open()
        let thread = try NamespaceThread()
        let sockets = try thread.perform(in: file.descriptor) { _ in PodNetwork.stock(isIPv6: false, isTransparent: true, count: 16) }.get()
        defer { for socket in sockets { close(socket) } }
        var client = clinux_address()
        withUnsafeMutableBytes(of: &client) { $0.copyBytes(from: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 9]) }
        var ports = Set<UInt16>()
        for socket in sockets {
            var local = clinux_address()
            #expect(clinux_bind_as_client(socket, &client) == 0 && clinux_local_address(socket, &local) == 0)
            #expect(local.high == client.high && local.low == client.low)
            ports.insert(local.port)
        }
        #expect(ports.count == 16 && ports.allSatisfy { (1_024...32_767).contains($0) })
    }

    /// Binds to 192.0.2.9 or 2001:db8::9 in a child that is nobody; 0 or an errno.
    private func bindAsNobody(_ socket: Int32, isIPv6: Bool) -> Int32 {
        python(
            """
            import socket, sys
            s = socket.socket(fileno=3)
            try: s.bind(('\(isIPv6 ? "2001:db8::9" : "192.0.2.9")', 0))
            except OSError as e: sys.exit(e.errno)
            """, descriptors: [socket])
    }

    /// A child as node starts them has nothing it could misuse.
    @Test func childrenStartWithNothing() {
        let nothing = open("/dev/null", O_RDONLY)       // not close-on-exec: must not reach the child all the same
        defer { close(nothing) }
        #expect(python(
            """
            import os, resource, signal, sys
            status = dict(l.split(':\\t', 1) for l in open('/proc/self/status').read().splitlines() if ':\\t' in l)
            none = '0' * 16
            ok = [status[k] == none for k in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')]
            ok += [status['NoNewPrivs'] == '1', status['Groups'].strip() == '', status['SigBlk'] == none]
            ok += [os.getresuid() == (65534,) * 3, os.getresgid() == (65534,) * 3, os.getpgid(0) == os.getpid()]
            ok += [resource.getrlimit(resource.RLIMIT_CORE) == (0, 0), len(set(resource.getrlimit(resource.RLIMIT_NOFILE))) == 1]
            ok += [sorted(int(f) for f in os.listdir('/proc/self/fd'))[:5] == [0, 1, 2, 3, 4], os.path.realpath('/proc/self/fd/3') == '/dev/null']
            sys.exit(ok.index(False) + 1 if False in ok else 0)
            """, descriptors: [nothing]) == 0)
        #expect(python("import os, signal; os.kill(os.getppid(), 0)", descriptors: [nothing]) == 1)      // EPERM: an uncaught exception
    }

    /// Runs a script as nobody, started the way node starts children; its exit code, -1 when it did not start.
    private func python(_ script: String, descriptors: [Int32]) -> Int32 {
        var stage: Int32 = 0, status: Int32 = 0
        let pid = withCStrings(["python3", "-c", script]) { arguments in
            withCStrings(["PATH=/usr/bin:/bin"]) { environment in
                "/usr/bin/python3".withCString { path in
                    descriptors.withUnsafeBufferPointer { descriptors in
                        var child = clinux_spawn(
                            path: path, arguments: arguments, environment: environment, descriptors: descriptors.baseAddress,
                            descriptor_count: descriptors.count, cgroup_procs: -1, user: 65_534)
                        return clinux_spawn_child(&child, &stage)
                    }
                }
            }
        }
        guard pid > 0 else { return -1 }
        waitpid(pid, &status, 0)
        return clinux_exited(status) ? clinux_exit_detail(status) : -1
    }

    @Test func aProgramThatIsNotThereIsReported() {
        var stage: Int32 = 0
        let result = withCStrings(["x"]) { arguments in
            "/nowhere/x".withCString { path in
                var child = clinux_spawn(path: path, arguments: arguments, environment: arguments, descriptors: nil, descriptor_count: 0, cgroup_procs: -1, user: 0)
                return clinux_spawn_child(&child, &stage)
            }
        }
        #expect(result == -ENOENT && Int(stage) == Int(CLINUX_SPAWN_EXEC.rawValue))
    }

    @Test func connectionsThatAreOlderAreCounted() throws {
        let namespace = try ScratchNamespace(), file = try namespace.open()
        let thread = try NamespaceThread()
        #expect(run(["ip", "-n", namespace.name, "addr", "add", "192.0.2.1/32", "dev", "lo"]) == 0)
        #expect(run(["ip", "-n", namespace.name, "addr", "add", "192.0.2.2/32", "dev", "lo"]) == 0)
        // 192.0.2.1 → 192.0.2.2: two ends in one namespace, each of them a connection with another address.
        let script = "import socket,time\nl=socket.create_server(('192.0.2.2',80))\nc=socket.create_connection(('192.0.2.2',80),source_address=('192.0.2.1',0))\na=l.accept()\nprint('up',flush=True)\ntime.sleep(1)"
        let stream = popen("exec ip netns exec \(namespace.name) python3 -c \"\(script)\"", "r")
        defer { pclose(stream) }
        var line = [CChar](repeating: 0, count: 16)
        #expect(fgets(&line, 16, stream) != nil)
        #expect(thread.perform(in: file.descriptor) { _ in PodNetwork.olderConnections() } == 2)
    }

    @Test func theHostsNamespaceUnderAnyNameIsRefused() throws {
        let name = "/run/netns/wnt-\(getpid())-host"
        close(open(name, O_CREAT | O_RDONLY | O_CLOEXEC, 0o444))
        #expect(mount("/proc/self/ns/net", name, nil, UInt(MS_BIND), nil) == 0)
        defer { umount(name); unlink(name) }
        let root = NamespaceRoot(root: "/run/netns", host: try #require(NamespaceIdentity(path: "/proc/self/ns/net")))
        #expect(throws: PodRefusal(reason: "\(name) is the host's own network namespace", mayPass: false)) { try root.open(name) }
    }
}
