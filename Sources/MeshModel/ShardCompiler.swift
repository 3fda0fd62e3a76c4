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
        return try compiler.assemble(id, in: surroundings, records, ports, endpoints)
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
        return try compiler.assemble(id, in: surroundings, records, references, workloads)
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
        return try compiler.assemble(id, in: surroundings, records, rules, terms)
    }

    // MARK: Parts

    /// Open addressing, linear probing, at most half full: every search meets an empty slot soon.
    private mutating func index(_ hashes: [UInt64]) {
        var capacity = 2
        while capacity < hashes.count * 2 { capacity *= 2 }
        table = Array(repeating: 0, count: capacity)
        for (number, hash) in hashes.enumerated() {
            var slot = Int(truncatingIfNeeded: hash) & (capacity - 1)
            while table[slot] != 0 { slot = (slot + 1) & (capacity - 1) }
            table[slot] = UInt32(number + 1)
        }
    }

    private mutating func append(_ text: String) -> StringReference {
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

    /// As `append`, but a text that is already there is used again.
    mutating func shared(_ text: String) -> StringReference {
        if text.isEmpty { return StringReference() }
        if let reference = known[text] { return reference }
        let reference = append(text)
        known[text] = reference
        return reference
    }

    private mutating func assemble<A, B, C>(
        _ id: ShardID, in surroundings: Surroundings, _ a: [A], _ b: [B], _ c: [C]
    ) throws(SnapshotFault) -> [UInt8] {
        var header = ShardHeader(id: id)
        header.trustDomain = shared(surroundings.trustDomain)
        var end = MemoryLayout<ShardHeader>.size
        header.table = Self.place(count: table.count, stride: 4, at: &end)
        header.a = Self.place(count: a.count, stride: MemoryLayout<A>.stride, at: &end)
        header.b = Self.place(count: b.count, stride: MemoryLayout<B>.stride, at: &end)
        header.c = Self.place(count: c.count, stride: MemoryLayout<C>.stride, at: &end)
        header.strings = Self.place(count: strings.count, stride: 1, at: &end)
        guard end <= Limits.shardBytesMax else { throw .limit("shardBytesMax") }
        header.byteCount = UInt32(end)
        return [UInt8](unsafeUninitializedCapacity: end) { bytes, count in
            let target = UnsafeMutableRawBufferPointer(bytes)
            target.initializeMemory(as: UInt8.self, repeating: 0)
            table.withUnsafeBytes { Self.copy($0, to: header.table, of: target) }
            a.withUnsafeBytes { Self.copy($0, to: header.a, of: target) }
            b.withUnsafeBytes { Self.copy($0, to: header.b, of: target) }
            c.withUnsafeBytes { Self.copy($0, to: header.c, of: target) }
            strings.withUnsafeBytes { Self.copy($0, to: header.strings, of: target) }
            target.storeBytes(of: header, as: ShardHeader.self)
            header.checksum = ShardHash.checksum(UnsafeRawBufferPointer(rebasing: target[ShardHeader.checksumEnd..<end]))
            target.storeBytes(of: header, as: ShardHeader.self)
            count = end
        }
    }

    /// The next place, aligned for records of eight bytes. Counts fit: `assemble` bounds the end before it is used.
    private static func place(count: Int, stride: Int, at end: inout Int) -> ShardSection {
        let offset = (end + 7) & ~7
        end = offset + count * stride
        return ShardSection(offset: UInt32(clamping: offset), count: UInt32(clamping: count))
    }

    private static func copy(_ source: UnsafeRawBufferPointer, to section: ShardSection, of target: UnsafeMutableRawBufferPointer) {
        if source.isEmpty { return }
        UnsafeMutableRawBufferPointer(rebasing: target[Int(section.offset)..<Int(section.offset) + source.count]).copyMemory(from: source)
    }
}
