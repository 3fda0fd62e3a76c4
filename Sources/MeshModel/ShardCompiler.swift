/// Makes the bytes of one shard. The same input gives the same bytes.
struct ShardCompiler {
    private var table: [UInt32] = []
    private var strings: [UInt8] = []
    private var known: [String: StringReference] = [:]

    // MARK: Services

    static func services(_ services: [Service], id: ShardID, in surroundings: Surroundings) throws(SnapshotFault) -> [UInt8] {
        if services.isEmpty { return [] }
        var compiler = ShardCompiler()
        var records: [ServiceRecord] = []
        var ports: [PortRecord] = []
        var endpoints: [EndpointRecord] = []
        var previous: Service?
        for service in services {
            if let previous, previous.namespace == service.namespace, previous.name == service.name { continue }
            previous = service
            let portsStart = ports.count
            for port in service.ports {
                let sorted = PortEndpoints(of: port, under: service.policy, in: surroundings)
                ports.append(
                    PortRecord(
                        name: compiler.shared(port.name), endpoints: RecordRange(start: UInt32(endpoints.count), count: UInt32(sorted.records.count)),
                        readyCount: UInt32(sorted.readyCount), port: port.port, protocolHint: port.protocolHint.rawValue,
                        firstTierCount: UInt32(sorted.firstTierCount), secondTierCount: UInt32(sorted.secondTierCount)))
                endpoints += sorted.records
            }
            let host = "\(service.name).\(service.namespace).svc.\(surroundings.clusterDomain)"
            guard host.utf8.count <= Limits.hostBytesMax else { throw .limit("hostBytesMax") }
            records.append(
                ServiceRecord(
                    hash: ShardHash.of(namespace: service.namespace, name: service.name), host: compiler.append(host),
                    ports: RecordRange(start: UInt32(portsStart), count: UInt32(ports.count - portsStart)),
                    nameByteCount: UInt16(service.name.utf8.count), namespaceByteCount: UInt16(service.namespace.utf8.count),
                    flags: service.isHeadless ? 1 : 0, policy: try compiler.block(service.policy)))
        }
        compiler.index(records.map(\.hash))
        return try compiler.assemble(id, in: surroundings, [SectionBytes(records), SectionBytes(ports), SectionBytes(endpoints)])
    }

    // MARK: Addresses

    static func addresses(_ inputs: [AddressInput], id: ShardID, in surroundings: Surroundings) throws(SnapshotFault) -> [UInt8] {
        if inputs.isEmpty { return [] }
        var compiler = ShardCompiler()
        var records: [AddressRecord] = []
        var references: [ServiceReferenceRecord] = []
        var workloads: [WorkloadRecord] = []
        for input in inputs {
            let start = references.count
            for reference in input.references {
                references.append(
                    ServiceReferenceRecord(
                        hash: ShardHash.of(namespace: reference.namespace, name: reference.name),
                        key: compiler.shared("\(reference.name).\(reference.namespace)"),
                        nameByteCount: UInt16(clamping: reference.name.utf8.count), servicePort: reference.servicePort,
                        endpointPort: reference.endpointPort, flags: reference.isHeadless ? 1 : 0))
            }
            if let workload = input.workload {
                workloads.append(compiler.record(workload, in: surroundings))
            }
            records.append(
                AddressRecord(
                    address: input.address, references: RecordRange(start: UInt32(start), count: UInt32(references.count - start)),
                    workload: input.workload == nil ? 0 : UInt32(workloads.count), flags: input.isClusterAddress ? 1 : 0))
        }
        compiler.index(records.map { ShardHash.of($0.address) })
        return try compiler.assemble(id, in: surroundings, [SectionBytes(records), SectionBytes(references), SectionBytes(workloads)])
    }

    private mutating func record(_ workload: Workload, in surroundings: Surroundings) -> WorkloadRecord {
        var flags: UInt32 = 0
        if workload.isMeshed { flags |= WorkloadRecord.isMeshed }
        if workload.isReady { flags |= WorkloadRecord.isReady }
        if !workload.nodeName.isEmpty && workload.nodeName == surroundings.nodeName { flags |= WorkloadRecord.isSameNode }
        if workload.isStrict { flags |= WorkloadRecord.isStrict }
        if workload.failsOpen { flags |= WorkloadRecord.failsOpen }
        return WorkloadRecord(
            uid: append(workload.uid), name: append(workload.name), namespace: shared(workload.namespace),
            serviceAccount: shared(workload.serviceAccount), nodeName: shared(workload.nodeName),
            workloadName: shared(workload.workloadName), app: shared(workload.app), version: shared(workload.version),
            canonicalService: shared(workload.canonicalService), canonicalRevision: shared(workload.canonicalRevision),
            cluster: shared(workload.cluster), flags: flags)
    }

    // MARK: Policies

    static func policies(_ inputs: [WorkloadAccess], id: ShardID, in surroundings: Surroundings) throws(SnapshotFault) -> [UInt8] {
        if inputs.isEmpty { return [] }
        var compiler = ShardCompiler()
        var records: [AccessSubjectRecord] = []
        var rules: [AccessRuleRecord] = []
        var terms: [AccessTermRecord] = []
        for input in inputs {
            guard input.rules.count <= Limits.accessRulesPerWorkloadMax else { throw .limit("accessRulesPerWorkloadMax") }
            records.append(
                AccessSubjectRecord(
                    hash: ShardHash.of(uid: input.uid), uid: compiler.append(input.uid),
                    rules: RecordRange(start: UInt32(rules.count), count: UInt32(input.rules.count)),
                    flags: input.rules.contains(where: \.isAudit) ? AccessSubjectRecord.hasAudit : 0))
            for rule in input.rules {
                guard rule.terms.count <= Limits.accessTermsPerRuleMax else { throw .limit("accessTermsPerRuleMax") }
                rules.append(
                    AccessRuleRecord(
                        policy: compiler.shared(rule.policy), field: compiler.shared(rule.field),
                        terms: RecordRange(start: UInt32(terms.count), count: UInt32(rule.terms.count)), step: rule.step.rawValue,
                        isAudit: rule.isAudit ? 1 : 0))
                for term in rule.terms {
                    terms.append(
                        AccessTermRecord(
                            text: compiler.shared(term.text), number: term.number, alternative: term.alternative, group: term.group,
                            subject: term.subject.rawValue, comparison: term.comparison.rawValue))
                }
            }
        }
        compiler.index(records.map(\.hash))
        return try compiler.assemble(id, in: surroundings, [SectionBytes(records), SectionBytes(rules), SectionBytes(terms)])
    }

    // MARK: Parts

    /// Open addressing, linear probing, at most half full: every search meets an empty slot soon.
    mutating func index(_ hashes: [UInt64]) {
        var capacity = 2
        while capacity < hashes.count * 2 { capacity *= 2 }
        table = Array(repeating: 0, count: capacity)
        for (number, hash) in hashes.enumerated() {
            var slot = Int(truncatingIfNeeded: hash) & (capacity - 1)
            while table[slot] != 0 { slot = (slot + 1) & (capacity - 1) }
            table[slot] = UInt32(number + 1)
        }
    }

    mutating func append(_ text: String) -> StringReference {
        let reference = StringReference(offset: UInt32(strings.count), byteCount: UInt32(text.utf8.count))
        strings.append(contentsOf: text.utf8)
        return reference
    }

    /// Appends bytes at a place that 8 divides; the section itself begins at one.
    mutating func appendBlock(_ body: (inout [UInt8]) -> Void) -> StringReference {
        while strings.count % 8 != 0 { strings.append(0) }
        let offset = strings.count
        body(&strings)
        return StringReference(offset: UInt32(offset), byteCount: UInt32(strings.count - offset))
    }

    mutating func append(_ bytes: [UInt8]) -> StringReference {
        let reference = StringReference(offset: UInt32(strings.count), byteCount: UInt32(bytes.count))
        strings += bytes
        return reference
    }

    func withText<Result>(_ reference: StringReference, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        strings.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[Int(reference.offset)..<Int(reference.offset + reference.byteCount)])) }
    }

    /// As `append`, but a text that is already there is used again.
    mutating func shared(_ text: String) -> StringReference {
        if text.isEmpty { return StringReference() }
        if let reference = known[text] { return reference }
        let reference = append(text)
        known[text] = reference
        return reference
    }

    /// - Parameter sections: A, B and so on.
    mutating func assemble(_ id: ShardID, in surroundings: Surroundings, _ sections: [SectionBytes]) throws(SnapshotFault) -> [UInt8] {
        var header = ShardHeader(id: id)
        header.trustDomain = shared(surroundings.trustDomain)
        let places: [WritableKeyPath<ShardHeader, ShardSection>] = [\.table, \.a, \.b, \.c, \.d, \.e, \.f, \.g, \.h, \.i, \.j]
        let content = Array(zip(places, [SectionBytes(table)] + sections)) + [(\.strings, SectionBytes(strings))]
        var end = MemoryLayout<ShardHeader>.size
        for (place, section) in content {
            let offset = (end + 7) & ~7
            end = offset + section.bytes.count
            // Counts fit: the end is bounded before any of them is used.
            header[keyPath: place] = ShardSection(offset: UInt32(clamping: offset), count: UInt32(clamping: section.count))
        }
        guard end <= Limits.shardBytesMax else { throw .limit("shardBytesMax") }
        header.byteCount = UInt32(end)
        return [UInt8](unsafeUninitializedCapacity: end) { bytes, count in
            let target = UnsafeMutableRawBufferPointer(bytes)
            target.initializeMemory(as: UInt8.self, repeating: 0)
            for (place, section) in content where !section.bytes.isEmpty {
                let offset = Int(header[keyPath: place].offset)
                UnsafeMutableRawBufferPointer(rebasing: target[offset..<offset + section.bytes.count]).copyBytes(from: section.bytes)
            }
            target.storeBytes(of: header, as: ShardHeader.self)
            header.checksum = ShardHash.checksum(UnsafeRawBufferPointer(rebasing: target[ShardHeader.checksumEnd..<end]))
            target.storeBytes(of: header, as: ShardHeader.self)
            count = end
        }
    }
}

/// The records of one section, as bytes.
struct SectionBytes {
    let bytes: [UInt8]
    let count: Int

    /// Records without padding: every byte of them is set.
    init<Record>(_ records: [Record]) {
        bytes = records.withUnsafeBytes { Array($0) }
        count = records.count
    }
}
