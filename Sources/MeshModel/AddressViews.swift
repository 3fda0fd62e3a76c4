// Reading an addresses shard in place. As with services, views own nothing and live as long as the shard's bytes.

/// What is known of one IP address.
public struct AddressView: @unchecked Sendable {
    @usableFromInline let shard: ShardView
    @usableFromInline let record: UnsafePointer<AddressRecord>

    @inlinable
    init(shard: ShardView, record: UnsafePointer<AddressRecord>) {
        self.shard = shard
        self.record = record
    }

    @inlinable public var address: IPAddress { record.pointee.address }
    /// The address is a cluster IP: its one reference is that service.
    @inlinable public var isClusterAddress: Bool { record.pointee.flags & 1 != 0 }
    /// The workload that has the address.
    @inlinable public var workload: WorkloadView? {
        let number = record.pointee.workload
        if number == 0 { return nil }
        return WorkloadView(shard: shard, record: shard.records(shard.header.pointee.c, of: WorkloadRecord.self) + Int(number - 1))
    }
    @inlinable public var referenceCount: Int { Int(record.pointee.references.count) }

    /// A service behind the address, at a place in 0 ..< `referenceCount`.
    @inlinable
    public func reference(at place: Int) -> ServiceReferenceView {
        precondition(place >= 0 && place < referenceCount, "no such reference")
        let references = shard.records(shard.header.pointee.b, of: ServiceReferenceRecord.self)
        return ServiceReferenceView(shard: shard, record: references + Int(record.pointee.references.start) + place)
    }
}

/// That an address belongs to a service: its key, to be found in the services' shards.
public struct ServiceReferenceView: @unchecked Sendable {
    @usableFromInline let shard: ShardView
    @usableFromInline let record: UnsafePointer<ServiceReferenceRecord>

    @inlinable
    init(shard: ShardView, record: UnsafePointer<ServiceReferenceRecord>) {
        self.shard = shard
        self.record = record
    }

    /// `ShardHash.of(namespace:name:)` of the service.
    @inlinable public var hash: UInt64 { record.pointee.hash }
    /// `name.namespace`.
    @inlinable var key: UnsafeRawBufferPointer { shard.text(record.pointee.key) }
    @inlinable var nameByteCount: Int { Int(record.pointee.nameByteCount) }
    @inlinable public var name: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: key[..<nameByteCount]) }
    @inlinable public var namespace: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: key[(nameByteCount + 1)...]) }
    /// The service's port whose endpoint this is; 0 with a cluster IP.
    @inlinable public var servicePort: UInt16 { record.pointee.servicePort }
    /// The port of the address itself; 0 with a cluster IP.
    @inlinable public var endpointPort: UInt16 { record.pointee.endpointPort }
    @inlinable public var isHeadless: Bool { record.pointee.flags & 1 != 0 }
}

/// A workload inside a shard. Texts that are not known are empty.
public struct WorkloadView: @unchecked Sendable {
    @usableFromInline let shard: ShardView
    @usableFromInline let record: UnsafePointer<WorkloadRecord>

    @inlinable
    init(shard: ShardView, record: UnsafePointer<WorkloadRecord>) {
        self.shard = shard
        self.record = record
    }

    @inlinable public var uid: UnsafeRawBufferPointer { shard.text(record.pointee.uid) }
    /// The pod's name.
    @inlinable public var name: UnsafeRawBufferPointer { shard.text(record.pointee.name) }
    @inlinable public var namespace: UnsafeRawBufferPointer { shard.text(record.pointee.namespace) }
    @inlinable public var serviceAccount: UnsafeRawBufferPointer { shard.text(record.pointee.serviceAccount) }
    @inlinable public var nodeName: UnsafeRawBufferPointer { shard.text(record.pointee.nodeName) }
    @inlinable public var workloadName: UnsafeRawBufferPointer { shard.text(record.pointee.workloadName) }
    @inlinable public var app: UnsafeRawBufferPointer { shard.text(record.pointee.app) }
    @inlinable public var version: UnsafeRawBufferPointer { shard.text(record.pointee.version) }
    @inlinable public var canonicalService: UnsafeRawBufferPointer { shard.text(record.pointee.canonicalService) }
    @inlinable public var canonicalRevision: UnsafeRawBufferPointer { shard.text(record.pointee.canonicalRevision) }
    @inlinable public var cluster: UnsafeRawBufferPointer { shard.text(record.pointee.cluster) }
    @inlinable public var isMeshed: Bool { record.pointee.flags & WorkloadRecord.isMeshed != 0 }
    @inlinable public var isReady: Bool { record.pointee.flags & WorkloadRecord.isReady != 0 }
    /// It runs on the snapshot's own node.
    @inlinable public var isSameNode: Bool { record.pointee.flags & WorkloadRecord.isSameNode != 0 }
    /// It takes no plaintext from outside.
    @inlinable public var isStrict: Bool { record.pointee.flags & WorkloadRecord.isStrict != 0 }
    /// Its namespace lets traffic pass unmeshed while the mesh is down (`failure: open`), and it is not strict.
    @inlinable public var failsOpen: Bool { record.pointee.flags & (WorkloadRecord.failsOpen | WorkloadRecord.isStrict) == WorkloadRecord.failsOpen }
}

extension ShardView {
    /// Addresses in this shard; 0 in a shard of another family.
    public var addressCount: Int { header.pointee.family == ShardFamily.addresses.rawValue ? Int(header.pointee.a.count) : 0 }

    /// The address at a place in 0 ..< `addressCount`, in the writer's order.
    public func address(at place: Int) -> AddressView {
        precondition(place >= 0 && place < addressCount, "no such address")
        return AddressView(shard: self, record: records(header.pointee.a, of: AddressRecord.self) + place)
    }

    /// Finds what is known of an address. `hash` is `ShardHash.of(address)`.
    @inlinable
    public func address(_ address: IPAddress, hash: UInt64) -> AddressView? {
        let header = header.pointee
        guard header.family == 2 else { return nil }
        let table = records(header.table, of: UInt32.self)
        let addresses = records(header.a, of: AddressRecord.self)
        let mask = Int(header.table.count) - 1
        var slot = Int(truncatingIfNeeded: hash) & mask
        while true {
            let entry = table[slot]
            if entry == 0 { return nil }
            let record = addresses + Int(entry - 1)
            if record.pointee.address == address { return AddressView(shard: self, record: record) }
            slot = (slot + 1) & mask
        }
    }
}
