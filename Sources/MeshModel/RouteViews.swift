// Reading a routes shard in place. As with services, views own nothing and live as long as the shard's bytes. What is compared with a request
// is here; what becomes of the request is in RouteRuleViews.

/// What routes say about one port of a Service, for the callers of one namespace or for all.
public struct RouteTableView: @unchecked Sendable {
    @usableFromInline let shard: ShardView
    @usableFromInline let record: UnsafePointer<RouteTableRecord>
    /// Of the table's own matches the first.
    @usableFromInline let matches: UnsafePointer<RouteMatchRecord>

    @inlinable
    init(shard: ShardView, record: UnsafePointer<RouteTableRecord>) {
        self.shard = shard
        self.record = record
        matches = shard.records(shard.header.pointee.c, of: RouteMatchRecord.self) + Int(record.pointee.matches.start)
    }

    @inlinable public var port: UInt16 { record.pointee.port }
    /// Empty: for the callers of every namespace that has no table of its own.
    @inlinable public var callersNamespace: UnsafeRawBufferPointer { shard.text(record.pointee.callersNamespace) }
    /// All of its rules are a GRPCRoute's.
    @inlinable public var isGRPC: Bool { record.pointee.flags & 1 != 0 }
    @inlinable public var matchCount: Int { Int(record.pointee.matches.count) }
    @inlinable public var ruleCount: Int { Int(record.pointee.rules.count) }

    /// The match at a place in 0 ..< `matchCount`, in the order in which they are compared.
    @inlinable
    public func match(at place: Int) -> RouteMatchView {
        precondition(place >= 0 && place < matchCount, "no such match")
        return RouteMatchView(shard: shard, record: matches + place)
    }

    /// The rule at a place in 0 ..< `ruleCount`.
    @inlinable
    public func rule(at place: Int) -> RouteRuleView {
        precondition(place >= 0 && place < ruleCount, "no such rule")
        return RouteRuleView(shard: shard, number: Int(record.pointee.rules.start) + place)
    }

    // MARK: Matches by path

    /// Matches are found by their paths; otherwise they are compared one after the other.
    @inlinable public var hasIndex: Bool { record.pointee.index.count != 0 }
    /// The first match that no path finds; nil: none.
    @inlinable public var firstLoose: Int? { record.pointee.firstLoose == 0 ? nil : Int(record.pointee.firstLoose) - 1 }
    /// Whether a prefix of such a length may be in the index.
    @inlinable public func mayHavePrefix(ofLength count: Int) -> Bool { record.pointee.prefixLengths & (1 << UInt64(count & 63)) != 0 }

    /// The first match with exactly this path, or with this prefix; its chain leads on.
    @inlinable
    public func firstMatch(path: UnsafeRawBufferPointer, isPrefix: Bool) -> Int? {
        let slots = shard.records(shard.header.pointee.j, of: UInt32.self) + Int(record.pointee.index.start)
        let mask = Int(record.pointee.index.count) - 1
        let kind = isPrefix ? RouteMatchRecord.prefixPath : RouteMatchRecord.exactPath
        var slot = Int(truncatingIfNeeded: ShardHash.of(path: path, isPrefix: isPrefix)) & mask
        while true {
            let entry = slots[slot]
            if entry == 0 { return nil }
            let match = matches + Int(entry - 1)
            if match.pointee.pathKind == kind, shard.isEqual(shard.text(match.pointee.path), path) { return Int(entry - 1) }
            slot = (slot + 1) & mask
        }
    }
}

/// One match inside a shard.
public struct RouteMatchView: @unchecked Sendable {
    @usableFromInline let shard: ShardView
    @usableFromInline let record: UnsafePointer<RouteMatchRecord>

    @inlinable
    init(shard: ShardView, record: UnsafePointer<RouteMatchRecord>) {
        self.shard = shard
        self.record = record
    }

    /// The place of its rule in the table.
    @inlinable public var rule: Int { Int(record.pointee.rule) }
    /// The next match with the same path; nil: none.
    @inlinable public var next: Int? { record.pointee.next == 0 ? nil : Int(record.pointee.next) - 1 }
    @inlinable public var asksForHost: Bool { record.pointee.hostKind != 0 }
    @inlinable public var isHostSuffix: Bool { record.pointee.hostKind == RouteMatchRecord.suffixHost }
    /// In lower case; as a suffix with its leading dot.
    @inlinable public var hostname: UnsafeRawBufferPointer { shard.text(record.pointee.hostname) }
    /// Empty: any.
    @inlinable public var method: UnsafeRawBufferPointer { shard.text(record.pointee.method) }

    /// How the path is compared.
    @inlinable public var path: PathKind {
        switch record.pointee.pathKind {
        case RouteMatchRecord.exactPath: .exact
        case RouteMatchRecord.prefixPath: .prefix
        case RouteMatchRecord.expressionPath: .expression
        default: .any
        }
    }

    public enum PathKind: Sendable { case any, exact, prefix, expression }

    /// With `exact` and `prefix`, in normal form.
    @inlinable public var pathText: UnsafeRawBufferPointer { shard.text(record.pointee.path) }
    /// Bytes of a prefix; 0 where the path is compared otherwise.
    @inlinable public var prefixByteCount: Int { record.pointee.pathKind == RouteMatchRecord.prefixPath ? pathText.count : 0 }
    /// With `expression`.
    @inlinable public var pathExpression: ExpressionView { ExpressionView(shard.text(record.pointee.path)) }

    @inlinable public var headerCount: Int { Int(record.pointee.headerCount) }
    @inlinable public var fieldCount: Int { Int(record.pointee.fields.count) }

    /// The pattern at a place in 0 ..< `fieldCount`: `headerCount` headers, then query parameters.
    @inlinable
    public func field(at place: Int) -> RouteFieldView {
        precondition(place >= 0 && place < fieldCount, "no such pattern")
        return RouteFieldView(shard: shard, record: shard.records(shard.header.pointee.e, of: RouteFieldRecord.self) + Int(record.pointee.fields.start) + place)
    }
}

/// What a header or query parameter must be.
public struct RouteFieldView: @unchecked Sendable {
    @usableFromInline let shard: ShardView
    @usableFromInline let record: UnsafePointer<RouteFieldRecord>

    @inlinable
    init(shard: ShardView, record: UnsafePointer<RouteFieldRecord>) {
        self.shard = shard
        self.record = record
    }

    /// A header's in lower case.
    @inlinable public var name: UnsafeRawBufferPointer { shard.text(record.pointee.name) }
    @inlinable public var isExpression: Bool { record.pointee.isExpression != 0 }
    /// What the value must be, where it is no expression.
    @inlinable public var value: UnsafeRawBufferPointer { shard.text(record.pointee.value) }
    @inlinable public var expression: ExpressionView { ExpressionView(shard.text(record.pointee.value)) }
}

extension ShardView {
    /// Services with routes in this shard; 0 in a shard of another family.
    public var routedServiceCount: Int { header.pointee.family == ShardFamily.routes.rawValue ? Int(header.pointee.a.count) : 0 }

    /// `name.namespace` of the service at a place in 0 ..< `routedServiceCount`.
    public func routedService(at place: Int) -> UnsafeRawBufferPointer {
        precondition(place >= 0 && place < routedServiceCount, "no such service")
        return text(records(header.pointee.a, of: RoutedServiceRecord.self)[place].key)
    }

    /// Tables in this shard; 0 in a shard of another family.
    public var routeTableCount: Int { header.pointee.family == ShardFamily.routes.rawValue ? Int(header.pointee.b.count) : 0 }

    /// The table at a place in 0 ..< `routeTableCount`, in the writer's order.
    public func routeTable(at place: Int) -> RouteTableView {
        precondition(place >= 0 && place < routeTableCount, "no such table")
        return RouteTableView(shard: self, record: records(header.pointee.b, of: RouteTableRecord.self) + place)
    }

    /// What routes say about a port of a service: to callers of a namespace, or else to all.
    @inlinable
    public func routes(of service: ServiceView, port: UInt16, callersNamespace: @autoclosure () -> UnsafeRawBufferPointer) -> RouteTableView? {
        let header = header.pointee
        guard header.family == 4 else { return nil }
        let table = records(header.table, of: UInt32.self)
        let services = records(header.a, of: RoutedServiceRecord.self)
        let mask = Int(header.table.count) - 1
        let host = service.host
        var slot = Int(truncatingIfNeeded: service.hash) & mask
        while true {
            let entry = table[slot]
            if entry == 0 { return nil }
            let record = services + Int(entry - 1)
            if record.pointee.hash == service.hash, Int(record.pointee.nameByteCount) == service.nameByteCount,
                Int(record.pointee.key.byteCount) == service.keyByteCount,
                isEqual(text(record.pointee.key), UnsafeRawBufferPointer(start: host.baseAddress, count: service.keyByteCount))
            {
                return routes(record, port: port, callersNamespace)
            }
            slot = (slot + 1) & mask
        }
    }

    @inlinable
    func routes(_ service: UnsafePointer<RoutedServiceRecord>, port: UInt16, _ callersNamespace: () -> UnsafeRawBufferPointer) -> RouteTableView? {
        let tables = records(header.pointee.b, of: RouteTableRecord.self) + Int(service.pointee.tables.start)
        var place = 0
        while place < Int(service.pointee.tables.count) {
            let table = tables + place
            place += 1
            guard table.pointee.port == port else { continue }
            // Those of a namespace stand before everybody's.
            if table.pointee.callersNamespace.byteCount == 0 || isEqual(text(table.pointee.callersNamespace), callersNamespace()) {
                return RouteTableView(shard: self, record: table)
            }
        }
        return nil
    }
}
