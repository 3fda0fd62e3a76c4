import Foundation

/// The repository as this test finds it: the directory three levels above this file.
enum SourceTree {
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// Files below `directory` with one of these extensions, sorted by path.
    static func files(in directory: String, extensions: Set<String>) -> [SourceFile] {
        let start = root.appendingPathComponent(directory)
        guard let walker = FileManager.default.enumerator(at: start, includingPropertiesForKeys: nil, options: [.skipsHiddenFiles]) else { return [] }
        var found: [SourceFile] = []
        for case let url as URL in walker where extensions.contains(url.pathExtension) {
            guard let text = try? String(contentsOf: url, encoding: .utf8) else { continue }
            found.append(SourceFile(path: String(url.path.dropFirst(root.path.count + 1)), text: text))
        }
        return found.sorted { $0.path < $1.path }
    }

    /// Text of one file.
    static func text(of path: String) throws -> String { try String(contentsOf: root.appendingPathComponent(path), encoding: .utf8) }
}

/// One file, with its lines as written and as code alone (comments and string literals blanked).
struct SourceFile {
    var path: String
    var text: String

    var lines: [Substring] { text.split(separator: "\n", omittingEmptySubsequences: false) }
    var codeLines: [Substring] { Self.code(of: text).split(separator: "\n", omittingEmptySubsequences: false) }
    /// `Sources/Proxy/Worker.swift` → `Proxy`.
    var module: String { path.split(separator: "/").dropFirst().first.map(String.init) ?? "" }

    /// The modules imported here, with the line that does it.
    var imports: [(module: String, line: Int)] {
        var found: [(String, Int)] = []
        for (index, line) in codeLines.enumerated() {
            var words = line.split(whereSeparator: { $0 == " " || $0 == "\t" }).map(String.init)
            while let first = words.first, first.hasPrefix("@") || ["public", "internal", "package", "private", "fileprivate"].contains(first) { words.removeFirst() }
            guard words.first == "import", words.count > 1 else { continue }
            let kinds: Set<String> = ["struct", "class", "enum", "protocol", "func", "var", "let", "typealias"]
            let name = kinds.contains(words[1]) && words.count > 2 ? words[2] : words[1]
            found.append((String(name.split(separator: ".")[0]), index + 1))
        }
        return found
    }

    /// The same text with comments and the insides of string literals replaced by blanks; line breaks stay where they are.
    static func code(of text: String) -> String {
        enum State { case code, line, block(Int), string(multiline: Bool) }
        var out = "", state = State.code
        let characters = Array(text.unicodeScalars)
        var index = 0
        func starts(_ word: String) -> Bool {
            let wanted = Array(word.unicodeScalars)
            return index + wanted.count <= characters.count && Array(characters[index..<index + wanted.count]) == wanted
        }
        while index < characters.count {
            let scalar = characters[index]
            if scalar == "\n" {
                if case .line = state { state = .code }
                if case .string(multiline: false) = state { state = .code }
                out.unicodeScalars.append(scalar)
                index += 1
                continue
            }
            switch state {
            case .code:
                if starts("//") { state = .line; out += "  "; index += 2; continue }
                if starts("/*") { state = .block(1); out += "  "; index += 2; continue }
                if starts("\"\"\"") { state = .string(multiline: true); out += "\"\"\""; index += 3; continue }
                if scalar == "\"" { state = .string(multiline: false) }
                out.unicodeScalars.append(scalar)
            case .line:
                out += " "
            case .block(let depth):
                if starts("*/") { state = depth == 1 ? .code : .block(depth - 1); out += "  "; index += 2; continue }
                if starts("/*") { state = .block(depth + 1); out += "  "; index += 2; continue }
                out += " "
            case .string(let multiline):
                if scalar == "\\", index + 1 < characters.count, characters[index + 1] != "\n" { out += "  "; index += 2; continue }
                if multiline, starts("\"\"\"") { state = .code; out += "\"\"\""; index += 3; continue }
                if !multiline, scalar == "\"" { state = .code; out += "\""; index += 1; continue }
                out += " "
            }
            index += 1
        }
        return out
    }
}
