import Testing

@testable import MeshModel

/// Any bytes end in a view that can be read from end to end, or in a fault.
@Suite struct ShardFuzzTests {
    private struct Random: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state ^ state >> 29
        }
    }

    @Test(arguments: 1...4) func randomBytesAreRefused(seed: UInt64) {
        var random = Random(state: seed)
        for _ in 0..<2_000 {
            let bytes = (0..<Int.random(in: 0..<300, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
            #expect(throws: SnapshotFault.self) { try ShardMemory(copying: bytes) }
        }
    }

    /// Damaged shards with a right checksum: what a faulty or hostile agent would send.
    @Test(arguments: 1...8) func mutatedShardsNeverTrap(seed: UInt64) throws {
        var random = Random(state: seed)
        var writer = SnapshotWriter()
        // Routes have the most to be damaged: half of the runs are theirs.
        let images = try writer.update(SampleMesh.many(services: 300, endpointsEach: 2)).shards.filter { seed % 2 == 0 || $0.id.family == .routes }
        var accepted = 0
        for _ in 0..<2_000 {
            var bytes = images.randomElement(using: &random)!.bytes
            for _ in 0..<Int.random(in: 1...3, using: &random) { mutate(&bytes, &random) }
            sealAnew(&bytes, &random)
            guard let memory = try? ShardMemory(copying: bytes) else { continue }
            accepted += 1
            withExtendedLifetime(memory) { readAll(memory.view) }
        }
        #expect(accepted > 0, "no mutation was harmless, so the reading was not tested (seed \(seed))")
    }

    @Test func everyTruncationIsRefused() throws {
        var writer = SnapshotWriter()
        let bytes = try writer.update(SampleMesh.many(services: 1)).shards[0].bytes
        for count in 0..<bytes.count {
            #expect(throws: SnapshotFault.self) { try ShardMemory(copying: Array(bytes[..<count])) }
        }
    }

    @Test func oneFlippedBitIsFound() throws {
        var writer = SnapshotWriter()
        let bytes = try writer.update(SampleMesh.many(services: 1)).shards[0].bytes
        for place in bytes.indices {
            var damaged = bytes
            damaged[place] ^= 1 << (place % 8)
            if let memory = try? ShardMemory(copying: damaged) {
                // Only the header's zero fields and its bucket stand outside the checksum; the receiver knows the bucket.
                #expect(place == 7 || (12..<16).contains(place), "byte \(place)")
                withExtendedLifetime(memory) { readAll(memory.view) }
            }
        }
    }

    @Test func aMisalignedBaseIsRefused() throws {
        var writer = SnapshotWriter()
        let bytes = try writer.update(SampleMesh.many(services: 1)).shards[0].bytes
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count + 8, alignment: 8)
        defer { memory.deallocate() }
        let shifted = UnsafeMutableRawBufferPointer(rebasing: memory[4..<(4 + bytes.count)])
        shifted.copyBytes(from: bytes)
        #expect(throws: SnapshotFault.misaligned) { try ShardView(validating: UnsafeRawBufferPointer(shifted)) }
    }

    // MARK: Mutations

    private func mutate(_ bytes: inout [UInt8], _ random: inout Random) {
        let place = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<5, using: &random) {
        case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 1: bytes[place] = [0, 1, 0x7f, 0x80, 0xff].randomElement(using: &random)!
        case 2:
            // Whole numbers at their own places do the most.
            let word = place & ~3
            let value = [0, 1, UInt32.max, 0x8000_0000, UInt32(bytes.count), UInt32.random(in: 0..<4_096, using: &random)]
                .randomElement(using: &random)!
            for byte in 0..<4 where word + byte < bytes.count { bytes[word + byte] = UInt8(truncatingIfNeeded: value >> UInt32(8 * byte)) }
        case 3: bytes.removeLast(min(bytes.count - 1, Int.random(in: 1...64, using: &random)))
        default: bytes += (0..<Int.random(in: 1...64, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
        }
    }

    private func sealAnew(_ bytes: inout [UInt8], _ random: inout Random) {
        let hasRightLength = Bool.random(using: &random)
        guard bytes.count >= MemoryLayout<ShardHeader>.size else { return }
        bytes.withUnsafeMutableBytes { bytes in
            if hasRightLength { bytes.storeBytes(of: UInt32(bytes.count), toByteOffset: 8, as: UInt32.self) }
            let checksum = ShardHash.checksum(UnsafeRawBufferPointer(rebasing: bytes[ShardHeader.checksumEnd...]))
            bytes.storeBytes(of: checksum, toByteOffset: 16, as: UInt64.self)
        }
    }

    // MARK: Reading everything

    private func readAll(_ view: ShardView) {
        var sum = 0
        for place in 0..<view.serviceCount {
            let service = view.service(at: place)
            sum &+= touch(service.host) &+ touch(service.name) &+ touch(service.namespace)
            for portPlace in 0..<service.portCount {
                let port = service.port(at: portPlace)
                sum &+= touch(port.name) &+ Int(port.protocolHint.rawValue)
                for endpointPlace in 0..<min(port.endpointCount, 1_000) { sum &+= Int(port.endpoint(at: endpointPlace).port) }
                _ = port.place(of: IPAddress(ipv4: 1), port: 1)
            }
            _ = service.port(numbered: 80)
            sum &+= read(service.policy)
            _ = view.service(hash: service.hash, namespace: service.namespace, name: service.name)
        }
        for place in 0..<view.addressCount {
            let address = view.address(at: place)
            if let workload = address.workload { sum &+= touch(workload.uid) &+ touch(workload.cluster) &+ touch(workload.namespace) }
            for referencePlace in 0..<address.referenceCount {
                let reference = address.reference(at: referencePlace)
                sum &+= touch(reference.name) &+ touch(reference.namespace)
            }
            _ = view.address(address.address, hash: ShardHash.of(address.address))
            _ = view.address(address.address, hash: 0)
        }
        for place in 0..<view.accessSubjectCount {
            let rules = view.accessSubject(at: place)
            sum &+= touch(rules.uid)
            for rulePlace in 0..<rules.ruleCount {
                let rule = rules.rule(at: rulePlace)
                sum &+= touch(rule.policy) &+ touch(rule.field) &+ Int(rule.step.rawValue)
                for termPlace in 0..<rule.termCount {
                    let term = rule.term(at: termPlace)
                    sum &+= touch(term.text) &+ Int(term.subject.rawValue) &+ Int(term.comparison.rawValue) &+ Int(term.group)
                    if term.subject == .header { sum &+= touch(term.name) }
                }
            }
            _ = view.accessRules(uid: rules.uid, hash: ShardHash.of(uid: rules.uid))
        }
        for place in 0..<view.routeTableCount { sum &+= read(view.routeTable(at: place)) }
        for place in 0..<view.routedServiceCount { sum &+= touch(view.routedService(at: place)) }
        withExtendedLifetime(sum) {}
    }

    private func read(_ policy: PolicyView) -> Int {
        var sum = touch(policy.hashName) &+ Int(policy.algorithm.rawValue) &+ Int(policy.hashKey.rawValue)
        sum &+= Int(policy.locality.rawValue) &+ Int(policy.requestsInFlightMax)
        if let check = policy.healthCheck { sum &+= touch(check.path) &+ Int(check.kind.rawValue) }
        for place in 0..<policy.rateLimitCount {
            let limit = policy.rateLimit(at: place)
            sum &+= touch(limit.keyName) &+ Int(limit.key.rawValue) &+ read(limit.match)
        }
        for place in 0..<policy.faultCount { sum &+= read(policy.fault(at: place).match) }
        switch policy.fallback {
        case .reply(_, let type, let body): sum &+= touch(type) &+ touch(body)
        case .service(let namespace, let name, _): sum &+= touch(namespace) &+ touch(name)
        case nil: break
        }
        return sum
    }

    private func read(_ match: TrafficMatchView) -> Int {
        var sum = touch(match.route) &+ touch(match.rule) &+ touch(match.method) &+ (withBytes("/v1/x") { match.takes(path: $0) } ? 1 : 0)
        for place in 0..<match.conditionCount {
            let condition = match.condition(at: place)
            sum &+= touch(condition.name) &+ touch(condition.value)
        }
        return sum
    }

    private func read(_ table: RouteTableView) -> Int {
        var sum = touch(table.callersNamespace) &+ Int(table.port) &+ (table.isGRPC ? 1 : 0)
        for place in 0..<table.matchCount {
            let match = table.match(at: place)
            sum &+= touch(match.hostname) &+ touch(match.method) &+ touch(match.pathText) &+ match.rule &+ (match.next ?? 0) &+ table.rule(at: match.rule).number
            if match.path == .expression { sum &+= run(match.pathExpression) }
            for fieldPlace in 0..<match.fieldCount {
                let field = match.field(at: fieldPlace)
                sum &+= touch(field.name) &+ (field.isExpression ? run(field.expression) : touch(field.value))
            }
            if table.hasIndex {
                for isPrefix in [false, true] {
                    var next = table.firstMatch(path: match.pathText, isPrefix: isPrefix)
                    while let place = next { next = table.match(at: place).next }
                }
            }
        }
        var loose = table.firstLoose
        while let place = loose { loose = table.match(at: place).next }
        for place in 0..<table.ruleCount { sum &+= read(table.rule(at: place)) }
        return sum
    }

    private func read(_ rule: RouteRuleView) -> Int {
        var sum = touch(rule.route) &+ touch(rule.rule) &+ read(rule.requestHeaders) &+ read(rule.responseHeaders)
        for chance in [0, 1 << 63, UInt64.max] { sum &+= rule.backend(chance: chance)?.number ?? 0 }
        for place in 0..<rule.backendCount { sum &+= read(rule.backend(at: place)) }
        for place in 0..<rule.mirrorCount { sum &+= read(rule.mirror(at: place).backend) &+ (rule.mirror(at: place).takes(chance: .max) ? 1 : 0) }
        if let redirect = rule.redirect {
            sum &+= touch(redirect.scheme) &+ touch(redirect.hostname) &+ touch(redirect.path?.text) &+ Int(redirect.status) &+ Int(redirect.port ?? 0)
        }
        if let rewrite = rule.rewrite { sum &+= touch(rewrite.hostname) &+ touch(rewrite.path?.text) }
        if let cors = rule.cors {
            for list in [cors.origins, cors.methods, cors.headers, cors.exposedHeaders] {
                for place in 0..<list.count { sum &+= touch(list[place]) }
            }
        }
        if let retry = rule.retry { sum &+= (0..<retry.statusCount).reduce(0) { $0 &+ Int(retry.status(at: $1)) } }
        if let session = rule.session { sum &+= touch(session.name) }
        return sum &+ Int(rule.timeouts.requestMilliseconds ?? 0)
    }

    private func read(_ backend: RouteBackendView) -> Int {
        touch(backend.name) &+ touch(backend.namespace) &+ Int(backend.port) &+ read(backend.requestHeaders) &+ read(backend.responseHeaders)
    }

    private func read(_ edits: FieldEditsView) -> Int {
        (0..<edits.count).reduce(0) { $0 &+ touch(edits[$1].name) &+ touch(edits[$1].value) &+ Int(edits[$1].kind.rawValue) }
    }

    /// Every table of the program is read from end to end.
    private func run(_ program: ExpressionView) -> Int {
        var sum = 0
        for byte in 0..<256 {
            let number = Int(program.classOfByte.load(fromByteOffset: byte, as: UInt8.self))
            for word in 0..<program.wordCount {
                var rest = program.setOfClass.loadUnaligned(fromByteOffset: (number * program.wordCount + word) * 8, as: UInt64.self)
                while rest != 0 {
                    let position = word * 64 + rest.trailingZeroBitCount
                    sum &+= Int(program.setAfterPosition.load(fromByteOffset: position * program.wordCount * 8, as: UInt8.self))
                    rest &= rest - 1
                }
            }
        }
        return sum
    }

    private func touch(_ bytes: UnsafeRawBufferPointer?) -> Int { bytes.map(touch) ?? 0 }
    private func touch(_ bytes: UnsafeRawBufferPointer) -> Int { bytes.reduce(0) { $0 &+ Int($1) } }
}
