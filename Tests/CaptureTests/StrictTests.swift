@testable import Capture
import Foundation
import Testing

extension CaptureTests {
    /// A strict pod: nothing gets past the proxy, in either direction, whatever dies.
    @Suite(.serialized) struct Strict {
        enum Fault: String, CaseIterable { case silentProxy, noListener, everythingKilled }

        /// The mildest settings there are, which strict overrules.
        private func strict(_ wish: inout PodCapture) {
            wish.isStrict = true
            wish.failClosed = false
            wish.inbound = false
            wish.outbound = false
            wish.excludedInboundPorts = [8080]
            wish.udpExceptionPorts = [53]
        }

        @Test(arguments: Fault.allCases) func nothingPassesWhatTheProxyCannotServe(fault: Fault) throws {
            try ScratchNode.with { node in
                try node.start()
                let a = try node.person("a"), far = try node.person("far")
                try a.serve("a", on: 8080)
                try far.serve("far", on: 80)
                try far.serveDatagrams("far", on: 9000)
                try node.enrol("a", strict)
                #expect(try a.connect(to: "10.88.9.2", 80).reply == "proxy for 10.88.9.2:80")
                #expect(try far.connect(to: "10.88.1.2", 8080).reply == "inbound for 10.88.1.2:8080")

                switch fault {
                case .silentProxy: node.stampOnce(at: -2_100_000_000)
                case .noListener: node.dropListeners()
                case .everythingKilled:
                    node.dropListeners()
                    node.crash()
                }
                for address in ["10.88.9.2", "fd88:9::2", "::ffff:10.88.9.2"] {
                    let answer = try a.connect(to: address, 80)
                    #expect(answer.error == "ECONNREFUSED" && answer.milliseconds! < 100, "\(address)")
                }
                for address in ["10.88.1.2", "fd88:1::2"] {
                    let answer = try far.connect(to: address, 8080)
                    #expect(answer.error == "ECONNREFUSED" && answer.milliseconds! < 100, "\(address)")
                }
                #expect(try a.ask(over: "10.88.9.2", 9000).error == "EPERM")
                #expect(try a.connect(to: "127.0.0.1", 8080).reply == "app a")
                guard fault != .everythingKilled else { return }
                let why = fault == .noListener ? "no_listener" : "proxy_silent"
                #expect(try node.count("refused_" + why) == 3)
                #expect(try node.count("inbound_dropped_" + why) == 2)
            }
        }

        /// What the pod itself leaves out, and addresses that nobody told, are doors that strict closes.
        @Test func exclusionsAndFurtherAddressesAreNoWayIn() throws {
            try ScratchNode.with { node in
                try node.start()
                let a = try node.person("a"), far = try node.person("far")
                try node.configure("a", "ip addr add 10.88.1.77/24 dev eth0; ip addr add fd88:1::77/64 dev eth0 nodad")
                try a.serve("a", on: 8080)
                try node.enrol("a") { $0.excludedInboundPorts = [8080] }
                for address in ["10.88.1.2", "10.88.1.77", "fd88:1::77"] { #expect(try far.connect(to: address, 8080).reply == "app a", "\(address)") }

                try node.enrol("a", strict)
                #expect(try far.connect(to: "10.88.1.2", 8080).reply == "inbound for 10.88.1.2:8080")
                for address in ["10.88.1.77", "fd88:1::77"] { #expect(try far.connect(to: address, 8080).error == "ECONNREFUSED", "\(address)") }
                #expect(try node.count("inbound_dropped_other_address") == 2)
                #expect(try a.connect(to: "127.0.0.1", 8080).reply == "app a")
            }
        }

        @Test func theModeChangesWhileThePodRuns() throws {
            try ScratchNode.with { node in
                try node.start()
                let a = try node.person("a"), far = try node.person("far")
                try a.serve("a", on: 8080)
                try far.serve("far", on: 80)
                try far.serveDatagrams("far", on: 9000)
                try node.enrol("a")
                node.stampOnce(at: nil)
                #expect(try a.connect(to: "10.88.9.2", 80).reply == "app far")
                // This socket is connected before its pod is strict, and sends after.
                #expect(try a.ask(over: "10.88.9.2", 9000, connected: true) { $0.hold = true }.reply == "app far")

                try node.enrol("a", strict)
                #expect(try a.connect(to: "10.88.9.2", 80).error == "ECONNREFUSED")
                #expect(try far.connect(to: "10.88.1.2", 8080).error == "ECONNREFUSED")
                #expect(try a.ask(.init(does: "datagram again")).error == "EPERM")
                #expect(node.links.contains { $0.hasPrefix("egress-") })

                try node.enrol("a")
                #expect(try a.connect(to: "10.88.9.2", 80).reply == "app far")
                #expect(try far.connect(to: "10.88.1.2", 8080).reply == "app a")
                #expect(try a.ask(.init(does: "datagram again")).reply == "app far")
                #expect(!node.links.contains { $0.hasPrefix("egress-") })
            }
        }

        /// A node that was killed left a strict pod; the next one takes it over and lets it go.
        @Test func aStrictPodIsAdoptedAndLetGo() throws {
            try ScratchNode.with { node in
                try node.start()
                let a = try node.person("a")
                try node.person("far").serveDatagrams("far", on: 9000)
                try node.enrol("a", strict)
                let cookie = try node.cookie("a")
                node.crash()
                #expect(try a.ask(over: "10.88.9.2", 9000).error == "EPERM")
                try node.start()
                #expect(node.capture!.adoptedNamespaceCookies() == [cookie])
                #expect(try a.ask(over: "10.88.9.2", 9000).error == "EPERM")
                try node.capture!.unenrol(namespaceCookie: cookie)
                #expect(try a.ask(over: "10.88.9.2", 9000).reply == "app far")
                #expect(!node.links.contains { $0.hasPrefix("egress-") || $0.hasPrefix("namespace-") })
                for map in ["addresses", "port_lists", "pods"] { #expect(try node.entries(in: map) == 0, "\(map)") }
            }
        }
    }

    /// UDP: untouched for permissive pods; refused for strict ones, but for what is excepted.
    @Suite(.serialized) struct Datagrams {
        private func scene(_ body: (ScratchNode, _ a: Person, _ far: Person) throws -> Void) throws {
            try ScratchNode.with { node in
                try node.start()
                let a = try node.person("a"), far = try node.person("far")
                for port in [53, 9000] { try far.serveDatagrams("far", on: port) }
                for port in [53, 7000] { try a.serveDatagrams("a", on: port) }
                try body(node, a, far)
            }
        }

        @Test func aPermissivePodsUDPIsUndisturbed() throws {
            try scene { node, a, far in
                try node.enrol("a") { $0.udpExceptionPorts = [53] }
                for address in ["10.88.9.2", "fd88:9::2"] {
                    for connected in [false, true] { #expect(try a.ask(over: address, 9000, connected: connected).reply == "app far") }
                }
                for address in ["10.88.1.2", "fd88:1::2"] { #expect(try far.ask(over: address, 7000).reply == "app a") }
                for verdict in Capture.verdictNames where verdict.contains("udp") { #expect(try node.count(verdict) == 0, "\(verdict)") }
            }
        }

        @Test(arguments: ["10.88.9.2", "fd88:9::2"]) func aStrictPodSendsToExceptedPortsAlone(far address: String) throws {
            try scene { node, a, far in
                try node.enrol("a") { $0.isStrict = true; $0.udpExceptionPorts = [53] }
                for connected in [false, true] {
                    let answer = try a.ask(over: address, 9000, connected: connected)
                    #expect(answer.error == "EPERM" && answer.reply == nil)
                    // Who connects only to learn its own address (RFC 6724) still does.
                    if connected { #expect(answer.local == (address.contains(":") ? "fd88:1::2" : "10.88.1.2")) }
                    #expect(try a.ask(over: address, 53, connected: connected).reply == "app far")
                }
                #expect(try node.count("udp_refused") == 2)
                #expect(try node.count("udp_passed_exception") == 2)
                #expect(try node.count("inbound_udp_passed_answer") == 1)     // the connected one's answer is nobody's question
                for own in ["127.0.0.1", "::1", "10.88.1.2", "fd88:1::2"] { #expect(try a.ask(over: own, 7000).reply == "app a", "\(own)") }
            }
        }

        @Test(arguments: ["10.88.1.2", "fd88:1::2"]) func aStrictPodIsReachedOnExceptedPortsAlone(pod address: String) throws {
            try scene { node, a, far in
                try node.enrol("a") { $0.isStrict = true; $0.udpExceptionPorts = [53] }
                #expect(try far.ask(over: address, 7000, connected: true).error == "ECONNREFUSED")
                #expect(try far.ask(over: address, 53).reply == "app a")
                #expect(try node.count("inbound_udp_dropped") == 1)
                try node.enrol("a") { $0.isStrict = true; $0.udpExceptionPorts = [53, 7000] }
                #expect(try far.ask(over: address, 7000).reply == "app a")
                try node.enrol("a") { $0.isStrict = true }
                #expect(try far.ask(over: address, 53, connected: true).error == "ECONNREFUSED")
            }
        }

        /// Anyone can send from port 53. It opens only a port from which the pod has asked somebody's port 53.
        @Test func anAnswerThatNobodyAskedForIsDropped() throws {
            try scene { node, a, far in
                try node.enrol("a") { $0.isStrict = true; $0.udpExceptionPorts = [53] }
                let b = try node.person("b")
                #expect(try b.ask(over: "10.88.1.2", 7000, connected: true) { $0.bindPort = 53 }.error == "ECONNREFUSED")
                #expect(try node.count("inbound_udp_dropped") == 1)
            }
        }

        @Test func rawSocketsAreNoWayOutAndPingWorks() throws {
            try scene { node, a, far in
                func raw(_ number: Int32) throws -> Person.Answer { try a.ask(.init(does: "raw", to: "10.88.9.2", protocolNumber: Int(number))) }
                try node.enrol("a") { $0.isStrict = true; $0.udpExceptionPorts = [53] }
                #expect(try raw(Int32(IPPROTO_UDP)).error == "EPERM")
                #expect(try raw(132).error == "EPERM")      // SCTP
                #expect(try node.count("protocol_refused") == 1)
                #expect(try raw(Int32(IPPROTO_ICMP)).reply == "something")
                #expect(try node.count("icmp_passed") == 1)
            }
        }
    }

    /// The kubelet's probes reach the app in both modes; nobody else of the host does because of its address.
    @Suite(.serialized) struct Probes {
        @Test(arguments: [false, true]) func aProbeReachesTheAppAndAnotherProcessOfTheHostDoesNot(isStrict: Bool) throws {
            try ScratchNode.with { node in
                try node.start()
                let a = try node.person("a"), kubelet = try node.person("kubelet"), host = try node.person("host")
                for port in [8080, 8081] { try a.serve("a", on: port) }
                try node.enrol("a") { $0.isStrict = isStrict; $0.probePorts = [8080] }
                for address in ["10.88.1.2", "fd88:1::2"] {
                    #expect(try kubelet.connect(to: address, 8080).reply == "app a")
                    #expect(try kubelet.connect(to: address, 8081).reply?.hasPrefix("inbound for ") == true)
                    #expect(try host.connect(to: address, 8080).reply?.hasPrefix("inbound for ") == true)
                }
                #expect(try node.count("probe_marked") == 2)
                #expect(try node.count("inbound_passed_probe") == 2)
                // The proxy is gone: probes say how the app is, not how Weft is.
                node.stampOnce(at: nil)
                #expect(try kubelet.connect(to: "10.88.1.2", 8080).reply == "app a")
                #expect(try host.connect(to: "10.88.1.2", 8080).error == (isStrict ? "ECONNREFUSED" : nil))
                // A mark ends with its connection.
                let deadline = ContinuousClock.now + .seconds(60)
                while try node.entries(in: "bypass") > 0, ContinuousClock.now < deadline { usleep(20_000) }
                #expect(try node.entries(in: "bypass") == 0)
            }
        }

        @Test func aPortThatIsProbedNoMoreIsOnePortAmongOthers() throws {
            try ScratchNode.with { node in
                try node.start()
                let kubelet = try node.person("kubelet")
                try node.person("a").serve("a", on: 8080)
                try node.enrol("a") { $0.isStrict = true; $0.probePorts = [8080] }
                #expect(try kubelet.connect(to: "10.88.1.2", 8080).reply == "app a")
                try node.enrol("a") { $0.isStrict = true }
                #expect(try kubelet.connect(to: "10.88.1.2", 8080).reply?.hasPrefix("inbound for ") == true)
            }
        }

        /// systemd removes a unit's cgroup and makes it again whenever the unit starts.
        @Test func aKubeletThatWasRestartedIsKnownAgain() throws {
            try ScratchNode.with { node in
                try node.start()
                try node.person("a").serve("a", on: 8080)
                try node.enrol("a") { $0.isStrict = true; $0.probePorts = [8080] }
                let before = try Person(cgroup: node.cgroups + "/kubelet", namespace: node.name + "-r")
                #expect(try before.connect(to: "10.88.1.2", 8080).reply == "app a")
                before.leave()
                try ScratchNode.shell("for i in 1 2 3 4 5 6 7 8 9 10; do rmdir \(node.cgroups)/kubelet && break; sleep 0.1; done; [ ! -d \(node.cgroups)/kubelet ]")
                try node.capture!.followKubelet()       // down: nothing to do, and no fault
                try ScratchNode.shell("mkdir \(node.cgroups)/kubelet")
                let after = try Person(cgroup: node.cgroups + "/kubelet", namespace: node.name + "-r")
                defer { after.leave() }
                #expect(try after.connect(to: "10.88.1.2", 8080).reply?.hasPrefix("inbound for ") == true)
                try node.capture!.followKubelet()
                #expect(try after.connect(to: "10.88.1.2", 8080).reply == "app a")
            }
        }

        /// Somebody in the kubelet's cgroup, and not in the host's namespace: no kubelet.
        @Test func onlyTheHostsNamespaceCounts() throws {
            try ScratchNode.with { node in
                try node.start()
                try node.person("a").serve("a", on: 8080)
                try node.enrol("a") { $0.isStrict = true; $0.probePorts = [8080] }
                let impostor = try Person(cgroup: node.cgroups + "/kubelet", namespace: node.name + "-far")
                defer { impostor.leave() }
                #expect(try impostor.connect(to: "10.88.1.2", 8080).reply?.hasPrefix("inbound for ") == true)
            }
        }
    }
}
