import Foundation

/// Kubernetes objects from a directory of manifests: what is in force now, what is faulty, and each change as one step.
public struct Manifests: Sendable {
    public let nodeName: String
    /// What identities begin with.
    public let trustDomain: String
    private var store = ManifestStore()
    /// Manifests as last parsed: only files whose bytes changed are parsed again.
    private var parsed: [String: (bytes: [UInt8], file: ManifestFile)] = [:]

    /// Whether the objects in force are known: the directory was read once, or an earlier agent left what it knew.
    public private(set) var isSynced = false

    public init(nodeName: String, trustDomain: String = "cluster.local") {
        self.nodeName = nodeName
        self.trustDomain = trustDomain
    }

    /// Objects that were in force when `encodedObjects` was taken, so that an object which is faulty now keeps its last
    /// good version over a restart too.
    public mutating func restore(_ encoded: Data) throws {
        let objects = try JSONDecoder().decode([KeyedObject].self, from: encoded)
        store = ManifestStore(held: Dictionary(objects.map { ($0.key, $0.held) }) { first, _ in first })
        isSynced = !objects.isEmpty
    }

    /// All objects in force, for `restore`.
    public func encodedObjects() throws -> Data {
        let objects = store.held.sorted { $0.key < $1.key }.map { KeyedObject(key: $0.key, held: $0.value) }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return try encoder.encode(objects)
    }

    /// Takes in a reading of the directory. A directory that cannot be read changes nothing but the faults.
    public mutating func take(_ reading: DirectoryReading) -> ClusterView {
        if let failure = reading.failure {
            var view = ClusterAssembly.view(of: store.held, nodeName: nodeName, trustDomain: trustDomain)
            view.faults.append(
                Fault(
                    file: ".", reason: "the manifests directory cannot be read: \(failure)",
                    remedy: "make it a directory that weft agent (uid 15020) may read",
                    consequence: store.held.isEmpty ? .leftOut : .previousKept))
            return view
        }
        var files: [ManifestFile] = []
        for (name, content) in reading.files.sorted(by: { $0.key < $1.key }) {
            switch content {
            case .unreadable(let reason): files.append(ManifestFile(name: name, unreadable: reason))
            case .bytes(let bytes):
                if parsed[name]?.bytes != bytes { parsed[name] = (bytes, ManifestFile(name: name, bytes: bytes)) }
                parsed[name].map { files.append($0.file) }
            }
        }
        parsed = parsed.filter { reading.files[$0.key] != nil }
        isSynced = true

        let faults = store.replace(with: files)
        var view = ClusterAssembly.view(of: store.held, nodeName: nodeName, trustDomain: trustDomain)
        view.faults = (view.faults + faults).sorted()
        view.notes =
            files.flatMap(\.notes) + view.notes
            + reading.subdirectories.map { Note(file: $0, line: 0, text: "is a subdirectory; Weft reads only the directory itself") }
        return view
    }

    private struct KeyedObject: Codable {
        var key: ObjectKey
        var held: HeldObject
    }
}

/// Checks manifests without a node: for `weft config check`.
public enum ManifestCheck {
    /// What a check found.
    public struct Report: Sendable {
        public var faults: [Fault]
        public var notes: [Note]
        /// Every route that could be read, and its conditions.
        public var routes: [RouteStatus]
        /// Objects that Weft reads and found right.
        public var objectCount: Int
    }

    /// Checks files and directories together, as if they were one manifests directory. File names in faults are the paths given.
    public static func check(paths: [String], trustDomain: String = "cluster.local") -> Report {
        var files: [ManifestFile] = []
        for path in paths {
            let reading = ManifestDirectory.read(path)
            if reading.failure == nil {
                let trimmed = path.hasSuffix("/") ? String(path.dropLast()) : path
                files += reading.files.sorted { $0.key < $1.key }.map { Self.file("\(trimmed)/\($0.key)", $0.value) }
            } else {
                files.append(Self.file(path, ManifestDirectory.readFile(path) ?? .unreadable("there is no such file")))
            }
        }
        var store = ManifestStore()
        let faults = store.replace(with: files)
        let view = ClusterAssembly.view(of: store.held, nodeName: "", trustDomain: trustDomain)
        return Report(faults: (faults + view.faults).sorted(), notes: files.flatMap(\.notes) + view.notes, routes: view.routes, objectCount: store.held.count)
    }

    private static func file(_ name: String, _ content: DirectoryReading.File) -> ManifestFile {
        switch content {
        case .bytes(let bytes): ManifestFile(name: name, bytes: bytes)
        case .unreadable(let reason): ManifestFile(name: name, unreadable: reason)
        }
    }
}
