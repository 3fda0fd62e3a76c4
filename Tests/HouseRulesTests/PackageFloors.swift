/// What `Package.swift` decides: every target's floor, dependencies and settings, read from its text.
struct PackageFloors {
    struct Target {
        var name: String
        var kind: String
        var floor: Int
        var line: Int
        var dependencies: Set<String>
        var text: String
        var isSwift: Bool { kind != "systemLibrary" && !text.contains("cSettings:") }
        var isProduct: Bool { kind != "testTarget" && !text.contains("path: \"Tests/") }
    }

    var targets: [String: Target] = [:]

    /// Reads the manifest: a `// Floor N` comment holds for the targets below it.
    init(manifest: String) {
        let code = SourceFile(path: "Package.swift", text: manifest)
        var floor: Int?
        let lines = code.lines
        var index = 0
        while index < lines.count {
            let line = lines[index].drop { $0 == " " }
            if line.hasPrefix("// Floor "), let number = line.dropFirst(9).first?.wholeNumberValue { floor = number }
            let kinds = ["target", "executableTarget", "systemLibrary", "testTarget"]
            if let kind = kinds.first(where: { line.hasPrefix(".\($0)(") }), let floor {
                let start = index
                var depth = 0, text = ""
                repeat {
                    depth += lines[index].reduce(0) { $0 + ($1 == "(" ? 1 : $1 == ")" ? -1 : 0) }
                    text += lines[index] + "\n"
                    index += 1
                } while depth > 0 && index < lines.count
                if let name = Self.quoted(after: "name: ", in: text) {
                    targets[name] = Target(name: name, kind: kind, floor: kind == "testTarget" ? 9 : floor, line: start + 1, dependencies: Self.dependencies(in: text), text: text)
                }
                continue
            }
            index += 1
        }
    }

    private static func quoted(after label: String, in text: String) -> String? {
        guard let range = text.range(of: label + "\"") else { return nil }
        return String(text[range.upperBound...].prefix { $0 != "\"" })
    }

    /// `"Name"` and `.product(name: "Name", …)` between the brackets of `dependencies:`.
    private static func dependencies(in text: String) -> Set<String> {
        guard let start = text.range(of: "dependencies: [") else { return [] }
        var names: Set<String> = [], depth = 1
        var rest = text[start.upperBound...]
        while depth > 0, let character = rest.first {
            if character == "[" { depth += 1 }
            if character == "]" { depth -= 1 }
            if rest.hasPrefix("package: \"") { rest = rest.dropFirst(10).drop { $0 != "\"" }.dropFirst(); continue }
            if character == "\"" {
                names.insert(String(rest.dropFirst().prefix { $0 != "\"" }))
                rest = rest.dropFirst().drop { $0 != "\"" }.dropFirst()
                continue
            }
            rest = rest.dropFirst()
        }
        return names
    }
}
