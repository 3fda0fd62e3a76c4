/// A shard whose bytes have been checked, so that everything read through it stays inside it.
///
/// It borrows the bytes: whoever made it keeps them alive, in place and unchanged (`ShardMemory` does, with a sealed
/// mapping). Reading needs no further checks, allocates nothing and copies nothing.
///
/// `@unchecked Sendable`, as are the views made from it: pointers, but to bytes that nobody changes.
public struct ShardView: @unchecked Sendable {
    @usableFromInline let base: UnsafeRawPointer
    public let byteCount: Int

    @usableFromInline var header: UnsafePointer<ShardHeader> { base.assumingMemoryBound(to: ShardHeader.self) }

    public var id: ShardID {
        // The family was validated.
        ShardID(family: ShardFamily(rawValue: header.pointee.family)!, index: header.pointee.index)
    }

    /// What identities begin with, as every shard of a generation has it.
    public var trustDomain: UnsafeRawBufferPointer { text(header.pointee.trustDomain) }

    /// Checks every offset, count and reference. Any bytes end in a view or a thrown fault, never in a trap.
    public init(validating bytes: UnsafeRawBufferPointer) throws(SnapshotFault) {
        guard let base = bytes.baseAddress, bytes.count >= MemoryLayout<ShardHeader>.size else { throw .truncated }
        guard Int(bitPattern: base) % 8 == 0 else { throw .misaligned }
        self.base = base
        byteCount = bytes.count
        let header = base.load(as: ShardHeader.self)
        guard header.magic == ShardHeader.magic else { throw .wrongMagic }
        guard header.version == ShardHeader.version else { throw .wrongVersion(header.version) }
        guard Int(header.byteCount) == bytes.count, bytes.count <= Limits.shardBytesMax else { throw .truncated }
        guard let family = ShardFamily(rawValue: header.family) else { throw .unknownFamily(header.family) }
        guard header.index < Limits.bucketsPerFamily else { throw .bucketOutOfRange(header.index) }
        // The checksum covers all that follows it; the fields before it were each just compared.
        let covered = UnsafeRawBufferPointer(rebasing: bytes[ShardHeader.checksumEnd...])
        guard header.checksum == ShardHash.checksum(covered) else { throw .wrongChecksum }
        try checkSection(header.table, stride: 4, number: 0)
        try checkSection(header.strings, stride: 1, number: ShardHeader.stringsNumber)
        try check(header.trustDomain, header)
        switch family {
        case .services:
            try checkSection(header.a, stride: MemoryLayout<ServiceRecord>.stride, number: 1)
            try checkSection(header.b, stride: MemoryLayout<PortRecord>.stride, number: 2)
            try checkSection(header.c, stride: MemoryLayout<EndpointRecord>.stride, number: 3)
            try checkServices(header)
        case .addresses:
            try checkSection(header.a, stride: MemoryLayout<AddressRecord>.stride, number: 1)
            try checkSection(header.b, stride: MemoryLayout<ServiceReferenceRecord>.stride, number: 2)
            try checkSection(header.c, stride: MemoryLayout<WorkloadRecord>.stride, number: 3)
            try checkAddresses(header)
        case .policies:
            try checkSection(header.a, stride: MemoryLayout<AccessSubjectRecord>.stride, number: 1)
            try checkSection(header.b, stride: MemoryLayout<AccessRuleRecord>.stride, number: 2)
            try checkSection(header.c, stride: MemoryLayout<AccessTermRecord>.stride, number: 3)
            try checkPolicies(header)
        case .routes: try checkRoutes(header)
        }
        try checkIndex(header)
    }

    /// Whether both read the very same bytes.
    @inlinable public func isSame(as other: ShardView) -> Bool { base == other.base }

    // MARK: The checks

    func checkSection(_ section: ShardSection, stride: Int, number: Int) throws(SnapshotFault) {
        // UInt32 × a small stride + UInt32 fits an Int without overflow.
        guard Int(section.offset) + Int(section.count) * stride <= byteCount, section.offset % 8 == 0 || stride == 1
        else { throw .outOfBounds(section: number) }
    }

    private func checkIndex(_ header: ShardHeader) throws(SnapshotFault) {
        let count = Int(header.table.count)
        // At most half full, as the writer makes it: every search ends, and soon.
        guard count.nonzeroBitCount == 1, count >= 2, count >= 2 * Int(header.a.count) else { throw .badIndex }
        var used = 0
        for slot in 0..<count {
            let entry = base.load(fromByteOffset: Int(header.table.offset) + slot * 4, as: UInt32.self)
            guard entry <= header.a.count else { throw .outOfBounds(section: 0) }
            if entry != 0 { used += 1 }
        }
        guard used == Int(header.a.count) else { throw .badIndex }
    }

    private func checkServices(_ header: ShardHeader) throws(SnapshotFault) {
        var ports = 0, endpoints = 0
        for number in 0..<Int(header.a.count) {
            let service = base.load(fromByteOffset: Int(header.a.offset) + number * MemoryLayout<ServiceRecord>.stride, as: ServiceRecord.self)
            try check(service.host, header)
            try check(service.policy, header)
            try checkPolicy(service.policy, header)
            try check(service.ports, after: &ports, within: header.b, number: 2)
            guard Int(service.nameByteCount) + 1 + Int(service.namespaceByteCount) <= Int(service.host.byteCount)
            else { throw .outOfBounds(section: ShardHeader.stringsNumber) }
        }
        for number in 0..<Int(header.b.count) {
            let port = base.load(fromByteOffset: Int(header.b.offset) + number * MemoryLayout<PortRecord>.stride, as: PortRecord.self)
            try check(port.name, header)
            try check(port.endpoints, after: &endpoints, within: header.c, number: 3)
            guard port.readyCount <= port.endpoints.count, ProtocolHint(rawValue: port.protocolHint) != nil,
                Int(port.firstTierCount) + Int(port.secondTierCount) <= Int(port.readyCount)
            else { throw .outOfBounds(section: 2) }
        }
    }

    private func checkAddresses(_ header: ShardHeader) throws(SnapshotFault) {
        var references = 0
        for number in 0..<Int(header.a.count) {
            let address = base.load(fromByteOffset: Int(header.a.offset) + number * MemoryLayout<AddressRecord>.stride, as: AddressRecord.self)
            try check(address.references, after: &references, within: header.b, number: 2)
            guard address.workload <= header.c.count, address.flags & 1 == 0 || address.references.count == 1
            else { throw .outOfBounds(section: 1) }
        }
        for number in 0..<Int(header.b.count) {
            let reference = base.load(
                fromByteOffset: Int(header.b.offset) + number * MemoryLayout<ServiceReferenceRecord>.stride, as: ServiceReferenceRecord.self)
            try check(reference.key, header)
            guard Int(reference.nameByteCount) + 1 <= Int(reference.key.byteCount) else { throw .outOfBounds(section: ShardHeader.stringsNumber) }
        }
        for number in 0..<Int(header.c.count) {
            let offset = Int(header.c.offset) + number * MemoryLayout<WorkloadRecord>.stride
            for field in 0..<WorkloadRecord.stringCount {
                try check(base.load(fromByteOffset: offset + field * 8, as: StringReference.self), header)
            }
        }
    }

    private func checkPolicies(_ header: ShardHeader) throws(SnapshotFault) {
        var rules = 0, terms = 0
        for number in 0..<Int(header.a.count) {
            let subject = base.load(
                fromByteOffset: Int(header.a.offset) + number * MemoryLayout<AccessSubjectRecord>.stride, as: AccessSubjectRecord.self)
            try check(subject.uid, header)
            try check(subject.rules, after: &rules, within: header.b, number: 2)
        }
        for number in 0..<Int(header.b.count) {
            let rule = base.load(fromByteOffset: Int(header.b.offset) + number * MemoryLayout<AccessRuleRecord>.stride, as: AccessRuleRecord.self)
            try check(rule.policy, header)
            try check(rule.field, header)
            try check(rule.terms, after: &terms, within: header.c, number: 3)
            guard AccessStep(rawValue: rule.step) != nil else { throw .outOfBounds(section: 2) }
        }
        for number in 0..<Int(header.c.count) {
            let term = base.load(fromByteOffset: Int(header.c.offset) + number * MemoryLayout<AccessTermRecord>.stride, as: AccessTermRecord.self)
            try check(term.text, header)
            guard let subject = AccessTerm.Subject(rawValue: term.subject), AccessTerm.Comparison(rawValue: term.comparison) != nil
            else { throw .outOfBounds(section: 3) }
            // A header's name is a part of its text.
            guard subject != .header || Int(term.number) <= Int(term.text.byteCount) else { throw .outOfBounds(section: ShardHeader.stringsNumber) }
        }
    }

    func check(_ text: StringReference, _ header: ShardHeader) throws(SnapshotFault) {
        guard Int(text.offset) + Int(text.byteCount) <= Int(header.strings.count) else { throw .outOfBounds(section: ShardHeader.stringsNumber) }
    }

    /// Ranges follow each other without gap or overlap: whoever walks all of them walks each record once at most.
    func check(_ range: RecordRange, after end: inout Int, within section: ShardSection, number: Int) throws(SnapshotFault) {
        guard Int(range.start) == end, Int(range.start) + Int(range.count) <= Int(section.count) else { throw .outOfBounds(section: number) }
        end += Int(range.count)
    }

    // MARK: Unchecked reading, for the views

    @inlinable
    func records<Record>(_ section: ShardSection, of type: Record.Type) -> UnsafePointer<Record> {
        (base + Int(section.offset)).assumingMemoryBound(to: Record.self)
    }

    @inlinable
    func text(_ reference: StringReference) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: base + Int(header.pointee.strings.offset) + Int(reference.offset), count: Int(reference.byteCount))
    }
}
