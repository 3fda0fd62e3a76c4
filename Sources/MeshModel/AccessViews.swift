// Reading a policies shard in place. As with services, views own nothing and live as long as the shard's bytes.

/// The rules in force at one workload.
public struct AccessRulesView: @unchecked Sendable {
    @usableFromInline let shard: ShardView
    @usableFromInline let record: UnsafePointer<AccessSubjectRecord>

    @inlinable
    init(shard: ShardView, record: UnsafePointer<AccessSubjectRecord>) {
        self.shard = shard
        self.record = record
    }

    /// The workload's `uid`.
    @inlinable public var uid: UnsafeRawBufferPointer { shard.text(record.pointee.uid) }
    @inlinable public var ruleCount: Int { Int(record.pointee.rules.count) }
    /// Some rule is in audit.
    @inlinable public var hasAudit: Bool { record.pointee.flags & AccessSubjectRecord.hasAudit != 0 }

    /// The rule at a place in 0 ..< `ruleCount`, in the order of their steps.
    @inlinable
    public func rule(at place: Int) -> AccessRuleView {
        precondition(place >= 0 && place < ruleCount, "no such rule")
        return AccessRuleView(shard: shard, record: shard.records(shard.header.pointee.b, of: AccessRuleRecord.self) + Int(record.pointee.rules.start) + place)
    }
}

/// One rule inside a shard.
public struct AccessRuleView: @unchecked Sendable {
    @usableFromInline let shard: ShardView
    @usableFromInline let record: UnsafePointer<AccessRuleRecord>

    @inlinable
    init(shard: ShardView, record: UnsafePointer<AccessRuleRecord>) {
        self.shard = shard
        self.record = record
    }

    /// `namespace/name` of the AccessPolicy.
    @inlinable public var policy: UnsafeRawBufferPointer { shard.text(record.pointee.policy) }
    /// The field that says so: `spec.rules[0]`.
    @inlinable public var field: UnsafeRawBufferPointer { shard.text(record.pointee.field) }
    // Was validated.
    @inlinable public var step: AccessStep { AccessStep(rawValue: record.pointee.step).unsafelyUnwrapped }
    @inlinable public var isAudit: Bool { record.pointee.isAudit != 0 }
    @inlinable public var termCount: Int { Int(record.pointee.terms.count) }

    /// The term at a place in 0 ..< `termCount`.
    @inlinable
    public func term(at place: Int) -> AccessTermView {
        precondition(place >= 0 && place < termCount, "no such term")
        return AccessTermView(shard: shard, record: shard.records(shard.header.pointee.c, of: AccessTermRecord.self) + Int(record.pointee.terms.start) + place)
    }
}

/// One comparison inside a shard.
public struct AccessTermView: @unchecked Sendable {
    @usableFromInline let shard: ShardView
    @usableFromInline let record: UnsafePointer<AccessTermRecord>

    @inlinable
    init(shard: ShardView, record: UnsafePointer<AccessTermRecord>) {
        self.shard = shard
        self.record = record
    }

    // Both were validated.
    @inlinable public var subject: AccessTerm.Subject { AccessTerm.Subject(rawValue: record.pointee.subject).unsafelyUnwrapped }
    @inlinable public var comparison: AccessTerm.Comparison { AccessTerm.Comparison(rawValue: record.pointee.comparison).unsafelyUnwrapped }
    @inlinable public var alternative: UInt16 { record.pointee.alternative }
    @inlinable public var group: UInt16 { record.pointee.group }
    /// A port, or with `header` the bytes of the name.
    @inlinable public var number: UInt16 { record.pointee.number }
    /// What is compared with; with `header` what follows the name.
    @inlinable
    public var text: UnsafeRawBufferPointer {
        let all = shard.text(record.pointee.text)
        return record.pointee.subject == AccessTerm.Subject.header.rawValue ? UnsafeRawBufferPointer(rebasing: all[Int(number)...]) : all
    }
    /// With `header`: its name, in lower case.
    @inlinable public var name: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: shard.text(record.pointee.text)[..<Int(number)]) }
}

extension ShardView {
    /// Workloads with rules in this shard; 0 in a shard of another family.
    public var accessSubjectCount: Int { header.pointee.family == ShardFamily.policies.rawValue ? Int(header.pointee.a.count) : 0 }

    /// The workload's rules at a place in 0 ..< `accessSubjectCount`, in the writer's order.
    public func accessSubject(at place: Int) -> AccessRulesView {
        precondition(place >= 0 && place < accessSubjectCount, "no such workload")
        return AccessRulesView(shard: self, record: records(header.pointee.a, of: AccessSubjectRecord.self) + place)
    }

    /// Finds the rules in force at a workload. `hash` is `ShardHash.of(uid:)`.
    @inlinable
    public func accessRules(uid: UnsafeRawBufferPointer, hash: UInt64) -> AccessRulesView? {
        let header = header.pointee
        guard header.family == 3 else { return nil }
        let table = records(header.table, of: UInt32.self)
        let subjects = records(header.a, of: AccessSubjectRecord.self)
        let mask = Int(header.table.count) - 1
        var slot = Int(truncatingIfNeeded: hash) & mask
        while true {
            let entry = table[slot]
            if entry == 0 { return nil }
            let record = subjects + Int(entry - 1)
            if record.pointee.hash == hash, isEqual(text(record.pointee.uid), uid) { return AccessRulesView(shard: self, record: record) }
            slot = (slot + 1) & mask
        }
    }

    @inlinable
    func isEqual(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
        guard left.count == right.count else { return false }
        var place = 0
        while place < left.count {
            if left[place] != right[place] { return false }
            place += 1
        }
        return true
    }
}
