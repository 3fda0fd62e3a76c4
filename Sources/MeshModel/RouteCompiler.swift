/// What becomes one `RoutedServiceRecord`.
struct RoutedService: Sendable, Equatable {
    var namespace: String
    var name: String
    /// By port; of one port those with a callers' namespace first.
    var tables: [ServiceRoutes]
}

/// Makes the bytes of a routes shard.
struct RouteCompiler {
    private var texts = ShardCompiler()
    private var services: [RoutedServiceRecord] = []
    private var tables: [RouteTableRecord] = []
    private var matches: [RouteMatchRecord] = []
    private var rules: [RouteRuleRecord] = []
    private var fields: [RouteFieldRecord] = []
    private var backends: [RouteBackendRecord] = []
    private var edits: [FieldEditRecord] = []
    private var cors: [CORSRecord] = []
    private var lists: [StringReference] = []
    private var index: [UInt32] = []
    private var programs: [String: StringReference] = [:]

    static func routes(_ inputs: [RoutedService], id: ShardID, in surroundings: Surroundings) throws(SnapshotFault) -> [UInt8] {
        if inputs.isEmpty { return [] }
        var compiler = RouteCompiler()
        for input in inputs { try compiler.add(input) }
        compiler.texts.index(compiler.services.map(\.hash))
        return try compiler.texts.assemble(
            id, in: surroundings,
            [
                SectionBytes(compiler.services), SectionBytes(compiler.tables), SectionBytes(compiler.matches), SectionBytes(compiler.rules),
                SectionBytes(compiler.fields), SectionBytes(compiler.backends), SectionBytes(compiler.edits), SectionBytes(compiler.cors),
                SectionBytes(compiler.lists), SectionBytes(compiler.index),
            ])
    }

    private mutating func add(_ service: RoutedService) throws(SnapshotFault) {
        let start = tables.count
        for table in service.tables { try add(table) }
        services.append(
            RoutedServiceRecord(
                hash: ShardHash.of(namespace: service.namespace, name: service.name), key: texts.shared("\(service.name).\(service.namespace)"),
                tables: range(from: start, to: tables.count), nameByteCount: UInt16(clamping: service.name.utf8.count)))
    }

    // MARK: Tables

    private mutating func add(_ table: ServiceRoutes) throws(SnapshotFault) {
        guard table.matches.count <= Limits.routeMatchesPerPortMax else { throw .limit("routeMatchesPerPortMax") }
        guard table.rules.count <= Limits.routeRulesPerPortMax else { throw .limit("routeRulesPerPortMax") }
        let firstMatch = matches.count, firstRule = rules.count, firstSlot = index.count
        for match in table.matches {
            guard table.rules.indices.contains(match.rule) else { throw .missingRule("\(table.namespace)/\(table.name)") }
            try add(match)
        }
        for rule in table.rules { try add(rule) }
        var record = RouteTableRecord(
            callersNamespace: texts.shared(table.callersNamespace ?? ""), matches: range(from: firstMatch, to: matches.count),
            rules: range(from: firstRule, to: rules.count), index: RecordRange(), prefixLengths: 0, firstLoose: 0, port: table.port,
            flags: !table.rules.isEmpty && table.rules.allSatisfy(\.isGRPC) ? 1 : 0)
        if table.matches.count > Limits.routeMatchesInTurnMax { link(&record, firstMatch) }
        record.index = range(from: firstSlot, to: index.count)
        tables.append(record)
    }

    /// Where a path begins in the index: exact paths and prefixes are found by different keys.
    private struct PathKey: Hashable {
        let kind: UInt8
        let offset: UInt32
        let byteCount: UInt32
    }

    /// Puts matches with one path into a chain, those that no path finds into another, and the paths into the index.
    private mutating func link(_ table: inout RouteTableRecord, _ first: Int) {
        var heads: [Int] = []
        var ends: [PathKey: Int] = [:]
        var lastLoose: Int?
        for place in first..<matches.count {
            let match = matches[place]
            let number = UInt32(place - first + 1)
            guard match.pathKind == RouteMatchRecord.exactPath || match.pathKind == RouteMatchRecord.prefixPath else {
                if let lastLoose { matches[lastLoose].next = number } else { table.firstLoose = number }
                lastLoose = place
                continue
            }
            // Equal texts lie at one place.
            let key = PathKey(kind: match.pathKind, offset: match.path.offset, byteCount: match.path.byteCount)
            if let end = ends.updateValue(place, forKey: key) { matches[end].next = number } else { heads.append(place) }
            if match.pathKind == RouteMatchRecord.prefixPath { table.prefixLengths |= 1 << UInt64(match.path.byteCount & 63) }
        }
        var capacity = 2
        while capacity < heads.count * 2 { capacity *= 2 }
        let start = index.count
        index += [UInt32](repeating: 0, count: capacity)
        for head in heads {
            let match = matches[head]
            let hash = texts.withText(match.path) { ShardHash.of(path: $0, isPrefix: match.pathKind == RouteMatchRecord.prefixPath) }
            var slot = Int(truncatingIfNeeded: hash) & (capacity - 1)
            while index[start + slot] != 0 { slot = (slot + 1) & (capacity - 1) }
            index[start + slot] = UInt32(head - first + 1)
        }
    }

    private mutating func add(_ match: RouteMatch) throws(SnapshotFault) {
        let patterns = match.headers + match.query
        guard patterns.count <= Limits.fieldPatternsPerMatchMax else { throw .limit("fieldPatternsPerMatchMax") }
        let start = fields.count
        for pattern in patterns {
            switch pattern.value {
            case .exact(let value):
                fields.append(RouteFieldRecord(name: texts.shared(pattern.name), value: texts.shared(value), isExpression: 0))
            case .expression(let value):
                fields.append(RouteFieldRecord(name: texts.shared(pattern.name), value: try program(value), isExpression: 1))
            }
        }
        var record = RouteMatchRecord(
            hostname: StringReference(), path: StringReference(), method: texts.shared(match.method ?? ""),
            fields: range(from: start, to: fields.count), rule: UInt32(match.rule), next: 0, headerCount: UInt32(match.headers.count), hostKind: 0,
            pathKind: 0)
        switch match.hostname {
        case .any: break
        case .exact(let name): (record.hostKind, record.hostname) = (RouteMatchRecord.exactHost, texts.shared(name.lowercased()))
        case .suffix(let name): (record.hostKind, record.hostname) = (RouteMatchRecord.suffixHost, texts.shared(name.lowercased()))
        }
        switch match.path {
        case .any: break
        case .exact(let path): (record.pathKind, record.path) = (RouteMatchRecord.exactPath, texts.shared(path.normalPath))
        case .prefix(let path):
            let elements = path.normalPath.withoutFinalSlashes
            if !elements.isEmpty { (record.pathKind, record.path) = (RouteMatchRecord.prefixPath, texts.shared(elements)) }
        case .expression(let expression): (record.pathKind, record.path) = (RouteMatchRecord.expressionPath, try program(expression))
        }
        matches.append(record)
    }

    private mutating func program(_ expression: String) throws(SnapshotFault) -> StringReference {
        if let known = programs[expression] { return known }
        let reference: StringReference
        do throws(ExpressionFault) {
            reference = texts.append(try Expression.compile(expression).program)
        } catch {
            throw .expression(expression, error)
        }
        programs[expression] = reference
        return reference
    }

    // MARK: Rules

    private mutating func add(_ rule: RouteRule) throws(SnapshotFault) {
        var record = RouteRuleRecord(rule)
        (record.route, record.rule) = (texts.shared(rule.route), texts.shared(rule.rule))
        record.requestHeaders = try add(rule.requestHeaders)
        record.responseHeaders = try add(rule.responseHeaders)
        switch rule.action {
        case .forward(let weighted):
            guard weighted.count <= Limits.backendsPerRuleMax else { throw .limit("backendsPerRuleMax") }
            let start = backends.count
            for backend in weighted {
                var one = self.record(backend.target)
                one.requestHeaders = try add(backend.requestHeaders)
                one.responseHeaders = try add(backend.responseHeaders)
                one.weight = backend.weight
                backends.append(one)
            }
            record.backends = range(from: start, to: backends.count)
        case .redirect(let redirect):
            record.backends = range(from: backends.count, to: backends.count)
            (record.scheme, record.hostname) = (try written(redirect.scheme), try written(redirect.hostname))
            (record.pathKind, record.path) = try self.record(redirect.path)
        }
        if let rewrite = rule.rewrite, record.flags & RouteRuleRecord.isRewrite != 0 {
            record.hostname = try written(rewrite.hostname)
            (record.pathKind, record.path) = try self.record(rewrite.path)
        }
        guard rule.mirrors.count <= Limits.backendsPerRuleMax else { throw .limit("backendsPerRuleMax") }
        let start = backends.count
        for mirror in rule.mirrors {
            var one = self.record(mirror.target)
            (one.weight, one.denominator) = (mirror.numerator, mirror.denominator)
            one.requestHeaders = range(from: edits.count, to: edits.count)
            one.responseHeaders = one.requestHeaders
            backends.append(one)
        }
        record.mirrors = range(from: start, to: backends.count)
        if let rule = rule.cors {
            cors.append(
                CORSRecord(
                    origins: try list(rule.origins), methods: try list(rule.methods), headers: try list(rule.headers),
                    exposedHeaders: try list(rule.exposedHeaders), maxAgeSeconds: rule.maxAgeSeconds, flags: rule.allowsCredentials ? 1 : 0))
            record.cors = UInt32(cors.count)
        }
        if let retry = rule.retry {
            record.retryStatuses = texts.append(retry.statuses.flatMap { status in withUnsafeBytes(of: status) { Array($0) } })
        }
        if let session = rule.session {
            guard FieldText.isName(session.name) else { throw .text(session.name) }
            record.sessionName = texts.shared(session.name)
        }
        rules.append(record)
    }

    private mutating func record(_ target: BackendTarget) -> RouteBackendRecord {
        var record = RouteBackendRecord(
            hash: 0, key: StringReference(), requestHeaders: RecordRange(), responseHeaders: RecordRange(), weight: 0, denominator: 0, nameByteCount: 0,
            port: 0)
        if case .service(let namespace, let name, let port) = target {
            record.hash = ShardHash.of(namespace: namespace, name: name)
            record.key = texts.shared("\(name).\(namespace)")
            record.nameByteCount = UInt16(clamping: name.utf8.count)
            record.port = port
        }
        return record
    }

    private mutating func record(_ edit: PathEdit?) throws(SnapshotFault) -> (UInt8, StringReference) {
        switch edit {
        case nil: (0, StringReference())
        case .full(let path): (RouteRuleRecord.fullPath, try written(path))
        case .prefix(let path): (RouteRuleRecord.prefixPath, try written(path.withoutFinalSlashes))
        }
    }

    private mutating func add(_ changes: FieldEdits) throws(SnapshotFault) -> RecordRange {
        let start = edits.count
        guard changes.set.count + changes.add.count + changes.remove.count <= Limits.fieldEditsMax else { throw .limit("fieldEditsMax") }
        for name in changes.remove { try add(.remove, name, "") }
        for field in changes.set { try add(.set, field.name, field.value) }
        for field in changes.add { try add(.add, field.name, field.value) }
        return range(from: start, to: edits.count)
    }

    private mutating func add(_ kind: FieldEditKind, _ name: String, _ value: String) throws(SnapshotFault) {
        guard FieldText.isName(name) else { throw .text(name) }
        guard FieldText.isValue(value) else { throw .text(value) }
        edits.append(FieldEditRecord(name: texts.shared(name), value: texts.shared(value), kind: UInt32(kind.rawValue)))
    }

    private mutating func list(_ items: [String]) throws(SnapshotFault) -> RecordRange {
        let start = lists.count
        for item in items {
            guard FieldText.isValue(item) else { throw .text(item) }
            lists.append(texts.shared(item))
        }
        return range(from: start, to: lists.count)
    }

    /// A text that will stand in a URL.
    private mutating func written(_ text: String?) throws(SnapshotFault) -> StringReference {
        guard var text else { return StringReference() }
        guard text.withUTF8({ FieldText.isInURL(UnsafeRawBufferPointer($0)) }) else { throw .text(text) }
        return texts.shared(text)
    }

    private func range(from start: Int, to end: Int) -> RecordRange { RecordRange(start: UInt32(start), count: UInt32(end - start)) }
}

extension RouteRuleRecord {
    /// The numbers of a rule; texts and lists are still to come.
    fileprivate init(_ rule: RouteRule) {
        var flags: UInt16 = rule.isGRPC ? Self.isGRPC : 0
        var totalWeight: UInt64 = 0
        var status: UInt16 = 0
        var port: UInt16 = 0
        switch rule.action {
        case .forward(let backends):
            totalWeight = backends.reduce(0) { $0 + UInt64($1.weight) }
            if rule.rewrite != nil { flags |= Self.isRewrite }
        case .redirect(let redirect):
            flags |= Self.isRedirect
            (status, port) = (redirect.status, redirect.port ?? 0)
        }
        if rule.retry != nil { flags |= Self.hasRetry }
        if let session = rule.session {
            flags |= Self.hasSession | (session.usesCookie ? Self.usesCookie : 0) | (session.isPermanent ? Self.isPermanent : 0)
        }
        self.init(
            route: StringReference(), rule: StringReference(), backends: RecordRange(), mirrors: RecordRange(), requestHeaders: RecordRange(),
            responseHeaders: RecordRange(), totalWeight: totalWeight, scheme: StringReference(), hostname: StringReference(), path: StringReference(),
            requestMilliseconds: rule.timeouts.requestMilliseconds ?? Self.notSaid,
            backendRequestMilliseconds: rule.timeouts.backendRequestMilliseconds ?? Self.notSaid, retryStatuses: StringReference(),
            sessionName: StringReference(), sessionAbsoluteSeconds: rule.session?.absoluteTimeoutSeconds ?? 0,
            sessionIdleSeconds: rule.session?.idleTimeoutSeconds ?? 0, backoffMilliseconds: rule.retry?.backoffMilliseconds ?? 0, cors: 0,
            retryGRPCStatuses: (rule.retry?.grpcStatuses ?? []).reduce(0) { $0 | 1 << UInt32($1 & 31) }, port: port,
            status: status, attempts: rule.retry?.attempts ?? 0, pathKind: 0, flags: flags)
    }
}

/// What may stand in a head (RFC 9110, 5.1 and 5.5): a text of a route must not end a line, or a message.
enum FieldText {
    static func isName(_ text: String) -> Bool {
        var text = text
        return text.withUTF8 { isName(UnsafeRawBufferPointer($0)) }
    }

    static func isValue(_ text: String) -> Bool {
        var text = text
        return text.withUTF8 { isValue(UnsafeRawBufferPointer($0)) }
    }

    static func isName(_ text: UnsafeRawBufferPointer) -> Bool {
        !text.isEmpty
            && text.allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x41...0x5A, 0x5E...0x7A, 0x21, 0x23...0x27, 0x2A, 0x2B, 0x2D, 0x2E, 0x7C, 0x7E: true
                default: false
                }
            }
    }

    /// Nothing that ends a request's first line or a part of it.
    static func isInURL(_ text: UnsafeRawBufferPointer) -> Bool { text.allSatisfy { $0 > 0x20 && $0 != 0x7F } }

    static func isValue(_ text: UnsafeRawBufferPointer) -> Bool { text.allSatisfy { $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 } }
}

extension String {
    /// `/foo/` as a prefix is `/foo`.
    fileprivate var withoutFinalSlashes: String { String(decoding: utf8.prefix(utf8.count - utf8.reversed().prefix { $0 == UInt8(ascii: "/") }.count), as: UTF8.self) }
}
