import Foundation
import Testing

/// Records one broken rule with the place and what to do.
private func broken(_ path: String, _ line: Int, _ what: String, remedy: String) {
    Issue.record("\(path):\(line): \(what). \(remedy)")
}

/// What carries requests, and what it links: no Foundation, no tasks, no locks, no existentials.
private let dataPath: Set<String> = [
    "Bytes", "EventLoop", "HTTPCodec", "MutualTLS", "Routing", "Balancing", "Upstream", "Proxy", "MeshModel", "Telemetry", "ControlChannel", "WeftProxy",
]
private let program: Set<String> = ["swift"]

@Suite("House rules")
struct HouseRules {
    let package: PackageFloors
    let sources: [SourceFile]

    init() throws {
        package = PackageFloors(manifest: try SourceTree.text(of: "Package.swift"))
        sources = SourceTree.files(in: "Sources", extensions: program)
    }

    @Test func theTreeIsFound() {
        #expect(package.targets.count > 20)
        #expect(sources.count > 20)
        #expect(package.targets["Proxy"]?.floor == 4)
        #expect(package.targets["Proxy"]?.dependencies.contains("EventLoop") == true)
        #expect(package.targets["Agent"]?.dependencies.contains("Hummingbird") == true)
    }

    /// A module imports what its target declares, and nothing of its own floor or above.
    @Test func importsPointDown() {
        let system: Set<String> = ["Swift", "Glibc", "Synchronization", "Foundation", "FoundationEssentials", "Dispatch"]
        for target in package.targets.values where target.isProduct {
            for name in target.dependencies {
                guard let other = package.targets[name] else { continue }
                if other.floor >= target.floor {
                    broken("Package.swift", target.line, "\(target.name) (floor \(target.floor)) depends on \(name) (floor \(other.floor))", remedy: "Imports point down: move the shared words to a lower floor, or turn the dependency round with a protocol")
                }
            }
        }
        for file in sources {
            guard let target = package.targets[file.module] else {
                broken(file.path, 1, "module \(file.module) is not in Package.swift", remedy: "Declare it on its floor")
                continue
            }
            for (module, line) in file.imports where !system.contains(module) {
                if !target.dependencies.contains(module), !isTransitiveProduct(module, of: target) {
                    broken(file.path, line, "\(target.name) imports \(module), which its target does not declare", remedy: "Add it to the target in Package.swift if its floor is lower, or do without")
                }
            }
        }
    }

    /// NIO's and Hummingbird's own parts come with the declared product.
    private func isTransitiveProduct(_ module: String, of target: PackageFloors.Target) -> Bool {
        let families = ["NIO": ["NIOCore", "NIOPosix", "Hummingbird", "AsyncHTTPClient"], "HTTPTypes": ["Hummingbird"], "Hummingbird": ["Hummingbird"], "Logging": ["Hummingbird", "Logging"], "ServiceLifecycle": ["ServiceLifecycle"]]
        return families.contains { module.hasPrefix($0.key) && !target.dependencies.isDisjoint(with: $0.value) }
    }

    @Test func nothingOnTheDataPathWaitsOrLocks() {
        let imports = [
            "Foundation": "it brings locks and allocation to the request path: use Glibc and Bytes", "FoundationEssentials": "as Foundation: use Glibc and Bytes",
            "Dispatch": "work stays on its worker: post to a mailbox of EventLoop", "_Concurrency": "an await costs about a whole request: use EventLoop",
        ]
        let words: [(pattern: String, remedy: String)] = [
            (#"\basync\b"#, "The data path never suspends: use a state and EventLoop"),
            (#"\bawait\b"#, "The data path never suspends: use a state and EventLoop"),
            (#"\bactor\b"#, "State belongs to one worker: make it a ~Copyable struct of that worker"),
            (#"\bMutex\b"#, "34 ns a lock: one writer per worker, or a cache-line-separated atomic"),
            (#"\bTask\s*[\{\.\(]"#, "Work must stay on its worker: post to a mailbox"),
            (#"\bany\s+[A-Z]"#, "An existential costs allocation and dispatch: use a generic or an enum"),
            (#"\bNSLock\b|\bpthread_mutex_"#, "No locks: post to a mailbox"),
        ]
        for file in sources where dataPath.contains(file.module) {
            for (module, line) in file.imports {
                if let remedy = imports[module] ?? (module.hasPrefix("NIO") ? "the data plane has its own loop: use EventLoop" : nil) {
                    broken(file.path, line, "import \(module) on the data path", remedy: remedy)
                }
            }
            for (index, line) in file.codeLines.enumerated() {
                for (pattern, remedy) in words where line.range(of: pattern, options: .regularExpression) != nil {
                    broken(file.path, index + 1, "'\(line.trimmingCharacters(in: .whitespaces))' on the data path", remedy: remedy)
                }
            }
        }
    }

    @Test func filesStayReadable() {
        let kinds: Set<String> = ["swift", "c", "h", "py"]
        for file in ["Sources", "Tests", "bpf", "deploy"].flatMap({ SourceTree.files(in: $0, extensions: kinds) }) where file.lines.count > 501 {
            broken(file.path, 501, "\(file.lines.count - 1) lines", remedy: "Split it where a reader would turn the page: at most 500")
        }
    }

    @Test func namesSayWhatThingsAre() {
        let vague = ["Util", "Utils", "Manager", "Helper", "Helpers", "Misc", "Common"]
        let declaration = /^(?:@\w+(?:\([^)]*\))?\s+)*(?:(?:public|package|internal|final|indirect)\s+)*(?:struct|class|enum|protocol|typealias)\s+(\w+)/
        for file in sources {
            let name = (file.path as NSString).lastPathComponent.replacingOccurrences(of: ".swift", with: "")
            if vague.contains(where: name.hasSuffix) {
                broken(file.path, 1, "a file called \(name)", remedy: "Name it after the step of the journey it holds")
            }
            for (index, line) in file.codeLines.enumerated() {
                if let found = line.firstMatch(of: declaration), vague.contains(where: String(found.1).hasSuffix) {
                    broken(file.path, index + 1, "a type called \(found.1)", remedy: "Name it after what it is, not after having something to do")
                }
            }
        }
    }

    @Test func nothingIsLeftUnsaid() {
        let words = ["TO" + "DO", "FIX" + "ME", "XX" + "X:", "HA" + "CK"]
        for file in ["Sources", "Tests", "bpf", "deploy"].flatMap({ SourceTree.files(in: $0, extensions: ["swift", "c", "h", "py", "yaml", "sh", "md"]) }) {
            for (index, line) in file.lines.enumerated() {
                if let word = words.first(where: { line.contains($0) }) {
                    broken(file.path, index + 1, "the word \(word)", remedy: "Do it now, or open an issue")
                }
            }
        }
        for file in sources {
            for (index, line) in file.codeLines.enumerated() where line.contains("fatalError(") || line.range(of: #"\btry!"#, options: .regularExpression) != nil {
                broken(file.path, index + 1, "'\(line.trimmingCharacters(in: .whitespaces))'", remedy: "A peer's bytes throw; our own broken promises are preconditionFailure with the reason")
            }
        }
    }

    @Test func warningsAreErrorsEverywhere() throws {
        let manifest = try SourceTree.text(of: "Package.swift")
        #expect(manifest.contains(".treatAllWarnings(as: .error)"))
        #expect(manifest.contains("let hot: [SwiftSetting] = house"))
        for target in package.targets.values.sorted(by: { $0.line < $1.line }) where target.kind != "systemLibrary" && target.kind != "testTarget" {
            if target.isSwift {
                let wanted = dataPath.contains(target.name) ? ["swiftSettings: hot"] : ["swiftSettings: house", "swiftSettings: hot"]
                if !wanted.contains(where: target.text.contains) {
                    broken("Package.swift", target.line, "\(target.name) lacks \(wanted.joined(separator: " or "))", remedy: "Warnings are errors in every target; the data path is also optimised across modules")
                }
            } else if !target.text.contains("-Werror") {
                broken("Package.swift", target.line, "\(target.name) compiles C without -Werror", remedy: "Add .unsafeFlags([\"-Wall\", \"-Werror\"])")
            }
        }
    }

    /// Each C library sits behind exactly one Swift module; no C pointer of it crosses out.
    @Test func oneModulePerLibrary() {
        let libraries = package.targets.values.filter { $0.kind == "systemLibrary" }.map(\.name)
        #expect(libraries.contains("CLibBPF"))
        for library in libraries {
            let users = Set(sources.filter { $0.imports.contains { $0.module == library } }.map(\.module))
            if users.count > 1 {
                for file in sources { for (module, line) in file.imports where module == library {
                    broken(file.path, line, "\(library) is imported by \(users.sorted().joined(separator: " and "))", remedy: "Give one of them a Swift interface and use that")
                } }
            }
            for file in sources where users.contains(file.module) {
                // A library's own types begin with its name: `CNGHTTP2` has `nghttp2_session`, `CLibBPF` has `bpf_object`.
                let prefix = String(library.dropFirst().lowercased().replacingOccurrences(of: "lib", with: ""))
                for (index, line) in file.codeLines.enumerated() where line.range(of: #"\bpublic\b.*\b(OpaquePointer\b|\#(prefix)_)"#, options: .regularExpression) != nil {
                    broken(file.path, index + 1, "a type of \(library) in a public declaration", remedy: "Wrap it; C stays inside \(file.module)")
                }
            }
        }
    }

    /// The rules bite: what they read is code, not prose.
    @Test func theReaderTellsCodeFromProse() {
        let text = "import Glibc // await\nlet a = \"async \\\" actor\" /* Mutex\n Mutex */; let b = \"\"\"\n await\n \"\"\"\n@preconcurrency import struct NIOCore.ByteBuffer"
        let file = SourceFile(path: "Sources/Proxy/A.swift", text: text)
        #expect(file.imports.map(\.module) == ["Glibc", "NIOCore"])
        #expect(file.imports.map(\.line) == [1, 6])
        #expect(!SourceFile.code(of: text).contains("await") && !SourceFile.code(of: text).contains("Mutex") && !SourceFile.code(of: text).contains("actor"))
        #expect(SourceFile.code(of: text).split(separator: "\n", omittingEmptySubsequences: false).count == 6)
        #expect(file.module == "Proxy")
    }
}
