import Yams

/// Reads the fields of one mapping of a Kubernetes object, strictly and by name. Every reader knows its field path and
/// line, so whatever is wrong is reported in the words of the manifest's author; reading goes on after a fault, so an
/// object's faults are all found in one pass. Fields that nobody asks for are fine: Kubernetes objects have hundreds.
struct ObjectReader {
    /// Path of this mapping inside the object; empty at its root.
    let path: String
    /// Line where the mapping begins: the place to add a field that is missing.
    let line: Int
    let log: FaultLog
    private let fields: [String: Node]

    /// Nil, with a fault, when the node is no mapping.
    init?(_ node: Node, path: String, log: FaultLog) {
        let line = node.mark?.line ?? 0
        guard case .mapping(let mapping) = node else {
            log.add(line: line, field: path, "\(Self.found(node)) stands where a mapping belongs", remedy: "write fields as “name: value”")
            return nil
        }
        self.path = path
        self.line = line
        self.log = log
        var fields: [String: Node] = [:]
        for (key, value) in mapping {
            if let name = key.scalar?.string { fields[name] = value }
        }
        self.fields = fields
    }

    private init(path: String, line: Int, log: FaultLog, fields: [String: Node]) {
        (self.path, self.line, self.log, self.fields) = (path, line, log, fields)
    }

    /// The same mapping, reporting elsewhere: an item of a list has faults of its own.
    func logging(to log: FaultLog, at path: String = "") -> ObjectReader { ObjectReader(path: path, line: line, log: log, fields: fields) }

    /// The path of a field of this mapping, as error messages show it.
    func pathOf(_ field: String) -> String {
        if field.contains("/") || field.contains(".") { return "\(path)[\(field)]" }
        return path.isEmpty ? field : "\(path).\(field)"
    }

    /// Reports something wrong with a field, at the field's line when it is there.
    func fault(_ field: String, _ reason: String, remedy: String) {
        log.add(line: fields[field]?.mark?.line ?? line, field: pathOf(field), reason, remedy: remedy)
    }

    /// The node of a field, if it is there.
    func node(_ field: String) -> Node? { fields[field] }

    /// Whether the field is there and not null.
    func has(_ field: String) -> Bool {
        guard let node = fields[field] else { return false }
        if case .scalar(let scalar) = node, YAMLScalar(scalar) == .null { return false }
        return true
    }

    /// Names of all fields, sorted.
    var names: [String] { fields.keys.sorted() }

    // MARK: Scalars

    /// A string; nil when absent (or null), or when it is something else, which is a fault.
    func string(_ field: String) -> String? {
        guard has(field), let node = fields[field] else { return nil }
        guard case .scalar(let scalar) = node else {
            fault(field, "\(Self.found(node)) stands where a string belongs", remedy: "write a single value")
            return nil
        }
        let value = YAMLScalar(scalar)
        guard case .string(let text) = value else {
            fault(field, "\(value.found) stands where a string belongs", remedy: "put it in quotes: \"\(scalar.string)\"")
            return nil
        }
        return text
    }

    /// A string that must be there and not be empty.
    func requiredString(_ field: String, remedy: String) -> String? {
        guard has(field) else {
            fault(field, "is missing", remedy: remedy)
            return nil
        }
        guard let text = string(field) else { return nil }
        guard !text.isEmpty else {
            fault(field, "is empty", remedy: remedy)
            return nil
        }
        return text
    }

    func boolean(_ field: String) -> Bool? {
        guard has(field), let node = fields[field] else { return nil }
        if case .scalar(let scalar) = node, case .boolean(let value) = YAMLScalar(scalar) { return value }
        fault(field, "\(Self.found(node)) is neither true nor false", remedy: "write true or false, without quotes")
        return nil
    }

    func integer(_ field: String, in range: ClosedRange<Int>, called noun: String) -> Int? {
        guard has(field), let node = fields[field] else { return nil }
        guard case .scalar(let scalar) = node, case .integer(let value) = YAMLScalar(scalar), range.contains(value) else {
            fault(field, "\(Self.found(node)) is not \(noun)", remedy: "write a number from \(range.lowerBound) to \(range.upperBound), without quotes")
            return nil
        }
        return value
    }

    /// A TCP port; nil when absent.
    func port(_ field: String) -> UInt16? {
        integer(field, in: 1...65535, called: "a port").map { UInt16($0) }
    }

    func requiredPort(_ field: String) -> UInt16? {
        guard has(field) else {
            fault(field, "is missing", remedy: "write the port's number, from 1 to 65535")
            return nil
        }
        return port(field)
    }

    /// A port as a number or as one of these names; nil when absent, and for a name that is none of them.
    func portOrName(_ field: String, names: [String: UInt16]) -> UInt16? {
        if case .scalar(let scalar)? = fields[field], case .string(let name) = YAMLScalar(scalar) { return names[name] }
        return port(field)
    }

    /// One of a closed set of words; nil when absent.
    func choice<Choice: RawRepresentable & CaseIterable>(_ field: String, _: Choice.Type) -> Choice?
    where Choice.RawValue == String {
        guard let text = string(field) else { return nil }
        if let value = Choice(rawValue: text) { return value }
        let known = Choice.allCases.map { "“\($0.rawValue)”" }.joined(separator: ", ")
        fault(field, "“\(text)” is not known here", remedy: "write one of \(known)")
        return nil
    }

    // MARK: Structure

    /// A mapping below this one; nil when absent.
    func object(_ field: String) -> ObjectReader? {
        guard has(field), let node = fields[field] else { return nil }
        return ObjectReader(node, path: pathOf(field), log: log)
    }

    /// A mapping that must be there.
    func requiredObject(_ field: String) -> ObjectReader? {
        guard has(field) else {
            fault(field, "is missing", remedy: "add “\(field):” with its fields below it")
            return nil
        }
        return object(field)
    }

    /// The mappings of a list; empty when absent. Elements that are no mappings are faults and left out.
    func objects(_ field: String) -> [ObjectReader] {
        elements(field).compactMap { ObjectReader($0.node, path: $0.path, log: log) }
    }

    /// The strings of a list with the line of each; empty when absent.
    func strings(_ field: String) -> [(text: String, path: String, line: Int)] {
        elements(field).compactMap { element in
            if case .scalar(let scalar) = element.node, case .string(let text) = YAMLScalar(scalar) {
                return (text, element.path, element.node.mark?.line ?? line)
            }
            log.add(
                line: element.node.mark?.line ?? line, field: element.path,
                "\(Self.found(element.node)) stands where a string belongs", remedy: "write a string, in quotes if it looks like a number")
            return nil
        }
    }

    /// A mapping from strings to strings (labels, annotations); empty when absent.
    func stringMap(_ field: String) -> [String: String] {
        guard let map = object(field) else { return [:] }
        var result: [String: String] = [:]
        for name in map.names {
            if let text = map.string(name) { result[name] = text }
        }
        return result
    }

    func elements(_ field: String) -> [(node: Node, path: String)] {
        guard has(field), let node = fields[field] else { return [] }
        guard case .sequence(let sequence) = node else {
            fault(field, "\(Self.found(node)) stands where a list belongs", remedy: "begin each element with “- ”")
            return []
        }
        return sequence.enumerated().map { ($1, "\(pathOf(field))[\($0)]") }
    }

    private static func found(_ node: Node) -> String {
        switch node {
        case .scalar(let scalar): YAMLScalar(scalar).found
        case .mapping: "a mapping"
        case .sequence: "a list"
        case .alias: "an alias"
        }
    }
}
