@testable import Capture
import Foundation
import Testing

extension CaptureTests {
    /// Nothing that Weft does or fails to do strands a pod: past the mesh, or refused at once.
    @Suite(.serialized) struct Failure {
        enum Fault: String, CaseIterable { case silentProxy, noListener, proxyFromTheFuture, neverStamped }

        @Test(arguments: Fault.allCases, [false, true]) func proxyThatCannotServeIsPassedByOrRefused(fault: Fault, closed: Bool) throws {
            try ScratchNode.with { node in
                try node.start()
                try node.person("a").serve("a", on: 8080)
                try node.person("far").serve("far", on: 80)
                try node.enrol("a") { $0.failClosed = closed }
                let a = try node.person("a"), far = try node.person("far")
                #expect(try a.connect(to: "10.88.9.2", 80).reply == "proxy for 10.88.9.2:80")
                #expect(try far.connect(to: "10.88.1.2", 8080).reply == "inbound for 10.88.1.2:8080")

                switch fault {
                case .silentProxy: node.stampOnce(at: -2_100_000_000)
                case .proxyFromTheFuture: node.stampOnce(at: 60_000_000_000)
                case .neverStamped: node.stampOnce(at: nil)
                case .noListener: node.dropListeners()
                }
                for address in ["10.88.9.2", "fd88:9::2", "::ffff:10.88.9.2"] {
                    let answer = try a.connect(to: address, 80)
                    #expect(answer.reply == (closed ? nil : "app far"), "\(address)")
                    #expect(answer.error == (closed ? "ECONNREFUSED" : nil), "\(address)")
                    if closed { #expect(answer.milliseconds! < 100) }
                }
                for address in ["10.88.1.2", "fd88:1::2"] {
                    let answer = try far.connect(to: address, 8080)
                    #expect(answer.reply == (closed ? nil : "app a"), "\(address)")
                    #expect(answer.error == (closed ? "ECONNREFUSED" : nil), "\(address)")
                    if closed { #expect(answer.milliseconds! < 100) }
                }
                // Loopback goes on in every case.
                #expect(try a.connect(to: "127.0.0.1", 8080).reply == "app a")
                let why = fault == .noListener ? "no_listener" : "proxy_silent"
                #expect(try node.count((closed ? "refused_" : "passed_") + why) == 3)
                #expect(try node.count("inbound_" + (closed ? "dropped_" : "passed_") + why) == 2)
            }
        }

        @Test func lateHeartbeatBringsTheProxyBack() throws {
            try ScratchNode.with { node in
                try node.start()
                try node.enrol("a") { $0.failClosed = true }
                node.stampOnce(at: -3_000_000_000)
                #expect(try node.person("a").connect(to: "10.88.9.2", 80).error == "ECONNREFUSED")
                node.stampOnce(at: 0)
                #expect(try node.person("a").connect(to: "10.88.9.2", 80).reply == "proxy for 10.88.9.2:80")
            }
        }

        /// The second worker's stamp alone will do; a slot beyond the last worker's will not.
        @Test func anyWorkerSpeaksForTheProxy() throws {
            try ScratchNode.with { node in
                try node.start()
                try node.enrol("a") { $0.failClosed = true }
                node.stampOnce(at: nil)
                node.stampOnce(at: 0, worker: 2)
                #expect(try node.person("a").connect(to: "10.88.9.2", 80).error == "ECONNREFUSED")
                node.stampOnce(at: 0, worker: 1)
                #expect(try node.person("a").connect(to: "10.88.9.2", 80).reply == "proxy for 10.88.9.2:80")
            }
        }

        @Test func stoppedHeartIsNoticedWithinTwoSeconds() throws {
            try ScratchNode.with { node in
                try node.start()
                try node.enrol("a") { $0.failClosed = true }
                let a = try node.person("a")
                #expect(try a.connect(to: "10.88.9.2", 80).error == nil)
                node.stopHeart()
                let stopped = ContinuousClock.now
                while try a.connect(to: "10.88.9.2", 80).error == nil, ContinuousClock.now - stopped < .seconds(4) { usleep(20_000) }
                let took = ContinuousClock.now - stopped
                #expect(took > .milliseconds(1800) && took < .milliseconds(2300), "\(took)")
            }
        }
    }
}
