@testable import Capture
import Foundation
import Testing

/// Against the running kernel, in scratch namespaces and cgroups; one after another, since each takes the machine for itself for a while.
@Suite(.serialized, .enabled(if: geteuid() == 0 || ProcessInfo.processInfo.environment["WEFT_UNPRIVILEGED"] != "1"))
struct CaptureTests {}

extension CaptureTests {
    @Suite(.serialized) struct Outbound {
        @Test(arguments: [("10.88.9.2", "10.88.9.2:80"), ("fd88:9::2", "[fd88:9::2]:80"), ("::ffff:10.88.9.2", "10.88.9.2:80")])
        func connectionReachesTheProxyWithItsDestination(address: String, destination: String) throws {
            try ScratchNode.with { node in
                try node.start()
                try node.enrol("a")
                let answer = try node.person("a").connect(to: address, 80)
                #expect(answer.error == nil)
                #expect(answer.reply == "proxy for \(destination)")
                // The program is told what it asked for, in the family it asked in.
                #expect(answer.peer == (address.contains(":") ? "[\(address)]:80" : "\(address):80"))
                #expect(try node.count("redirected") == 1)
                #expect(try node.count("destination_claimed") == 1)
            }
        }

        @Test func socketBoundToThePodAddressIsCaptured() throws {
            try ScratchNode.with { node in
                try node.start()
                try node.enrol("a")
                #expect(try node.person("a").connect(to: "10.88.9.2", 80) { $0.bind = "10.88.1.2" }.reply == "proxy for 10.88.9.2:80")
                #expect(try node.person("a").connect(to: "fd88:9::2", 80) { $0.bind = "fd88:1::2" }.reply == "proxy for [fd88:9::2]:80")
            }
        }

        @Test func multipathSocketIsCaptured() throws {
            try ScratchNode.with { node in
                try node.start()
                try node.enrol("a")
                let multipath = 262
                let answer = try node.person("a").connect(to: "10.88.9.2", 80) { $0.protocolNumber = multipath }
                #expect(answer.reply == "proxy for 10.88.9.2:80")
                #expect(answer.peer == "10.88.9.2:80")
                #expect(try node.person("a").connect(to: "fd88:9::2", 80) { $0.protocolNumber = multipath }.reply == "proxy for [fd88:9::2]:80")
            }
        }

        /// Root in a pod, with every capability and Weft's own mark, is captured like anybody: only the cgroup a socket was made in counts.
        @Test func markedTransparentSocketOfAPodIsCaptured() throws {
            try ScratchNode.with { node in
                try node.start()
                try node.enrol("a")
                #expect(try node.person("a").connect(to: "10.88.9.2", 80) { $0.mark = 0x7765_6674 }.reply == "proxy for 10.88.9.2:80")
                #expect(try node.count("passed_own_socket") == 0)
            }
        }

        @Test(arguments: [false, true]) func ownSocketPasses(nested: Bool) throws {
            try ScratchNode.with(nested: nested) { node in
                try node.start()
                try node.enrol("a")
                try node.person("far").serve("far", on: 80)
                let answer = try node.weft.connect(to: "10.88.9.2", 80) { $0.namespace = node.name + "-a" }
                #expect(answer.reply == "app far")
                // Outside the pods' cgroup the hook does not even run for it.
                #expect(try node.count("passed_own_socket") == (nested ? 1 : 0))
            }
        }

        @Test func loopbackAndOwnAddressPass() throws {
            try ScratchNode.with { node in
                try node.start()
                try node.enrol("a")
                try node.person("a").serve("a", on: 8080)
                for address in ["127.0.0.1", "127.1.2.3", "::1", "10.88.1.2", "fd88:1::2", "::ffff:10.88.1.2", "::ffff:127.0.0.1", "0.0.0.0"] {
                    #expect(try node.person("a").connect(to: address, 8080).reply == "app a", "\(address)")
                }
                #expect(try node.count("passed_loopback") == 5)
                #expect(try node.count("passed_own_address") == 3)
                #expect(try node.count("redirected") == 0)
            }
        }

        @Test func excludedPortsAndPrefixesGoStraightThrough() throws {
            try ScratchNode.with { node in
                try node.start()
                try node.person("far").serve("far", on: 5432)
                try node.person("far").serve("far", on: 80)
                try node.enrol("a") { $0.excludedOutboundPorts = [5432] }
                let a = try node.person("a")
                #expect(try a.connect(to: "10.88.9.2", 5432).reply == "app far")
                #expect(try a.connect(to: "fd88:9::2", 5432).reply == "app far")
                #expect(try a.connect(to: "10.88.9.2", 80).reply == "proxy for 10.88.9.2:80")
                try node.enrol("a") {
                    $0.excludedOutboundPrefixes = [
                        .init(address: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 88, 9, 77], bits: 96 + 24),
                        .init(address: [0xfd, 0x88, 0, 9] + [UInt8](repeating: 0, count: 12), bits: 64),
                    ]
                }
                #expect(try a.connect(to: "10.88.9.2", 80).reply == "app far")
                #expect(try a.connect(to: "::ffff:10.88.9.2", 80).reply == "app far")
                #expect(try a.connect(to: "fd88:9::2", 80).reply == "app far")
                #expect(try a.connect(to: "10.88.8.2", 5432).reply == "proxy for 10.88.8.2:5432")
                #expect(try node.count("passed_excluded_port") == 2)
                #expect(try node.count("passed_excluded_prefix") == 3)
                // Exclusions are the pod's own.
                try node.enrol("b")
                #expect(try node.person("b").connect(to: "10.88.9.2", 80).reply == "proxy for 10.88.9.2:80")
            }
        }

        @Test func peerNameIsTheTruthAfterASecondConnect() throws {
            try ScratchNode.with { node in
                try node.start()
                try node.person("far").serve("far", on: 5432)
                try node.enrol("a") { $0.excludedOutboundPorts = [5432] }
                let answer = try node.person("a").connect(to: "10.88.8.8", 80) { $0.then = .init(to: "10.88.9.2", port: 5432) }
                #expect(answer.peer == "10.88.8.8:80")
                #expect(answer.peerThen == "10.88.9.2:5432")
            }
        }

        /// Clients that write and close while the proxy is not looking: the destination waits on the accepted socket.
        @Test(arguments: ["10.99.0.1", "fd99::1", "::ffff:10.99.0.1"]) func clientsThatCloseAtOnceKeepTheirDestination(first: String) throws {
            try ScratchNode.with { node in
                try node.start()
                try node.enrol("a")
                _ = try node.weft.ask(.init(does: "behave", pause: true))
                let burst = try node.person("a").burst(2000, from: first) { $0.closeAtOnce = true }
                #expect(burst.succeeded == 2000, "\(burst.errors ?? [:])")
                _ = try node.weft.ask(.init(does: "behave"))
                let tally = try node.settledTally(2000)
                #expect(tally.right == 2000 && tally.wrong == 0 && tally.missing == 0, "\(tally)")
                #expect(try node.count("destination_claimed") == 2000)
            }
        }

        @Test(arguments: ["10.99.0.1", "fd99::1"]) func threeThousandConnectionsFromAThousandPorts(first: String) throws {
            try ScratchNode.with { node in
                try node.start()
                try node.enrol("a")
                try node.configure("a", "sysctl -qw net.ipv4.ip_local_port_range=\"40000 40999\"")
                _ = try node.weft.ask(.init(does: "behave", hold: true))
                let burst = try node.person("a").burst(3000, from: first)
                #expect(burst.succeeded == 3000, "\(burst.errors ?? [:])")
                #expect(try node.person("a").ask(.init(does: "replies")).succeeded == 3000)
                let tally = try node.settledTally(3000)
                #expect(tally.right == 3000, "\(tally)")
                _ = try node.person("a").ask(.init(does: "release"))
            }
        }

        @Test func unenrolledPodIsLeftAlone() throws {
            try ScratchNode.with { node in
                try node.start()
                try node.person("far").serve("far", on: 80)
                try node.enrol("a")
                #expect(try node.person("a").connect(to: "10.88.9.2", 80).reply == "proxy for 10.88.9.2:80")
                try node.capture!.unenrol(namespaceCookie: try node.cookie("a"))
                let answer = try node.person("a").connect(to: "10.88.9.2", 80)
                #expect(answer.reply == "app far" && answer.peer == "10.88.9.2:80")
                #expect(try node.count("passed_not_enrolled") == 1)
            }
        }
    }
}

extension ScratchNode {
    /// The proxy's stand-in may still be reading: waits until it has seen `count` connections, 5 s at most.
    func settledTally(_ count: Int) throws -> Person.Answer {
        for _ in 0..<100 {
            let tally = try weft.ask(.init(does: "tally"))
            if tally.right! + tally.wrong! + tally.missing! >= count { return tally }
            usleep(50_000)
        }
        return try weft.ask(.init(does: "tally"))
    }
}
