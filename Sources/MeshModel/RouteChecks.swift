// What must hold of a routes shard before anything reads it.

extension ShardView {
    func checkRoutes(_ header: ShardHeader) throws(SnapshotFault) {
        try checkSection(header.a, stride: MemoryLayout<RoutedServiceRecord>.stride, number: 1)
        try checkSection(header.b, stride: MemoryLayout<RouteTableRecord>.stride, number: 2)
        try checkSection(header.c, stride: MemoryLayout<RouteMatchRecord>.stride, number: 3)
        try checkSection(header.d, stride: MemoryLayout<RouteRuleRecord>.stride, number: 4)
        try checkSection(header.e, stride: MemoryLayout<RouteFieldRecord>.stride, number: 5)
        try checkSection(header.f, stride: MemoryLayout<RouteBackendRecord>.stride, number: 6)
        try checkSection(header.g, stride: MemoryLayout<FieldEditRecord>.stride, number: 7)
        try checkSection(header.h, stride: MemoryLayout<CORSRecord>.stride, number: 8)
        try checkSection(header.i, stride: MemoryLayout<StringReference>.stride, number: 9)
        try checkSection(header.j, stride: 4, number: 10)
        var tables = 0
        for number in 0..<Int(header.a.count) {
            let service = record(header.a, number, as: RoutedServiceRecord.self)
            try check(service.key, header)
            try check(service.tables, after: &tables, within: header.b, number: 2)
            guard Int(service.nameByteCount) + 1 <= Int(service.key.byteCount) else { throw .outOfBounds(section: ShardHeader.stringsNumber) }
        }
        try checkTables(header)
        try checkRules(header)
        for number in 0..<Int(header.e.count) {
            let field = record(header.e, number, as: RouteFieldRecord.self)
            try check(field.name, header)
            try check(field.value, header)
            if field.isExpression != 0 { try checkProgram(field.value, section: 5) }
        }
        var lists = 0
        for number in 0..<Int(header.h.count) {
            let rule = record(header.h, number, as: CORSRecord.self)
            for list in [rule.origins, rule.methods, rule.headers, rule.exposedHeaders] { try check(list, after: &lists, within: header.i, number: 9) }
        }
        for number in 0..<Int(header.i.count) {
            let item = record(header.i, number, as: StringReference.self)
            try check(item, header)
            guard FieldText.isValue(text(item)) else { throw .outOfBounds(section: 9) }
        }
        for number in 0..<Int(header.g.count) {
            let edit = record(header.g, number, as: FieldEditRecord.self)
            try check(edit.name, header)
            try check(edit.value, header)
            // What could split a message is refused here too, whoever wrote it.
            guard FieldEditKind(rawValue: UInt8(truncatingIfNeeded: edit.kind)) != nil, edit.kind < 256, FieldText.isName(text(edit.name)),
                FieldText.isValue(text(edit.value))
            else { throw .outOfBounds(section: 7) }
        }
    }

    private func checkTables(_ header: ShardHeader) throws(SnapshotFault) {
        var matches = 0, rules = 0, slots = 0, fields = 0
        for number in 0..<Int(header.b.count) {
            let table = record(header.b, number, as: RouteTableRecord.self)
            try check(table.callersNamespace, header)
            try check(table.matches, after: &matches, within: header.c, number: 3)
            try check(table.rules, after: &rules, within: header.d, number: 4)
            try check(table.index, after: &slots, within: header.j, number: 10)
            guard Int(table.matches.count) <= Limits.routeMatchesPerPortMax, table.firstLoose <= table.matches.count
            else { throw .outOfBounds(section: 3) }
            try checkIndex(of: table, header)
            for place in 0..<table.matches.count { try check(place, of: table, &fields, header) }
        }
    }

    /// Every search of a path ends at an empty slot, and finds matches of this table.
    private func checkIndex(of table: RouteTableRecord, _ header: ShardHeader) throws(SnapshotFault) {
        let count = Int(table.index.count)
        if count == 0 { return }
        guard count.nonzeroBitCount == 1, count >= 2 else { throw .badIndex }
        var used = 0
        for slot in 0..<count {
            let entry = record(header.j, Int(table.index.start) + slot, as: UInt32.self)
            guard entry <= table.matches.count else { throw .outOfBounds(section: 10) }
            if entry != 0 { used += 1 }
        }
        guard 2 * used <= count else { throw .badIndex }
    }

    private func check(_ place: UInt32, of table: RouteTableRecord, _ fields: inout Int, _ header: ShardHeader) throws(SnapshotFault) {
        let match = record(header.c, Int(table.matches.start + place), as: RouteMatchRecord.self)
        try check(match.hostname, header)
        try check(match.path, header)
        try check(match.method, header)
        try check(match.fields, after: &fields, within: header.e, number: 5)
        // A chain goes on to later matches only, so it ends.
        guard match.rule < table.rules.count, match.next == 0 || match.next > place + 1 && match.next <= table.matches.count,
            match.headerCount <= match.fields.count, Int(match.fields.count) <= Limits.fieldPatternsPerMatchMax,
            match.hostKind <= RouteMatchRecord.suffixHost, match.pathKind <= RouteMatchRecord.expressionPath
        else { throw .outOfBounds(section: 3) }
        if match.pathKind == RouteMatchRecord.expressionPath { try checkProgram(match.path, section: 3) }
    }

    private func checkRules(_ header: ShardHeader) throws(SnapshotFault) {
        var backends = 0, edits = 0, cors = 0
        for number in 0..<Int(header.d.count) {
            let rule = record(header.d, number, as: RouteRuleRecord.self)
            for reference in [rule.route, rule.rule, rule.scheme, rule.hostname, rule.path, rule.retryStatuses, rule.sessionName] { try check(reference, header) }
            guard rule.pathKind <= RouteRuleRecord.prefixPath, rule.retryStatuses.byteCount % 2 == 0,
                [rule.scheme, rule.hostname, rule.path].allSatisfy({ FieldText.isInURL(text($0)) }),
                rule.flags & RouteRuleRecord.hasSession == 0 || FieldText.isName(text(rule.sessionName)),
                rule.flags & RouteRuleRecord.isRedirect == 0 || (300..<400).contains(rule.status)
            else { throw .outOfBounds(section: 4) }
            if rule.cors != 0 {
                cors += 1
                guard Int(rule.cors) == cors, cors <= header.h.count else { throw .outOfBounds(section: 8) }
            }
            try check(rule.requestHeaders, after: &edits, within: header.g, number: 7)
            try check(rule.responseHeaders, after: &edits, within: header.g, number: 7)
            try check(rule.backends, after: &backends, within: header.f, number: 6)
            try check(rule.mirrors, after: &backends, within: header.f, number: 6)
            var weight: UInt64 = 0
            for place in Int(rule.backends.start)..<backends {
                let backend = record(header.f, place, as: RouteBackendRecord.self)
                try check(backend.key, header)
                try check(backend.requestHeaders, after: &edits, within: header.g, number: 7)
                try check(backend.responseHeaders, after: &edits, within: header.g, number: 7)
                guard backend.key.byteCount == 0 || Int(backend.nameByteCount) + 1 <= Int(backend.key.byteCount) else { throw .outOfBounds(section: 6) }
                if place < Int(rule.mirrors.start) { weight += UInt64(backend.weight) }
            }
            guard weight == rule.totalWeight else { throw .outOfBounds(section: 4) }
        }
    }

    private func checkProgram(_ program: StringReference, section: Int) throws(SnapshotFault) {
        guard ExpressionView(validating: text(program)) != nil else { throw .outOfBounds(section: section) }
    }

    /// A record of a section whose bounds have been checked.
    private func record<Record>(_ section: ShardSection, _ number: Int, as type: Record.Type) -> Record {
        base.load(fromByteOffset: Int(section.offset) + number * MemoryLayout<Record>.stride, as: type)
    }
}
