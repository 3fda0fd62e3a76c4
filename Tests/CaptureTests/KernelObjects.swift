@testable import Capture
import Foundation

/// What a scratch node has in the kernel, as bpftool sees it. Only what hangs on its own pins: other nodes may come and go on this machine.
extension ScratchNode {
    /// Kinds and numbers, such as `map 12`: every pinned map and link, the links' programs, and the maps those use.
    func kernelObjects() throws -> Set<String> {
        var objects: Set<String> = []
        for name in try names(in: "maps") { objects.insert("map \(try show("map", name).number)") }
        for name in try names(in: "links") {
            let link = try show("link", name)
            objects.formUnion(["link \(link.number)", "prog \(link.program!)"])
            let program = try Self.bpftool(Shown.self, ["prog", "show", "id", "\(link.program!)"])
            objects.formUnion((program.maps ?? []).map { "map \($0)" })
        }
        return objects
    }

    /// Those of `objects` that still exist.
    static func survivors(of objects: Set<String>) -> Set<String> {
        objects.filter { object in
            (try? shell("bpftool \(object.replacing(" ", with: " show id "))")) != nil
        }
    }

    /// Numbers of the pinned links by name: the same number is the same attachment.
    func linkNumbers() throws -> [String: Int] {
        var numbers: [String: Int] = [:]
        for name in try names(in: "links") { numbers[name] = try show("link", name).number }
        return numbers
    }

    func entries(in map: String) throws -> Int {
        try Self.bpftool([Entry].self, ["map", "dump", "pinned", configuration.pinDirectory + "/maps/" + map]).count
    }

    private struct Entry: Decodable {}

    private struct Shown: Decodable {
        var number: Int
        var program: Int?
        var maps: [Int]?

        enum CodingKeys: String, CodingKey { case number = "id", program = "prog_id", maps = "map_ids" }
    }

    private func names(in kind: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: configuration.pinDirectory + "/" + kind)
    }

    private func show(_ kind: String, _ name: String) throws -> Shown {
        try Self.bpftool(Shown.self, [kind, "show", "pinned", configuration.pinDirectory + "/\(kind)s/" + name])
    }

    private static func bpftool<Answer: Decodable>(_ type: Answer.Type, _ arguments: [String]) throws -> Answer {
        let process = Process(), output = Pipe()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["bpftool", "--json"] + arguments
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        let said = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return try JSONDecoder().decode(Answer.self, from: said)
    }
}
