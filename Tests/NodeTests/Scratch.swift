import CLinux
import Glibc
import Testing
@testable import Node

/// Namespaces and privileges are needed; `WEFT_UNPRIVILEGED=1` says on purpose that they are not there.
let mayUseRoot: Bool = {
    if geteuid() == 0 { return true }
    return getenv("WEFT_UNPRIVILEGED") == nil       // then the tests run, and fail by saying what they lack
}()

/// A network namespace of a test, with `lo` up; removed at its end.
final class ScratchNamespace {
    let name: String
    var path: String { "/run/netns/\(name)" }
    private nonisolated(unsafe) static var made: Int32 = 0

    init() throws {
        Self.made += 1
        name = "wnt-\(getpid())-\(Self.made)"
        try #require(run(["ip", "netns", "add", name]) == 0, "cannot make a network namespace: these tests need root")
        try #require(run(["ip", "-n", name, "link", "set", "lo", "up"]) == 0)
    }

    deinit { _ = run(["ip", "netns", "del", name]) }

    func open() throws -> NamespaceFile {
        let host = try #require(NamespaceIdentity(path: "/proc/self/ns/net"))
        return try NamespaceRoot(root: "/run/netns", host: host).open(path)
    }

    /// Everything Weft could leave behind, as text.
    func look() -> String {
        [["rule"], ["-6", "rule"], ["route", "show", "table", "all"], ["-6", "route", "show", "table", "all"]]
            .map { output(["ip", "-n", name] + $0) }.joined(separator: "--\n")
            + output(["ip", "netns", "exec", name, "cat"] + PodNetwork.settings.map(\.path))
    }
}

/// Runs a program and waits for it; its exit code.
func run(_ arguments: [String]) -> Int32 { system(arguments.map { "'\($0)'" }.joined(separator: " ") + " >/dev/null 2>&1") >> 8 }

/// What a program prints.
func output(_ arguments: [String]) -> String {
    guard let stream = popen(arguments.map { "'\($0)'" }.joined(separator: " "), "r") else { return "" }
    defer { pclose(stream) }
    var text = ""
    var line = [CChar](repeating: 0, count: 4096)
    while fgets(&line, Int32(line.count), stream) != nil { text += String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self) }
    return text
}
