/// Which objects are in force. Takes what the files say now and keeps, for everything that is faulty, what was right
/// before:
///
/// - A faulty object leaves its last good version in force; one that never was right is left out.
/// - Of an object that is faulty in parts (a rule of a route) the good parts are in force, if there is no earlier version without a fault.
/// - An object defined twice is a fault of the definitions, so the last good version stays, whichever file it was in.
/// - A file that cannot be read, or does not say which objects it holds, keeps all it held.
/// - An object that no file mentions any more is gone.
struct ManifestStore: Sendable {
    /// The objects in force.
    private(set) var held: [ObjectKey: HeldObject]

    init(held: [ObjectKey: HeldObject] = [:]) { self.held = held }

    /// Takes in a complete set of files and returns their faults, sorted.
    mutating func replace(with files: [ManifestFile]) -> [Fault] {
        var faults: [Fault] = []
        var next: [ObjectKey: HeldObject] = [:]
        let definitions = Dictionary(
            grouping: files.flatMap { file in file.documents.map { (file: file.name, document: $0) } }, by: \.document.key)

        for (key, places) in definitions {
            let previous = held[key]
            let consequence: Fault.Consequence = previous == nil ? .leftOut : .previousKept
            if places.count == 1, let object = places[0].document.object {
                let partial = object.partialFaults
                if partial.isEmpty || previous.map({ $0.object.partialFaults.isEmpty }) != true {
                    next[key] = HeldObject(object: object, file: places[0].file, line: places[0].document.line)
                    faults += partial
                    continue
                }
                // Half of a new version would take away what the last one does well.
                next[key] = previous
                next[key]?.newerFaults = partial.map { $0.with(.previousKept) }
                faults += partial.map { $0.with(.previousKept) }
                continue
            }
            var own = places.flatMap(\.document.faults)
            let ordered = places.sorted { ($0.file, $0.document.line) < ($1.file, $1.document.line) }
            for place in ordered.dropFirst() {
                own.append(
                    Fault(
                        file: place.file, line: place.document.line, object: key.description,
                        reason: "is defined at \(ordered[0].file):\(ordered[0].document.line) already",
                        remedy: "keep one of the two definitions"))
            }
            own = own.map { $0.with(consequence) }
            next[key] = previous
            next[key]?.newerFaults = own
            faults += own
        }
        for file in files where !file.isComplete {
            let kept = held.filter { $0.value.file == file.name && definitions[$0.key] == nil }
            next.merge(kept) { new, _ in new }
            faults += file.faults.map { $0.with(kept.isEmpty ? .leftOut : .previousKept) }
        }
        held = next
        return faults.sorted()
    }
}

extension Fault {
    func with(_ consequence: Consequence) -> Fault {
        var fault = self
        fault.consequence = consequence
        return fault
    }
}
