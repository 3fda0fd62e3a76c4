/// One thing wrong with the configuration, worded for the person who will repair it: where, in which object, in
/// which field, what is wrong, and what to write instead. A fault never stops the rest of the configuration.
public struct Fault: Error, Sendable, Hashable, Codable {
    /// The manifest, relative to the manifests directory.
    public var file: String
    /// Line in `file`, from 1; 0 when the fault concerns the file as a whole.
    public var line: Int
    /// `kind namespace/name`; empty when the document does not get far enough to say which object it is.
    public var object: String
    /// Path of the field, as `kubectl` writes it (`spec.ports[1].port`); empty when it is the whole object or file.
    public var field: String
    /// What is wrong.
    public var reason: String
    /// What to do about it.
    public var remedy: String
    /// What is in force in spite of it.
    public var consequence: Consequence

    /// What the mesh does in place of what it could not read.
    public enum Consequence: String, Sendable, Hashable, Codable {
        /// The last version of the object (or of all objects of the file) that was right stays in force.
        case previousKept
        /// There was no earlier version, so the object is left out.
        case leftOut
        /// The object is in force, but for the part that the fault is about.
        case restInForce
    }

    public init(
        file: String, line: Int = 0, object: String = "", field: String = "",
        reason: String, remedy: String, consequence: Consequence = .leftOut
    ) {
        self.file = file
        self.line = line
        self.object = object
        self.field = field
        self.reason = reason
        self.remedy = remedy
        self.consequence = consequence
    }
}

extension Fault: CustomStringConvertible {
    /// `cart.yaml:12: Service shop/cart: spec.ports[1].port: 70000 is not a port; write a number from 1 to 65535`
    public var description: String {
        let place = line > 0 ? "\(file):\(line)" : file
        let parts = [place, object, field].filter { !$0.isEmpty } + ["\(reason); \(remedy)"]
        return parts.joined(separator: ": ")
    }
}

extension Fault: Comparable {
    public static func < (left: Fault, right: Fault) -> Bool {
        (left.file, left.line, left.field, left.reason) < (right.file, right.line, right.field, right.reason)
    }
}

/// Something Weft saw and left alone on purpose, so that nobody has to wonder (a Deployment among the manifests).
public struct Note: Sendable, Hashable, Codable, CustomStringConvertible {
    /// The manifest, relative to the manifests directory.
    public var file: String
    /// Line in `file`, from 1; 0 for the whole file.
    public var line: Int
    public var text: String

    public var description: String { line > 0 ? "\(file):\(line): \(text)" : "\(file): \(text)" }
}

/// The faults of one object, gathered while it is read, so that all of them are reported together.
final class FaultLog {
    let file: String
    /// Whatever is known of the object so far: its kind at first, then kind and name.
    var object = ""
    private(set) var faults: [Fault] = []

    init(file: String) { self.file = file }

    func add(line: Int, field: String, _ reason: String, remedy: String) {
        let fault = Fault(file: file, line: line, object: object, field: field, reason: reason, remedy: remedy)
        // Labels and annotations are read once as metadata and once by the object that gives them a meaning.
        if !faults.contains(fault) { faults.append(fault) }
    }

    /// Gives the object its full name, also in faults that came before the name.
    func identify(as name: String) {
        object = name
        for index in faults.indices { faults[index].object = name }
    }
}
