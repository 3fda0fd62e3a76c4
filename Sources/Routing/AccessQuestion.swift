import Glibc
import MeshModel

/// One call, as the rules are asked about it.
struct AccessQuestion {
    let caller: Caller
    let port: UInt16
    let request: AccessRequest?
    /// Read when the first rule asks for it.
    private var path: Path = .unread

    private enum Path {
        case unread, ambiguous
        case plain(PlainPath)
    }

    enum Answer {
        case yes, no
        /// It depends on the request, which is not there.
        case unknown
        /// It depends on the path, which may mean several.
        case ambiguous
    }

    init(caller: Caller, port: UInt16, request: AccessRequest?) {
        self.caller = caller
        self.port = port
        self.request = request
    }

    /// Whether all parts of a rule hold. Terms are walked once, from the first to the last.
    mutating func answer(of rule: AccessRuleView, isDenying: Bool, _ field: FieldLookup) -> Answer {
        let count = rule.termCount
        var place = 0
        while place < count {
            let first = rule.term(at: place)
            let part = first.subject.part
            if part == AccessTerm.Subject.anyRequest.part, request == nil { return .unknown }
            var partHolds = false
            while place < count, case let start = rule.term(at: place), start.subject.part == part {
                let alternative = start.alternative
                var alternativeHolds = true
                while place < count, case let head = rule.term(at: place), head.subject.part == part, head.alternative == alternative {
                    let group = head.group
                    var groupHolds = false
                    while place < count, case let term = rule.term(at: place), term.subject.part == part, term.alternative == alternative, term.group == group {
                        if !partHolds && alternativeHolds && !groupHolds {
                            if term.subject == .path, isAmbiguous { return .ambiguous }
                            groupHolds = holds(term, isDenying: isDenying, field)
                        }
                        place += 1
                    }
                    alternativeHolds = alternativeHolds && groupHolds
                }
                partHolds = partHolds || alternativeHolds
            }
            guard partHolds else { return .no }
        }
        return .yes
    }

    private var isAmbiguous: Bool {
        mutating get {
            if case .unread = path {
                if let request, let plain = PlainPath(request.path, method: request.method) { path = .plain(plain) } else { path = .ambiguous }
            }
            if case .ambiguous = path { return true }
            return false
        }
    }

    private func holds(_ term: AccessTermView, isDenying: Bool, _ field: FieldLookup) -> Bool {
        switch term.subject {
        case .scopePort, .port: return term.number == port
        case .anyCaller, .anyRequest: return true
        case .unauthenticated: return !caller.isAuthenticated
        case .namespace: return caller.isAuthenticated && Self.compare(term, caller.namespace)
        case .serviceAccount:
            let namespace = caller.namespace, account = caller.serviceAccount
            return caller.isAuthenticated
                && Self.compare(term, count: namespace.count + 1 + account.count) { place in
                    place < namespace.count ? namespace[place] : place == namespace.count ? UInt8(ascii: "/") : account[place - namespace.count - 1]
                }
        case .identity:
            guard caller.isAuthenticated else { return false }
            if term.comparison == .exact { return isIdentity(term.text) }
            let text = IdentityText(caller)
            return Self.compare(term, count: text.count) { text[$0] }
        case .method: return request.map { Self.compare(term, $0.method) } ?? false
        case .host: return request.map { Self.compareHost(term, $0.host) } ?? false
        case .path:
            guard case .plain(let path) = path else { return false }
            return path.holds(term)
        case .header: return fieldHolds(term, isDenying: isDenying, field)
        }
    }

    /// The whole identity. Its parts are compared from the last to the first: where names differ, most differ there.
    private func isIdentity(_ wanted: UnsafeRawBufferPointer) -> Bool {
        let count = IdentityText(caller).count
        guard wanted.count == count, let base = wanted.baseAddress else { return false }
        let account = count - caller.serviceAccount.count
        let namespace = account - IdentityText.accountMark.utf8CodeUnitCount - caller.namespace.count
        let domain = IdentityText.scheme.utf8CodeUnitCount
        return Self.holds(base + account, caller.serviceAccount) && Self.holds(base + namespace, caller.namespace) && Self.holds(base + domain, caller.trustDomain)
            && Self.holds(base, IdentityText.scheme) && Self.holds(base + domain + caller.trustDomain.count, IdentityText.namespaceMark)
            && Self.holds(base + namespace + caller.namespace.count, IdentityText.accountMark)
    }

    private static func holds(_ place: UnsafeRawPointer, _ part: UnsafeRawBufferPointer) -> Bool {
        guard let first = part.baseAddress else { return true }
        return memcmp(place, first, part.count) == 0
    }

    private static func holds(_ place: UnsafeRawPointer, _ part: StaticString) -> Bool { memcmp(place, part.utf8Start, part.utf8CodeUnitCount) == 0 }

    /// Of repeated fields one is enough to deny, and all must agree to allow: which of them the application reads is not known.
    private func fieldHolds(_ term: AccessTermView, isDenying: Bool, _ field: FieldLookup) -> Bool {
        let name = term.name
        var row = 0
        var isThere = false
        while let value = field(name, &row) {
            isThere = true
            if Self.compare(term, value) == isDenying { return isDenying }
        }
        return isThere && !isDenying
    }

    private static func compareHost(_ term: AccessTermView, _ host: UnsafeRawBufferPointer) -> Bool {
        // With a final dot or without, it is one name.
        let count = host.last == UInt8(ascii: ".") ? host.count - 1 : host.count
        return compare(term, count: count) { place in
            let byte = host[place]
            return byte &- 0x41 < 26 ? byte | 0x20 : byte
        }
    }

    private static func compare(_ term: AccessTermView, _ text: UnsafeRawBufferPointer) -> Bool { compare(term, count: text.count) { text[$0] } }

    /// Compares a term with a text of so many bytes, which need not lie in one piece.
    @inline(__always)
    static func compare(_ term: AccessTermView, count: Int, _ byte: (Int) -> UInt8) -> Bool {
        let wanted = term.text
        let start: Int
        switch term.comparison {
        case .any: return true
        case .exact:
            guard wanted.count == count else { return false }
            start = 0
        case .prefix:
            guard wanted.count <= count else { return false }
            start = 0
        case .suffix:
            guard wanted.count <= count else { return false }
            start = count - wanted.count
        }
        var place = 0
        while place < wanted.count {
            if wanted[place] != byte(start + place) { return false }
            place += 1
        }
        return true
    }
}

/// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`, byte by byte, without being put together.
private struct IdentityText {
    let caller: Caller
    static let scheme: StaticString = "spiffe://", namespaceMark: StaticString = "/ns/", accountMark: StaticString = "/sa/"

    init(_ caller: Caller) { self.caller = caller }

    var count: Int { 9 + caller.trustDomain.count + 4 + caller.namespace.count + 4 + caller.serviceAccount.count }

    subscript(_ index: Int) -> UInt8 {
        var place = index
        if place < 9 { return Self.scheme.utf8Start[place] }
        place -= 9
        if place < caller.trustDomain.count { return caller.trustDomain[place] }
        place -= caller.trustDomain.count
        if place < 4 { return Self.namespaceMark.utf8Start[place] }
        place -= 4
        if place < caller.namespace.count { return caller.namespace[place] }
        place -= caller.namespace.count
        if place < 4 { return Self.accountMark.utf8Start[place] }
        return caller.serviceAccount[place - 4]
    }
}
