@testable import Agent
import ControlChannel
import Foundation
import Glibc
import Logging
import MeshModel
import NodeSignals
import Testing

/// What the agent shows, asked for over its admin socket as anyone would.
@Suite struct AdminTests {
    /// Nobody answered there, or not in HTTP.
    private struct NotServed: Error { let path: String }

    /// A running admin server; asks are plain HTTP/1.0 over the unix socket.
    private final class Desk: Sendable {
        let scene: Scene
        let socket: String
        private let task: Task<Void, any Error>

        init(_ scene: Scene) async throws {
            self.scene = scene
            socket = scene.directory.path + "/agent/admin.sock"
            let server = AdminServer(plane: scene.plane, desk: try #require(scene.desk), signals: SignalSource(hostRoot: "/"),
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            let service = server.service(at: .unixDomainSocket(path: socket), called: socket, isPrivate: true)
            task = Task { try await service.run() }
        }

        deinit { task.cancel() }

        func get(_ path: String) async throws -> (status: Int, body: String) {
            let socket = socket
            // On a thread of its own: the server answers on the pool that a blocking read would occupy.
            let text = try await withCheckedThrowingContinuation { continuation in
                Thread.detachNewThread {
                    continuation.resume(with: Result { try Self.exchange(socket, "GET \(path) HTTP/1.1\r\nHost: weft\r\nConnection: close\r\n\r\n") })
                }
            }
            let parts = text.split(separator: "\r\n\r\n", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, let status = text.split(separator: " ").dropFirst().first.flatMap({ Int($0) }) else { throw NotServed(path: path) }
            let isChunked = parts[0].lowercased().contains("transfer-encoding: chunked")
            return (status, isChunked ? Self.dechunked(String(parts[1])) : String(parts[1]))
        }

        private static func exchange(_ path: String, _ request: String) throws -> String {
            let descriptor = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(descriptor) }
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
            func connected() -> Bool {
                withUnsafePointer(to: &address) {
                    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0 }
                }
            }
            // The path appears with bind and takes connections a moment later, with listen; beside the fuzzers, which keep every thread of the
            // pool busy for seconds, the server's start waits its turn.
            let deadline = ContinuousClock.now + .seconds(300)
            while !connected() {
                guard ContinuousClock.now < deadline else { throw NotServed(path: path) }
                usleep(10_000)
            }
            _ = request.withCString { write(descriptor, $0, strlen($0)) }
            var bytes: [UInt8] = []
            var chunk = [UInt8](repeating: 0, count: 65_536)
            while case let count = read(descriptor, &chunk, chunk.count), count > 0 { bytes += chunk[..<count] }
            return String(decoding: bytes, as: UTF8.self)
        }

        private static func dechunked(_ body: String) -> String {
            var rest = Array(body.utf8)[...]
            var result: [UInt8] = []
            while let end = rest.firstIndex(of: UInt8(ascii: "\r")), let size = Int(String(decoding: rest[..<end], as: UTF8.self), radix: 16), size > 0 {
                result += rest[(end + 2)..<(end + 2 + size)]
                rest = rest[(end + 4 + size)...]
            }
            return String(decoding: result, as: UTF8.self)
        }
    }

    private func readyDesk() async throws -> Desk {
        let scene = Scene()
        try await scene.greet()
        await scene.proxy(.ready)
        await scene.read(["shop.yaml": Manifest.shop(), "bad.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: 0}]}"])
        await scene.plane.take(.accepted(generation: 1))
        await scene.plane.take(.applied(generation: 1))
        await scene.plane.take(.pod(PodState(uid: "shop/cart-1", state: .enrolled, pod: 1, namespaceCookie: 4711, listeners: 4, olderConnections: 3)))
        return try await Desk(scene)
    }

    @Test func healthAndReadiness() async throws {
        let scene = Scene()
        let desk = try await Desk(scene)
        #expect(try await desk.get("/healthz") == (200, "ok\n"))
        let notReady = try await desk.get("/readyz")
        #expect(notReady.status == 503)
        #expect(notReady.body.contains("not ready: weft node has not said hello yet\n"))
        let ready = try await readyDesk()
        #expect(try await ready.get("/readyz") == (200, "ready\n"))
        #expect(try await ready.get("/nowhere").status == 404)
    }

    @Test func metricsHoldWhatTheAgentKnows() async throws {
        let page = try await readyDesk().get("/metrics").body
        let lines = Set(page.split(separator: "\n").map(String.init))
        for expected in [
            "weft_ready 1", "weft_snapshot_generation{stage=\"applied\"} 1", "weft_configuration_faults 1", "weft_pods{state=\"enrolled\"} 1",
            "weft_capture_verdicts_total{verdict=\"redirect\"} 8", "weft_pod_older_connections{namespace=\"shop\",pod=\"cart-1\"} 3",
            "weft_process_restarts_total{process=\"proxy\"} 1", "# TYPE weft_capture_verdicts_total counter",
        ] {
            #expect(lines.contains(expected), "\(expected)")
        }
        for family in ["node_cpu_seconds_total{", "node_memory_MemTotal_bytes ", "node_load1 ", "process_open_fds ", "weft_process_cpu_seconds_total{process=\"proxy\"}"] {
            #expect(lines.contains { $0.hasPrefix(family) }, "\(family)")
        }
        #expect(page.contains("weft_connections_open "), "the proxy's own page is in it")
    }

    /// promtool's only complaint may be about names that are node_exporter's, and whose spelling is therefore not ours.
    @Test func promtoolFindsNothingButNodeExportersSpelling() async throws {
        let page = try await readyDesk().get("/metrics").body
        let names = page.split(separator: "\n").filter { $0.hasPrefix("# TYPE ") }.map { $0.split(separator: " ")[2] }
        #expect(Set(names).count == names.count, "each family once")

        let promtool = Process()
        let (input, output) = (Pipe(), Pipe())
        promtool.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        promtool.arguments = ["promtool", "check", "metrics"]
        promtool.standardInput = input
        promtool.standardOutput = output
        promtool.standardError = output
        try promtool.run()
        try input.fileHandleForWriting.write(contentsOf: Data(page.utf8))
        try input.fileHandleForWriting.close()
        let said = await withCheckedContinuation { continuation in
            Thread.detachNewThread {
                let said = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
                promtool.waitUntilExit()
                continuation.resume(returning: said)
            }
        }
        try #require(promtool.terminationStatus != 127, "this test needs promtool: apt-get install prometheus")
        let complaints = said.split(separator: "\n").filter { !($0.hasPrefix("node_memory_") && $0.hasSuffix("'snake_case' not 'camelCase'")) }
        #expect(complaints.isEmpty, "\(complaints)")
    }

    @Test func theStatusIsJSONWithNamesThatStay() async throws {
        let desk = try await readyDesk()
        let answer = try await desk.get("/status.json")
        let status = try StatusJSON.decode(Array(answer.body.utf8))
        #expect(status == (try StatusJSON.decode(StatusJSON.encode(status))))
        #expect(status.isReady && status.nodeName == "node-a")
        #expect(status.processes.map(\.name) == ["node", "agent", "proxy"])
        #expect(status.services.first?.ports == [.init(name: "http", port: 80, protocolHint: "http1", endpointsReady: 1, endpointsTotal: 2)])
        #expect(status.configuration.faults.map(\.object) == ["Service default/x"])
        #expect(status.verdicts == [.init(name: "pass_dead", count: 1), .init(name: "redirect", count: 8)])

        // Scripts depend on these; adding is fine, renaming is not.
        let object = try #require(try JSONSerialization.jsonObject(with: Data(answer.body.utf8)) as? [String: Any])
        #expect(object.keys.sorted() == ["configuration", "generations", "identities", "isReady", "kubeletCgroup", "nodeName", "notReady", "pods", "policies", "processes", "protocols", "routes", "services", "time", "verdicts"])
        func keys(_ value: Any?) -> [String] { ((value as? [Any])?.last as? [String: Any] ?? value as? [String: Any] ?? [:]).keys.sorted() }
        #expect(keys(object["pods"]) == ["addresses", "isStrict", "listeners", "name", "namespace", "namespaceCookie", "olderConnections", "pod", "reason", "state", "uid"])
        #expect(keys(object["processes"]) == ["incarnation", "name", "pid", "restarts", "state"])
        #expect(keys(object["generations"]) == ["accepted", "ageSeconds", "agree", "applied", "published"])
        #expect(keys(object["services"]) == ["addresses", "isHeadless", "name", "namespace", "ports"])
        #expect(keys(object["configuration"]) == ["ageSeconds", "directory", "faults", "notes"])
    }

    @Test func addressesToListenOn() {
        #expect(ListenAddress("0.0.0.0:15020") == ListenAddress(host: "0.0.0.0", port: 15020))
        #expect(ListenAddress("[::]:15020")?.description == "[::]:15020")
        for wrong in ["15020", ":15020", "::1:15020", "host:", "host:70000", ""] { #expect(ListenAddress(wrong) == nil, "\(wrong)") }
    }

    @Test func aPageWaitsForItsScraper() async throws {
        let pieces = PagePieces(stallSecondsMax: 600)
        Thread.detachNewThread {
            for number in UInt8(0)..<20 { withUnsafeBytes(of: number) { pieces.put($0) } }
            pieces.end()
        }
        var received: [UInt8] = []
        while let piece = try await pieces.next() { received += piece }
        #expect(received == Array(0..<20))
    }

    /// A scraper that stops reading costs a few pieces of memory, and gets no proper ending when it comes back too late.
    @Test func aStalledScraperGetsNoWholePage() async throws {
        let pieces = PagePieces(stallSecondsMax: 0)
        for number in 0..<UInt8(AgentLimits.pagePiecesMax + 2) { withUnsafeBytes(of: number) { pieces.put($0) } }
        pieces.end()
        for number in 0..<UInt8(AgentLimits.pagePiecesMax) { #expect(try await pieces.next() == [number]) }
        await #expect(throws: PagePieces.ScraperStalled.self) { try await pieces.next() }
    }
}
