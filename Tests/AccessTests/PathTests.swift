import Foundation
import MeshModel
import Routing
import Testing

/// No spelling of a forbidden path gets past the rule that forbids it.
@Suite struct PathTests {
    struct Random: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state ^ state >> 29
        }
    }

    /// What the most obliging of servers would make of a path: escapes decoded as often as there are any, backslashes taken for slashes, parameters
    /// cut off, slashes merged, dot segments resolved. Written without a look at the engine.
    private func obliging(_ path: String) -> String {
        var text = String(path.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)[0])
        while let decoded = decodedOnce(text), decoded != text { text = decoded }
        text = text.replacingOccurrences(of: "\\", with: "/")
        var segments: [String] = []
        for segment in text.split(separator: "/") {
            let plain = String(segment.split(separator: ";", maxSplits: 1, omittingEmptySubsequences: false)[0])
            switch plain {
            case "", ".": continue
            case "..": _ = segments.popLast()
            default: segments.append(plain)
            }
        }
        return "/" + segments.joined(separator: "/")
    }

    private func decodedOnce(_ text: String) -> String? {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%"), rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) {
                bytes.append(value)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte)
            }
        }
        return String(bytes: bytes, encoding: .utf8)
    }

    @Test(arguments: 1...6) func noSpellingPassesADenyRule(seed: UInt64) throws {
        var random = Random(state: seed &* 977)
        let rules = try Engine([AccessRule(.deny, policy: "p", field: "f", terms: [AccessTerm(.path, .prefix, text: "/admin")])])
        let pieces = ["admin", "/", "/", "%61dmin", "a", "d", "min", "%2F", "%2f", "%5C", "\\", ".", "..", "%2e", "%2E.", ";x", "%25", "%2561", "x", "?", "//", "%00", "%", "%zz", "-"]
        var denied = 0, allowed = 0
        for _ in 0..<20_000 {
            let path = "/" + (0..<Int.random(in: 1...7, using: &random)).map { _ in pieces.randomElement(using: &random)! }.joined()
            let isDenied = rules.isDenied(path)
            if obliging(path).hasPrefix("/admin") { #expect(isDenied, "\(path) is \(obliging(path))") }
            if isDenied { denied += 1 } else { allowed += 1 }
        }
        #expect(denied > 1_000 && allowed > 1_000, "the paths try nothing: \(denied) denied, \(allowed) allowed")
    }

    /// What is let through by an allow rule is what the rule says, to the most obliging server too.
    @Test(arguments: 1...6) func noSpellingPassesAnAllowRule(seed: UInt64) throws {
        var random = Random(state: seed &* 7_919)
        let rules = try Engine([
            AccessRule(.allow, policy: "p", field: "f", terms: [AccessTerm(.path, .prefix, text: "/public/"), AccessTerm(.path, .exact, text: "/public")]),
            AccessRule(.gate, policy: "p", field: "g"),
        ])
        let pieces = ["public", "/", "/", "%70ublic", "admin", "..", "/..", "%2e%2e", ".", "%2F", "\\", ";", "?", "x", "%25", "%2e"]
        var allowed = 0
        for _ in 0..<20_000 {
            let path = ["/public/", "/public", "/%70ublic/", "/"].randomElement(using: &random)!
                + (0..<Int.random(in: 0...5, using: &random)).map { _ in pieces.randomElement(using: &random)! }.joined()
            if !rules.isDenied(path) {
                allowed += 1
                let meant = obliging(path)
                #expect(meant == "/public" || meant.hasPrefix("/public/"), "\(path) is \(meant)")
            }
        }
        #expect(allowed > 500)
    }

    @Test(arguments: [
        ("/a", "/a", true), ("/a?b", "/a", true), ("/%61", "/a", true), ("/A", "/a", false), ("/a/", "/a", false), ("/a%20b", "/a b", true),
        ("/%c3%a4", "/ä", true), ("", "/", true), ("?x", "/", true), ("*", "/", false), ("/...", "/...", true), ("/.a", "/.a", true), ("/a.", "/a.", true),
    ])
    func plainPathsAreComparedDecoded(_ path: String, _ wanted: String, _ isSame: Bool) throws {
        let rules = try Engine([AccessRule(.deny, policy: "p", field: "f", terms: [AccessTerm(.path, .exact, text: wanted)])])
        #expect(rules.isDenied(path) == isSame)
    }
}

/// The engine with rules of its own, asked about requests of an unauthenticated caller.
final class Engine {
    private let memory: ShardMemory

    init(_ rules: [AccessRule]) throws {
        var writer = SnapshotWriter()
        let images = try writer.update(MeshState(nodeName: "n", access: [WorkloadAccess(uid: "u", rules: rules)])).shards
        memory = try ShardMemory(copying: images[0].bytes)
    }

    var rules: AccessRulesView { memory.view.accessSubject(at: 0) }

    func isDenied(_ path: String, method: String = "GET") -> Bool {
        withTexts([method, path, "h"]) { texts in
            let request = AccessRequest(method: texts[0], path: texts[1], host: texts[2])
            if case .allow = rules.judge(.unauthenticated, port: 80, request: request, field: { _, _ in nil }) { return false }
            return true
        }
    }
}
