@testable import Capture
import Foundation
import Testing

extension CaptureTests {
    @Suite(.serialized) struct Inbound {
        @Test func connectionFromOutsideReachesTheInboundListener() throws {
            try ScratchNode.with { node in
                try node.start()
                try node.person("a").serve("a", on: 8080)
                try node.enrol("a")
                let far = try node.person("far")
                // The listener is transparent: getsockname is what the caller asked for, whether or not anybody listens there.
                #expect(try far.connect(to: "10.88.1.2", 8080).reply == "inbound for 10.88.1.2:8080")
                #expect(try far.connect(to: "fd88:1::2", 8080).reply == "inbound for [fd88:1::2]:8080")
                #expect(try far.connect(to: "10.88.1.2", 9999).reply == "inbound for 10.88.1.2:9999")
                #expect(try node.count("inbound_steered") == 3)
            }
        }

        @Test func excludedPortReachesTheApp() throws {
            try ScratchNode.with { node in
                try node.start()
                try node.person("a").serve("a", on: 8080)
                try node.enrol("a") {
                    $0.excludedInboundPorts = [8080]
                    $0.failClosed = true
                }
                #expect(try node.person("far").connect(to: "10.88.1.2", 8080).reply == "app a")
                #expect(try node.person("far").connect(to: "fd88:1::2", 8080).reply == "app a")
                #expect(try node.count("inbound_passed_excluded_port") == 2)
            }
        }

        /// The proxy's own socket in the pod's namespace reaches the app, not the listener it came from.
        @Test(arguments: [false, true]) func ownSocketReachesTheApp(nested: Bool) throws {
            try ScratchNode.with(nested: nested) { node in
                try node.start()
                try node.person("a").serve("a", on: 8080)
                try node.enrol("a")
                for address in ["10.88.1.2", "fd88:1::2"] {
                    #expect(try node.weft.connect(to: address, 8080) { $0.namespace = node.name + "-a" }.reply == "app a")
                }
                #expect(try node.count("bypass_opened") == 2)
                #expect(try node.count("inbound_passed_own_socket") == 2)
                // Closed connections leave no way behind.
                #expect(try node.entries(in: "bypass") == 0)
            }
        }

        /// A pod with every capability and Weft's own mark cannot slip past a neighbour's proxy.
        @Test func markedTransparentSocketOfANeighbourIsSteered() throws {
            try ScratchNode.with { node in
                try node.start()
                try node.person("b").serve("b", on: 8080)
                try node.enrol("b") { $0.failClosed = true }
                let answer = try node.person("a").connect(to: "10.88.2.2", 8080) { $0.mark = 0x7765_6674 }
                #expect(answer.reply == "inbound for 10.88.2.2:8080")
                #expect(try node.count("bypass_opened") == 0)
            }
        }

        @Test func podReachesItselfByItsOwnAddress() throws {
            try ScratchNode.with { node in
                try node.start()
                try node.person("a").serve("a", on: 8080)
                // Outbound capture off: the connect hook does not let it pass, sk_lookup must.
                try node.enrol("a") { $0.outbound = false }
                #expect(try node.person("a").connect(to: "10.88.1.2", 8080).reply == "app a")
                #expect(try node.person("a").connect(to: "fd88:1::2", 8080).reply == "app a")
                #expect(try node.count("inbound_passed_self") == 2)
            }
        }

        @Test func inboundOffLeavesTheAppInPlace() throws {
            try ScratchNode.with { node in
                try node.start()
                try node.person("a").serve("a", on: 8080)
                try node.enrol("a") { $0.inbound = false }
                #expect(try node.person("far").connect(to: "10.88.1.2", 8080).reply == "app a")
                #expect(try node.count("inbound_passed_inbound_off") == 1)
            }
        }
    }
}
