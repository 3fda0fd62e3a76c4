import MeshModel

/// What routes may ask about an HTTP request. Borrowed for the call.
public struct RouteRequest {
    public var method: UnsafeRawBufferPointer
    /// As it came: escapes, query and all.
    public var path: UnsafeRawBufferPointer
    /// Host and port as the request names them; a pattern of the header `host` is compared with both, a hostname with the host alone.
    public var host: UnsafeRawBufferPointer

    @inlinable
    public init(method: UnsafeRawBufferPointer, path: UnsafeRawBufferPointer, host: UnsafeRawBufferPointer) {
        self.method = method
        self.path = path
        self.host = host
    }
}

/// The rule that takes a request, and what its edits begin with. Valid until the scratch is used again, and within the turn.
public struct RouteDecision {
    public let rule: RouteRuleView
    /// The request's path in normal form, without its query.
    public let path: UnsafeRawBufferPointer
    /// The query as it came, from its `?` on; may be empty.
    public let query: UnsafeRawBufferPointer
    /// Bytes of `path` that were matched as a prefix, without a slash at their end; 0 when something else has matched.
    public let prefixByteCount: Int

    /// The path after an edit, as two runs: what is new, and what stays. Slashes are kept single where they meet, as the Gateway API's table for
    /// ReplacePrefixMatch has it. Never both empty.
    @inlinable
    public func path(after edit: PathEditView) -> (UnsafeRawBufferPointer, UnsafeRawBufferPointer) {
        let rest = UnsafeRawBufferPointer(rebasing: path[(edit.isPrefix ? min(prefixByteCount, path.count) : path.count)...])
        if edit.text.isEmpty && rest.isEmpty { return (UnsafeRawBufferPointer(start: ("/" as StaticString).utf8Start, count: 1), rest) }
        return (edit.text, rest)
    }
}

extension RouteTableView {
    /// The rule of the first match that takes the request, in the table's order; nil: none does.
    ///
    /// - Parameters:
    ///   - scratch: the worker's own.
    ///   - field: the request's header fields.
    public func decide(_ request: RouteRequest, _ scratch: borrowing RouteScratch, field: FieldLookup) -> RouteDecision? {
        guard var question = RouteQuestion(request, scratch) else { return nil }
        let taken = hasIndex ? firstByPath(&question, scratch, field) : firstInTurn(&question, scratch, field)
        guard let taken else { return nil }
        let match = match(at: taken)
        return RouteDecision(
            rule: rule(at: match.rule), path: question.path, query: question.query,
            prefixByteCount: match.prefixByteCount)
    }

    private func firstInTurn(_ question: inout RouteQuestion, _ scratch: borrowing RouteScratch, _ field: FieldLookup) -> Int? {
        var place = 0
        while place < matchCount {
            let match = match(at: place)
            if question.hasPath(match), question.takes(match, scratch, field) { return place }
            place += 1
        }
        return nil
    }

    /// Looks at the matches whose path fits: those of the path itself, of each of its beginnings, and those that no path finds.
    private func firstByPath(_ question: inout RouteQuestion, _ scratch: borrowing RouteScratch, _ field: FieldLookup) -> Int? {
        let path = question.path
        var best = Int.max
        var next = firstMatch(path: path, isPrefix: false)
        while let place = next, place < best {
            next = match(at: place).next
            if question.takes(match(at: place), scratch, field) { best = place }
        }
        // The longest first: it is likely to be the first in the table, so that the others need not be compared.
        var end = path.count
        while end > 0 {
            if end == path.count || path[end] == UInt8(ascii: "/"), mayHavePrefix(ofLength: end) {
                next = firstMatch(path: UnsafeRawBufferPointer(rebasing: path[..<end]), isPrefix: true)
                while let place = next, place < best {
                    next = match(at: place).next
                    if question.takes(match(at: place), scratch, field) { best = place }
                }
            }
            end -= 1
        }
        next = firstLoose
        while let place = next, place < best {
            let match = match(at: place)
            next = match.next
            if question.hasPath(match), question.takes(match, scratch, field) { best = place }
        }
        return best == .max ? nil : best
    }
}
