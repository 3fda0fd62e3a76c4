import Yams

/// What one manifest says: its objects, each read or faulty, and what in it belongs to no object.
struct ManifestFile: Sendable {
    /// Path relative to the manifests directory.
    let name: String
    private(set) var documents: [Document] = []
    private(set) var notes: [Note] = []
    /// Faults that cannot be bound to an object.
    private(set) var faults: [Fault] = []

    /// One object of the file.
    struct Document: Sendable {
        var key: ObjectKey
        var line: Int
        /// Nil when `faults` says why.
        var object: ClusterObject?
        var faults: [Fault]
    }

    /// Whether every document said which object it is. If not, any object that the file held before may be meant, so all
    /// of those stay in force.
    var isComplete: Bool { faults.isEmpty }

    /// A file that cannot be read at all.
    init(name: String, unreadable reason: String) {
        self.name = name
        faults = [Fault(file: name, reason: "cannot be read: \(reason)", remedy: "make it a regular file that weft agent (uid 15020) may read")]
    }

    /// Reads all documents of a YAML or JSON file.
    init(name: String, bytes: [UInt8]) {
        self.name = name
        guard bytes.count <= DiscoveryLimits.fileBytesMax else {
            faults = [Fault(file: name, reason: "has \(bytes.count) bytes", remedy: "split it into files of at most \(DiscoveryLimits.fileBytesMax) bytes")]
            return
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            faults = [Fault(file: name, reason: "is not UTF-8 text", remedy: "save it as UTF-8")]
            return
        }
        do {
            // `.basic`: types of scalars are decided by YAMLScalar, not by Yams' regular expressions.
            let parser = try Parser(yaml: text, resolver: .basic)
            while let root = try parser.nextRoot() { read(document: root) }
        } catch {
            documents = []
            faults = [Self.syntaxFault(error, file: name)]
        }
    }

    private mutating func read(document root: Node) {
        if case .scalar(let scalar) = root, YAMLScalar(scalar) == .null { return }
        let log = FaultLog(file: name)
        guard let reader = ObjectReader(root, path: "", log: log) else { return faults += log.faults }
        guard
            let kind = reader.requiredString("kind", remedy: "write the kind of the object, such as Service"),
            let apiVersion = reader.requiredString("apiVersion", remedy: "write the version of the object, such as v1")
        else { return faults += log.faults }
        guard kind.hasSuffix("List"), reader.node("items") != nil else {
            return read(reader, kind: kind, apiVersion: apiVersion)
        }
        let itemKind = String(kind.dropLast(4))  // "List" itself names no kind; ServiceList holds Services
        for item in reader.objects("items") {
            let kind = item.string("kind") ?? itemKind
            guard !kind.isEmpty else {
                item.fault("kind", "is missing", remedy: "write the kind of the object, such as Service")
                continue
            }
            read(item, kind: kind, apiVersion: item.string("apiVersion") ?? apiVersion)
        }
        // Faults of the items' own fields went to the items; what is left here concerns the list.
        faults += log.faults
    }

    private mutating func read(_ item: ObjectReader, kind: String, apiVersion: String) {
        let log = FaultLog(file: name)
        guard let known = ObjectKind(rawValue: kind), Self.group(apiVersion) == Self.group(known.apiVersions[0]) else {
            notes.append(Note(file: name, line: item.line, text: "\(kind) (\(apiVersion)) is none of the kinds that Weft reads"))
            return
        }
        log.object = kind
        let object = item.logging(to: log)
        guard let metadata = object.requiredObject("metadata").flatMap({ ObjectMetadata($0, kind: known) }) else {
            return faults += log.faults
        }
        let key = ObjectKey(kind: known, namespace: metadata.namespace, name: metadata.name)
        log.identify(as: key.description)
        if !known.apiVersions.contains(apiVersion) {
            object.fault("apiVersion", "\(apiVersion) is not a version that Weft reads", remedy: "write \(known.apiVersions[0])")
        }
        let read = ClusterObject(known, metadata, reading: object)
        documents.append(Document(key: key, line: item.line, object: log.faults.isEmpty ? read : nil, faults: log.faults))
    }

    private static func group(_ apiVersion: String) -> Substring {
        apiVersion.firstIndex(of: "/").map { apiVersion[..<$0] } ?? ""
    }

    private static func syntaxFault(_ error: any Error, file: String) -> Fault {
        let (line, problem): (Int, String) =
            switch error as? YamlError {
            case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _), .composer(_, let problem, let mark, _):
                (mark.line, problem)
            case .duplicatedKeysInMapping(let names, let context):
                (context.mark.line, "the field “\(names.joined(separator: "”, “"))” is written twice")
            case .reader(let problem, _, _, _): (0, problem)
            default: (0, "\(error)")
            }
        return Fault(file: file, line: line, reason: "is not YAML: \(problem)", remedy: "correct the syntax; until then nothing in this file is read")
    }
}

/// Bounds of what Discovery takes in.
enum DiscoveryLimits {
    /// A manifest with 10,000 endpoints has about 2 MiB; beyond eight times that, something else was dropped here.
    static let fileBytesMax = 16 << 20
    static let filesMax = 10_000
    /// `PATH_MAX` without its final zero byte.
    static let pathBytesMax = 4_095
    /// Kubernetes' own are UUIDs of 36.
    static let uidBytesMax = 128
    /// Ports or ranges of one annotation. All of a pod's must fit into one control packet of 64 KiB; nobody means more.
    static let exclusionsMax = 256
    /// What UDP of a strict pod may use where nothing else is said.
    static let dnsPort: UInt16 = 53
    /// Rules of one AccessPolicy. Each request asks those that select its destination one after the other.
    static let accessRulesMax = 256
    /// Items of one list in an AccessPolicy's rule.
    static let patternsMax = 256
    /// Bytes of one of them.
    static let patternBytesMax = 1_024
}
